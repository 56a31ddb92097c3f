"""What every contract test has."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import Life, begin
from tests.contracts.near import Rig
from tests.contracts.visitors import Files
from tests.contracts.visits import Site, open_site
from tests.rigs.far_store import FarConfig, FarStore


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    async with begin(tmp_path, EndsWhenTold()) as begun:
        yield begun


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
async def quick_site(files: Files) -> AsyncIterator[Site]:
    """A site whose large files lie on this machine."""
    async with open_site(files.store, file_of=files.path) as opened:
        yield opened


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with FarStore.open(FarConfig(path=tmp_path / "far")) as far:
        yield Rig(tmp_path, far)
