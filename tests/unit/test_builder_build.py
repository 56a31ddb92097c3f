"""Whole builds by the real builder process against a daemon that speaks the protocol."""

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.builder_daemon import FakeDaemon, build, builder_process, daemon, files_source, uploaded
from tests.unit.builder_git import bare, commit, work_tree

EMPTY, NOTHING = files_source(readme="x")


def commanded(command: str, **more: Any) -> dict[str, Any]:
    """What makes a daemon want *command* run and its folder ``o`` published."""
    settings = {"build_command": command, "output_directory": "o", **more.pop("settings", {})}
    return {"source": EMPTY, "uploads": NOTHING, "settings": settings, **more}


def failure(fake: FakeDaemon) -> tuple[str, str]:
    assert fake.finished is not None
    assert not fake.finished["ok"]
    return fake.finished["reason"], fake.finished["message"]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_plain_site_is_published_as_it_is(tmp_path: Path) -> None:
    source, uploads = files_source(index__html="<h1>Hello</h1>", css___main__css="h1 {}", __env="SECRET=1")
    async with daemon(tmp_path, source, uploads=uploads) as fake:
        assert await build(fake, tmp_path / "work") == 0
        assert fake.files() == {"index.html": b"<h1>Hello</h1>", "css/main.css": b"h1 {}"}
        assert fake.finished is not None
        assert (fake.finished["framework"], fake.finished["output_directory"]) == ("static", ".")
        assert "Detected a plain static site because nothing here needs to be built" in fake.text


async def test_commands_run_and_their_output_is_in_the_log(tmp_path: Path) -> None:
    command = "mkdir o && echo made > o/index.html && echo seen; echo oops >&2"
    async with daemon(tmp_path, **commanded(command)) as fake:
        assert await build(fake, tmp_path / "work") == 0
        assert fake.files() == {"index.html": b"made\n"}
        said = [(stream, step, text) for _, stream, step, text in fake.lines]
        assert ("out", "build", "seen") in said
        assert ("err", "build", "oops") in said


async def test_no_fault_of_the_daemon_loses_or_doubles_anything(tmp_path: Path) -> None:
    command = "mkdir o; for i in $(seq 3000); do echo line $i; done; echo x > o/a; echo y > o/b"
    async with daemon(tmp_path, **commanded(command)) as fake:
        for name in ("claim", "source", "lines", "heartbeat", "blobs", "finish"):
            fake.faults[name] = [503, 0, 500, 429]
        assert await build(fake, tmp_path / "work") == 0
        assert fake.printed == [f"line {number}" for number in range(1, 3001)]
        assert fake.seqs == sorted(set(fake.seqs))
        assert len(fake.nonces) == 1
        assert fake.files() == {"a": b"x\n", "b": b"y\n"}


async def test_a_daemon_that_restarts_in_the_middle_gets_every_line(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    command = f"echo before; while [ ! -e {gate} ]; do sleep 0.02; done; seq 20000; mkdir o; echo x > o/a"
    async with (
        daemon(tmp_path, **commanded(command)) as fake,
        builder_process(tmp_path / "work", fake.socket) as process,
    ):
        await fake.until(lambda: "before" in fake.printed)
        await fake.stop()
        gate.touch()
        async with asyncio.timeout(60):
            while not (tmp_path / "work/src/o/a").exists():
                await asyncio.sleep(0.02)
        await fake.start()
        assert await process.wait() == 0
        assert fake.printed == ["before", *map(str, range(1, 20001))]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("claim", 409, 3), ("claim", 401, 3), ("lines", 410, 3), ("blobs", 410, 3), ("claim", 422, 1)],
)
async def test_a_final_no_ends_the_builder_without_a_finish(tmp_path: Path, name: str, status: int, code: int) -> None:
    async with daemon(tmp_path, **commanded("mkdir o; echo x > o/a")) as fake:
        fake.faults[name] = [status]
        assert await build(fake, tmp_path / "work") == code
        assert fake.finished is None


async def test_a_refused_finish_ends_with_a_failure(tmp_path: Path) -> None:
    async with daemon(tmp_path, **commanded("mkdir o; echo x > o/a")) as fake:
        fake.faults["finish"] = [422]
        assert await build(fake, tmp_path / "work") == 1


async def test_cancelling_kills_all_that_runs(tmp_path: Path) -> None:
    command = "sleep 300 & echo $! ; setsid sleep 301 & echo $!; echo ready; trap '' TERM; wait"
    async with (
        daemon(tmp_path, **commanded(command)) as fake,
        builder_process(tmp_path / "work", fake.socket) as process,
    ):
        await fake.until(lambda: "ready" in fake.printed)
        pids = [int(text) for text in fake.printed if text.isdigit()]
        assert len(pids) == 2
        fake.cancels = True
        assert await process.wait() == 3
        assert not any(map(is_alive, pids))
        assert fake.finished is None


