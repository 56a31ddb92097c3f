"""The README's first command, on a machine without Node and bubblewrap: a site, a dashboard, nothing lost."""

import http.client
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.ports import free_port
from tests.tree import copy_tree
from tests.whole.test_install import assert_one_clear_line, install, path_with_python, path_without, wait_until

pytestmark = pytest.mark.timeout(400)
LACKING = ("node", "nodejs", "npm", "npx", "bwrap")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One copy of the tree for all tests here, in their order; its daemon ends with the module."""
    clone = copy_tree(tmp_path_factory.mktemp("demo") / "clone")
    yield clone
    install(clone, "--stop")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A PATH without Node and bubblewrap, in a folder that other users may enter, as those of a machine are."""
    python = path_with_python().split(os.pathsep)[0]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield {"PATH": f"{path_without(Path(folder, 'bin'), *LACKING)}:{python}"}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def first(clone: Path, environment: dict[str, str], port: int) -> subprocess.CompletedProcess[str]:
    """The first run."""
    return demo(clone, environment, "--port", str(port))


def demo(clone: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return install(clone, "--demo", "--detach", *options, timeout_s=300, environment=environment)


def get(port: int, host: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": f"{host}:{port}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def daemon_pid(clone: Path) -> int:
    return int((clone / ".scalemesh" / "scalemesh.pid").read_text().split()[0])


def has_ended(pid: int, within_s: float = 60) -> bool:
    """Whether a process that is no child of ours ends in time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within_s)[0])
    finally:
        os.close(handle)


def processes_of(clone: Path) -> list[str]:
    """Command lines of all processes that were started from the copy's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (ProcessLookupError, FileNotFoundError):
            continue
        if str(clone / ".scalemesh") in line:
            found.append(line)
    return found


def test_the_first_run_ends_with_the_two_addresses(
    first: subprocess.CompletedProcess[str], clone: Path, port: int
) -> None:
    assert first.returncode == 0, first.stdout + first.stderr
    site, dashboard = first.stdout.splitlines()[-2:]
    assert site == f"Site:       http://hello.localhost:{port}/"
    start = rf"Dashboard:  http://localhost:{port}/     sign in once with http://localhost:{port}/welcome/"
    assert re.fullmatch(rf"{start}[\w-]{{16,}}", dashboard)
    assert not first.stdout.count("\x1b"), "no colour where nobody looks"
    assert processes_of(clone)


def test_the_site_is_the_one_of_the_repository(first: subprocess.CompletedProcess[str], clone: Path, port: int) -> None:
    status, page = get(port, "hello.localhost", "/")
    assert status == 200
    assert "Hello, world." in page
    script = re.search(r'src="(/assets/[^"]+\.js)"', page)
    assert script
    commit = subprocess.run(
        ["git", f"--git-dir={clone}/.scalemesh/git/hello.git", "rev-parse", "main"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert commit in get(port, "hello.localhost", script[1])[1]


def test_node_and_bubblewrap_came_with_it(first: subprocess.CompletedProcess[str], clone: Path) -> None:
    state = clone / ".scalemesh"
    assert "Fetching Node" in first.stdout
    assert "Fetching bubblewrap" in first.stdout
    for command in (["bin/bwrap", "--version"], ["node/bin/node", "--version"]):
        subprocess.run([str(state / command[0]), *command[1:]], check=True, capture_output=True)


def test_the_welcome_link_opens_a_page(first: subprocess.CompletedProcess[str], port: int) -> None:
    """Looking at it does not use it up: that takes a click."""
    path = first.stdout.rsplit(f"localhost:{port}", 1)[1].strip()
    assert get(port, "localhost", path)[0] == 200
    assert get(port, "localhost", path)[0] == 200


def test_the_source_tree_is_left_as_it_was(first: subprocess.CompletedProcess[str], clone: Path) -> None:
    """No build folder and no egg-info: stale ones would end up in the next wheel."""
    assert not [*clone.glob("build"), *clone.glob("*.egg-info"), *(clone / "examples").rglob("node_modules")]


def test_a_second_run_takes_seconds_and_changes_nothing(
    first: subprocess.CompletedProcess[str], clone: Path, environment: dict[str, str], port: int
) -> None:
    before, page = daemon_pid(clone), get(port, "hello.localhost", "/")
    begin = time.monotonic()
    second = demo(clone, environment)
    assert second.returncode == 0, second.stdout + second.stderr
    assert time.monotonic() - begin < 60
    assert "Fetching" not in second.stdout
    assert daemon_pid(clone) == before
    assert get(port, "hello.localhost", "/") == page
    assert f"Site:       http://hello.localhost:{port}/" in second.stdout


def test_another_port_is_refused_while_it_runs(
    first: subprocess.CompletedProcess[str], clone: Path, environment: dict[str, str], port: int
) -> None:
    done = demo(clone, environment, "--port", str(free_port()))
    assert done.returncode == 1
    assert f"already running here, on port {port}" in done.stderr


def test_stop_ends_it_and_a_new_start_keeps_port_and_site(
    first: subprocess.CompletedProcess[str], clone: Path, environment: dict[str, str], port: int
) -> None:
    pid, page = daemon_pid(clone), get(port, "hello.localhost", "/")
    assert install(clone, "--stop").returncode == 0
    assert has_ended(pid)
    wait_until(lambda: not processes_of(clone))
    again = demo(clone, environment)
    assert again.returncode == 0, again.stdout + again.stderr
    assert get(port, "hello.localhost", "/") == page, "the same deployment: nothing was built anew"


def test_in_the_foreground_ctrl_c_ends_it(
    first: subprocess.CompletedProcess[str], clone: Path, environment: dict[str, str], port: int
) -> None:
    install(clone, "--stop")
    with subprocess.Popen(
        ["bash", str(clone / "install.sh"), "--demo"],
        cwd=clone,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as run:
        assert run.stdout
        seen = []
        for line in run.stdout:
            seen.append(line)
            if line.startswith("Ctrl-C stops"):
                break
        assert any(line.startswith("Site:") for line in seen), "".join(seen)
        assert get(port, "hello.localhost", "/")[0] == 200
        pid = daemon_pid(clone)
        os.killpg(run.pid, signal.SIGINT)
        run.communicate(timeout=60)
    assert run.returncode == 130
    assert has_ended(pid)
    wait_until(lambda: not processes_of(clone))


def test_without_user_namespaces_it_says_how_to_allow_them(
    first: subprocess.CompletedProcess[str], clone: Path
) -> None:
    """In a user namespace that may make no further ones: for bubblewrap the same as a machine that forbids them."""
    install(clone, "--stop")
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
    prefix = ("unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", forbid, "sh")
    done = install(clone, "--demo", "--detach", prefix=prefix)
    assert_one_clear_line(done, "sandbox", "sysctl -w user.max_user_namespaces=")
