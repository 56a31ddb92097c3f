"""What lies in the blob store and who holds it: a deployment, an asset window, a cache. SQL only; one row a blob."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from itertools import islice
from typing import Final, TypeVar

from scalemesh.db.columns import to_ms
from scalemesh.db.database import Database, Transaction
from scalemesh.values import Blob, DeploymentId, Digest, ProjectId

T = TypeVar("T")
AT_ONCE: Final = 2_000  #: of a long list in one question to the database

COMING: Final = 0
STORED: Final = 1
DOOMED: Final = 2

ADD_HOLDER: Final = """
INSERT INTO holder (name, project_id, deployment_id) VALUES (:name, :project, :deployment)
ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id
"""
RELEASE: Final = "DELETE FROM holder WHERE name = :name"
ANY_DOOMED: Final = """
SELECT 1 FROM json_each(:blobs) AS given JOIN blob ON blob.sha256 = given.value ->> 0 WHERE blob.state = 2 LIMIT 1
"""
ADD: Final = """
INSERT INTO blob (sha256, size_bytes, state, kind)
SELECT value ->> 0, value ->> 1, 0, :kind FROM json_each(:blobs) WHERE true
ON CONFLICT (sha256) DO UPDATE SET unheld_at = NULL WHERE unheld_at IS NOT NULL
"""
HOLD: Final = """
INSERT INTO hold (holder, blob)
SELECT :holder, blob.id FROM json_each(:blobs) AS given JOIN blob ON blob.sha256 = given.value ->> 0 WHERE true
ON CONFLICT DO NOTHING
"""
HOLD_KNOWN: Final = """
UPDATE blob SET unheld_at = NULL WHERE sha256 = :sha256 AND state < 2 RETURNING id
"""
HOLD_ONE: Final = "INSERT INTO hold (holder, blob) VALUES (:holder, :blob) ON CONFLICT DO NOTHING"
NOT_STORED: Final = """
SELECT blob.sha256 FROM json_each(:digests) AS given JOIN blob ON blob.sha256 = given.value WHERE blob.state = 0
"""
SET_STORED: Final = """
UPDATE blob SET state = 1 WHERE state = 0 AND sha256 IN (SELECT value FROM json_each(:digests))
"""
SET_LOST: Final = """
UPDATE blob SET state = 0 WHERE state = 1 AND sha256 IN (SELECT value FROM json_each(:digests))
"""
OWNED: Final = """
SELECT blob.sha256, blob.size_bytes FROM json_each(:digests) AS asked JOIN blob ON blob.sha256 = asked.value
WHERE blob.state = 1 AND EXISTS (
    SELECT 1 FROM hold JOIN holder ON holder.id = hold.holder
    WHERE hold.blob = blob.id AND holder.project_id = :project
)
"""
LET_GO_OF_OTHERS: Final = """
DELETE FROM hold WHERE holder = (SELECT id FROM holder WHERE name = :name) AND blob NOT IN (
    SELECT blob.id FROM json_each(:digests) AS given JOIN blob ON blob.sha256 = given.value
)
"""
LAST: Final = "SELECT coalesce(max(id), 0) AS id FROM blob"
MARK: Final = """
UPDATE blob SET unheld_at = :now
WHERE id > :after AND id <= :last AND unheld_at IS NULL AND state < 2
    AND NOT EXISTS (SELECT 1 FROM hold WHERE hold.blob = blob.id)
