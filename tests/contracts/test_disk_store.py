"""What is true of the disk store beyond the contract: leftovers, power failures, a full disk."""

import os
import sys
from pathlib import Path
from subprocess import run

import pytest

from scalemesh.values import DeploymentId
from tests.contracts.openers import STORES
from tests.contracts.test_stores import ROOT, blob_of, put, receive

A = DeploymentId("dpl_a")

FILL = """
import asyncio, os
from pathlib import Path
from scalemesh.errors import UnreachableError
from tests.contracts.openers import STORES
from tests.contracts.test_stores import blob_of, chunks_of, put

async def main():
    async with STORES["disk"](Path("{where}")) as store:
        big = os.urandom(4_000_000)
        try:
            await store.put(blob_of(big), chunks_of(big))
        except UnreachableError as error:
            print(error)
        print(await store.missing([blob_of(big).sha256]) == {{blob_of(big).sha256}}, os.listdir("{where}/store/tmp"))
        await put(store, b"small")
        try:
            Path("{where}/filler").write_bytes(bytes(4_000_000))
        except OSError:
            pass
        print([finding.may_pass for finding in await store.check() if not finding.ok])

asyncio.run(main())
"""


def test_a_full_disk_is_named_with_its_fix_and_leaves_nothing(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=2m,nr_inodes=2000 none {tmp_path} && exec {sys.executable} -c '{FILL}'"
    done = run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount.format(where=tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"the blob store in {tmp_path}/store is full",
        "[Errno 28] No space left on device",
        f"free space on the disk that holds {tmp_path}/store, or set [store.disk] path to a larger one",
        "True []",
        "[True]",
    ]


async def test_what_is_no_deployments_is_not_told_as_an_upload(tmp_path: Path) -> None:
    """Or the janitor would stumble over it each hour, and remove no upload behind it."""
    async with STORES["disk"](tmp_path) as store:
        await receive(store, b"upload", A)
        (tmp_path / "store" / "staging" / ".snapshot").mkdir()
        assert list(await store.staged()) == [A]


async def test_temporary_files_of_a_dead_daemon_go_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    leftover = tmp_path / "store" / "tmp" / "leftover"
    async with STORES["disk"](tmp_path):
        leftover.write_bytes(b"half")
        (leftover.parent / "cleared").mkdir()
        (leftover.parent / "cleared" / "upload").write_bytes(b"whole")
        async with STORES["disk"](tmp_path):
            assert leftover.exists()
    async with STORES["disk"](tmp_path):
        assert not leftover.exists()


async def test_an_upload_torn_by_a_power_failure_is_forgotten(tmp_path: Path) -> None:
    """A name whose bytes never came to the disk: what ext4 may leave of a file that nobody has synced."""
    async with STORES["disk"](tmp_path) as store:
        await receive(store, b"whole", A)
        torn = blob_of(b"torn")
        (tmp_path / "store" / "staging" / A / "1" / f"{torn.sha256}.new").write_bytes(b"\0\0\0\0")
    async with STORES["disk"](tmp_path) as store:
        assert await store.received(A, 1) == {blob_of(b"whole").sha256: 5}


async def test_its_files_are_for_its_owner_alone(tmp_path: Path) -> None:
    async with STORES["disk"](tmp_path) as store:
        await put(store, b"private")
        await receive(store, b"private too", A)
        modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "store").rglob("*")}
        assert modes == {0}


async def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file stands here")
    with pytest.raises(Exception, match="cannot be used") as caught:
        async with STORES["disk"](tmp_path):
            pass
    assert type(caught.value).__name__ == "UnreachableError"
