"""Carry lines to the daemon: gathered into blocks, numbered, sent in order, kept on disk while it is away."""

import json
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from builder.api import Api, Refused
from builder.errors import BuildFailed, GivenUp
from builder.life import Life
from builder.lines import Line
from builder.protocol import EXIT_FAILED, MAX_BLOCK_BYTES, MAX_BLOCK_LINES

GATHER_S: Final = 0.05  #: how long a line may wait for company; short, so that a log feels live
IN_MEMORY: Final = 16  #: blocks; further ones wait on disk
WRAPPING_BYTES: Final = 64  #: {"seq":...,"lines":[...]}


class Outbox:
    """One thread sends; ``put`` may be called from any. Bounded by the log's cap, which is upstream."""

    def __init__(self, api: Api, life: Life, spool: Path) -> None:
        self._api, self._life, self._spool = api, life, spool
        self._changed = threading.Condition()
        self._open: list[bytes] = []
        self._open_bytes = 0
        self._sealed: deque[bytes | Path] = deque()
        self._seq = 0
        self._closing = self._dead = False
        self._thread = threading.Thread(target=self._serve, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, lines: Iterable[Line]) -> None:
        """Queue *lines*; never waits for the daemon."""
        encoded = [json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() for line in lines]
        with self._changed:
            for line in encoded:
                full = len(self._open) >= MAX_BLOCK_LINES
                if full or self._open_bytes + len(line) + 1 > MAX_BLOCK_BYTES - WRAPPING_BYTES:
                    self._seal()
                self._open.append(line)
                self._open_bytes += len(line) + 1
            self._changed.notify()

    def close(self) -> None:
        """Wait until everything is taken, or the attempt is given up."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _seal(self) -> None:
        if self._dead or not self._open:
            self._open, self._open_bytes = [], 0
            return
        self._seq += 1
        block: bytes | Path = b'{"seq":%d,"lines":[%s]}' % (self._seq, b",".join(self._open))
        self._open, self._open_bytes = [], 0
        if len(self._sealed) >= IN_MEMORY and isinstance(block, bytes):
            block = self._on_disk(block)
        self._sealed.append(block)

    def _on_disk(self, block: bytes) -> bytes | Path:
        path = self._spool / f"lines-{self._seq}"
        try:
            path.write_bytes(block)
        except OSError:  # a full disk: memory is bounded by the cap all the same
            path.unlink(missing_ok=True)
            return block
        return path

    def _serve(self) -> None:
        try:
            while (block := self._next()) is not None:
                data = block if isinstance(block, bytes) else block.read_bytes()
                self._api.post_bytes("/build/v1/lines", data)
                if isinstance(block, Path):
                    block.unlink()
        except (GivenUp, BuildFailed) as cause:
            self._die(cause)
        except Refused as error:
            self._die(GivenUp(f"the daemon refused lines: {error.message}", EXIT_FAILED))
        finally:
            self._api.close()

    def _die(self, cause: GivenUp | BuildFailed) -> None:
        with self._changed:
            self._dead = True
            self._sealed.clear()
        self._life.end(cause)

    def _next(self) -> bytes | Path | None:
        with self._changed:
            self._changed.wait_for(lambda: self._sealed or self._open or self._closing)
            if not self._sealed:
                self._changed.wait_for(lambda: self._sealed or self._closing, timeout=GATHER_S)
            if not self._sealed:
                self._seal()
            return self._sealed.popleft() if self._sealed else None
