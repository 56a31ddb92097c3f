"""Holds the process that compresses files: started when there is something to do, ended when there is not."""

import asyncio
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from scalemesh.services.encodings import CODINGS

log = logging.getLogger(__name__)

WORKER: Final = Path(__file__).with_name("encoding_worker.py")
TRIES: Final = 2
FILE_TIMEOUT_S: Final = 600.0  #: the longest file takes some 20 s of an idle processor, and builds come first
LENGTH_BYTES: Final = 8


class Compressor:
    """Asks the worker, one file at a time. Its death costs one try, not the daemon."""

    def __init__(self, worker: Path = WORKER, *, timeout_s: float = FILE_TIMEOUT_S) -> None:
        self._worker, self._timeout_s = worker, timeout_s
        self._process: Process | None = None

    async def variants(self, data: bytes) -> Mapping[str, bytes] | None:
        """Coding -> *data* encoded, where that saves enough; None where the worker died of it, or took too long."""
        for _ in range(TRIES):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._ask(data)
            except TimeoutError:
                log.warning("a file takes too long to encode", extra={"size_bytes": len(data)})
                break
            except (OSError, asyncio.IncompleteReadError) as error:
                log.warning("the encoding worker died", extra={"size_bytes": len(data), "error": str(error)})
                await self.end()
        await self.end()
        return None

    async def end(self) -> None:
        """End the worker, whatever it is doing. The next file starts another."""
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        process.stdin.close()
        while await process.stdout.read(1 << 20):  # until the pipe is empty it stays open
            pass
        await process.wait()

    async def _ask(self, data: bytes) -> Mapping[str, bytes]:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", str(self._worker), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}
            )
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise OSError("no pipes")
        process.stdin.write(len(data).to_bytes(LENGTH_BYTES, "big"))
        process.stdin.write(data)
        await process.stdin.drain()
        found: dict[str, bytes] = {}
        for coding in CODINGS:
            length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
            if length >= len(data):
                raise OSError("the worker does not answer in frames")
            if length:
                found[coding] = await process.stdout.readexactly(length)
        return found


@asynccontextmanager
async def open_compressor(worker: Path = WORKER, *, timeout_s: float = FILE_TIMEOUT_S) -> AsyncIterator[Compressor]:
    """A compressor whose worker is ended at the end."""
    compressor = Compressor(worker, timeout_s=timeout_s)
    try:
        yield compressor
    finally:
        await compressor.end()
