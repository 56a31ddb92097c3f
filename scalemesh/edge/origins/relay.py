"""Websockets through the proxy: messages, pings, subprotocol and the way they end, passed on both ways."""

import asyncio
from typing import Any, Final, cast

import aiohttp
from aiohttp import ClientHandlerType, ClientWSTimeout, WSCloseCode, WSMsgType, web

from scalemesh.config import MIB, Proxying
from scalemesh.edge.origins.carried import to_visitor
from scalemesh.edge.origins.errand import Errand

CLOSE_S: Final = 2.0  #: so long may either side take to answer a close
_PASSED: Final = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG})
_NEVER_SENT: Final = frozenset({0, 1005, 1006, 1015})  # RFC 6455, 7.4.1: they only name what was not said
_OF_THE_HANDSHAKE: Final = ("Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")


class OriginSocket(aiohttp.ClientWebSocketResponse):
    """One that also tells the headers of its handshake."""

    def __init__(self, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        found: aiohttp.ClientResponse = self._response
        self.headers = found.headers


Socket = OriginSocket | web.WebSocketResponse[bool]
End = tuple[int, bytes]  #: close code and its words


class Declined(Exception):  # noqa: N818  an answer
    """The origin answers the wish for a websocket with something else, which the visitor is to see."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        super().__init__(answer.status)
        self.answer = answer


async def declining(wish: aiohttp.ClientRequest, ask: ClientHandlerType) -> aiohttp.ClientResponse:
    """For the session's middlewares: without it, aiohttp follows redirects of a handshake and drops all other answers.

    Raises:
        Declined: a websocket was wished for, and is not given.
    """
    answer = await ask(wish)
    if "Upgrade" in wish.headers and answer.status != 101:
        raise Declined(answer)
    return answer


def wants_socket(request: web.BaseRequest) -> bool:
    """Whether *request* is a whole and right handshake; any other is passed on as a plain request."""
    if request.method != "GET" or "upgrade" not in request.headers.get("Connection", "").lower():
        return False
    return bool(web.WebSocketResponse(protocols=_offered(request)).can_prepare(request))


async def connect(session: aiohttp.ClientSession, errand: Errand, settings: Proxying) -> OriginSocket:
    """Open the origin's side, offering the visitor's subprotocols.

    Raises:
        Declined: the origin answers otherwise.
        aiohttp.ClientError: no answer, or none that is right.
    """
    opened = await session.ws_connect(
        errand.url,
        headers=errand.headers,
        protocols=_offered(errand.request),
        timeout=ClientWSTimeout(ws_close=CLOSE_S),
        autoclose=False,
        autoping=False,
        heartbeat=settings.idle_timeout_s,
        max_msg_size=_first_too_long(settings),
        decode_text=False,
    )
    return cast("OriginSocket", opened)  # the session's ws_response_class


async def relay(origin: OriginSocket, errand: Errand, settings: Proxying) -> web.StreamResponse:
    """Pass messages on until one side ends, then end the other the same way."""
    visitor: web.WebSocketResponse[bool] = web.WebSocketResponse(
        protocols=[origin.protocol] if origin.protocol else (),
        timeout=CLOSE_S,
        autoclose=False,
        autoping=False,
        heartbeat=settings.idle_timeout_s,
        compress=False,  # each side's own matter; a bomb in a small message is none then
        max_msg_size=_first_too_long(settings),
        decode_text=False,
    )
    try:
        headers = to_visitor(origin.headers, errand.passage, errand.own)
        for name in _OF_THE_HANDSHAKE:
            headers.popall(name, None)
        visitor.headers.extend(headers)
        await visitor.prepare(errand.request)
        code, words = await _until_one_ends(origin, visitor)
        await asyncio.gather(visitor.close(code=code, message=words), origin.close(code=code, message=words))
    finally:
        await origin.close()  # nothing, where it is closed
    return visitor


def _offered(request: web.BaseRequest) -> list[str]:
    """The visitor's subprotocols, the liked ones first."""
    names = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ())).split(",")
    return [name.strip() for name in names if name.strip()]


def _first_too_long(settings: Proxying) -> int:
    """What aiohttp takes as its limit is the first size that is too much."""
    return settings.websocket_message_mib * MIB + 1


async def _until_one_ends(origin: Socket, visitor: Socket) -> End:
    from_origin = asyncio.create_task(_pump(origin, visitor, (WSCloseCode.BAD_GATEWAY, b"")))
    from_visitor = asyncio.create_task(_pump(visitor, origin, (WSCloseCode.GOING_AWAY, b"")))
    both = {from_origin, from_visitor}
    try:
        ended, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return (from_origin if from_origin in ended else from_visitor).result()
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _pump(source: Socket, sink: Socket, death: End) -> End:
    """Pass on what *source* says until it ends; how it did, *death* where it went without a word."""
    while True:
        message = await source.receive()
        if message.type in _PASSED:
            try:
                await sink.send_frame(message.data, message.type)
            except ConnectionError:
                await asyncio.Event().wait()  # the sink is gone: the other direction tells how
            continue
        if message.type is WSMsgType.CLOSE:
            code = WSCloseCode.OK if message.data in _NEVER_SENT else message.data
            return code, str(message.extra or "").encode()
        error = message.data
        return (error.code, b"") if isinstance(error, aiohttp.WebSocketError) else death
