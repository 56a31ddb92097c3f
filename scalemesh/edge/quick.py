"""Answers plain visits at once: from prebuilt bytes, or by deciding with what is in memory. Never waits for anything.

What it cannot answer so (a body to read, a manifest or a blob to fetch, another origin) it leaves alone; whoever asked
goes the long way, ``visit``, which decides by the same function.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from scalemesh.edge import pages
from scalemesh.edge.answers import Answer, Slice, Visit
from scalemesh.edge.cache import BlobCache, Sites
from scalemesh.edge.decide import decide
from scalemesh.edge.heads import Head
from scalemesh.edge.local import read_now
from scalemesh.edge.visit import make_visit
from scalemesh.edge.wire import BODILESS, status_and_headers
from scalemesh.services.routing import RouteTable
from scalemesh.values import Digest, Route

ASKED_ONCE: Final = 8192  #: targets that were asked for once, at least: what is asked for again is worth its memory
_EACH: Final = 700  #: what a prebuilt answer weighs besides its bytes, about

Key = tuple[str, bytes, bytes]  #: host, Accept-Encoding, target


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes of a local file, from *start* up to, not including, *stop*."""

    path: Path
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Ready:
    """An answer, ready to be sent: its first lines, what is new at each answer, and its body."""

    status: int
    head: bytes
    body: bytes | FilePart = b""

    @property
    def body_bytes(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.body.stop - self.body.start


class Form:
    """A prebuilt answer in one encoding; good as long as its route stands."""

    __slots__ = ("blob", "body", "body_bytes", "etag", "head", "not_modified", "route", "status", "used_at")

    def __init__(self, route: Route, ready: Ready, etag: bytes, blob: Digest | None = None) -> None:
        """*blob*: where its bytes come from."""
        self.blob = blob
        self.route, self.status, self.head, self.etag = route, ready.status, ready.head, etag
        self.not_modified = b""  #: the head of the 304, once somebody asked for it
        self.body = ready.body
        self.body_bytes = ready.body_bytes
        self.used_at = 0  #: the turn of the clock in which it was last asked for


class Forms:
    """Prebuilt answers, the least recently used ones dropped past a weight in bytes."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity, self.weight_bytes = capacity_bytes, 0
        self._kept: OrderedDict[Key, Form] = OrderedDict()
        self._most_asked = max(ASKED_ONCE, capacity_bytes // _EACH)
        self._asked: set[int] = set()  # hashes: the keys are strangers' words, of any length
        self.get, self.used = self._kept.get, self._kept.move_to_end

    def is_wanted(self, key: Key) -> bool:
        """Whether *key* was asked for before; remembered now."""
        asked = hash(key)
        if asked in self._asked:
            return True
        if len(self._asked) >= self._most_asked:
            self._asked.clear()
        self._asked.add(asked)
        return False

    def keep(self, key: Key, form: Form) -> None:
        self.drop(key)
        self._kept[key] = form
        self.weight_bytes += _weight(key, form)
        while self.weight_bytes > self._capacity:
            self.weight_bytes -= _weight(*self._kept.popitem(last=False))

    def blobs(self) -> Iterable[Digest]:
        """Where their bytes come from."""
        return [form.blob for form in self._kept.values() if form.blob is not None]

    def drop(self, key: Key) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self.weight_bytes -= _weight(key, old)


def _weight(key: Key, form: Form) -> int:
    """Bytes, about; the same all its life: the head of a 304, which may come later, is no longer than the other."""
    body_bytes = form.body_bytes if isinstance(form.body, bytes) else 0
    return sum(map(len, key)) + 2 * len(form.head) + body_bytes + _EACH


class Tally:
    """Answers counted where counting must cost nothing; ``drain`` hands them over."""

    def __init__(self) -> None:
        self.statuses = [0] * 1000
        self.body_bytes = 0

    def drain(self, visited: Callable[[int, int, int], None]) -> None:
        """Tell (status, how many, bytes of bodies) and begin anew."""
        if not any(self.statuses):
            return
        for status, count in enumerate(self.statuses):
            if count:
                visited(status, count, self.body_bytes)
                self.statuses[status] = self.body_bytes = 0


class Quick:
    def __init__(
        self,
        routes: RouteTable,
        sites: Sites,
        blobs: BlobCache,
        *,
        file_of: Callable[[Digest], Path] | None,
        capacity_bytes: int,
        now: Callable[[], datetime],
    ) -> None:
        """*file_of* tells where the store keeps a blob on this machine; None: it does not."""
        self._routes, self._sites, self._blobs, self._file_of, self._now = routes, sites, blobs, file_of, now
        self._forms = Forms(capacity_bytes)
        self._form_of, self._route_of = self._forms.get, routes.find
        self.turn = 1  #: of the clock

    def in_memory(self) -> set[Digest]:
        """The blobs that visits are answered from without a look at their files."""
        return {*self._forms.blobs(), *self._blobs.in_memory(), *self._sites.in_memory()}

    def form(self, head: Head, target: bytes) -> Form | None:
        """What was prebuilt for a plain GET of *target*, if it still is the answer."""
        key = (head.host, head.accept_encoding, target)
        form = self._form_of(key)
        if form is None:
            return None
        if self._route_of(head.host) is not form.route:
            self._forms.drop(key)
            return None
        if form.used_at != self.turn:  # once in a turn is often enough to tell what is in use
            form.used_at = self.turn
            self._forms.used(key)
        return form

    def answer(self, method: str, head: Head, target: bytes) -> Ready | None:
        """Decide now; None where something would have to be waited for."""
        visit = make_visit(method, target.decode(), head.host, head.named())
        route = self._routes.find(head.host) if head.host else None
        answer = self._decided(visit, route)
        if answer is None:
            return None
        ready = self._ready(answer, method)
        if ready is not None and route is not None and method == "GET" and head.is_plain and answer.by_target:
            self._keep((head.host, head.accept_encoding, target), route, head, answer, ready)
        return ready

    def _decided(self, visit: Visit, route: Route | None) -> Answer | None:
        if route is None:
            return pages.unknown_host(visit)
        if route.manifest is None:
            return pages.waiting(visit, route)
        site = self._sites.at_once(route)
        answer = decide(visit, site, self._now()) if site is not None else None
        return answer if isinstance(answer, Answer) else None

    def _ready(self, answer: Answer, method: str) -> Ready | None:
        body: bytes | FilePart | None = b""
        if method != "HEAD" and answer.status not in BODILESS and answer.length:
            body = self._body(answer.body)
        return None if body is None else Ready(answer.status, status_and_headers(answer), body)

    def _body(self, body: object) -> bytes | FilePart | None:
        if isinstance(body, bytes):
            return body
        if not isinstance(body, Slice):
            return None
        if body.size_bytes > self._blobs.small_bytes:
            return None if self._file_of is None else FilePart(self._file_of(body.sha256), body.start, body.stop)
        data = self._blobs.peek(body.sha256)
        if data is None and self._file_of is not None:
            data = read_now(self._file_of(body.sha256), body.size_bytes)
            if data is not None and not self._blobs.keep(body.sha256, data):
                return None  # it has rotted: the long way knows what to do
        if data is None or len(data) != body.size_bytes:
            return None
        return data[body.start : body.stop] if body.stop - body.start < body.size_bytes else data

    def _keep(self, key: Key, route: Route, head: Head, answer: Answer, ready: Ready) -> None:
        """Remember what was asked for before; of a 304 its few lines, beside the answer that it stands for."""
        if head.if_none_match is not None:
            form = self._forms.get(key)
            if ready.status == 304 and form is not None and form.route is route and form.etag == head.if_none_match:
                form.not_modified = ready.head
        elif self._forms.is_wanted(key):
            etag = next((value for name, value in answer.headers if name == "ETag"), "")
            blob = answer.body.sha256 if isinstance(answer.body, Slice) else None
            self._forms.keep(key, Form(route, ready, etag.encode(), blob))
