"""One proof is enough: the tiny job of a check also lets builds begin."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import builder
from plugins.executors.local import LocalConfig, LocalExecutor
from plugins.executors.local import executor as local
from scalemesh import wiring
from scalemesh.values import BuildJob, EndCause
from tests.contracts.executor.stand_in import make_entry


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """These checks succeed, however slow the machine is."""
    monkeypatch.setattr(local, "_PROBE_S", 60.0)


class CountsItsProbes(LocalExecutor):
    probes = 0

    async def _probe(self) -> tuple[dict[str, Any] | None, str]:
        self.probes += 1
        return await super()._probe()


async def test_jobs_that_start_while_a_check_runs_need_no_proof_of_their_own(
    tmp_path: Path, job: Callable[..., BuildJob]
) -> None:
    entry = make_entry(tmp_path / "entry", Path(builder.__file__).parent)
    async with CountsItsProbes.open(LocalConfig(work_dir=tmp_path / "jobs"), entry=entry) as executor:
        jobs = [job("pass", deployment=f"dpl_{number}") for number in range(2)]
        checking = asyncio.create_task(executor.check())
        refs = await asyncio.gather(*map(executor.start, jobs))
        assert all(finding.ok for finding in await checking)
        assert [(await executor.wait(ref)).cause for ref in refs] == [EndCause.OK] * 2
        for ref in refs:
            await executor.stop(ref)
        assert executor.probes == 1


async def test_a_daemon_whose_builds_have_no_sandbox_warns_at_its_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with LocalExecutor.open(LocalConfig(work_dir=tmp_path / "jobs", sandbox="off")) as executor:
        await wiring.tell_of_builds({"executor.local": executor})
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any('sandbox = "off": builds can read and change everything' in text for text in warnings)


@pytest.mark.parametrize("network", ["packages", "none"])
async def test_without_the_sandbox_the_check_says_that_the_network_of_builds_is_not_held(
    tmp_path: Path, network: str
) -> None:
    config = LocalConfig(work_dir=tmp_path / "jobs", sandbox="off", build_network=network)
    async with LocalExecutor.open(config) as executor:
        told = [finding for finding in await executor.check() if f'"{network}" is not held' in finding.what]
    assert [(finding.ok, "bwrap" in finding.fix) for finding in told] == [(True, True)]


@pytest.mark.parametrize("network", ["packages", "none"])
async def test_in_the_sandbox_the_check_proves_that_builds_have_no_way_of_their_own(
    tmp_path: Path, network: str
) -> None:
    async with LocalExecutor.open(LocalConfig(work_dir=tmp_path / "jobs", build_network=network)) as executor:
        told = [finding for finding in await executor.check() if finding.what.startswith("network of builds")]
    assert [(finding.ok, network in finding.what) for finding in told] == [(True, True)]
