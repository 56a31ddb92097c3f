"""Gives a job's network namespace a way out: slirp4netns or pasta, then the routes that forbid. Stdlib only."""

import os
import select
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from builder.netlink import Netlink
from plugins.executors.local import kernel

GATEWAY: Final = "10.0.2.2"
NAMESERVER: Final = "10.0.2.3"
_ADDRESS: Final = "10.0.2.100"
_DEVICE: Final = "tap0"
_TUN_DEVICE: Final = (10, 200)  # of /dev/net/tun, the same on every Linux


class NoWayOutError(Exception):
    """The helper could not give the namespace a network."""


class Helper:
    """The running slirp4netns or pasta of one job. Ends by itself when this process does."""

    def __init__(self, pid: int, lifeline: int | None) -> None:
        self._pid = pid
        self._lifeline = lifeline

    @property
    def pid(self) -> int:
        """Its process id; 0 after close."""
        return self._pid

    def close(self) -> None:
        """End it and wait until it is gone. Repeatable."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if self._pid > 0:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = 0


def start_helper(kind: str, program: str, holder: int, uid: int | None, timeout_s: float = 8.0) -> Helper:
    """Connect the network namespace of the process *holder*; return once the interface is there.

    *uid*: drop to this user first (None: keep). Raises NoWayOutError with the helper's own words.
    """
    ready, tell_ready = os.pipe()
    stay, lifeline = os.pipe()
    words, tell_words = os.pipe()
    pid = os.fork()
    if pid == 0:
        if uid is not None:
            os.fchown(tell_ready, uid, uid)  # pasta opens it by name
        _run_helper(_arguments(kind, program, holder, tell_ready, stay), holder, uid, tell_words)
    for fd in (tell_ready, stay, tell_words):
        os.close(fd)
    helper = Helper(pid, lifeline)
    try:
        _wait_for_byte(ready, timeout_s)
    except NoWayOutError as error:
        helper.close()
        raise NoWayOutError(_said(words) or str(error)) from None
    finally:
        os.close(ready)
        os.close(words)
    return helper


def forbid(routes: Sequence[str], allowed: Sequence[str]) -> None:
    """In the namespace that we are in: shut *routes* except *allowed*, and of the resolver all but port 53.

    Whatever a helper makes of other ports of its resolver's and its gateway's address (some hand them to the
    host's resolver, which often is the host itself), nothing is sent there.
    """
    with Netlink() as netlink:
        netlink.bring_up("lo")
        for network in routes:
            with suppress_no_ipv6(network):
                netlink.forbid(network)
        for network in allowed:
            if ":" not in network:
                netlink.allow(network, GATEWAY)
        netlink.only_ports(NAMESERVER, (53,), 100)
        netlink.only_ports(GATEWAY, (), 200)
    with suppress(OSError):  # no IPv6 in this kernel
        Path(f"/proc/sys/net/ipv6/conf/{_DEVICE}/disable_ipv6").write_text("1")


class suppress_no_ipv6:  # noqa: N801 - reads like contextlib.suppress
    """Ignore a refused IPv6 route where the kernel has no IPv6 at all: there is nothing to forbid."""

    def __init__(self, network: str) -> None:
        self._is_ipv6 = ":" in network

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        return self._is_ipv6 and isinstance(error, OSError) and not Path("/proc/net/if_inet6").exists()


def make_tun(folder: str) -> None:
    """As root, in a mount namespace of our own: offer /dev/net/tun to the user that the helper runs as."""
    device = f"{folder}/.tun"
    os.mknod(device, 0o020666, os.makedev(*_TUN_DEVICE))
    Path(device).chmod(0o666)
    kernel.mount(device, "/dev/net/tun", "", kernel.MS_BIND)


def _arguments(kind: str, program: str, holder: int, ready: int, stay: int) -> list[str]:
    user, net = f"/proc/{holder}/ns/user", f"/proc/{holder}/ns/net"
    os.set_inheritable(ready, True)
    os.set_inheritable(stay, True)
    if kind == "slirp4netns":
        return [
            *(program, "--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={ready}"),
            *(f"--exit-fd={stay}", f"--userns-path={user}", "--netns-type=path", net, _DEVICE),
        ]
    return [
        *(program, "--foreground", "--quiet", "--pid", f"/proc/self/fd/{ready}", "--config-net"),
        *("--userns", user, "--netns", net, "--ns-ifname", _DEVICE),
        *("--no-map-gw", "--ipv4-only", "-a", _ADDRESS, "-n", "24", "-g", GATEWAY),
        *("--dns-forward", NAMESERVER, "-t", "none", "-u", "none", "-T", "none", "-U", "none"),
    ]


def _run_helper(arguments: list[str], holder: int, uid: int | None, words: int) -> None:
    try:
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(words, 1)
        os.dup2(words, 2)
        if uid is not None:
            mounts = os.open(f"/proc/{holder}/ns/mnt", os.O_RDONLY)
            kernel.setns(mounts, kernel.CLONE_NEWNS)  # where /dev/net/tun is open to everybody
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        kernel.die_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and older pastas refuse to start then
        os.execve(arguments[0], arguments, {"PATH": "/usr/bin:/bin"})  # noqa: S606 - a forked process of ours
    except OSError as error:
        os.write(2, f"{arguments[0]}: {error}".encode())
    finally:
        os._exit(127)


def _wait_for_byte(fd: int, timeout_s: float) -> None:
    readable, _, _ = select.select([fd], [], [], timeout_s)
    if not readable:
        raise NoWayOutError(f"no network within {timeout_s:.0f} s")
    if not os.read(fd, 1):
        raise NoWayOutError("the helper ended at once")


def _said(fd: int) -> str:
    os.set_blocking(fd, False)
    with suppress(BlockingIOError):
        return os.read(fd, 4000).decode(errors="replace").strip()[-500:]
    return ""


def local_addresses() -> list[str]:
    """Every address of the network namespace that we are in."""
    with Netlink() as netlink:
        return netlink.addresses()
