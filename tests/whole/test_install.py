"""install.sh for real, in a copy of this tree: each of its failures is one clear line with a fix."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from scalemesh.config import load
from tests.rigs.ports import free_port
from tests.tree import copy_tree

TOOL_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
PACKAGE_MANAGERS = ("apt-get", "dnf", "pacman", "zypper", "apk")
NO_INDEX = {"PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return copy_tree(tmp_path / "clone")


def path_without(folder: Path, *names: str) -> str:
    """A PATH with this machine's programs, but for *names*: a machine that lacks them."""
    folder.mkdir()
    for source in map(Path, TOOL_FOLDERS):
        for program in source.iterdir() if source.is_dir() else ():
            if program.name not in names and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return str(folder)


def without_python(folder: Path) -> str:
    names = {p.name for source in map(Path, TOOL_FOLDERS) if source.is_dir() for p in source.glob("python*")}
    return path_without(folder, *names, *PACKAGE_MANAGERS)


def install(
    clone: Path,
    *options: str,
    prefix: tuple[str, ...] = (),
    timeout_s: float = 250,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, shutil.which("bash") or "bash", str(clone / "install.sh"), *options],
        cwd=clone,
        env={**os.environ, "SSH_CONNECTION": "", "PATH": path_with_python(), **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def path_with_python() -> str:
    """The tests' own virtual environment is no part of a person's PATH; the Python below it is."""
    own = str(Path(sys.executable).parent)
    below = str(Path(sys.base_prefix) / "bin")
    return os.pathsep.join([below, *(part for part in os.environ["PATH"].split(os.pathsep) if part != own)])


def assert_one_clear_line(done: subprocess.CompletedProcess[str], what: str, fix: str) -> None:
    """The last words are the error and its fix, and no stack of anything stands before them."""
    assert done.returncode == 1, done.stdout + done.stderr
    error, mend = done.stderr.splitlines()[-2:]
    assert error.startswith("error: ")
    assert what in error
    assert mend.startswith("  fix: ")
    assert fix in mend
    assert "Traceback" not in done.stderr


def test_without_python_311_it_says_how_to_get_one(clone: Path, tmp_path: Path) -> None:
    path = without_python(tmp_path / "bin")
    done = install(clone, "--demo", "--port", str(free_port()), environment={"PATH": path})
    assert_one_clear_line(done, "no Python 3.11 or newer", "python3.11")


def test_an_older_python_is_passed_over(clone: Path, tmp_path: Path) -> None:
    """A stand-in, since no older Python can be had everywhere: it answers the version question as 3.10 would."""
    path = without_python(tmp_path / "bin")
    old = Path(path) / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = install(clone, "--demo", "--port", str(free_port()), environment={"PATH": path})
    assert_one_clear_line(done, "no Python 3.11 or newer", "python3.11")


def test_without_git_it_says_how_to_get_it(clone: Path, tmp_path: Path) -> None:
    path = path_without(tmp_path / "bin", "git", *PACKAGE_MANAGERS)
    assert_one_clear_line(
        install(clone, "--demo", "--port", str(free_port()), environment={"PATH": path}), "git is missing", "git"
    )


def test_a_port_that_is_taken_is_named_with_one_that_is_free(clone: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        done = install(clone, "--demo", "--port", str(port))
    assert_one_clear_line(done, f"port {port} is taken", "./install.sh --demo --port ")
    assert not (clone / ".scalemesh" / "config.toml").exists()
    suggested = int(done.stderr.rsplit(maxsplit=1)[-1])
    socket.create_server(("127.0.0.1", suggested)).close()


def test_a_full_disk_is_named_before_anything_is_fetched(clone: Path) -> None:
    state = clone / ".scalemesh"
    state.mkdir()
    small = f"mount -t tmpfs -o size=64m none '{state}' && exec \"$@\""
    done = install(clone, "--demo", prefix=("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", small, "sh"))
    assert_one_clear_line(done, "MiB are free", "free some disk space")


def test_without_network_it_says_that_packages_could_not_be_fetched(clone: Path) -> None:
    prefix = ("unshare", "--user", "--map-root-user", "--net")
    done = install(clone, "--demo", prefix=prefix, environment=NO_INDEX)
    assert_one_clear_line(done, "packages could not be fetched", "proxy")


def test_a_package_that_is_not_the_locked_one_is_refused(clone: Path) -> None:
    for name in ("runtime", "build"):
        lock = clone / "config" / "locked" / f"{name}.txt"
        lock.write_text(f"setuptools==84.2.1 --hash=sha256:{'0' * 64}\n" if name == "build" else "")
    done = install(clone, "--demo", "--port", str(free_port()))
    assert_one_clear_line(done, "not the one that is locked", "install.log")
    assert not (clone / ".scalemesh" / "stamp.packages").exists()


def test_two_at_once_do_not_get_into_each_others_way(clone: Path) -> None:
    (clone / ".scalemesh").mkdir()
    with (clone / ".scalemesh" / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = install(clone, "--demo")
    assert_one_clear_line(done, "another install.sh works", "wait")


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--port", "0", "--demo"),
        ("--demo", "--port"),
        ("--fast",),
        ("--port", "70000"),
        ("--with", "s3"),
        ("--demo", "--with"),
        ("--demo", "--with", "s3,s4"),
        ("--demo", "--with=../runtime"),
    ],
)
def test_wrong_usage_ends_with_2_and_changes_nothing(clone: Path, options: tuple[str, ...]) -> None:
    done = install(clone, *options)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert not (clone / ".scalemesh").exists()


@pytest.mark.parametrize("is_another", ["program", "process"])
def test_stop_never_ends_a_strangers_process(clone: Path, is_another: str) -> None:
    """A pid file may be old: the pid may be another program's by now, or even that of another daemon."""
    state = clone / ".scalemesh"
    state.mkdir()
    name = "sleep" if is_another == "program" else f"{state}/venv/bin/scalemesh"
    with subprocess.Popen([name, "300"], executable=shutil.which("sleep")) as stranger:
        try:
            started = int(Path(f"/proc/{stranger.pid}/stat").read_text().rsplit(") ", 1)[1].split()[19])
            written = started if is_another == "program" else started - 1
            (state / "scalemesh.pid").write_text(f"{stranger.pid}\n{written}\n")
            done = install(clone, "--stop")
            assert done.returncode == 0
            assert "not running" in done.stdout
            assert stranger.poll() is None
            assert not (state / "scalemesh.pid").exists()
        finally:
            stranger.kill()


def written_config(clone: Path, port: int, **environment: str) -> Path:
    """The config as install.sh writes it, without the rest of an installation."""
    command = f"source ./install.sh; mkdir -p $state; port={port}; write_config"
    subprocess.run(["bash", "-c", command], cwd=clone, env={"PATH": os.environ["PATH"], **environment}, check=True)
    return clone / ".scalemesh" / "config.toml"


def test_the_config_knows_the_machines_own_way_out(clone: Path) -> None:
    bundle = clone / "LICENSE"
    proxy = "http://proxy.example:3128"
    path = written_config(clone, 8123, SSL_CERT_FILE=str(bundle), HTTPS_PROXY=proxy, http_proxy="no'TOML\n")
    config = load(path)
    assert (config.listen.port, config.builds.ca_bundle) == (8123, str(bundle))
    assert config.builds.env == {"HTTPS_PROXY": proxy}
    assert path.stat().st_mode & 0o777 == 0o600
    assert config.git.file_root == clone / ".scalemesh" / "git"


def test_a_config_that_is_there_keeps_all_but_the_port(clone: Path) -> None:
    path = written_config(clone, 8123)
    path.write_text(path.read_text() + "# mine\n")
    before = path.read_text()
    assert written_config(clone, 8124).read_text() == before.replace("port = 8123", "port = 8124")


@pytest.mark.parametrize(
    ("connection", "tunnel"),
    [
        ("192.0.2.7 50000 192.0.2.1 22", "ssh -L 8123:localhost:8123 somebody@192.0.2.1"),
        ("2001:db8::7 50000 2001:db8::1 2222", "ssh -L 8123:localhost:8123 -p 2222 somebody@2001:db8::1"),
    ],
)
def test_who_came_by_ssh_is_told_how_to_bring_the_port_home(clone: Path, connection: str, tunnel: str) -> None:
    assert shown_addresses(clone, SSH_CONNECTION=connection)[-1] == f"From your own machine: {tunnel}"


def test_who_sits_at_the_machine_is_told_the_addresses_alone(clone: Path) -> None:
    assert shown_addresses(clone)[-2:] == [
        "Site:       http://hello.localhost:8123/",
        "Dashboard:  http://localhost:8123/",
    ]


def shown_addresses(clone: Path, **environment: str) -> list[str]:
    """The last lines of an installation, for a person who came with *environment*; no daemon is there to ask."""
    command = "source ./install.sh; mkdir -p $state; port=8123; show_addresses"
    path = {"PATH": os.environ["PATH"], "SUDO_USER": "somebody"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=clone, env={**path, **environment}, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


@pytest.fixture
def installed(clone: Path) -> Iterator[Path]:
    """The copy with packages in place, those of the tests, so that little is fetched; and a site without a build."""
    state = clone / ".scalemesh"
    python = in_shell(clone, "find_python")
    subprocess.run([python, "-m", "venv", "--without-pip", str(state / "venv")], check=True)
    packages = next((state / "venv" / "lib").glob("python*")) / "site-packages"
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    in_shell(clone, "install_locked build")
    in_shell(clone, 'set_current packages "$(packages_fingerprint "$(find_python)")"')
    shutil.rmtree(clone / "examples" / "hello")
    (clone / "examples" / "hello").mkdir()
    (clone / "examples" / "hello" / "index.html").write_text("<!doctype html><title>Hello</title>")
    yield clone
    install(clone, "--stop")


def in_shell(clone: Path, command: str) -> str:
    """What a function of install.sh prints."""
    done = subprocess.run(
        ["bash", "-c", f"source ./install.sh; {command}"],
        cwd=clone,
        env={**os.environ, "PATH": path_with_python()},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.timeout(300)
def test_newer_code_meets_the_data_only_when_the_older_daemon_has_ended(installed: Path) -> None:
    """`scalemesh check` opens the data, and newer code may bring them into a form that the older daemon cannot read."""
    first = install(installed, "--demo", "--detach", "--port", str(free_port()))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Stopping" not in first.stdout
    before = in_shell(installed, "daemon_pid")

    again = install(installed, "--demo", "--detach")
    assert "Stopping" not in again.stdout
    assert in_shell(installed, "daemon_pid") == before

    with (installed / "scalemesh" / "__main__.py").open("a") as file:
        file.write("\n# newer\n")
    renewed = install(installed, "--demo", "--detach")
    assert renewed.returncode == 0, renewed.stdout + renewed.stderr
    steps = [line.strip().split("  ")[0] for line in renewed.stdout.splitlines()]
    stopped = steps.index("Stopping the older daemon (its builds go on)")
    assert steps.index("Installing Scale Mesh") < stopped < steps.index("Checking what builds need")
    assert in_shell(installed, "daemon_pid") not in ("", before)


def test_help_names_every_option(clone: Path) -> None:
    done = install(clone, "--help")
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--demo", "--port", "--detach", "--stop", "--with"))


def test_kinds_that_were_named_once_are_installed_by_every_later_run(clone: Path) -> None:
    (clone / ".scalemesh").mkdir()
    before = in_shell(clone, 'packages_fingerprint "$(find_python)"')
    assert in_shell(clone, "wanted_locks").split() == ["runtime", "build"]
    in_shell(clone, 'with=" $(kinds_named s3,docker)"; remember_extras')
    in_shell(clone, 'with=" $(kinds_named s3)"; remember_extras')
    in_shell(clone, "remember_extras")
    assert in_shell(clone, "wanted_locks").split() == ["runtime", "build", "docker", "s3"]
    assert in_shell(clone, 'packages_fingerprint "$(find_python)"') != before


def test_the_kinds_that_can_be_named_are_those_that_need_packages(clone: Path) -> None:
    project = tomllib.loads((clone / "pyproject.toml").read_text())["project"]
    kinds = in_shell(clone, 'printf "%s " "${EXTRAS[@]}"').split()
    assert kinds == sorted(project["optional-dependencies"])
    assert all((clone / "config" / "locked" / f"{kind}.txt").exists() for kind in kinds)


@pytest.mark.timeout(600)
def test_the_packages_of_all_kinds_fit_together_and_can_be_had(clone: Path) -> None:
    """Several of them need the same packages: their locks name the same versions."""
    state = clone / ".scalemesh"
    state.mkdir()
    in_shell(clone, 'python=$(find_python); make_venv; install_locked "${EXTRAS[@]}"')
    python = str(state / "venv" / "bin" / "python")
    subprocess.run([python, "-c", "import boto3, docker, kubernetes, minio"], check=True, timeout=60)


@pytest.mark.timeout(300)
def test_a_kind_without_its_package_is_told_with_the_option_that_brings_it(installed: Path) -> None:
    state = installed / ".scalemesh"
    blocked = 'import sys; sys.modules["boto3"] = None\n'
    (next((state / "venv" / "lib").glob("python*")) / "site-packages" / "without.pth").write_text(blocked)
    config = written_config(installed, free_port())
    config.write_text(config.read_text() + '\n[store]\nkind = "s3"\n[store.s3]\nbucket = "sites"\n')
    done = install(installed, "--demo", "--detach")
    assert_one_clear_line(done, 'store.kind = "s3": its package cannot be imported', "./install.sh --demo --with s3")


def running_in_group(group: int) -> list[str]:
    """What of a process group still runs. One that has ended and waits to be collected by init is gone for us."""
    lines = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    found = (line.split(None, 2) for line in lines.splitlines())
    return [args for pgid, stat, args in found if int(pgid) == group and not stat.startswith("Z")]


def wait_until(holds: Callable[[], bool], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "not so within the time"
        time.sleep(0.05)


def test_interrupted_in_the_middle_it_ends_all_it_started(clone: Path) -> None:
    """Ctrl-C goes to the whole foreground group, as a terminal sends it."""
    with subprocess.Popen(
        ["bash", str(clone / "install.sh"), "--demo", "--port", str(free_port())],
        cwd=clone,
        env={**os.environ, "PATH": path_with_python()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as run:
        assert run.stdout
        assert "virtual environment" in run.stdout.readline()  # done: packages are being fetched now
        os.killpg(run.pid, signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "run the same command to go on" in errors
    wait_until(lambda: not running_in_group(run.pid))
