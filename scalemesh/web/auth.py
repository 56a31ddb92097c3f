"""Who asks: an API token, a session's cookie, or whoever the admin socket let in; and whether the browser may."""

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from scalemesh.errors import ForbiddenError, UnauthorizedError
from scalemesh.services.accounts import Accounts
from scalemesh.services.callers import Caller, Callers
from scalemesh.services.links import Links
from scalemesh.values import Secret, User
from scalemesh.web.cookies import SessionCookie

USER: Final = web.RequestKey("user", User)
SESSION: Final = web.RequestKey("session", str)
PUBLIC: Final = frozenset({("GET", "/api/v1/health"), ("HEAD", "/api/v1/health"), ("POST", "/api/v1/session")})
READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """Finds out who asks. Everything under /api needs somebody, but for PUBLIC; pages ask by ``signed_in``.

    *trusted* is for the admin socket alone: whoever reaches it is the owner.
    """

    def __init__(self, accounts: Accounts, links: Links, callers: Callers, *, trusted: bool = False) -> None:
        self._accounts, self._links, self._callers, self._trusted = accounts, links, callers, trusted

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        address = resource.canonical if resource else ""
        if not address.startswith("/build/"):  # builders bring tokens of their own
            user = await self._who(request)
            if user is not None:
                request[USER] = user
            elif address.startswith("/api/") and (request.method, address) not in PUBLIC:
                raise _nobody()
        return await handler(request)

    def caller_of(self, request: web.Request) -> Caller:
        """Whoever asks, as the connection or a believed proxy tells."""
        headers = request.headers
        return self._callers.of(
            request.remote or "", headers.getall, scheme=request.scheme, host=headers.get("Host", "")
        )

    def begin(self, request: web.Request, response: web.StreamResponse, session: Secret) -> None:
        """Give the browser its session."""
        lifetime_s = int(self._accounts.session_lifetime.total_seconds())
        self._cookie(request).give(response, session, lifetime_s=lifetime_s)

    def end(self, request: web.Request, response: web.StreamResponse) -> None:
        """Take the cookie away again."""
        self._cookie(request).take(response)

    async def still_knows(self, request: web.Request) -> bool:
        """Whether *request* would be let in now: for an answer that goes on after a sign-out."""
        try:
            return await self._who(request) is not None
        except UnauthorizedError:
            return False

    def _cookie(self, request: web.Request) -> SessionCookie:
        return SessionCookie(self.caller_of(request).scheme == "https")

    async def _who(self, request: web.Request) -> User | None:
        if self._trusted:
            return await self._accounts.owner()
        if header := request.headers.get("Authorization"):
            return await self._of_token(header)
        session = self._cookie(request).read(request.headers.getall("Cookie", []))
        if request.method not in READING or "Upgrade" in request.headers:
            self._check_origin(request, is_known=session is not None)
        user = await self._accounts.of_session(session) if session else None
        if user is not None and session is not None:
            request[SESSION] = session
        return user

    async def _of_token(self, header: str) -> User:
        scheme, _, token = header.partition(" ")
        user = await self._accounts.of_token(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise UnauthorizedError(
                "that token is not known here", fix="`scalemesh token create NAME` on the server makes one"
            )
        return user

    def _check_origin(self, request: web.Request, *, is_known: bool) -> None:
        """Cookies come along with whatever any site lets a browser do, and the sites that we serve are neighbours."""
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        if origin is not None and origin != "null":
            is_ours = self._is_ours(origin, self.caller_of(request))
        else:
            is_ours = site == "same-origin" or (site is None and origin is None and not is_known)
        if not is_ours:
            raise ForbiddenError(
                "this request does not come from our own pages",
                why=f"its Origin is {(origin or 'missing')[:200]!r}",
                fix="programs send a token; behind a proxy, set hosts.public_url or hosts.trusted_proxies",
            )

    def _is_ours(self, origin: str, caller: Caller) -> bool:
        """The page came from where this request goes: the control host, or a forwarded port that no config knows.

        Both by the scheme of this very request: a page of ours over plain http may be of anybody on the way.
        """
        ours = f"{caller.scheme}://{caller.host}".lower()
        is_control = self._links.is_secure == (caller.scheme == "https") and origin == self._links.control.rstrip("/")
        return is_control or origin.lower() == ours


def signed_in(request: web.Request) -> User:
    """Whoever is signed in.

    Raises:
        UnauthorizedError: nobody is.
    """
    user: User | None = request.get(USER)
    if user is None:
        raise _nobody()
    return user


def owning(request: web.Request) -> User:
    """The owner, who asks.

    Raises:
        UnauthorizedError: nobody is signed in.
        ForbiddenError: somebody else is.
    """
    user = signed_in(request)
    if not user.is_owner:
        raise ForbiddenError("only the owner may do that", why="it concerns everybody's sites")
    return user


def _nobody() -> UnauthorizedError:
    return UnauthorizedError(
        "nobody is signed in", fix="send Authorization: Bearer <token>, or sign in; `scalemesh welcome` prints a link"
    )
