"""The dialect that a person chose by hand: for a project, or for one deployment of it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from scalemesh.errors import InvalidError
from scalemesh.rules import Dialect
from scalemesh.services import manifests
from scalemesh.services.builds import Attempt
from scalemesh.services.deployer import Wanted
from scalemesh.services.listings import OutputFile, whole
from scalemesh.services.projects import dialect_named
from scalemesh.values import Blob, Deployment, Digest, SourceKind, State
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import Life, begin, once
from tests.contracts.openers import STORES

SITE = {"index.html": b"<h1>hello</h1>", "_redirects": b"/old /new 301\n"}


async def uploaded(life: Life, wanted: Wanted) -> Deployment:
    """A finished site with a file of rules, published."""
    services, project = life.services, await life.project()
    deployment = await services.deployer.submit(life.user, project, replace(wanted, source=SourceKind.PREBUILT))
    files = []
    for path, data in SITE.items():
        digest = Digest(hashlib.sha256(data).hexdigest())
        await services.uploads.receive(deployment, Blob(sha256=digest, size_bytes=len(data)), once(data))
        files.append(OutputFile(path=path, sha256=digest, size_bytes=len(data)))
    await services.uploads.finish(deployment, files)
    return await life.until(deployment.id, State.READY)


async def dialect_of(folder: Path, deployment: Deployment) -> Dialect:
    """The one that the deployment's manifest was made in."""
    assert deployment.manifest
    async with STORES["disk"](folder) as store:
        return manifests.decode(await whole(store, deployment.manifest)).rules.dialect


async def set_by_hand(life: Life, dialect: Dialect | None) -> None:
    project = await life.project()
    settings = replace(project.settings, dialect=dialect)
    await life.services.projects.change(
        project.name, git_url=project.git_url, production_branch=None, settings=settings, executor=None
    )


@pytest.mark.parametrize(
    ("of_project", "of_deployment", "read_as"),
    [
        (None, None, Dialect.NETLIFY),
        (Dialect.CLOUDFLARE, None, Dialect.CLOUDFLARE),
        (Dialect.DEFAULT, None, Dialect.DEFAULT),
        (None, Dialect.DEFAULT, Dialect.DEFAULT),
        (Dialect.NETLIFY, Dialect.VERCEL, Dialect.VERCEL),
    ],
)
async def test_what_was_chosen_for_the_deployment_outweighs_the_project_and_that_the_files(
    tmp_path: Path, of_project: Dialect | None, of_deployment: Dialect | None, read_as: Dialect
) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        await set_by_hand(life, of_project)
        deployment = await uploaded(life, Wanted(dialect=of_deployment))
        assert await dialect_of(tmp_path, deployment) == read_as
        assert (await life.project()).settings.dialect == of_project


async def test_a_redeploy_keeps_the_dialect_that_was_chosen_for_it(tmp_path: Path) -> None:
    async with begin(tmp_path, EndsWhenTold()) as life:
        first = await life.ready(b"one", Wanted(dialect=Dialect.CLOUDFLARE))
        deployer, project = life.services.deployer, await life.project()
        again = await deployer.redeploy(life.user, await deployer.get(first), project)
        assert again.settings.dialect == Dialect.CLOUDFLARE
        assert (await deployer.submit(life.user, project, Wanted())).settings.dialect is None


async def test_the_builder_is_not_told(tmp_path: Path) -> None:
    """An older builder would refuse a setting that it does not know."""
    executor = EndsWhenTold()
    async with begin(tmp_path, executor) as life:
        deployment = await life.submit(Wanted(dialect=Dialect.VERCEL))
        await executor.job(deployment, 1)
        told = await life.services.builds.claim(Attempt(deployment, 1, "nonce"), "nonce")
        assert "dialect" not in json.dumps(told)


def test_a_name_that_is_no_dialect_is_answered_with_those_that_are() -> None:
    assert dialect_named("") is None
    with pytest.raises(InvalidError) as caught:
        dialect_named("apache")
    assert all(dialect in caught.value.fix for dialect in Dialect)