async def test_the_time_limit_is_for_the_whole_build(tmp_path: Path) -> None:
    more = commanded("echo $$; exec sleep 300", settings={"install_command": "sleep 1"}, limits={"time_s": 2})
    async with daemon(tmp_path, **more) as fake:
        began = time.monotonic()
        assert await build(fake, tmp_path / "work") == 1
        assert time.monotonic() - began < 30
        reason, message = failure(fake)
        assert reason == "timed_out"
        assert "stopped after 2 s" in message
        assert not any(is_alive(int(text)) for *_, text in fake.lines if text.isdigit())


async def test_what_a_build_leaves_running_is_dead_before_its_output_is_read(tmp_path: Path) -> None:
    command = (
        "mkdir o; echo x > o/a; (setsid sh -c 'while :; do echo $$ > o/pid; done' &) ; while [ ! -s o/pid ]; do :; done"
    )
    async with daemon(tmp_path, **commanded(command)) as fake:
        assert await build(fake, tmp_path / "work") == 0
        assert not is_alive(int(fake.files().get("pid", b"").strip() or b"999999999"))


@pytest.mark.parametrize(
    ("command", "reason", "words"),
    [
        ("echo 'Error: no such page' >&2; echo bye; exit 7", "command_failed", "exit code 7: Error: no such page"),
        ("nonesuch --now", "command_failed", "a program is not there (/bin/sh: 1: nonesuch: not found)"),
        ("kill -9 $$", "out_of_memory", "was killed by the system"),
        ("kill -11 $$", "command_failed", "failed with signal 11"),
        ("echo 'FATAL ERROR: JavaScript heap out of memory'; exit 134", "out_of_memory", "ran out of memory"),
        ("echo 'sh: 1: Cannot fork' >&2; exit 2", "too_many_processes", "more processes"),
        ("echo 'ENOSPC: no space left on device' >&2; exit 2", "disk_full", "filled the disk"),
        ("echo 'npm error Missing: a@1 from lock file'; exit 1", "command_failed", "Missing: a@1 from lock file. Run"),
        ("rm -r ../src; ln -s /etc ../src", "no_output", "should leave it in 'o'"),
        ("true", "no_output", "should leave it in 'o'. Folders that exist: none"),
        ("mkdir -p o/x", "no_output", "'o' holds no file"),
        ("mkdir o; ln -s /etc/passwd o/p", "no_output", "holds no file"),
        ("mkdir x; echo > x/y; ln -s x o", "no_output", "Folders that exist: x"),
        ("head -c 60000000 /dev/zero > big; mkdir o; mv big o", "output_too_large", "has 60.0 MB"),
        ("mkdir o; cd o; seq 6000 | xargs touch", "too_many_files", "has 6,000 files"),
    ],
)  # fmt: skip
async def test_a_failure_says_what_and_why(tmp_path: Path, command: str, reason: str, words: str) -> None:
    async with daemon(tmp_path, **commanded(command)) as fake:
        assert await build(fake, tmp_path / "work") == 1
        assert failure(fake)[0] == reason
        assert words in failure(fake)[1]


async def test_a_build_that_eats_the_disk_is_stopped(tmp_path: Path) -> None:
    more = commanded("while :; do head -c 10M /dev/zero >> big; sleep 0.01; done", limits={"disk_bytes": 100_000_000})
    async with daemon(tmp_path, **more) as fake:
        assert await build(fake, tmp_path / "work") == 1
        assert failure(fake)[0] == "disk_full"
        assert fake.finished is not None
        assert 100_000_000 < fake.finished["peak"]["disk_bytes"] < 3_000_000_000


async def test_where_the_executor_watches_the_disk_the_builder_does_not(tmp_path: Path) -> None:
    """Long enough for three looks of ours at a folder that is over the limit."""
    more = commanded("head -c 30M /dev/zero > big; sleep 2; mkdir o; echo x > o/a", limits={"disk_bytes": 20_000_000})
    async with daemon(tmp_path, **more) as fake:
        assert await build(fake, tmp_path / "one") == 1
        assert failure(fake)[0] == "disk_full"
    async with daemon(tmp_path, **more) as fake:
        assert await build(fake, tmp_path / "two", {"SCALEMESH_DISK_WATCHED": "1"}) == 0


