"""Signing in and out, who one is, one's password."""

from dataclasses import dataclass

from aiohttp import web

from scalemesh.errors import ForbiddenError, InvalidError
from scalemesh.services.accounts import Accounts
from scalemesh.services.links import Links
from scalemesh.web.auth import SESSION, Gate, signed_in
from scalemesh.web.bodies import read_as


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A name with its password, or the code of a welcome link."""

    name: str | None = None
    password: str | None = None
    code: str | None = None

    def __post_init__(self) -> None:
        by_password = self.name is not None and self.password is not None
        if by_password == (self.code is not None):
            raise ValueError("send name and password, or code")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPassword:
    password: str


class SessionRoutes:
    def __init__(self, accounts: Accounts, gate: Gate, links: Links, *, trusted: bool) -> None:
        self._accounts, self._gate, self._links, self._trusted = accounts, gate, links, trusted

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/session", self.show),
            web.post("/api/v1/session", self.begin),
            web.delete("/api/v1/session", self.end),
            web.put("/api/v1/account/password", self.set_password),
            web.post("/api/v1/welcome", self.welcome),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Who one is."""
        user = signed_in(request)
        return web.json_response({"id": user.id, "name": user.name, "is_owner": user.is_owner})

    async def begin(self, request: web.Request) -> web.Response:
        """Sign in; the session is in the cookie."""
        wanted = await read_as(request, SignIn)
        if wanted.code is not None:
            session = await self._accounts.enter(wanted.code)
        else:
            caller = self._gate.caller_of(request).network
            session = await self._accounts.sign_in(wanted.name or "", wanted.password or "", caller=caller)
        response = web.Response(status=204)
        self._gate.begin(request, response, session)
        return response

    async def end(self, request: web.Request) -> web.Response:
        """Sign out."""
        session = request.get(SESSION)
        if session is None:
            raise InvalidError("there is no session to end", fix="a token ends by DELETE /api/v1/tokens/<id>")
        await self._accounts.sign_out(session)
        response = web.Response(status=204)
        self._gate.end(request, response)
        return response

    async def set_password(self, request: web.Request) -> web.Response:
        """Set one's password. Every session ends; a browser that asks gets a fresh one."""
        user, wanted = signed_in(request), await read_as(request, NewPassword)
        await self._accounts.set_password(user.id, wanted.password)
        response = web.Response(status=204)
        if request.get(SESSION) is not None:
            self._gate.begin(request, response, await self._accounts.begin_session(user.id))
        return response

    async def welcome(self, request: web.Request) -> web.Response:
        """A fresh link to sign in with once. Only who sits at the server may ask."""
        signed_in(request)
        if not self._trusted:
            raise ForbiddenError("a welcome link is made on the server", fix="run `scalemesh welcome` there")
        code = await self._accounts.welcome_code()
        return web.json_response({"url": f"{self._links.control}welcome/{code}"}, status=201)
