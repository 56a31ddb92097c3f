"""Attacks of a build on the machine and its neighbours: each succeeds without the sandbox and fails in it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.executor.ordinary import python_for_everybody, python_path
from tests.whole.outside_world import ALLOWED, FORBIDDEN, OWN, open_world

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root"),
    pytest.mark.timeout(300),
]
ROOT = Path(__file__).resolve().parents[2]
UID = 61234
WHO = pytest.mark.parametrize("who", ["root", "user"])
NETWORKS = [
    pytest.param(kind, marks=pytest.mark.skipif(kind != "proxy" and shutil.which(kind) is None, reason=f"no {kind}"))
    for kind in ("slirp4netns", "pasta", "proxy")
]
Attack = Callable[..., Any]


@pytest.fixture(scope="module")
def world() -> Iterator[str]:
    with open_world() as here:
        yield here


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that an ordinary user can reach: pytest's are behind closed doors."""
    folder = Path(tempfile.mkdtemp(prefix="scalemesh-attack-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def attack(world: str, place: Path) -> Attack:
    """Runs a program as a build's user command on the machine in *world*; returns what it printed."""
    (place / "resolv.conf").write_text("nameserver 10.9.8.7\n")
    count = iter(range(100))

    def run(program: str, network: str = "proxy", sandbox: str = "bwrap", who: str = "root") -> Any:
        folder = place / str(next(count))
        folder.mkdir()
        words = [sys.executable]
        if who == "user":
            os.chown(folder, UID, UID)
            python = python_for_everybody() or pytest.skip("no Python that an ordinary user can start")
            words = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", python]
        words += ["-m", "tests.whole.attacker", str(folder), network, sandbox, program]
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{world}", "unshare", "--mount", "sh", "-ec", machine(folder), "sh", *words],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin", "PYTHONPATH": python_path()},
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            pytest.fail(done.stdout + done.stderr)

    return run


def machine(folder: Path) -> str:
    """Shell that gives the machine its resolver and a /dev/net/tun for everybody, and then does what it is told."""
    return f"""
        mount --bind {folder.parent}/resolv.conf /etc/resolv.conf
        mkdir {folder}/dev
        mount -t tmpfs none {folder}/dev
        mknod -m 0666 {folder}/dev/tun c 10 200
        mount --bind {folder}/dev/tun /dev/net/tun
        exec "$@"
    """


def asking(hosts: tuple[str, ...]) -> str:
    return f"print(json.dumps([host for host in {hosts!r} if reached(host)]))"


def test_without_the_sandbox_every_address_can_be_reached(attack: Attack) -> None:
    everywhere = (*FORBIDDEN, *OWN, ALLOWED)
    assert attack(asking(everywhere), sandbox="off") == list(everywhere)


@WHO
@pytest.mark.parametrize("network", NETWORKS)
def test_a_build_reaches_the_outside_and_nothing_of_the_machine_or_its_neighbours(
    attack: Attack, network: str, who: str
) -> None:
    mapped = ("::ffff:10.0.0.1", "::ffff:169.254.169.254", "0.0.0.0", "::")
    aliases = ("10.0.2.2", "10.0.2.3", "10.0.2.4")
    assert attack(asking((*FORBIDDEN, *OWN, *mapped, *aliases, ALLOWED)), network, who=who) == [ALLOWED]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_name_that_leads_to_a_forbidden_address_leads_nowhere(attack: Attack, network: str) -> None:
    assert attack(asking(("good", "metadata", "inside")), network) == ["good"]


def test_names_work_without_the_sandbox(attack: Attack) -> None:
    names = ("good", "metadata", "inside")
    assert attack(asking(names), sandbox="off") == list(names)


@WHO
def test_with_packages_alone_a_build_reaches_only_their_hosts_and_only_by_the_proxy(attack: Attack, who: str) -> None:
    """Hosts on the list that lead to forbidden addresses are not reached either."""
    asked = (*FORBIDDEN, *OWN, "good", "metadata", "inside", ALLOWED)
    assert attack(asking(asked), "packages", who=who) == ["good", ALLOWED]


@WHO
def test_with_no_network_a_build_reaches_nothing(attack: Attack, who: str) -> None:
    assert attack(asking((*FORBIDDEN, *OWN, "good", ALLOWED)), "none", who=who) == []


SECRET = "token-of-the-attempt"
THEFTS = """
secret = b"token-of-" + b"the-attempt"  # in two halves, so that this program does not find itself
found = {
    "token in an environment": seen("/proc/[0-9]*/environ", secret),
    "token in a command line": seen("/proc/[0-9]*/cmdline", secret),
    "shadow": bool(readable("/etc/shadow")),
    "host keys": bool(readable("/etc/ssl/private")),
    "other builds": bool(readable("OTHERS")),
    "spool": bool(readable("WORK/spool")),
    "sockets": bool(readable("SOCKETS")),
    "foreign processes": len(glob.glob("/proc/[0-9]*/cmdline")) > 4,
}
print(json.dumps(found))
"""


@pytest.fixture
def bystander() -> Iterator[None]:
    """A process of the machine whose environment and arguments hold the secret."""
    words = [sys.executable, "-c", "input()", SECRET]
    with subprocess.Popen(words, stdin=subprocess.PIPE, env={**os.environ, "STOLEN": SECRET}) as process:
        yield
        process.kill()


def thefts(others: str, work: str, sockets: str) -> str:
    return THEFTS.replace("OTHERS", others).replace("WORK", work).replace("SOCKETS", sockets)


@pytest.mark.usefixtures("bystander")
def test_without_the_sandbox_everything_can_be_taken(attack: Attack, place: Path) -> None:
    work = f"{place}/0/jobs/dpl_one/work"
    found = attack(thefts(f"{place}/0/jobs", work, f"{place}/0/sockets"), sandbox="off")
    assert all(found.values()), found


@pytest.mark.usefixtures("bystander")
@WHO
@pytest.mark.parametrize("network", NETWORKS)
def test_in_the_sandbox_nothing_can_be_taken(attack: Attack, network: str, who: str, place: Path) -> None:
    found = attack(thefts(f"{place}/0/jobs", "/work", "/run/scalemesh*"), network, who=who)
    assert not any(found.values()), found


@pytest.mark.parametrize(
    "escape",
    [
        "os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY)",
        "os.open('/usr/bin/planted', os.O_WRONLY | os.O_CREAT)",
        "os.open('/planted', os.O_WRONLY | os.O_CREAT)",
        "os.open('/dev/planted', os.O_WRONLY | os.O_CREAT)",
        "os.mknod('/work/src/disk', 0o060600, os.makedev(254, 0))",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
        "os.chroot('/work')",
        "os.setuid(0)",
        "socket.sethostname('x')",
    ],
)
def test_a_way_out_of_the_sandbox_is_shut(attack: Attack, escape: str) -> None:
    program = f"""
try:
    {escape}
    print('"open"')
except OSError:
    print('"shut"')
"""
    assert attack(program) == "shut"


@pytest.mark.parametrize(
    "call",
    [
        "socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)",
        "socket.socket(socket.AF_VSOCK)",
        "add_key()",
        "io_uring()",
    ],
)
def test_a_part_of_the_kernel_that_no_build_needs_is_shut(attack: Attack, call: str) -> None:
    program = f"""
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
def add_key():
    checked(libc.syscall(248 if platform.machine() == "x86_64" else 217, b"user", b"name", b"x", 1, -4))
def io_uring():
    checked(libc.syscall(425, 4, ctypes.create_string_buffer(256)))
try:
    {call}
    print('"open"')
except OSError:
    print('"shut"')
"""
    if attack(program, sandbox="off") == "shut":
        pytest.skip("this kernel has no such part")
    assert attack(program) == "shut"


def test_user_commands_can_make_no_user_namespace(attack: Attack) -> None:
    program = "import subprocess; print(subprocess.run(['unshare', '-U', 'true'], capture_output=True).returncode)"
    assert attack(program) != 0
    assert attack(program, sandbox="off") == 0


def test_a_listener_on_this_machine_is_not_reached_through_the_loopback(attack: Attack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert attack(f"print(json.dumps(reached('127.0.0.1', {port})))") is False