async def test_a_build_without_a_sandbox_says_so_first(tmp_path: Path) -> None:
    words = "This build runs without a sandbox: its code can read and change everything that the daemon's user can."
    source, uploads = files_source(index__html="x")
    async with daemon(tmp_path, source, uploads=uploads) as fake:
        assert await build(fake, tmp_path / "one") == 0
        assert (fake.lines[0][2], fake.lines[0][3]) == ("fetch", f"Warning: {words}")
        assert fake.finished is not None
        assert words in fake.finished["warnings"]
    async with daemon(tmp_path, source, uploads=uploads) as fake:
        assert await build(fake, tmp_path / "two", {"SCALEMESH_SANDBOX": "bwrap"}) == 0
        assert "without a sandbox" not in fake.text


async def test_an_empty_command_means_run_none(tmp_path: Path) -> None:
    """Set by hand, it wins over vercel.json and over what would be detected."""
    scripts = json.dumps({"dependencies": {"a": "1"}, "scripts": {"build": "echo detected; exit 1"}})
    by_file = json.dumps({"installCommand": "echo by file; exit 1", "buildCommand": "echo by file; exit 1"})
    source, uploads = files_source(package__json=scripts, vercel__json=by_file, o___index__html="x")
    settings = {"install_command": "", "build_command": "", "output_directory": "o"}
    async with daemon(tmp_path, source, uploads=uploads, settings=settings) as fake:
        assert await build(fake, tmp_path / "work") == 0
        assert fake.files() == {"index.html": b"x", ".scalemesh/vercel.json": by_file.encode()}
        assert fake.printed == []
        assert not any(text.startswith("> ") for *_, text in fake.lines)


async def test_secrets_leave_the_job_neither_in_lines_nor_in_the_failure(tmp_path: Path) -> None:
    command = 'echo "token: $TOKEN"; printf "%s" "$TOKEN" | base64; echo "error $TOKEN is wrong"; exit 1'
    async with daemon(tmp_path, **commanded(command, env={"TOKEN": "hunter2-hunter2"})) as fake:
        assert await build(fake, tmp_path / "work") == 1
        everything = fake.text + json.dumps(fake.finished)
        assert "hunter2" not in everything
        assert "aHVudGVyMi1odW50ZXIy" not in everything
        assert "error *** is wrong" in failure(fake)[1]


async def test_hostile_variables_reach_the_command_and_nothing_else(tmp_path: Path) -> None:
    env = {
        "LD_PRELOAD": "/nonexistent/evil.so",
        "QUOTES": "a'b\"c $(id) `id`\nd",
        "BAD-NAME": "x",
        "ENV": "/x",
        "PATH": "/evil",
    }
    command = 'mkdir o; printf "%s" "$QUOTES" > o/q; env > o/env 2>/dev/null; echo "$PATH" > o/path'
    async with daemon(tmp_path, **commanded(command, env=env)) as fake:
        assert await build(fake, tmp_path / "work") == 0
        assert fake.files()["q"].decode() == env["QUOTES"]
        assert b"LD_PRELOAD=/nonexistent/evil.so" in fake.files()["env"]
        assert b"/evil" not in fake.files()["path"]
        assert "'BAD-NAME' cannot be passed" in fake.text


async def test_a_flood_of_100_mb_costs_little_and_fails_nothing(tmp_path: Path) -> None:
    command = "mkdir o; echo x > o/a; echo first; yes a flood of words without an end | head -c 100000000; echo last"
    async with daemon(tmp_path, **commanded(command)) as fake:
        began = time.monotonic()
        assert await build(fake, tmp_path / "work") == 0
        assert time.monotonic() - began < 50
        assert sum(len(line[3]) for line in fake.lines) < 4_500_000
        assert (fake.printed[0], fake.printed[-1]) == ("first", "last")
        assert sum("left out here" in line[3] for line in fake.lines) == 1


@pytest.mark.parametrize(("command", "is_skipped"), [("true", True), ("false", False), ("exit 7", False)])
async def test_an_ignore_command_that_succeeds_skips_the_build(tmp_path: Path, command: str, is_skipped: bool) -> None:
    source, uploads = files_source(vercel__json=json.dumps({"ignoreCommand": command}), index__html="x")
    async with daemon(tmp_path, source, uploads=uploads) as fake:
        assert await build(fake, tmp_path / "work") == int(is_skipped)
        assert fake.finished is not None
        assert fake.finished.get("reason") == ("skipped" if is_skipped else None)


