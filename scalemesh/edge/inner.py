"""aiohttp's own protocol, told by us what it is to answer and telling us when it has."""

import secrets
from typing import Final, Protocol

from aiohttp import web

from scalemesh.edge.decide import NOSNIFF

NEVER_S: Final = 10_000_000.0  #: aiohttp keeps no idle time of its own: the connection's owner does


class Owner(Protocol):
    """Whose connection it is."""

    def answered(self, *, keeps: bool) -> None: ...


class Inner(web.RequestHandler):
    """Answers what its owner hands over. Counts requests, so that the owner knows whether one is under way."""

    __slots__ = ("_open", "_owner")

    def __init__(self, server: web.Server, owner: Owner, **options: object) -> None:
        super().__init__(server, keepalive_timeout=NEVER_S, **options)  # type: ignore[arg-type]
        self._owner = owner
        self._open = 0

    @property
    def is_at_work(self) -> bool:
        """Whether a handler runs, or its answer is being written."""
        return self._open > 0

    def began(self) -> None:
        """A handler was called."""
        self._open += 1

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp says to what is no request, with the headers that every answer of ours has."""
        answer = super().handle_error(request, status, exc, message)
        own = (("Cache-Control", "no-store"), NOSNIFF, ("Server", "scalemesh"), ("X-Request-Id", secrets.token_hex(8)))
        answer.headers.update(own)
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write *resp*, then tell the owner."""
        done = await super().finish_response(request, resp, start_time)
        self._open = 0
        if not done[1]:
            self._owner.answered(keeps=bool(done[0].keep_alive))
        return done
