"""The body of a visitor's request, on its way to an origin."""

from collections.abc import AsyncGenerator, Callable

from aiohttp import web

from scalemesh.edge.origins.refusals import BrokenRequest, Refusal, TooLongRequest


class Upload:
    """Read once, piece by piece, no faster than the origin takes it."""

    def __init__(self, request: web.BaseRequest, limit_bytes: int) -> None:
        self._request, self._limit = request, limit_bytes
        self.heard: Callable[[], None] = lambda: None  #: called for each piece
        self.refusal: Refusal | None = None  #: why it could not go on
        self.length = None if "Transfer-Encoding" in request.headers else request.content_length
        if (self.length or 0) > limit_bytes:
            raise TooLongRequest(f"{self.length} bytes are announced")

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body as it comes. An error of it ends the request to the origin; ``refusal`` tells which it was."""
        try:
            await self._invite()
            passed = 0
            while piece := await self._request.content.readany():
                passed += len(piece)
                if passed > self._limit:
                    raise TooLongRequest(f"more than {self._limit} bytes")
                self.heard()
                yield piece
        except Refusal as refusal:
            self.refusal = refusal
            raise
        except Exception as error:
            self.refusal = BrokenRequest(repr(error))
            raise

    async def _invite(self) -> None:
        """Tell who waits for it to send the body (RFC 9110, 10.1.1); an aiohttp application has done so already."""
        expects = self._request.headers.get("Expect", "").lower() == "100-continue"
        if expects and not isinstance(self._request, web.Request):
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