"""
DOOM: Final = """
UPDATE blob SET state = 2 WHERE id IN (
    SELECT id FROM blob WHERE unheld_at <= :before AND state < 2 ORDER BY unheld_at LIMIT :limit
) AND NOT EXISTS (SELECT 1 FROM hold WHERE hold.blob = blob.id)
"""
DOOMED_ONES: Final = "SELECT sha256, size_bytes FROM blob WHERE state = 2 LIMIT :limit"
FORGET: Final = "DELETE FROM blob WHERE state = 2 AND sha256 IN (SELECT value FROM json_each(:digests))"
UNHELD: Final = """
SELECT count(*) AS n, coalesce(sum(size_bytes), 0) AS size_bytes FROM blob
WHERE NOT EXISTS (SELECT 1 FROM hold WHERE hold.blob = blob.id)
"""


class BlobKind(IntEnum):
    """What a blob is, for those who look what uses the room."""

    FILE = 0  #: of a deployment, or of its source
    VARIANT = 1  #: a file compressed
    LIST = 2  #: listings, manifests, encodings
    WINDOW = 3  #: the table of an asset window
    CACHE = 4  #: what builds keep for later ones


@dataclass(frozen=True, slots=True)
class Holder:
    """Who needs blobs. It goes with its deployment, or else with its project, or when it is released."""

    name: str
    project: ProjectId
    deployment: DeploymentId | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """So many blobs and their bytes."""

    count: int = 0
    size_bytes: int = 0


async def hold(
    tx: Transaction, holder: Holder, blobs: Collection[Blob], kind: BlobKind = BlobKind.FILE
) -> set[Digest] | None:
    """Let *holder* hold *blobs*, besides those that it holds; return those that are not in the store yet.

    *kind* is noted of those that nobody knew: bytes that are two things are the first.

    None: one of them is being removed just now, and nothing was changed.

    Raises:
        NotFoundError: its deployment or project is deleted (when the transaction ends).
    """
    for part in _parts(blobs):
        if await tx.one(ANY_DOOMED, {"blobs": _rows(part)}):
            return None
    known, coming = await _id_of(tx, holder), set[Digest]()
    for part in _parts(blobs):
        given = _rows(part)
        await tx.run(ADD, {"blobs": given, "kind": kind})
        await tx.run(HOLD, {"holder": known, "blobs": given})
        coming |= await not_stored(tx, [blob.sha256 for blob in part])
    return coming


async def not_stored(tx: Transaction, digests: Iterable[Digest]) -> set[Digest]:
    """Those of *digests*, all of them held, that are on their way into the store, or were lost there."""
    found = set[Digest]()
    for part in _parts(digests):
        rows = await tx.all(NOT_STORED, {"digests": json.dumps(part)})
        found |= {Digest(row["sha256"]) for row in rows}
    return found


async def hold_alone(tx: Transaction, holder: Holder, sha256: Digest) -> bool:
    """Let *holder* hold that blob, which it has put into the store before, and no other; whether it is still there."""
    found = await tx.all(HOLD_KNOWN, {"sha256": sha256})
    if not found:
        return False
    await tx.run(HOLD_ONE, {"holder": await _id_of(tx, holder), "blob": found[0]["id"]})
    await let_go_of_others(tx, holder, [sha256])
    return True


async def let_go_of_others(tx: Transaction, holder: Holder, digests: Iterable[Digest]) -> None:
    """Let *holder* hold none but *digests*, which it holds already."""
    await tx.run(LET_GO_OF_OTHERS, {"name": holder.name, "digests": json.dumps(list(digests))})


async def release(tx: Transaction, holder: Holder) -> None:
    """Let it hold nothing any more. Repeatable."""
    await tx.run(RELEASE, {"name": holder.name})


async def stored(tx: Transaction, digests: Collection[Digest]) -> None:
    """Note that held blobs are in the store, durably. Repeatable."""
    for part in _parts(digests):
        await tx.run(SET_STORED, {"digests": json.dumps(part)})


async def lost(tx: Transaction, digests: Collection[Digest]) -> None:
    """Note that the store has not got them, though it should: whoever has the bytes brings them again. Repeatable."""
    await tx.run(SET_LOST, {"digests": json.dumps(list(digests))})


async def pin(tx: Transaction, holder: Holder, digests: Collection[Digest]) -> dict[Digest, int]:
    """Those of *digests* that the holder's project owns, with their sizes in bytes; *holder* holds them from now on."""
    owned: dict[Digest, int] = {}
    for part in _parts(digests):
        rows = await tx.all(OWNED, {"digests": json.dumps(part), "project": holder.project})
        found = [Blob(sha256=Digest(row["sha256"]), size_bytes=row["size_bytes"]) for row in rows]
        if found:
            await tx.run(HOLD, {"holder": await _id_of(tx, holder), "blobs": _rows(found)})
        owned |= {blob.sha256: blob.size_bytes for blob in found}
    return owned


async def mark_unheld(tx: Transaction, *, after: int, last: int, now: datetime) -> None:
    """Note since when blobs have no holder, of those with ids above *after* up to *last*."""
    await tx.run(MARK, {"after": after, "last": last, "now": to_ms(now)})


async def doom(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Shut up to *limit* blobs that nobody has held since *before*: nobody may hold them now. How many."""
    return await tx.run(DOOM, {"before": to_ms(before), "limit": limit})


async def forget(tx: Transaction, digests: Collection[Digest]) -> None:
    """Doomed blobs have left the store: whoever sends those bytes begins anew. Repeatable."""
    await tx.run(FORGET, {"digests": json.dumps(list(digests))})


class BlobRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def last_id(self) -> int:
        row = await self._db.one(LAST)
        return int(row["id"]) if row else 0

    async def doomed(self, limit: int) -> Sequence[Blob]:
        rows = await self._db.all(DOOMED_ONES, {"limit": limit})
        return [Blob(sha256=Digest(row["sha256"]), size_bytes=row["size_bytes"]) for row in rows]

    async def unheld(self) -> Amount:
        """All blobs that nobody holds now. Counted aside, since all blobs are looked at: a million take seconds."""
        async with self._db.aside() as reader:
            row = await reader.one(UNHELD)
        return Amount(row["n"], row["size_bytes"]) if row else Amount()


async def _id_of(tx: Transaction, holder: Holder) -> int:
    params = {"name": holder.name, "project": holder.project, "deployment": holder.deployment}
    return int((await tx.all(ADD_HOLDER, params))[0]["id"])


def _parts(many: Iterable[T]) -> Iterator[list[T]]:
    """*many*, so many at a time that visits come in between two questions."""
    left = iter(many)
    while part := list(islice(left, AT_ONCE)):
        yield part


def _rows(blobs: Iterable[Blob]) -> str:
    return json.dumps([[blob.sha256, blob.size_bytes] for blob in blobs])
