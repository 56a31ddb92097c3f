"""How the store stands: where the blobs live, whether that works now, and what goes on in it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from scalemesh.ports import Finding, LocalFiles
from scalemesh.services.chores import Chore, Chores
from scalemesh.services.home_store import HomeStore
from scalemesh.services.moving import Moving, State
from scalemesh.services.proofs import proven

WITHIN_S: Final = 5.0  #: a person waits for it
FRESH_S: Final = 10.0  #: to prove it writes a blob


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an owner wants to know."""

    state: State
    is_elsewhere: bool  #: not on this machine: what is read often is cached here
    wrong: Sequence[Finding]  #: empty: it works
    running: Chore | None
    verified: Chore | None  #: the last one that ended since the daemon's start; the same of the move
    moved: Chore | None

    @property
    def is_away(self) -> bool:
        """It lies elsewhere and does not answer, which may pass by itself."""
        return self.is_elsewhere and bool(self.wrong) and all(finding.may_pass for finding in self.wrong)


class Standings:
    """Asks the store, as of FRESH_S ago at most."""

    def __init__(
        self, store: HomeStore, moving: Moving, chores: Chores, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """*clock* is in seconds."""
        self._store, self._moving, self._chores, self._clock = store, moving, chores, clock
        self._asking = asyncio.Lock()
        self._asked, self._asked_at = "", float("-inf")
        self._wrong: Sequence[Finding] = ()

    async def now(self) -> Standing:
        """It takes as long as the store does, WITHIN_S at most."""
        wrong, state, chore = await self._found_wrong(), await self._moving.state(), self._chores.current
        ended = self._chores.ended
        return Standing(
            state=state,
            is_elsewhere=not isinstance(self._store.home.raw, LocalFiles),
            wrong=wrong,
            running=chore if chore is not None and chore.end is None else None,
            verified=ended.get("verify"),
            moved=ended.get("migrate"),
        )

    async def _found_wrong(self) -> Sequence[Finding]:
        async with self._asking:
            kind = self._store.home.kind
            if kind != self._asked or self._clock() - self._asked_at >= FRESH_S:
                self._wrong = [finding for finding in await proven(self._store, WITHIN_S) if not finding.ok]
                self._asked, self._asked_at = kind, self._clock()
        return self._wrong
