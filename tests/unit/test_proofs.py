"""What plug-ins find of themselves: which findings stop the daemon's start, and how long anybody waits for them."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from plugins.logbus.memory import MemoryBus, MemoryConfig
from scalemesh.assembly import Plugins
from scalemesh.errors import ConfigError
from scalemesh.keeping import Disk
from scalemesh.ports import Checks, Finding
from scalemesh.services.near_store import spare
from scalemesh.services.proofs import proven
from scalemesh.wiring import prove

WELL = Finding(ok=True, what="it works")
AWAY = Finding(ok=False, what="it does not answer", fix="start it", may_pass=True)
WRONG = Finding(ok=False, what="the credentials are refused", fix="correct them")
LOW = Finding(ok=False, what="little room is left", fix="make more")


@dataclass(frozen=True)
class Finds:
    """A plug-in that finds just that."""

    found: Sequence[Finding]

    async def check(self) -> Sequence[Finding]:
        return self.found


class NeverAnswers:
    async def check(self) -> Sequence[Finding]:
        await asyncio.Event().wait()
        return []


def plugins(store: Checks) -> Plugins:
    well = Finds([WELL])
    return Plugins(executors={}, store=store, stores=None, logs=well, bus=well)  # type: ignore[arg-type]


@pytest.mark.parametrize("found", [[WELL], [WELL, LOW], [AWAY], [WELL, WRONG], []])
async def test_the_daemon_starts_with_what_works_or_may_pass(
    found: list[Finding], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        await prove(plugins(Finds(found)))
    assert [record.message for record in caplog.records] == [f"store: {each.what}" for each in found if not each.ok]


@pytest.mark.parametrize("found", [[WRONG], [AWAY, WRONG], [LOW]])
async def test_the_daemon_does_not_start_with_what_is_wrong_for_good(found: list[Finding]) -> None:
    with pytest.raises(ConfigError, match=r"^store: "):
        await prove(plugins(Finds(found)))


async def test_a_plug_in_that_never_answers_may_be_back_later() -> None:
    (found,) = await proven(NeverAnswers(), within_s=0.01)
    assert (found.ok, found.may_pass) == (False, True)
    async with MemoryBus.open(MemoryConfig()) as bus:
        assert all(finding.ok for finding in await proven(bus))


@pytest.mark.parametrize(("percent", "left"), [(90, 0.125), (50, 0.525), (100, 1 / 16), (99, 1 / 16)])
def test_the_local_cache_leaves_more_than_builds_need_to_start(percent: int, left: float) -> None:
    assert spare(Disk(high_water_percent=percent)) == pytest.approx(left)
