"""What plug-ins found of themselves a while ago, for whoever looks often."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scalemesh.ports import Checks, Finding
from scalemesh.services.proofs import proven

FRESH_S: Final = 10.0  #: what is proven on this machine, or costs nothing
#: A job in a cluster or at a cloud takes room of others, and is billed.
ELSEWHERE_S: Final = 600.0
ELSEWHERE_BAD_S: Final = 60.0  #: whoever mended it looks again


@dataclass(frozen=True, slots=True)
class _Proof:
    found: Sequence[Finding]
    until: float


class KeptProofs:
    """Asks each plug-in as seldom as may be; several people may look at once."""

    def __init__(self, checks: Mapping[str, Checks], clock: Callable[[], float]) -> None:
        """*checks* are the plug-ins by their plug point; *clock* is monotonic, in seconds."""
        self._checks, self._clock = checks, clock
        self._proving = asyncio.Lock()
        self._proofs: dict[str, _Proof] = {}

    async def all(self) -> dict[str, Sequence[Finding]]:
        """What each found, by plug point."""
        async with self._proving:
            stale = [part for part in self._checks if not self._is_fresh(part)]
            for part, proof in zip(stale, await asyncio.gather(*map(self._prove, stale)), strict=True):
                self._proofs[part] = proof
            return {part: self._proofs[part].found for part in self._checks}

    def _is_fresh(self, part: str) -> bool:
        return part in self._proofs and self._clock() < self._proofs[part].until

    async def _prove(self, part: str) -> _Proof:
        plugin = self._checks[part]
        found = await proven(plugin)
        if getattr(plugin, "uses_this_machine", True):
            return _Proof(found, self._clock() + FRESH_S)
        is_well = all(finding.ok for finding in found)
        return _Proof(found, self._clock() + (ELSEWHERE_S if is_well else ELSEWHERE_BAD_S))
