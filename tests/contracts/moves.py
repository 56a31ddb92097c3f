"""Two stores below one folder, a database, and the move from one to the other: what its tests need."""

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

from plugins.stores.disk import DiskConfig, DiskStore
from scalemesh.db.database import Database, open_database
from scalemesh.errors import UnreachableError
from scalemesh.ports import BlobStore, Store
from scalemesh.services import homes
from scalemesh.services.chores import Progress, Result, Wanted
from scalemesh.services.home_store import HomeStore
from scalemesh.services.moving import Moving
from scalemesh.services.openings import Openings, openings
from scalemesh.values import Blob, Digest
from tests.contracts.life import place_below
from tests.contracts.openers import STORES

TO = "other"
NO_PAUSE = (0.001,)


class ComesAndGoes(DiskStore):
    """Does not answer whenever the test says so."""

    is_away: Callable[[], bool] = staticmethod(lambda: False)

    @classmethod
    @asynccontextmanager
    async def below(cls, is_away: Callable[[], bool], where: Path) -> AsyncIterator[Self]:
        async with cls.open(DiskConfig(path=where / "store")) as store:
            store.is_away = is_away
            yield store

    async def put(self, blob: Blob, chunks: AsyncIterable[bytes]) -> None:
        self._answer()
        await super().put(blob, chunks)

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        self._answer()
        return await super().missing(digests)

    async def delete(self, digests: Collection[Digest]) -> None:
        self._answer()
        await super().delete(digests)

    def _answer(self) -> None:
        if self.is_away():
            raise UnreachableError("the store does not answer", why="it is away")


@dataclass
class Two:
    """The home store, and what moves it."""

    database: Database
    home: HomeStore
    stores: Openings
    moving: Moving
    told: list[str]  #: kinds that the serving processes were told of

    async def move(self, progress: Progress | None = None, *, despite_damage: bool = False) -> Result:
        wanted = Wanted(kind="migrate", to=TO, despite_damage=despite_damage)
        return await self.moving.run(wanted, progress or new_progress())


@asynccontextmanager
async def two(
    folder: Path,
    open_target: Callable[[Path], AbstractAsyncContextManager[Store]] = STORES["disk"],
    configured: str = "disk",
    lacks: Callable[[Path], Awaitable[str]] | None = None,
) -> AsyncIterator[Two]:
    """As a daemon starts: from where the database says that the blobs live."""
    opens = {"disk": STORES["disk"], TO: open_target}
    told: list[str] = []

    async def tell(kind: str) -> None:
        told.append(kind)

    async with (
        open_database(folder / "scalemesh.db") as database,
        openings(lambda kind: place_below(folder, opens[kind], kind)) as stores,
    ):
        found = await homes.settle(database, configured, utc_now)
        home = HomeStore(await stores.open(found.kind), await stores.former(found))
        more: dict[str, Any] = {} if lacks is None else {"lacks": lacks}
        moving = Moving(
            database, home, stores, configured=configured, tell=tell, now=utc_now, pauses_s=NO_PAUSE, **more
        )
        yield Two(database, home, stores, moving, told)


def new_progress() -> Progress:
    return Progress(asyncio.get_running_loop().time)


def utc_now() -> datetime:
    return datetime.now(UTC)


def blob_of(data: bytes) -> Blob:
    return Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))


async def put(store: BlobStore, data: bytes) -> Blob:
    blob = blob_of(data)
    await store.put(blob, chunks_of(data))
    return blob


async def read(store: BlobStore, sha256: Digest) -> bytes:
    async with aclosing(store.read(sha256)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    yield data


comes_and_goes = partial(partial, ComesAndGoes.below)  #: of when it is away: opens it below a folder
