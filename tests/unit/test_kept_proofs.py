"""How often a plug-in is asked to prove itself, however often somebody looks."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from scalemesh.ports import Finding
from scalemesh.services.kept_proofs import ELSEWHERE_BAD_S, ELSEWHERE_S, FRESH_S, KeptProofs

WELL = Finding(ok=True, what="a job ran", fix="and could run better")
BAD = Finding(ok=False, what="no job can be run")


@dataclass
class Counts:
    found: Finding
    uses_this_machine: bool
    asked: int = 0

    async def check(self) -> Sequence[Finding]:
        self.asked += 1
        return [self.found]


class Store:
    asked = 0

    async def check(self) -> Sequence[Finding]:
        self.asked += 1
        return []


@pytest.mark.parametrize(
    ("found", "here", "kept_s"),
    [(WELL, True, FRESH_S), (BAD, True, FRESH_S), (WELL, False, ELSEWHERE_S), (BAD, False, ELSEWHERE_BAD_S)],
)
async def test_an_executor_is_proven_again_only_when_its_last_proof_is_old(
    found: Finding, here: bool, kept_s: float
) -> None:
    now = [100.0]
    executor, store = Counts(found, uses_this_machine=here), Store()
    proofs = KeptProofs({"executor.some": executor, "store": store}, lambda: now[0])
    for _ in range(3):
        assert await proofs.all() == {"executor.some": [found], "store": []}
    now[0] += kept_s - 0.1
    await proofs.all()
    assert executor.asked == 1
    now[0] += 0.1
    await proofs.all()
    assert executor.asked == 2
    assert store.asked == 2
