"""Sends a piece of a file straight from the system's memory to the socket, past everything that lies between."""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from scalemesh.edge.quick import FilePart

AT_ONCE: Final = 1024 * 1024  #: bytes in one turn of the event loop: others wait for it


class FileSender:
    """One answer with a file for a body. The transport's own buffer must be empty, and nobody else may write meanwhile.

    *ended* is called once: with True if all was sent.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        way: socket.socket,
        part: FilePart,
        ended: Callable[[bool], None],
    ) -> None:
        """Open the file. *way* is the connection, by a descriptor of our own; it stays the caller's to close.

        Raises:
            OSError: it is not there, or not whole.
        """
        self._loop, self._part, self._ended = loop, part, ended
        self._head = b""
        self._at = part.start
        self._socket: socket.socket | None = way
        self._is_watching = self._is_warming = False
        self.last_s = loop.time()  #: when something was last taken
        self._file = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(self._file).st_size < part.stop:
            self.close()
            raise OSError("the file is shorter than it was")

    def begin(self, head: bytes) -> None:
        """Send *head*, then the file."""
        self._head = head
        self._go_on()

    def _go_on(self) -> None:
        """Send what the socket takes now; come back when it takes more."""
        try:
            is_done = self._push()
        except OSError:
            self._end(is_whole=False)
            return
        if is_done:
            self._end(is_whole=True)
        elif not self._is_watching and not self._is_warming and self._socket is not None:
            self._is_watching = True
            self._loop.add_writer(self._socket.fileno(), self._go_on)

    def close(self) -> None:
        """Let go of everything. Repeatable."""
        if self._socket is not None:
            if self._is_watching:
                self._loop.remove_writer(self._socket.fileno())
            self._socket = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _push(self) -> bool:
        """Send once; True when all is sent. Raises OSError where file or visitor are gone."""
        if self._socket is None:
            raise ConnectionResetError
        try:
            if self._head:
                self._head = self._head[self._socket.send(self._head, socket.MSG_MORE) :]
            budget = AT_ONCE
            while not self._head and budget > 0 and self._at < self._part.stop:
                if self._is_cold():
                    self._warm()
                    break
                sent = os.sendfile(self._socket.fileno(), self._file, self._at, min(budget, self._part.stop - self._at))
                if not sent:
                    raise OSError("the file is shorter than it was")
                self._at += sent
                budget -= sent
        except BlockingIOError:
            pass
        self.last_s = self._loop.time()
        return not self._head and self._at >= self._part.stop

    def _is_cold(self) -> bool:
        """Whether the disk would have to be waited for; a file system that cannot tell is taken at its best."""
        try:
            os.preadv(self._file, [bytearray(1)], self._at, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _warm(self) -> None:
        """Let a thread wait for the disk, then go on."""
        if self._is_watching and self._socket is not None:
            self._is_watching = False
            self._loop.remove_writer(self._socket.fileno())
        self._is_warming = True
        waiting = self._loop.run_in_executor(None, _read_ahead, os.dup(self._file), self._at)
        waiting.add_done_callback(self._warmed)

    def _warmed(self, _waiting: "asyncio.Future[None]") -> None:
        self._is_warming = False
        if self._socket is not None:
            self._go_on()

    def _end(self, *, is_whole: bool) -> None:
        self.close()
        self._ended(is_whole)


def _read_ahead(descriptor: int, at: int) -> None:
    """Return once the byte at *at* is in memory; what follows it is on its way. Closes *descriptor*."""
    with suppress(OSError):  # whoever sends it meets the same error, and has the words for it
        os.posix_fadvise(descriptor, at, AT_ONCE, os.POSIX_FADV_WILLNEED)
        os.pread(descriptor, 1, at)
    os.close(descriptor)
