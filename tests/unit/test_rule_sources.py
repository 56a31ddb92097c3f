"""Which files of a listing are rules, whatever somebody names there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from builder.protocol import MAX_RULE_FILE_BYTES, MOST_FUNCTIONS
from plugins.stores.disk import DiskConfig, DiskStore
from scalemesh.errors import RefusedError
from scalemesh.services.listings import OutputFile, put_bytes
from scalemesh.services.manifests import make_manifest
from scalemesh.services.publisher import check_files
from scalemesh.services.rules.notes import RulesError
from scalemesh.services.rules.sources import CONFIG, function_files, read_sources
from scalemesh.values import Digest, Limits
from tests.unit.dialects import AT, ID

NOWHERE = Digest("0" * 64)  # no store has it
ODD = (
    *(".scalemesh/_odd", ".scalemesh/a/vercel.json", ".scalemesh/.vercel/output/static/index.html"),
    *(".scalemesh/.vercel/output/functions/.vc-config.json", ".scalemesh/index.html", ".scalemesh/.env"),
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    async with DiskStore.open(DiskConfig(path=tmp_path)) as opened:
        yield opened


def files(*paths: str, size_bytes: int = 1, sha256: Digest = NOWHERE) -> list[OutputFile]:
    return [OutputFile(path=path, sha256=sha256, size_bytes=size_bytes) for path in paths]


async def test_what_came_from_the_source_outweighs_what_lies_in_the_output(store: DiskStore) -> None:
    mine, other = await put_bytes(store, b"mine"), await put_bytes(store, b"other")
    config = f".scalemesh/{CONFIG}"
    listed = [*files("vercel.json", "_headers", sha256=other), *files(".scalemesh/vercel.json", config, sha256=mine)]
    sources = await read_sources(store, [*listed, *files("index.html", "sub/vercel.json")])
    assert sources.files == {"vercel.json": b"mine", "_headers": b"other", CONFIG: b"mine"}
    assert sources.paths == {"index.html", "sub/vercel.json"}


async def test_unknown_names_are_neither_read_nor_served(store: DiskStore) -> None:
    sources = await read_sources(store, files("index.html", *ODD))
    assert not sources.files
    assert sources.paths == {"index.html"}
    listing = [(file.path, file.sha256, file.size_bytes) for file in files("index.html", *ODD, ".scalemesh")]
    assert list(make_manifest(ID, AT, listing).manifest.entries) == ["index.html"]


async def test_functions_are_known_by_their_names_and_bounded(store: DiskStore) -> None:
    paths = [f".scalemesh/.vercel/output/functions/{number}.func/.vc-config.json" for number in range(5000)]
    assert len(function_files(paths)) == MOST_FUNCTIONS
    sources = await read_sources(store, files(*paths))  # no byte of them is asked for
    assert len(sources.files) == MOST_FUNCTIONS


async def test_a_rule_file_that_is_too_long_is_refused_unread(store: DiskStore) -> None:
    with pytest.raises(RulesError, match=r"vercel\.json: refused: it is longer than 2 MiB"):
        await read_sources(store, files(".scalemesh/vercel.json", size_bytes=MAX_RULE_FILE_BYTES + 1))


@pytest.mark.parametrize("path", [".scalemesh/../index.html", ".scalemesh//a", ".scalemesh/", ".scalemesh/a\\b"])
def test_a_path_that_climbs_is_refused_below_their_folder_too(path: str) -> None:
    limits = Limits(
        memory_bytes=1, pids=1, cpu_weight=1, time_s=1, disk_bytes=1, output_bytes=9, output_files=9, log_bytes=1
    )
    with pytest.raises(RefusedError):
        check_files(files("index.html", path), limits)
