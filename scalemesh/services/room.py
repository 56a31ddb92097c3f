"""How many builds each executor takes at once, and which of them share memory."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from scalemesh.config import MIB, Builds
from scalemesh.errors import RefusedError
from scalemesh.services.executors import Executors


@dataclass(frozen=True, slots=True)
class Load:
    """What builds at one executor now."""

    builds: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """Kinds of executor whose builds share memory, and how much there is; None: not ours to count."""

    kinds: tuple[str, ...]
    memory_bytes: int | None

    def holds(self, memory_bytes: int) -> bool:
        """Whether a build that may use so much fits."""
        return self.memory_bytes is None or memory_bytes <= self.memory_bytes


class Room:
    def __init__(self, executors: Executors, builds: Builds, memory_bytes: int) -> None:
        """*memory_bytes* is what all builds that use this machine's memory share."""
        limits = builds.per_executor
        self._own = {kind: mib * MIB for kind, one in limits.items() if (mib := one.total_memory_mib) is not None}
        here = [kind for kind in executors.kinds if executors.named(kind).uses_this_machine and kind not in self._own]
        apart = [kind for kind in executors.kinds if kind not in here]
        self._pools = [Pool(tuple(here), memory_bytes), *(Pool((kind,), self._own.get(kind)) for kind in apart)]
        own_parallel = {kind: one.parallel for kind, one in limits.items()}
        #: kind -> how many builds at once
        self.parallel: Final = {kind: own_parallel.get(kind) or builds.parallel for kind in executors.kinds}

    def free(self, loads: Mapping[str, Load], kinds: Collection[str]) -> list[Pool]:
        """What is left of each pool: those of *kinds* that take one more build, and the memory that they share."""
        found = []
        for pool in self._pools:
            used_bytes = sum(loads[kind].memory_bytes for kind in pool.kinds if kind in loads)
            left_bytes = None if pool.memory_bytes is None else pool.memory_bytes - used_bytes
            builds = {kind: loads[kind].builds if kind in loads else 0 for kind in pool.kinds}
            taking = tuple(kind for kind in pool.kinds if kind in kinds and builds[kind] < self.parallel[kind])
            if taking:
                found.append(Pool(taking, left_bytes))
        return found

    def check(self, kind: str, memory_bytes: int) -> None:
        """See that a build that may use so much can start on *kind* some time.

        Raises:
            RefusedError: never.
        """
        pool = next(pool for pool in self._pools if kind in pool.kinds)
        if pool.memory_bytes is None or pool.holds(memory_bytes):
            return
        mend = f"raise builds.per_executor.{kind}.total_memory_mib" if kind in self._own else "builds.reserve_mib"
        raise RefusedError(
            "this build could never start",
            why=f"a build may use {memory_bytes >> 20} MiB, and {pool.memory_bytes >> 20} MiB are there",
            fix=f"lower builds.memory_mib or {mend}",
        )
