"""Which daemon the command talks to: by options, environment, or a config file on this machine."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from scalemesh.client import Client, Server
from scalemesh.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

CONFIGS: Final = (Path(".scalemesh/config.toml"), Path("/etc/scalemesh/config.toml"))


@dataclass
class Place:
    """What the options said; each may stand before the verb or behind it."""

    config: str | None = None
    socket: str | None = None
    url: str | None = None
    token: str | None = None

    def config_path(self) -> Path:
        """The config file.

        Raises:
            ConfigError: none was named, and none is where one would be.
        """
        if named := self.config or os.environ.get("SCALEMESH_CONFIG"):
            return Path(named)
        for path in CONFIGS:
            if path.exists():
                return path
        raise ConfigError(
            "no config file was found",
            why="neither --config nor SCALEMESH_CONFIG names one; looked for " + " and ".join(map(str, CONFIGS)),
            fix="--config FILE; or for a daemon elsewhere --url with a token in SCALEMESH_TOKEN",
        )

    def server(self) -> Server:
        """Where the daemon is. Options outweigh the environment, which outweighs config files that are just there.

        Raises:
            ConfigError: nothing says where.
        """
        environ = os.environ
        token = self.token or environ.get("SCALEMESH_TOKEN") or None
        if self.url or self.socket:
            return Server(url=self.url, socket=Path(self.socket) if self.socket else None, token=token)
        if not self.config and (url := environ.get("SCALEMESH_URL")):
            return Server(url=url, token=token)
        if not self.config and (named := environ.get("SCALEMESH_SOCKET")):
            return Server(socket=Path(named))
        return Server(socket=admin_socket(self.config_path()))


def client(ctx: click.Context) -> Client:
    """The client for the daemon that options or environment name; closed with the command."""
    found = Client(ctx.ensure_object(Place).server())
    ctx.call_on_close(found.close)
    return found


def admin_socket(config: Path) -> Path:
    """The admin socket of the daemon that runs by *config*.

    Only its place is read: the file may name secrets by variables that only the daemon's environment has.

    Raises:
        ConfigError: the file cannot be read.
    """
    import tomllib  # noqa: PLC0415 -- these cost a fifth of the start, and a --url needs neither

    from scalemesh.config import Config  # noqa: PLC0415

    try:
        data = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config}: cannot be read", why=str(error), fix="name the file with --config") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{config}: is not TOML", why=str(error)) from error
    data_dir = Path(str(data.get("data_dir", Config().data_dir))).expanduser()
    return Config(data_dir=(config.resolve().parent / data_dir).resolve()).admin_socket


def place_options(command: F) -> F:
    """The options that say where the daemon is."""
    for name, short, metavar, about in (
        ("socket", (), "PATH", "The daemon's admin socket. [env: SCALEMESH_SOCKET]"),
        ("token", (), "TOKEN", "An API token; safer in the environment. [env: SCALEMESH_TOKEN]"),
        ("url", (), "URL", "The control host of a daemon elsewhere. [env: SCALEMESH_URL]"),
        ("config", ("-c",), "FILE", "The config of a daemon on this machine. [env: SCALEMESH_CONFIG]"),
    ):
        option = click.option(f"--{name}", *short, metavar=metavar, help=about, expose_value=False, callback=_note)
        command = option(command)
    return command


def _note(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name is not None:
        setattr(ctx.ensure_object(Place), param.name, value)
