"""Finds plug-ins by entry point, decodes their table of the config, opens them."""

import dataclasses
import difflib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

from scalemesh.config import Config, Plugin
from scalemesh.decode import decode, environment
from scalemesh.errors import ConfigError, InvalidError

GROUPS: Final[Mapping[str, str]] = {
    "executor": "scalemesh.executors",
    "store": "scalemesh.stores",
    "logs": "scalemesh.logstores",
    "bus": "scalemesh.logbus",
}
#: Fields of plug-ins that are filled in from other tables: the settings for them.
DECIDED_BY: Final[Mapping[str, str]] = {
    "build_network": "builds.network",
    "allow_networks": "builds.allow_networks",
    "ca_bundle": "builds.ca_bundle",
    "file_root": "git.file_root",
    "url": "builds.public_url or builds.listen",
}


def installed() -> dict[str, dict[str, EntryPoint]]:
    """Plug point -> kind -> where it comes from, of every installed package."""
    return {point: {entry.name: entry for entry in entry_points(group=group)} for point, group in GROUPS.items()}


def open_plugin(
    point: str, plugin: Plugin, data_dir: Path, defaults: Mapping[str, object] | None = None
) -> AbstractAsyncContextManager[Any]:
    """Decode *plugin*'s settings and return its opened-on-enter context manager.

    *defaults* are settings that other parts of the config decide; the kind takes those that its Config knows. Its
    fields typed ``Path`` count from *data_dir*.

    Raises:
        ConfigError: no such kind, its package does not import, or wrong settings.
    """
    cls = _load(point, plugin.kind)
    known = {item.name: item for item in dataclasses.fields(cls.Config)}
    wanted = {name: value for name, value in (defaults or {}).items() if name in known}
    taken = [name for name in plugin.settings if name in known and known[name].metadata.get("given")]
    if taken:
        lines = "\n".join(
            f"  {point}.{plugin.kind}.{name}: no setting of this table; {_decided(name)}" for name in taken
        )
        raise ConfigError(f"[{point}.{plugin.kind}] has mistakes\n{lines}")
    try:
        config = decode(cls.Config, {**wanted, **plugin.settings}, environ=environment())
    except InvalidError as error:
        lines = "\n".join(f"  {point}.{plugin.kind}.{line}" for line in error.what.splitlines())
        raise ConfigError(f"[{point}.{plugin.kind}] has mistakes\n{lines}") from None
    opened: AbstractAsyncContextManager[Any] = cls.open(_anchored(config, data_dir))
    return opened


def _decided(name: str) -> str:
    """Who decides a field that a kind's Config marks as given."""
    return f"set {DECIDED_BY[name]}" if name in DECIDED_BY else "the daemon itself decides it"


def _load(point: str, kind: str) -> Any:
    known = installed()[point]
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        raise ConfigError(
            f'{point}.kind = "{kind}": no plug-in of that name is installed',
            why=f"installed: {', '.join(sorted(known))}",
            fix=f'did you mean "{near[0]}"?' if near else "install the package that brings it",
        )
    try:
        return known[kind].load()
    except ImportError as error:
        raise ConfigError(
            f'{point}.kind = "{kind}": its package cannot be imported',
            why=str(error),
            fix=f"./install.sh --demo --with {kind}; without install.sh: pip install 'scalemesh[{kind}]'",
        ) from error


def _anchored(config: Any, data_dir: Path) -> Any:
    paths = {
        item.name: data_dir / value
        for item in dataclasses.fields(config)
        if isinstance(value := getattr(config, item.name), Path)
    }
    return dataclasses.replace(config, **paths)


def open_point(
    point: str, config: Config, owner: str = "", *, kind: str | None = None, is_keeper: bool = True
) -> AbstractAsyncContextManager[Any]:
    """What fills one plug point, to be opened; what other tables of the config say of it are its defaults.

    *owner* names this installation, where several may use the same place. *kind*: which one, where there are several.
    *is_keeper*: this process of the installation takes deployments; one of them does.

    Raises:
        ConfigError: as ``open_plugin``.
    """
    builds = config.builds
    defaults: dict[str, dict[str, object]] = {
        "executor": {
            "ca_bundle": builds.ca_bundle,
            "allow_networks": list(builds.allow_networks),
            "file_root": str(config.git.file_root or ""),
            "build_network": config.builds.network,
            "owner": owner,
            "socket": str(config.builds_socket),
            "url": config.builds.url or "",
        },
        "store": {"path": "store", "owner": owner, "is_keeper": is_keeper},
        "logs": {"path": "logs.db"},
    }
    return open_plugin(point, config.plugin(point, kind), config.data_dir, defaults.get(point))
