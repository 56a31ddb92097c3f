"""What a task may use: the pairs of CPU and memory that Fargate has, and its disk."""

import math
from collections.abc import Sequence
from typing import Final

from scalemesh.errors import RefusedError

MIB: Final = 1 << 20
GIB: Final = 1 << 30

#: CPU units -> sizes of memory in MiB that go with them, for Linux. Source: "Task CPU and memory" in the Amazon ECS
#: Developer Guide, also told at ``memory`` of the API's RegisterTaskDefinition.
FARGATE_SIZES: Final[Sequence[tuple[int, Sequence[int]]]] = (
    (256, (512, 1024, 2048)),
    (512, range(1024, 4096 + 1, 1024)),
    (1024, range(2048, 8192 + 1, 1024)),
    (2048, range(4096, 16384 + 1, 1024)),
    (4096, range(8192, 30720 + 1, 1024)),
    (8192, range(16384, 61440 + 1, 4096)),
    (16384, range(32768, 122880 + 1, 8192)),
)
INCLUDED_GIB: Final = 20  #: of disk, that every task on Fargate has; the image lies there too
MOST_GIB: Final = 200
IMAGE_GIB: Final = 6  #: what the builder's image takes of it, packed and unpacked, with room to grow


def fargate_size(cpu: int, memory_mib: int) -> tuple[int, int]:
    """The smallest (CPU units, MiB) that holds both.

    Raises:
        RefusedError: there is none.
    """
    for units, sizes in FARGATE_SIZES:
        found = next((size for size in sizes if size >= memory_mib), None)
        if units >= cpu and found is not None:
            return units, found
    most_cpu, sizes = FARGATE_SIZES[-1]
    raise RefusedError(
        f"no task on Fargate has {cpu} CPU units and {memory_mib} MiB of memory",
        why=f"the largest has {most_cpu} units and {sizes[-1]} MiB",
        fix="lower executor.ecs.cpu or builds.memory_mib, or use EC2 instances",
    )


def fargate_disk_gib(disk_bytes: int, wanted_gib: int) -> int | None:
    """The disk that a task must be given; None: what it has by itself will do. *wanted_gib*: set by hand, or 0.

    Raises:
        RefusedError: that much cannot be had, or what was set by hand is less than a build may use.
    """
    needed = math.ceil(disk_bytes / GIB) + IMAGE_GIB
    if needed > (wanted_gib or MOST_GIB):
        raise RefusedError(
            f"a build's disk of {disk_bytes // MIB} MiB does not fit a task on Fargate",
            why=f"with the image it needs {needed} GiB; a task has at most {wanted_gib or MOST_GIB}",
            fix="raise executor.ecs.ephemeral_storage_gib (at most 200), or lower builds.disk_mib",
        )
    return wanted_gib or (needed if needed > INCLUDED_GIB else None)
