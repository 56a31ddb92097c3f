"""Where artifacts live: what publishes, caches, visits and a collection take, beside the disk and beside rclone."""

from collections.abc import Callable
from pathlib import Path

from tests.bench.measure import Outcome
from tests.bench.stores import caches, collection, pauses, publish, visits


async def measure(folder: Path, rounds: int, say: Callable[[str], None]) -> Outcome:
    """All of it, one after the other.

    Raises:
        PeerError: rclone or wrk does not run, or there is one core alone.
    """
    figures = await publish.measure(folder / "publish", rounds, say)
    figures += await caches.measure(folder / "caches", rounds, say)
    figures += await collection.measure(folder / "collection", say)
    figures += await pauses.measure(folder / "pauses", say)
    figures += await visits.cold(folder / "visits")
    figures += await visits.cached(folder / "visits", rounds, say)  # last: it holds this process on one core
    return Outcome(figures=figures)