async def test_an_ignore_command_can_compare_with_the_commit_before(tmp_path: Path) -> None:
    tree = work_tree(tmp_path / "t")
    commit(tree, {"index.html": "x", "vercel.json": json.dumps({"ignoreCommand": "git diff --quiet HEAD^ HEAD -- ."})})
    commit(tree, {"index.html": "y"})
    bare(tree, tmp_path / "r.git")
    source = {"kind": "git", "url": f"file://{tmp_path}/r.git", "allow": ["file"], "file_root": str(tmp_path)}
    async with daemon(tmp_path, source) as fake:
        assert await build(fake, tmp_path / "work") == 0
        assert fake.files()["index.html"] == b"y"


async def test_thousands_of_files_go_in_parts_and_known_ones_stay(tmp_path: Path) -> None:
    source, uploads = uploaded({f"p/{n}.html": f"page {n % 1500}".encode() for n in range(2500)} | {"index.html": b"i"})
    async with daemon(tmp_path, source, uploads=uploads) as fake:
        fake.blobs = dict(list(uploads.items())[:700])
        assert await build(fake, tmp_path / "work") == 0
        assert len(fake.files()) == 2501
        assert fake.files()["p/2499.html"] == b"page 999"
        assert "Uploaded 801 files" in fake.text


@pytest.mark.parametrize("path", ["../out", "/abs", "a/../../b", ".git/config", "a/.git/hooks/x"])
async def test_an_uploaded_source_stays_in_its_folder(tmp_path: Path, path: str) -> None:
    source, uploads = uploaded({path: b"x"})
    async with daemon(tmp_path, source, uploads=uploads) as fake:
        assert await build(fake, tmp_path / "work") == 1
        assert failure(fake)[0] == "rejected"


@pytest.fixture
def var_tmp() -> Iterator[Path]:
    """A folder outside /tmp, over which the sandbox lays its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


NPM = {"name": "site", "version": "1.0.0", "private": True, "dependencies": {"is-number": "7.0.0"}}
LOCK = {
    "name": "site",
    "version": "1.0.0",
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "site", "version": "1.0.0", "dependencies": {"is-number": "7.0.0"}},
        "node_modules/is-number": {"version": "7.0.0", "license": "MIT", "engines": {"node": ">=0.12.0"}},
    },
}
SCRIPT = """
const isNumber = require('is-number'), fs = require('fs')
fs.mkdirSync('dist')
fs.writeFileSync('dist/index.html', `${isNumber(5)}`)
"""


def npm_source(lock: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    package = {**NPM, "scripts": {"build": "node build.js"}}
    files = {"package.json": json.dumps(package), "package-lock.json": json.dumps(lock), "build.js": SCRIPT}
    return uploaded({name: text.encode() for name, text in files.items()})


def with_node() -> dict[str, str]:
    node = shutil.which("node")
    assert node is not None
    return {"SCALEMESH_NODES": str(Path(node).parent)}


async def test_a_lock_file_that_does_not_fit_is_shown_plainly(tmp_path: Path) -> None:
    lock = {**LOCK, "packages": {"": {"name": "site", "version": "1.0.0"}}}
    source, uploads = npm_source(lock)
    async with daemon(tmp_path, source, uploads=uploads) as fake:
        assert await build(fake, tmp_path / "work", with_node()) == 1
        assert "does not fit package.json: Missing: is-number@7.0.0 from lock file" in failure(fake)[1]


async def test_inside_the_real_sandbox_neither_token_nor_spool_is_in_reach(tmp_path: Path, var_tmp: Path) -> None:
    command = (
        "mkdir o; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' > o/seen; "
        "ls -la ../spool ../.. > o/ls 2>&1; "
        "(setsid sh -c 'while :; do date +%N > o/date; done' &); (setsid sleep 31415 &); true"
    )
    sandbox = {
        "SCALEMESH_SANDBOX": "bwrap",
        "SCALEMESH_BWRAP": shutil.which("bwrap") or "",
        "SCALEMESH_SEES": "/usr:/etc",
    }
    async with daemon(tmp_path, **commanded(command, env={"TOKEN": "s3cret-s3cret", "LD_PRELOAD": "/x.so"})) as fake:
        assert await build(fake, var_tmp / "work", sandbox) == 0, fake.text + str(fake.finished)
        assert b"let-me-in" not in fake.files()["seen"]
        assert b"SCALEMESH_URL" not in fake.files()["seen"]
        assert b"lines" not in fake.files()["ls"]
        assert b"cannot access '../spool'" in fake.files()["ls"]
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _reads(path) == b"sleep\x0031415\0"]
        assert not left


def _reads(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
