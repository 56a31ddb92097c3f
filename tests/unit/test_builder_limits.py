"""What a build may use, where its builder looks: the kernel's counts of a container, and its folder."""

import shutil
from pathlib import Path

import pytest

from builder.counters import Counters, LimitWatch
from builder.disk import DiskWatch, disk_use
from builder.errors import BuildFailed
from builder.life import Life
from tests.unit.builder_daemon import build, daemon
from tests.unit.test_builder_build import commanded, failure

#: version of control groups -> file -> text, before anything happened
QUIET = {
    1: {
        "pids/pids.events": "max 2\n",
        "pids/pids.max": "64\n",
        "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        "memory/memory.max_usage_in_bytes": "104857600\n",
    },
    2: {
        "pids.events": "max 2\n",
        "pids.max": "64\n",
        "memory.events": "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\n",
        "memory.peak": "104857600\n",
    },
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture(params=QUIET)
def quiet(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    write(tmp_path, QUIET[request.param])
    return QUIET[request.param]


def watch_of(life: Life, counters: Counters) -> LimitWatch:
    """One that looks at the counters alone."""
    return LimitWatch(life, 1 << 20, lambda: None, counters)


def test_what_was_counted_before_the_build_is_none_of_its_doing(tmp_path: Path, quiet: dict[str, str]) -> None:
    assert Counters(tmp_path).memory_kills() == 1
    assert watch_of(Life(), Counters(tmp_path)).cause() is None
    assert quiet


def test_a_process_killed_for_memory_is_the_cause_with_the_peak(tmp_path: Path, quiet: dict[str, str]) -> None:
    watch = watch_of(Life(), Counters(tmp_path))
    write(tmp_path, {name: text.replace("oom_kill 1", "oom_kill 2") for name, text in quiet.items()})
    cause = watch.cause()
    assert cause is not None
    assert (cause.reason, cause.peak) == ("out_of_memory", {"memory_bytes": 104857600})
    assert "100 MiB" in cause.message


def test_a_refused_process_ends_the_build_with_the_most_there_were(tmp_path: Path, quiet: dict[str, str]) -> None:
    life = Life()
    with watch_of(life, Counters(tmp_path)):
        write(tmp_path, {name: text.replace("max 2", "max 3") for name, text in quiet.items()})
        assert life.wait(10)
    with pytest.raises(BuildFailed) as failed:
        life.check()
    assert (failed.value.reason, failed.value.peak) == ("too_many_processes", {"pids": 64})


def test_a_kernel_that_tells_the_peak_of_processes_is_believed(tmp_path: Path) -> None:
    write(tmp_path, {"pids.peak": "61\n", "pids.max": "max\n", "pids.events": "max 0\n"})
    assert Counters(tmp_path).most_processes() == 61


def test_a_container_that_shows_no_counts_has_none(tmp_path: Path) -> None:
    counters = Counters(tmp_path)
    assert (counters.refused_forks(), counters.memory_kills(), counters.most_processes()) == (0, 0, 0)
    assert watch_of(Life(), counters).cause() is None


def test_a_folder_counts_with_all_that_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(b"x" * (1 << 20))
    (tmp_path / "again").hardlink_to(tmp_path / "a/b/file")
    (tmp_path / "elsewhere").symlink_to("/usr")
    (tmp_path / "a/b").chmod(0)
    use = disk_use(tmp_path)
    assert 1 << 20 <= use.size_bytes < (1 << 20) + 64_000
    assert (use.files, use.largest_bytes, use.too_deep) == (4, 1 << 20, False)
    assert "may take 1 MiB" in use.passes(1 << 20)
    assert use.passes(2 << 20) == ""


def test_the_limit_is_for_all_folders_of_a_build_together(tmp_path: Path) -> None:
    folders = [tmp_path / "work", tmp_path / "tmp"]
    for folder in folders:
        folder.mkdir()
        (folder / "file").write_bytes(b"x" * (600 << 10))
    assert "may take 1 MiB" in DiskWatch(folders, 1 << 20).scan()
    assert DiskWatch(folders[:1], 1 << 20).scan() == ""


def in_a_container() -> list[str]:
    """Its first process alone in a process namespace, as engines have it; nothing limits how many there are."""
    words = [shutil.which("bwrap") or "bwrap", "--unshare-user", "--uid", "1000", "--gid", "1000", "--unshare-pid"]
    return [*words, "--as-pid-1", "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc", "--"]


BOMB = """
for i in $(seq 80); do setsid sh -c 'trap "" TERM HUP; sleep 1001.5' & done; echo all; wait
"""


async def test_more_processes_than_the_build_may_have_end_it_where_no_engine_refuses_them(tmp_path: Path) -> None:
    """ECS and Kubernetes do not."""
    async with daemon(tmp_path, **commanded(BOMB, limits={"pids": 60})) as fake:
        held = {"SCALEMESH_SANDBOX": "container"}
        assert await build(fake, tmp_path / "work", held, in_a_container()) == 1
        reason, message = failure(fake)
        assert reason == "too_many_processes"
        assert "more than its 60 processes" in message
        assert "builds.pids" in message


async def test_as_many_processes_as_a_build_may_have_are_left_alone(tmp_path: Path) -> None:
    command = "for i in $(seq 40); do sleep 0.7 & done; wait; mkdir o; echo x >o/a"
    async with daemon(tmp_path, **commanded(command, limits={"pids": 60})) as fake:
        assert await build(fake, tmp_path / "work", {"SCALEMESH_SANDBOX": "container"}, in_a_container()) == 0
