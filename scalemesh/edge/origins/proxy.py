"""Passes visits on to other origins, where a rule of the site says so: the one owner of connections to them."""

import logging
import re
import ssl
from collections.abc import Callable, Collection
from functools import partial
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp import web
from yarl import URL

from scalemesh.config import Proxying
from scalemesh.edge.answers import Headers, Passage, Visit
from scalemesh.edge.origins.addresses import IPAddress, Reach, own_addresses
from scalemesh.edge.origins.carried import Arrival, hops, to_origin
from scalemesh.edge.origins.crossing import Crossing
from scalemesh.edge.origins.errand import Errand
from scalemesh.edge.origins.refusals import BadPlace, Loop, NoMethod, Refusal, TooMany, sent
from scalemesh.edge.origins.relay import OriginSocket, declining
from scalemesh.edge.origins.resolver import CheckedResolver, LookUp, SystemLookUps, checked_socket
from scalemesh.errors import ConfigError

log = logging.getLogger(__name__)

KEPT_S: Final = 4.0  #: an idle connection to an origin is kept so long: Node's servers close theirs after 5
BUFFER_BYTES: Final = 64 * 1024  #: of an answer that is on its way; twice that is held at most
HEADER_BYTES: Final = 32 * 1024
_AUTOMATIC: Final = (
    "User-Agent",
    "Accept",
    "Accept-Encoding",
    "Content-Type",
)  # what the visitor did not say, we do not
_UNSENDABLE: Final = re.compile(r"[\x00-\x20\x7f]")


class Proxy:
    """Rewrites to other origins. An async context manager: it closes what is open to origins at its end."""

    def __init__(
        self,
        settings: Proxying,
        *,
        own: Callable[[], Collection[IPAddress]] = own_addresses,
        look_up: LookUp | None = None,
    ) -> None:
        self._settings = settings
        self._reach = Reach(settings.allow_networks, own)
        self._look_up = look_up
        self._trusted: ssl.SSLContext | bool = True
        self._session: aiohttp.ClientSession | None = None
        self._on_their_way = 0

    async def __aenter__(self) -> Self:
        """Read what origins are proven by.

        Raises:
            ConfigError: proxy.ca_bundle cannot be read.
        """
        bundle = self._settings.ca_bundle
        if bundle is not None:
            try:
                self._trusted = ssl.create_default_context(cafile=bundle)
            except OSError as error:  # an SSLError is one
                raise ConfigError(f"proxy.ca_bundle = {str(bundle)!r}: cannot be read", why=str(error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def forward(
        self, request: web.BaseRequest, passage: Passage, *, client: str, scheme: str, host: str, request_id: str
    ) -> web.StreamResponse:
        """Answer *request* by what the origin of *passage* says, or by a page that tells why it cannot be had.

        The server that *request* came to must leave bodies as they are (``auto_decompress=False``).

        Args:
            request: not yet answered, its body unread.
            passage: where to, and what changes on the way.
            client: the visitor's address, ``scheme`` and ``host`` (with port) what was visited; all as believed.
            scheme: http or https.
            host: as in Host.
            request_id: for the answer and the log.

        Raises:
            ConnectionError: the visitor has left, or the answer broke off midway: end the connection.
        """
        own: Headers = (("Server", "scalemesh"), ("X-Request-Id", request_id))
        try:
            self._admit(request)
            self._on_their_way += 1
            try:
                arrival = Arrival(client=client, scheme=scheme, host=host)
                errand = Errand(
                    request=request,
                    passage=passage,
                    url=_place(passage.url),
                    headers=to_origin(request.headers, passage, arrival),
                    own=own,
                    request_id=request_id,
                )
                return await Crossing(self._open_session(), errand, self._settings).answer()
            finally:
                self._on_their_way -= 1
        except Refusal as refusal:
            log.warning(
                "a visit was not passed on",
                extra={"request": request_id, "rule": passage.because, "status": refusal.status, "error": str(refusal)},
            )
            visit = Visit(method=request.method, target=request.raw_path, accept=request.headers.get("Accept"))
            return sent(request, refusal.page(visit, passage.answer_headers), own)

    def _admit(self, request: web.BaseRequest) -> None:
        if request.method == "CONNECT":
            raise NoMethod("CONNECT")
        if hops(request.headers) >= self._settings.hops:
            raise Loop(f"passed through {hops(request.headers)} times already")
        if self._on_their_way >= self._settings.most_at_once:
            raise TooMany(f"{self._on_their_way} are on their way (proxy.most_at_once)")

    def _open_session(self) -> aiohttp.ClientSession:
        """The one session; made at the first visit that needs it."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=CheckedResolver(self._reach, self._look_up or SystemLookUps()),
                socket_factory=partial(checked_socket, self._reach),
                ssl=self._trusted,
                limit=0,  # we count ourselves
                keepalive_timeout=KEPT_S,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_AUTOMATIC,
                auto_decompress=False,
                read_bufsize=BUFFER_BYTES,
                max_line_size=HEADER_BYTES,
                max_field_size=HEADER_BYTES,
                middlewares=(declining,),
                ws_response_class=OriginSocket,
            )
        return self._session


def _place(text: str) -> URL:
    """*text* as the URL of an origin.

    Raises:
        BadPlace: it is none, or carries a user's name or password.
    """
    try:
        url = URL(text, encoded=text.isascii())
        is_place = url.scheme in ("http", "https") and bool(url.host) and url.port != 0
    except ValueError as error:
        raise BadPlace(f"{text!r}: {error}") from error
    if not is_place or _UNSENDABLE.search(text) or url.raw_user is not None or url.raw_password is not None:
        raise BadPlace(f"{text!r} is no address of a server")
    return url
