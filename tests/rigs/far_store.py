"""A store that lies elsewhere, for tests: a real one on disk behind a door that a test opens and shuts by files.

It is a plug-in too: a folder with an entry point leads a daemon to it (see ``installed``).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from plugins.stores.disk import DiskConfig, DiskStore
from scalemesh.errors import UnreachableError
from scalemesh.ports import Finding, Store
from scalemesh.values import Blob, DeploymentId, Digest, Kept, SignedRequest

ENTRY_POINTS: Final = "[scalemesh.stores]\nfar = tests.rigs.far_store:FarStore\n"


@dataclass(frozen=True)
class Door:
    """What stands between us and the store, in *folder*; any process may turn it."""

    folder: Path

    def shut(self, method: str = "") -> None:
        """Nothing answers any more, or *method* alone does not."""
        (self.folder / "away").write_text(method)

    def open(self) -> None:
        (self.folder / "away").unlink()

    def hold(self) -> None:
        """Reads wait before their last chunk."""
        (self.folder / "held").touch()

    def let_go(self) -> None:
        (self.folder / "held").unlink()

    def spoil(self, times: int = 1_000_000) -> None:
        """The next so many reads give a wrong byte."""
        (self.folder / "spoiled").write_text(str(times))

    def reads(self) -> list[str]:
        """The digests that were read, in order."""
        log = self.folder / "reads"
        return log.read_text().split() if log.exists() else []

    def is_shut(self, method: str) -> bool:
        away = self.folder / "away"
        return away.exists() and away.read_text() in {"", method}

    def note(self, sha256: Digest) -> None:
        with (self.folder / "reads").open("a") as log:
            log.write(f"{sha256}\n")

    async def pass_through(self) -> None:
        while (self.folder / "held").exists():
            await asyncio.sleep(0.01)

    def takes_spoiled(self) -> bool:
        log = self.folder / "spoiled"
        left = int(log.read_text()) if log.exists() else 0
        if left:
            log.write_text(str(left - 1))
        return left > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FarConfig:
    path: Path


class FarStore:
    """All of a store, and no files of this machine."""

    Config = FarConfig

    def __init__(self, disk: DiskStore, door: Door) -> None:
        self._disk, self.door = disk, door

    @classmethod
    @asynccontextmanager
    async def open(cls, config: FarConfig) -> AsyncIterator[Self]:
        async with DiskStore.open(DiskConfig(path=config.path / "kept")) as disk:
            yield cls(disk, Door(config.path))

    def _knock(self, method: str) -> None:
        if self.door.is_shut(method):
            raise UnreachableError("the far store does not answer", fix="open its door")

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        self._knock("put")
        await self._disk.put(blob, chunks)

    async def read(self, sha256: Digest, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        self._knock("read")
        self.door.note(sha256)
        is_spoiled = self.door.takes_spoiled()
        async with aclosing(self._disk.read(sha256, start, stop)) as chunks:
            async for chunk in chunks:
                await self.door.pass_through()
                self._knock("read")
                yield bytes([chunk[0] ^ 1]) + chunk[1:] if is_spoiled else chunk

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        self._knock("missing")
        return await self._disk.missing(digests)

    async def delete(self, digests: Collection[Digest]) -> None:
        self._knock("delete")
        await self._disk.delete(digests)

    async def receive(self, deployment: DeploymentId, attempt: int, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        self._knock("receive")
        await self._disk.receive(deployment, attempt, blob, chunks)

    async def received(self, deployment: DeploymentId, attempt: int) -> dict[Digest, int]:
        self._knock("received")
        return await self._disk.received(deployment, attempt)

    async def adopt(self, deployment: DeploymentId, attempt: int, digests: Collection[Digest]) -> None:
        self._knock("adopt")
        await self._disk.adopt(deployment, attempt, digests)

    async def clear(self, deployment: DeploymentId) -> None:
        self._knock("clear")
        await self._disk.clear(deployment)

    def blobs(self, after: Digest | None = None) -> AsyncGenerator[Sequence[Kept]]:
        self._knock("blobs")
        return self._disk.blobs(after)

    async def staged(self) -> Sequence[DeploymentId]:
        self._knock("staged")
        return await self._disk.staged()

    async def check(self) -> Sequence[Finding]:
        if self.door.is_shut("check"):
            return [Finding(ok=False, what="the far store does not answer", fix="open its door", may_pass=True)]
        return await self._disk.check()


class FarDirectStore(FarStore):
    """One that gives out signed requests too."""

    async def upload_urls(
        self, _deployment: DeploymentId, _attempt: int, blobs: Sequence[Blob]
    ) -> Sequence[SignedRequest | None]:
        return [None for _ in blobs]

    async def download_url(self, sha256: Digest) -> SignedRequest:
        return SignedRequest(url=f"http://far.test/{sha256}", headers={})


def installed(into: Path) -> Path:
    """A folder for PYTHONPATH by which a program finds the plug-in ``far``."""
    package = into / "far_store-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: far-store\nVersion: 1\n")
    (package / "entry_points.txt").write_text(ENTRY_POINTS)
    return into


if TYPE_CHECKING:
    _fits: type[Store] = FarStore
