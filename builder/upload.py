"""Send the daemon the bytes that it does not have yet, over a few connections at once."""

import os
from collections.abc import Callable, Sequence
from typing import IO, Any, Final
from urllib.parse import urlsplit

from builder.api import Api, Refused
from builder.collect import Collected
from builder.errors import BuildFailed
from builder.life import Life
from builder.parallel import for_each
from builder.protocol import MAX_DIGESTS
from builder.tree import Tree

WORKERS: Final = 4


def upload(files: Sequence[Collected], output: Tree, api: Api, life: Life) -> tuple[int, int]:
    """Make the daemon have every blob of *files*; returns how many were sent, and their bytes.

    Raises:
        BuildFailed: rejected, where the bytes are no longer those that were hashed.
    """
    by_digest = {file.sha256: file for file in files}
    wanted: list[tuple[Collected, dict[str, Any]]] = []
    digests = list(by_digest)
    for start in range(0, len(digests), MAX_DIGESTS):
        part = [{"sha256": sha256, "size": by_digest[sha256].size} for sha256 in digests[start : start + MAX_DIGESTS]]
        missing = api.post("/build/v1/blobs", {"digests": part})["missing"]
        wanted += [(by_digest[each["sha256"]], each["put"]) for each in missing]

    def put(one: tuple[Collected, dict[str, Any]], connection: Api) -> None:
        life.check()
        _put(*one, output, connection)

    for_each(wanted, put, api, WORKERS)
    return len(wanted), sum(file.size for file, _ in wanted)


def _put(file: Collected, where: dict[str, Any], output: Tree, connection: Api) -> None:
    headers = {**where.get("headers", {}), "Content-Length": str(file.size)}
    url = str(where["url"])
    parts = urlsplit(url)
    store = connection if not parts.netloc else connection.elsewhere(f"{parts.scheme}://{parts.netloc}")
    path = url if not parts.netloc else url.partition(parts.netloc)[2]
    try:
        store.call("PUT", path, _opener(file, output), headers)
    except Refused as error:
        raise BuildFailed("rejected", f"The file {file.path!r} was not accepted: {error.message}.") from error
    finally:
        if store is not connection:
            store.close()


def _opener(file: Collected, output: Tree) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        try:
            with output.file(file.held_at) as descriptor:
                if os.fstat(descriptor).st_size != file.size:
                    raise OSError("its size changed")
                return os.fdopen(os.dup(descriptor), "rb")
        except OSError as error:
            raise BuildFailed("rejected", f"The output changed while it was sent: {file.path!r} ({error}).") from error

    return opened
