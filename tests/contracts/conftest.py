"""What every contract test has."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import Life, begin


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    async with begin(tmp_path, EndsWhenTold()) as begun:
        yield begun
