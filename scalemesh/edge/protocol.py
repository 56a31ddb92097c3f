"""One connection of a visitor: plain requests are answered at once, all others go whole and unread to aiohttp.

This object stays the connection's owner. A request for aiohttp is handed to its protocol, and the next one waits until
that answer is written; then the connection is back on the quick way. Only what cannot be counted (an upgrade, a chunked
body, what is badly written) gives the connection away for good.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from typing import Final, cast

from scalemesh.edge.front import Front
from scalemesh.edge.heads import LINE, Head, may_become_plain
from scalemesh.edge.inner import Inner
from scalemesh.edge.quick import FilePart, Form, Ready
from scalemesh.edge.sending import FileSender

log = logging.getLogger(__name__)
GIVE_AGAIN_S: Final = 0.01
SHORTEST_S: Final = 0.3  #: between two looks at one connection
JOINED: Final = 16 * 1024  #: bytes of a body up to which copying is cheaper than a list of buffers
MAX_WAITING: Final = 256 * 1024  #: bytes behind a request that is being answered; then the socket is read no more
MAX_PARTIAL: Final = 8192  #: bytes of a head that is not whole yet; then it is aiohttp's to wait for the rest
END: Final = b"\r\n\r\n"
_GET, _VERSION = b"GET /", b" HTTP/1.1"
CLOSE: Final = b"Connection: close\r\n\r\n"


class Connection(asyncio.Protocol):
    __slots__ = (
        "_begun", "_busy", "_ends", "_for_good", "_front", "_heads", "_inner", "_is_full", "_last", "_peer",
        "_rest_bytes", "_sender", "_stalled", "_timer", "_transport", "_unsent", "_waiting", "_way",
    )  # fmt: skip

    def __init__(self, front: Front, first: bytes = b"") -> None:
        """*first* was read from the connection already."""
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._inner: Inner | None = None
        self._sender: FileSender | None = None
        self._way: socket.socket | None = (
            None  #: the same connection, for files: the event loop watches its own for itself
        )
        self._waiting = first  #: received, not looked at yet
        self._is_full = False  #: so much waits that the socket is not read
        self._begun = 0.0  #: since when a head is not whole, or one is aiohttp's to wait for; 0: there is none
        self._busy = False  #: an answer is under way that is not ours to finish at once
        self._for_good = False  #: the connection belongs to aiohttp
        self._rest_bytes = 0  #: of the body that aiohttp reads, still to come
        self._ends = False  #: what is under way is the last
        self._stalled = 0.0  #: since when the visitor takes nothing; 0: all that is written is taken
        self._unsent = 0  #: bytes that had not been taken then
        self._last = front.clock.now  #: when something was last sent or received
        self._peer = ""
        self._heads = front.heads_for("")
        self._timer: asyncio.TimerHandle | None = None

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if isinstance(name, tuple) else ""
        if not self._front.admit(self, self._peer):
            self._transport.abort()
            return
        self._heads = self._front.heads_for(self._peer)
        self._look()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.release(self, self._peer)
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:
            self._sender.close()
        if self._way is not None:
            self._way.close()
            self._way = None
        if self._inner is not None:
            self._inner.connection_lost(exc)
            self._inner = None
        self._transport = None

    def eof_received(self) -> bool:
        """The visitor sends no more, and may still read. What is ours to send is sent, as other servers do."""
        self._ends = True
        return self._sender is not None or bool(self._stalled and self._waiting)

    def pause_writing(self) -> None:
        self._stalled = self._front.clock.now
        self._unsent = cast("asyncio.Transport", self._transport).get_write_buffer_size()
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._stalled = 0.0
        self._last = self._front.clock.now
        if self._inner is not None:
            self._inner.resume_writing()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        front = self._front
        self._last = front.clock.now
        if self._busy or self._stalled or self._waiting:
            self._receive_later(data)
            return
        # The plainest case, straight through: one whole GET (a head that is known ends where the data does).
        if data.startswith(_GET):
            end = data.find(b"\r\n")
            head = self._heads.get(data[end:])
            if head is not None and head.is_plainest and data.endswith(_VERSION, 0, end):
                form = front.quick.form(head, data[4 : end - 9])
                if form is not None and self._send_form(form, head):
                    return
        self._take(data)

    # Requests, one after the other

    def _receive_later(self, data: bytes) -> None:
        if self._busy and (self._for_good or self._rest_bytes):
            data = self._feed(data)
        self._waiting += data
        if not self._busy:
            self._go_on()
        if len(self._waiting) > MAX_WAITING and self._transport is not None:
            self._is_full = True
            self._transport.pause_reading()

    def _go_on(self) -> None:
        if self._waiting and not self._busy and not self._stalled:
            data, self._waiting = self._waiting, b""
            if self._is_full and self._transport is not None:
                self._is_full = False
                self._transport.resume_reading()
            self._take(data)
        if self._ends and not self._busy and not self._waiting and self._transport is not None:
            self._transport.close()

    def _take(self, data: bytes) -> None:
        """Answer the requests in *data*, until one has to be waited for."""
        while data and self._transport is not None:
            if self._busy or self._stalled or self._transport.is_closing():
                self._waiting = data
                return
            data = self._take_one(data)

    def _take_one(self, data: bytes) -> bytes:
        """Answer the first request in *data*, or hand it over; return what follows it."""
        stop = data.find(END) + len(END)
        if stop < len(END):
            return self._take_partial(data)
        end = data.find(b"\r\n")
        line = LINE.fullmatch(data, 0, end)
        self._begun = 0.0
        head = self._head(data[end:stop]) if line is not None else None
        if line is None or head is None:
            return self._hand_over_for_good(data)
        if self._front.give_away is not None and not self._front.is_site(head.host):
            return self._give_away(data)
        method, target, stop = line[1].decode(), line[2], stop + head.body_bytes
        if stop <= len(data) and self._answer(method, head, target):
            return data[stop:]
        return self._hand_over(data, stop)

    def _head(self, data: bytes) -> Head | None:
        head = self._heads.get(data)
        return head if head is not None else self._heads.learn(data)

    def _take_partial(self, data: bytes) -> bytes:
        if len(data) > MAX_PARTIAL or not may_become_plain(data):
            return self._hand_over_for_good(data)
        self._waiting = data
        self._begun = self._begun or self._front.clock.now
        return b""

    def _answer(self, method: str, head: Head, target: bytes) -> bool:
        """Answer now, if that is possible."""
        front = self._front
        if not front.is_site(head.host):
            return False
        form = front.quick.form(head, target) if method == "GET" and head.is_plainest else None
        if form is not None and self._send_form(form, head):
            return True
        ready = front.quick.answer(method, head, target)
        if ready is None:
            return False
        if isinstance(ready.body, FilePart):
            return self._send_file(head, ready, ready.body)
        self._send(head, ready, ready.body)
        return True

    def _send_form(self, form: Form, head: Head) -> bool:
        """Send what was prebuilt, to a connection that stays; False where that is not the answer."""
        transport, front = self._transport, self._front
        if transport is None:
            return False
        if head.if_none_match is None:
            body = form.body
            if isinstance(body, FilePart):
                return self._send_file(head, form, body)
            parts = (form.head, front.begin(form.status, form.body_bytes), body)
            if form.body_bytes > JOINED:
                transport.writelines(parts)
            else:
                transport.write(b"".join(parts))
            return True
        if head.if_none_match == form.etag and form.not_modified:
            transport.write(form.not_modified + front.begin(304, 0))
            return True
        return False

    def _send(self, head: Head, ready: Ready, body: bytes) -> None:
        transport = cast("asyncio.Transport", self._transport)
        transport.write(self._first(head, ready) + body)
        if head.closes:
            transport.close()

    def _first(self, head: Head, ready: Ready | Form) -> bytes:
        fresh = self._front.begin(ready.status, ready.body_bytes)
        return ready.head + (fresh[:-2] + CLOSE if head.closes else fresh)

    # Files

    def _send_file(self, head: Head, ready: Ready | Form, part: FilePart) -> bool:
        """Begin to send a file; False where that cannot be."""
        transport, front = cast("asyncio.Transport", self._transport), self._front
        if transport.get_write_buffer_size():
            return False
        try:
            if self._way is None:
                self._way = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            self._sender = FileSender(front.loop, self._way, part, self._sent(head))
        except OSError:
            return False  # aiohttp's way has words for it
        self._busy = True
        self._sender.begin(self._first(head, ready))
        return True

    def _sent(self, head: Head) -> Callable[[bool], None]:
        def ended(is_whole: bool) -> None:
            self._sender, self._busy = None, False
            self._last = self._front.clock.now
            if self._transport is None:
                return
            if not is_whole:
                self._transport.abort()
            elif head.closes:
                self._transport.close()
            else:
                self._go_on()

        return ended

    # aiohttp

    def _hand_over(self, data: bytes, stop: int) -> bytes:
        """Let aiohttp answer the request that ends at *stop*, perhaps beyond *data*; return what follows it."""
        self._busy = True
        self._rest_bytes = stop
        return self._feed(data)

    def _hand_over_for_good(self, data: bytes) -> bytes:
        if self._front.give_away is not None:
            return self._give_away(data)
        self._for_good = self._busy = True
        self._begun = self._front.clock.now
        return self._feed(data)

    def _give_away(self, data: bytes) -> bytes:
        """Let another process have the connection, once all that was answered so far is sent."""
        transport, give_away = self._transport, self._front.give_away
        self._busy = True
        self._waiting = b""
        if transport is None or give_away is None or transport.is_closing():
            return b""
        transport.pause_reading()
        if transport.get_write_buffer_size():
            self._front.loop.call_later(GIVE_AGAIN_S, self._give_away, data)
            return b""
        try:
            with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as ours:
                give_away(ours, data)
        except OSError as error:
            log.warning("a connection could not be passed on", extra={"error": str(error)})
        transport.abort()
        return b""

    def _feed(self, data: bytes) -> bytes:
        """Give aiohttp what belongs to its request; return the rest."""
        if self._inner is None:
            self._inner = self._front.inner(self)
            self._inner.connection_made(cast("asyncio.Transport", self._transport))
        if self._for_good:
            self._inner.data_received(data)
            return b""
        part = data[: self._rest_bytes]
        self._rest_bytes -= len(part)
        self._inner.data_received(part)
        return data[len(part) :]

    def answered(self, *, keeps: bool) -> None:
        """Aiohttp has written an answer. Where it came before its request was whole, the connection is aiohttp's."""
        self._last = self._front.clock.now
        self._for_good = self._for_good or self._rest_bytes > 0
        if self._for_good:
            self._begun = self._last
            if self._ends and keeps and self._transport is not None:
                self._transport.close()
        elif keeps:
            self._busy = False
            self._front.loop.call_soon(self._go_on)

    # The end

    def close_soon(self) -> None:
        """Close: at once where nothing is under way, else after that."""
        self._ends = True
        is_at_rest = not self._busy or (self._for_good and self._inner is not None and not self._inner.is_at_work)
        if self._transport is not None and is_at_rest:
            self._transport.close()

    def abort(self) -> None:
        """Close, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    # Time

    def _look(self) -> None:
        """Close a connection on which nothing happens; else look again when that could be, or another limit ends."""
        if self._transport is None:
            return
        now = self._front.clock.now
        since, limit_s = self._patience(now)
        left_s = limit_s - (now - since)
        if left_s <= 0:
            self._transport.abort()
            return
        wait_s = max(min(left_s, self._front.patience.shortest_s), SHORTEST_S)
        self._timer = self._front.loop.call_later(wait_s, self._look)

    def _patience(self, now: float) -> tuple[float, float]:
        """Since when nothing happens, and how long that may be so."""
        patience = self._front.patience
        if self._sender is not None:
            return self._sender.last_s, patience.stall_s
        if self._stalled:
            return self._taken_since(now), patience.stall_s
        if self._inner is not None and self._inner.is_at_work:
            return now, patience.idle_s  # a handler has limits of its own
        if self._begun:  # whatever trickles in meanwhile
            return self._begun, patience.idle_s if self._for_good else patience.head_s
        return self._last, patience.idle_s

    def _taken_since(self, now: float) -> float:
        """When the visitor last took something, as far as our looks can tell."""
        unsent = cast("asyncio.Transport", self._transport).get_write_buffer_size()
        if unsent < self._unsent:
            self._stalled, self._unsent = now, unsent
        return self._stalled
