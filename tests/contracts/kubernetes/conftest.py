"""A place in the cluster for each test, and an executor on it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from plugins.executors.kubernetes import KubernetesExecutor
from tests.contracts.executor.places.kubernetes import KubernetesPlace, open_place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[KubernetesPlace]:
    async with open_place(tmp_path) as opened:
        yield opened


@pytest.fixture
async def executor(place: KubernetesPlace) -> AsyncIterator[KubernetesExecutor]:
    async with place.open() as opened:
        yield opened
