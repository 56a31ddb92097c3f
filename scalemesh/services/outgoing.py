"""What a build reaches through the daemon: whom it may ask for, by builds.network, and what it is told if not.

Whether an address may be reached at all is not decided here: see builder.addresses.
"""

import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from scalemesh.config import Builds
from scalemesh.errors import RefusedError
from scalemesh.services.builds import BuildCalls
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.package_hosts import GIT_HOSTS, PACKAGE_HOSTS
from scalemesh.values import DeploymentId, Network

PORTS: Final = frozenset({22, 80, 443, 9418})
USUAL: Final = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
MOST_TOLD: Final = 50  #: refused hosts of one build that its log names
MAX_HOST: Final = 253
TOLD_SEQ: Final = 1 << 40  #: with the host's checksum: names the line within the log, also for a later daemon
MOST_BUILDS: Final = 1000  #: whose refused hosts are remembered


@dataclass(frozen=True, slots=True)
class Way:
    """What one build may ask for."""

    deployment: DeploymentId
    network: Network
    hosts: frozenset[str]  #: with ``packages``
    ports: frozenset[int]

    def refusal(self, host: str, port: int) -> str:
        """Why the build may not ask for *host* and *port*; empty where it may."""
        if self.network is Network.NONE:
            return 'builds reach nothing (builds.network = "none")'
        if port not in self.ports:
            return f"builds may not connect to port {port}"
        name = host.lower().rstrip(".")
        if self.network is Network.PACKAGES and not (name in self.hosts or self._is_below(name)):
            return f'{name} is no host of packages or Git (builds.network = "packages"; builds.allow_hosts adds hosts)'
        return ""

    def _is_below(self, name: str) -> bool:
        labels = name.split(".")
        return any(f"*.{'.'.join(labels[n:])}" in self.hosts for n in range(1, len(labels)))


class Outgoing:
    def __init__(self, calls: BuildCalls, logs: LogPipeline, builds: Builds) -> None:
        self._calls, self._logs, self._builds = calls, logs, builds
        self._told: OrderedDict[DeploymentId, set[str]] = OrderedDict()

    async def admit(self, token: str, nonce: str) -> Way:
        """The way of the build that shows *token* and the nonce of its claim.

        Raises:
            UnauthorizedError, ConflictError, GoneError: it is no build's, or of one that is over.
        """
        deployment = await self._calls.deployment(self._calls.who(token, nonce))
        places = [place for place in (self._builds.npm_registry, deployment.git_url) if place]
        own = [found for place in places if (found := _place(place))]
        return Way(
            deployment.id,
            self._builds.network,
            frozenset((*PACKAGE_HOSTS, *GIT_HOSTS, *self._builds.allow_hosts, *(host for host, _ in own))),
            PORTS | {port for _, port in own},
        )

    async def tell(self, way: Way, host: str, why: str) -> None:
        """Say in the build's log, once for each host, that it was refused."""
        told, name = self._told.setdefault(way.deployment, set()), host.lower().rstrip(".")[:MAX_HOST]
        while len(self._told) > MOST_BUILDS:
            self._told.popitem(last=False)
        if name in told or len(told) > MOST_TOLD:
            return
        told.add(name)
        text, once = f"Refused: {name}: {why}", TOLD_SEQ + zlib.crc32(name.encode())
        if len(told) > MOST_TOLD:
            text, once = "Refused: more hosts than are named here", TOLD_SEQ - 1
        await self._logs.write(way.deployment, self._calls.step_of(way.deployment), text, once=once)


def check_fetchable(git_url: str, network: Network) -> None:
    """Let builds fetch from *git_url*, as far as ``builds.network`` decides it.

    Raises:
        RefusedError: no build could.
    """
    scheme, separator, _ = git_url.partition("://")
    if network is Network.FULL or scheme == "file":
        return
    if network is Network.NONE:
        raise RefusedError(
            "the repository cannot be fetched",
            why='builds reach nothing (builds.network = "none")',
            fix="deploy a folder instead: clone the repository and run scalemesh deploy FOLDER",
        )
    if not separator or scheme not in ("https", "http"):
        raise RefusedError(
            "the repository cannot be fetched by ssh or git://",
            why='the way out of builds is a proxy, which Git uses for https alone (builds.network = "packages")',
            fix="use the https address of the repository, or deploy a folder",
        )


def _place(url: str) -> tuple[str, int] | None:
    """Host and port of a URL, or of what Git takes for one (``git@host:path``)."""
    if "://" not in url:
        host = url.partition(":")[0].rpartition("@")[2]
        return (host.lower(), 22) if host else None
    parts = urlsplit(url)
    return (parts.hostname, parts.port or USUAL.get(parts.scheme, 443)) if parts.hostname else None
