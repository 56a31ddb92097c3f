"""A store in a bucket, of each kind that a test names."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from plugins.stores.buckets.store import BucketStore
from tests.contracts.buckets.senders import Behind
from tests.contracts.openers import BUCKETS


@pytest.fixture(params=BUCKETS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[BucketStore]:
    async with BUCKETS[kind](tmp_path) as opened:
        yield opened


@pytest.fixture
def behind(kind: str, tmp_path: Path) -> Behind:
    return Behind(kind, tmp_path)
