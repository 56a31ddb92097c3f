"""One request to an origin and its answer, streamed both ways."""

import logging
from typing import Final

import aiohttp
from aiohttp import web

from scalemesh.config import MIB, Proxying
from scalemesh.edge.origins.carried import as_text, to_visitor
from scalemesh.edge.origins.errand import Errand
from scalemesh.edge.origins.refusals import Garbled, TooLongAnswer, reason
from scalemesh.edge.origins.relay import Declined, connect, relay, wants_socket
from scalemesh.edge.origins.upload import Upload
from scalemesh.edge.origins.waiting import Waiting

log = logging.getLogger(__name__)

BODILESS: Final = frozenset({204, 304})


class Crossing:
    """One visit, there and back."""

    def __init__(self, session: aiohttp.ClientSession, errand: Errand, settings: Proxying) -> None:
        self._session, self._errand, self._settings = session, errand, settings
        self._waiting = Waiting(errand.request)
        self._upload = Upload(errand.request, settings.request_mib * MIB)
        self._has_begun = False  #: the visitor has got the head of an answer: too late for a page

    async def answer(self) -> web.StreamResponse:
        """Ask the origin and pass its answer on.

        Raises:
            Refusal: no answer came, or none that can be passed on; nothing was sent to the visitor.
            ConnectionError: the visitor has left, or the answer was cut midway.
        """
        settings = self._settings
        self._upload.heard = lambda: self._waiting.at_most(settings.answer_timeout_s)
        try:
            async with self._waiting as waiting:
                waiting.at_most(settings.connect_timeout_s + settings.answer_timeout_s)
                if wants_socket(self._errand.request):
                    return await self._socket()
                return await self._pass_on(await self._ask())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> Exception:
        """What *error* is to the visitor: nothing where they have left, a page, or a cut where that comes too late."""
        if self._errand.has_left:
            return ConnectionResetError("the visitor has left")
        if not self._has_begun:
            return self._upload.refusal or reason(error)
        log.warning("a proxied answer was cut", extra={"request": self._errand.request_id, "error": repr(error)})
        self._errand.cut()
        return ConnectionResetError("the answer was cut short")

    async def _socket(self) -> web.StreamResponse:
        try:
            origin = await connect(self._session, self._errand, self._settings)
        except Declined as declined:
            return await self._pass_on(declined.answer)
        self._waiting.for_ever()
        self._has_begun = True
        return await relay(origin, self._errand, self._settings)

    async def _ask(self) -> aiohttp.ClientResponse:
        errand, upload = self._errand, self._upload
        data = None
        if errand.request.body_exists:
            data = upload.pieces()
            if upload.length is not None:
                errand.headers["Content-Length"] = str(upload.length)
        return await self._session.request(
            errand.request.method, errand.url, headers=errand.headers, data=data, allow_redirects=False
        )

    async def _pass_on(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """Send *answer* to the visitor as it comes, no faster than the visitor takes it."""
        errand, limit = self._errand, self._settings.answer_mib * MIB
        try:
            if answer.status == 101:
                raise Garbled("101 to a request that asked for no other protocol")
            has_body = errand.request.method != "HEAD" and answer.status not in BODILESS
            if has_body and (answer.content_length or 0) > limit:
                raise TooLongAnswer(f"{answer.content_length} bytes are announced")
            reply = web.StreamResponse(
                status=answer.status,
                reason=as_text(answer.reason or ""),
                headers=to_visitor(answer.headers, errand.passage, errand.own),
            )
            self._has_begun = True
            self._waiting.at_most(self._settings.idle_timeout_s)
            await reply.prepare(errand.request)
            if has_body:
                await self._pour(answer.content, reply, limit)
            await reply.write_eof()
            return reply
        finally:
            answer.close()  # one that was read to its end has given its connection back already

    async def _pour(self, content: aiohttp.StreamReader, reply: web.StreamResponse, limit: int) -> None:
        passed = 0
        while chunk := await content.readany():
            passed += len(chunk)
            if passed > limit:
                raise aiohttp.ClientPayloadError(f"more than {limit} bytes (proxy.answer_mib)")
            await reply.write(chunk)
            self._waiting.at_most(self._settings.idle_timeout_s)
