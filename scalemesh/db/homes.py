"""Which store the blobs live in, and the move to another one, in the database."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scalemesh.db.blobs import Amount
from scalemesh.db.columns import digest_or_none, from_ms, to_ms
from scalemesh.db.database import Database, Transaction
from scalemesh.values import DeploymentId, Digest

SWITCH: Final = timedelta(minutes=1)  #: that a switch may take from the time that it notes

HOME: Final = "SELECT * FROM store_home"
SET_HOME: Final = """
INSERT INTO store_home (only_row, kind, since_at, former, leftovers) VALUES (1, :kind, :since_at, :former, :leftovers)
ON CONFLICT (only_row) DO UPDATE SET kind = excluded.kind, since_at = excluded.since_at, former = excluded.former,
    leftovers = excluded.leftovers
"""
CONFIG_FOLLOWED: Final = "UPDATE store_home SET former = NULL"
NO_LEFTOVERS: Final = "UPDATE store_home SET leftovers = NULL"
SENDERS: Final = """
SELECT id FROM deployment
WHERE (state IN ('building', 'publishing') OR (state = 'queued' AND NOT source_ready))
    AND coalesce(started_at, created_at) <= :by
"""
ANY_BLOB: Final = "SELECT 1 FROM blob WHERE state = 1 LIMIT 1"
ALL_AFTER: Final = """
SELECT count(*) AS n, coalesce(sum(size_bytes), 0) AS size_bytes FROM blob WHERE state = 1 AND sha256 > :after
"""
MOVE: Final = "SELECT * FROM store_move"
BEGIN_MOVE: Final = """
INSERT INTO store_move (only_row, target, despite_damage, started_at) VALUES (1, :target, :despite_damage, :now)
ON CONFLICT (only_row) DO UPDATE SET is_stopped = 0, despite_damage = excluded.despite_damage,
    copied_to = CASE WHEN target = excluded.target THEN copied_to END,
    started_at = CASE WHEN target = excluded.target THEN started_at ELSE excluded.started_at END,
    target = excluded.target
"""
COPIED_TO: Final = "UPDATE store_move SET copied_to = :sha256"
STOP_MOVE: Final = "UPDATE store_move SET is_stopped = 1"
END_MOVE: Final = "DELETE FROM store_move"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where the blobs live."""

    kind: str
    since_at: datetime
    former: str | None = None  #: another kind that the config named when they moved, until it follows
    leftovers: str | None = None  #: the kind whose staging area may hold uploads from before the move


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A move that is under way, or was stopped."""

    target: str
    is_stopped: bool
    despite_damage: bool
    copied_to: Digest | None  #: every blob up to it was looked at
    started_at: datetime


class HomeRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def home(self) -> Home | None:
        """None: the daemon has not run yet."""
        row = await self._db.one(HOME)
        if row is None:
            return None
        since_at = from_ms(row["since_at"])
        return Home(kind=row["kind"], since_at=since_at, former=row["former"], leftovers=row["leftovers"])

    async def senders(self, since: datetime) -> set[DeploymentId]:
        """Deployments that go on and may have sent something before the blobs' home changed at *since*."""
        return {DeploymentId(row["id"]) for row in await self._db.all(SENDERS, {"by": to_ms(since + SWITCH)})}

    async def move(self) -> Move | None:
        row = await self._db.one(MOVE)
        if row is None:
            return None
        return Move(
            target=row["target"],
            is_stopped=bool(row["is_stopped"]),
            despite_damage=bool(row["despite_damage"]),
            copied_to=digest_or_none(row["copied_to"]),
            started_at=from_ms(row["started_at"]),
        )

    async def has_blobs(self) -> bool:
        return await self._db.one(ANY_BLOB) is not None

    async def amount(self, after: Digest | None = None) -> Amount:
        """The blobs with digests above *after* that are in the store, by what was noted. Counted aside."""
        async with self._db.aside() as reader:
            row = await reader.one(ALL_AFTER, {"after": after or ""})
        return Amount(row["n"], row["size_bytes"]) if row else Amount()


async def set_home(tx: Transaction, home: Home) -> None:
    """Note where the blobs live from now on."""
    params = {"kind": home.kind, "since_at": to_ms(home.since_at), "former": home.former, "leftovers": home.leftovers}
    await tx.run(SET_HOME, params)


async def config_followed(tx: Transaction) -> None:
    """The config names the home: from now on another kind there is a mistake."""
    await tx.run(CONFIG_FOLLOWED)


async def no_leftovers(tx: Transaction) -> None:
    """Nothing in the former store is needed any more."""
    await tx.run(NO_LEFTOVERS)


async def begin_move(tx: Transaction, target: str, now: datetime, *, despite_damage: bool) -> None:
    """Note a move to *target*; one that was stopped goes on where it was."""
    await tx.run(BEGIN_MOVE, {"target": target, "despite_damage": int(despite_damage), "now": to_ms(now)})


async def copied_to(tx: Transaction, sha256: Digest) -> None:
    await tx.run(COPIED_TO, {"sha256": sha256})


async def stop_move(tx: Transaction) -> None:
    """It goes on only when a person says so."""
    await tx.run(STOP_MOVE)


async def end_move(tx: Transaction) -> None:
    """Forget the move: it has come to its end."""
    await tx.run(END_MOVE)
