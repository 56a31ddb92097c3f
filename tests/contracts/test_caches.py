"""What builds keep for later builds stays within its project and its kind."""

import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from scalemesh.errors import InvalidError, TooLargeError
from scalemesh.services.caches import Caches
from scalemesh.services.deployer import Wanted
from scalemesh.values import Deployment, Environment, ProjectId
from tests.contracts.life import Life, once

KEY = "a" * 40


@pytest.fixture
async def deployment(life: Life) -> Deployment:
    return await life.services.deployer.get(await life.submit(Wanted(branch="main")))


def preview(deployment: Deployment, branch: str) -> Deployment:
    return replace(deployment, environment=Environment.PREVIEW, branch=branch)


async def test_what_was_kept_is_found_again(tmp_path: Path, deployment: Deployment) -> None:
    caches = Caches(tmp_path, project_bytes=100)
    assert await caches.find(deployment, KEY) is None
    await caches.keep(deployment, KEY, 3, once(b"one"))
    await caches.keep(deployment, KEY, 3, once(b"two"))
    found = await caches.find(deployment, KEY)
    assert found is not None
    assert found.read_bytes() == b"two"
    assert len(list(found.parent.iterdir())) == 1


async def test_a_preview_reads_productions_and_writes_only_its_own(tmp_path: Path, deployment: Deployment) -> None:
    caches = Caches(tmp_path, project_bytes=100)
    await caches.keep(deployment, KEY, 4, once(b"prod"))
    mine, other = preview(deployment, "mine"), preview(deployment, "other")
    assert (await caches.find(mine, KEY) or Path()).read_bytes() == b"prod"
    await caches.keep(mine, KEY, 4, once(b"mine"))
    assert (await caches.find(mine, KEY) or Path()).read_bytes() == b"mine"
    assert (await caches.find(other, KEY) or Path()).read_bytes() == b"prod"
    assert (await caches.find(deployment, KEY) or Path()).read_bytes() == b"prod"


async def test_another_project_finds_nothing(tmp_path: Path, deployment: Deployment) -> None:
    caches = Caches(tmp_path, project_bytes=100)
    await caches.keep(deployment, KEY, 3, once(b"one"))
    assert await caches.find(replace(deployment, project=ProjectId("prj_other")), KEY) is None


async def test_the_least_recently_used_goes_first(tmp_path: Path, deployment: Deployment) -> None:
    caches = Caches(tmp_path, project_bytes=8)
    for number, key in enumerate(("b" * 8, "c" * 8)):
        await caches.keep(deployment, key, 4, once(b"four"))
        found = await caches.find(deployment, key)
        assert found is not None
        os.utime(found, (number, number))
    await caches.find(deployment, "b" * 8)
    await caches.keep(deployment, "d" * 8, 4, once(b"four"))
    assert await caches.find(deployment, "c" * 8) is None
    assert await caches.find(deployment, "b" * 8) is not None


async def test_half_an_archive_is_not_kept(tmp_path: Path, deployment: Deployment) -> None:
    caches = Caches(tmp_path, project_bytes=100)
    with pytest.raises(InvalidError):
        await caches.keep(deployment, KEY, 5, once(b"one"))
    assert await caches.find(deployment, KEY) is None
    assert list((tmp_path / deployment.project).iterdir()) == []


async def test_too_much_is_refused(tmp_path: Path, deployment: Deployment) -> None:
    with pytest.raises(TooLargeError):
        await Caches(tmp_path, project_bytes=2).keep(deployment, KEY, 3, once(b"one"))


@pytest.mark.parametrize("key", ["", "../../../../etc", "a/b" * 10, "a" * 200, "a\0" * 8], ids=range(5))
async def test_a_key_is_a_plain_word(tmp_path: Path, deployment: Deployment, key: str) -> None:
    with pytest.raises(InvalidError):
        await Caches(tmp_path, project_bytes=2).find(deployment, key)


async def test_no_more_is_written_than_was_announced(tmp_path: Path, deployment: Deployment) -> None:
    sent = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal sent
        while sent < 1000:
            sent += 1
            yield b"x" * 100

    with pytest.raises(InvalidError, match="announced"):
        await Caches(tmp_path, project_bytes=1000).keep(deployment, KEY, 300, endless())
    assert sent == 4
    assert list((tmp_path / deployment.project).iterdir()) == []
