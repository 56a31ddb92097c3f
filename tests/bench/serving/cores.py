"""One core serves, another one makes the load."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tests.bench.measure import PeerError


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores that this process may use; children are held on one of them by taskset."""

    numbers: Sequence[int]

    @classmethod
    def settle(cls) -> Self:
        """Look which there are, and hold this process itself where the load is made.

        Raises:
            PeerError: there is only one.
        """
        cores = cls(sorted(os.sched_getaffinity(0)))
        if len(cores.numbers) < 2:
            raise PeerError("one core must serve while another one asks, and here is only one")
        os.sched_setaffinity(0, {cores.numbers[-1]})
        return cores

    def serving(self, count: int = 1) -> list[str]:
        """Words before a server's command; more than one core as far as there are enough beside the load's."""
        return self._held(self.numbers[:count])

    def asking(self) -> list[str]:
        """Words before the command of a load."""
        return self._held(self.numbers[-1:])

    def _held(self, numbers: Sequence[int]) -> list[str]:
        return ["taskset", "--cpu-list", ",".join(map(str, numbers))]
