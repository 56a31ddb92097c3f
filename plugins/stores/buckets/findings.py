"""Proves that a store in a bucket works now, and says what it can do."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from plugins.stores.buckets import words
from scalemesh.errors import ScaleMeshError
from scalemesh.ports import Finding
from scalemesh.values import Blob, Digest

if TYPE_CHECKING:
    from plugins.stores.buckets.store import BucketStore

_WITHIN_S: Final = 9.0
_SKEWED_S: Final = 60.0  #: 15 minutes and S3 refuses everything


async def look(store: "BucketStore") -> Sequence[Finding]:
    """All findings; nothing is raised, and it takes no longer than the port allows."""
    found: list[Finding] = []
    try:
        async with asyncio.timeout(_WITHIN_S):
            async for finding in _steps(store):
                found.append(finding)  # noqa: PERF401 -- what was found before the time is up counts
    except TimeoutError:
        what = f"the store did not answer everything within {_WITHIN_S:.0f} s"
        fix = f"check store.{store.kind}.endpoint and the network"
        found.append(Finding(ok=False, what=what, fix=fix, may_pass=True))
    except ScaleMeshError as error:
        what = ": ".join(filter(None, (error.what, error.why)))
        found.append(Finding(ok=False, what=what, fix=error.fix, may_pass=words.may_pass(error.__cause__)))
    return found


async def _steps(store: "BucketStore") -> AsyncIterator[Finding]:
    where = f"{store.config.bucket}/{store.keys.prefix}"
    with store.told():
        await store.see(anew=True)
        yield Finding(ok=True, what=f"the bucket answers, and {where} is this installation's own")
        yield _of_clock(await store.threads.run(store.bucket.clock))
        yield await _of_blob(store, where)
        yield await _of_uploads(store)


def _of_clock(server: datetime) -> Finding:
    apart = abs((datetime.now(UTC) - server).total_seconds())
    fix = "set the clock: beyond 15 minutes every request is refused" if apart > _SKEWED_S else ""
    return Finding(ok=True, what=f"the clocks of the store and of this machine are {apart:.0f} s apart", fix=fix)


async def _of_blob(store: "BucketStore", where: str) -> Finding:
    data = os.urandom(32)
    blob = Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))

    async def once() -> AsyncIterator[bytes]:
        yield data

    try:
        await store.put(blob, once())
        async with aclosing(store.read(blob.sha256)) as chunks:
            is_intact = b"".join([chunk async for chunk in chunks]) == data
    finally:
        await store.delete([blob.sha256])
    fix = "" if is_intact else "look at the store's own health"
    return Finding(ok=is_intact, what=f"a blob was written to {where}, read and deleted", fix=fix)


async def _of_uploads(store: "BucketStore") -> Finding:
    if not store.config.direct:
        return Finding(ok=True, what="builds send their files through the daemon, since direct is off")
    verdict = await store.uploads.verdict(anew=True)
    if verdict.danger:
        what = f"{verdict.danger}: builds get no URLs, and send their files through the daemon"
        return Finding(ok=True, what=what, fix=_fix_of_danger(store) if verdict.is_seen else _fix_of_way(store))
    if not verdict.doubt:
        return Finding(
            ok=True, what="builds send straight to the store: it refused wrong bytes, and so vouches for them"
        )
    what = f"{verdict.doubt}: each upload is read and hashed before it counts"
    return Finding(
        ok=True, what=what, fix="a store that checks signatures and x-amz-checksum-sha256 saves that reading"
    )


def _fix_of_danger(store: "BucketStore") -> str:
    return f"update the server behind store.{store.kind}: it must refuse an x-amz-copy-source that was not signed"


def _fix_of_way(store: "BucketStore") -> str:
    return f"let the daemon reach store.{store.kind}.public_endpoint, or leave that setting out"
