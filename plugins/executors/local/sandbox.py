"""The outer sandbox: which files of the machine a job sees, and the bubblewrap call that says so. Stdlib only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

STAGE: Final = "/mnt"  #: where a root supervisor gathers what lies behind folders that builds may not enter

_SYSTEM: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC: Final = (
    "ssl/certs",
    "ssl/openssl.cnf",
    "alternatives",
    "ca-certificates",
    "pki",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
)


@dataclass(frozen=True, slots=True)
class Bind:
    """One file or folder that the sandbox sees."""

    source: str
    target: str
    writable: bool = False

    @classmethod
    def of(cls, facts: Iterable[Any]) -> "Bind":
        """Read what ``tuple`` made for JSON."""
        return cls(*facts)

    def tuple(self) -> tuple[str, str, bool]:
        """The same for JSON."""
        return self.source, self.target, self.writable


def system_binds(root: Path = Path("/")) -> list[Bind]:
    """The parts of the system that programs need, read-only; nothing of its configuration or its users."""
    found = [Bind("/usr", "/usr")]
    found += [
        Bind(f"/{name}", f"/{name}") for name in _SYSTEM if (root / name).is_dir() and not (root / name).is_symlink()
    ]
    found += [Bind(f"/etc/{name}", f"/etc/{name}") for name in _ETC if (root / "etc" / name).exists()]
    return found


def system_links(root: Path = Path("/")) -> list[tuple[str, str]]:
    """(text, name) of the symbolic links that lead into /usr, as this machine has them."""
    return [(str((root / name).readlink()), f"/{name}") for name in _SYSTEM if (root / name).is_symlink()]


def outer_command(
    bwrap: str, binds: Iterable[Bind], links: Iterable[tuple[str, str]], *, own_network: bool, filter_fd: int | None
) -> list[str]:
    """The bubblewrap call that a job's program is appended to.

    Nested user namespaces stay possible here: the inner sandbox is made with one. ``own_network`` takes the
    network away altogether, where the supervisor has not prepared one. *filter_fd*: where the filter of system
    calls is read from; it holds for the inner sandbox too.
    """
    words = [bwrap, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--uid", "1000", "--gid", "1000", "--hostname", "build"]
    words += ["--unshare-net"] if own_network else []
    words += ["--seccomp", str(filter_fd)] if filter_fd is not None else []
    for text, name in links:
        words += ["--symlink", text, name]
    words += ["--proc", "/proc", "--dev", "/dev", "--size", str(64 << 20), "--tmpfs", "/dev/shm"]  # noqa: S108
    words += ["--size", str(64 << 20), "--tmpfs", "/tmp", "--dir", "/run"]  # noqa: S108
    for bind in binds:  # after the empty folders: what is bound may lie in one of them
        words += ["--bind" if bind.writable else "--ro-bind", bind.source, bind.target]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/work", "--"]
    return words


def write_etc(folder: Path, nameserver: str) -> list[Bind]:
    """Write the few files that programs look up in /etc, with nothing of this machine's in them."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    texts: Mapping[str, str] = {
        "passwd": "root:x:0:0::/:/usr/sbin/nologin\nbuild:x:1000:1000::/work/home:/bin/sh\n",
        "group": "root:x:0:\nbuild:x:1000:\n",
        "hosts": "127.0.0.1 localhost build\n::1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "resolv.conf": f"nameserver {nameserver}\noptions timeout:3\n" if nameserver else "",
    }
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
        path.chmod(0o644)
    return [Bind(str(folder / name), f"/etc/{name}") for name in texts]
