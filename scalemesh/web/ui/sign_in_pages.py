"""Pages of coming in and going out: the welcome link, name and password, signing out."""

import re
from typing import Final

from aiohttp import web

from scalemesh.errors import GoneError, ScaleMeshError, TooManyError, UnauthorizedError
from scalemesh.services.accounts import MAX_PASSWORD, MIN_PASSWORD, Accounts
from scalemesh.values import Secret
from scalemesh.web.auth import SESSION, USER, Gate, signed_in
from scalemesh.web.ui.forms import Form, read_form
from scalemesh.web.ui.render import Renderer

LOCAL_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,1000}")  #: never another host


class SignInPages:
    def __init__(self, renderer: Renderer, accounts: Accounts, gate: Gate) -> None:
        self._renderer, self._accounts, self._gate = renderer, accounts, gate

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/sign-in", self.show_sign_in),
            web.post("/sign-in", self.sign_in),
            web.post("/sign-out", self.sign_out),
            web.get("/welcome/password", self.show_password),
            web.post("/welcome/password", self.set_password),
            web.get("/welcome/{code}", self.show_welcome),
            web.post("/welcome/{code}", self.enter),
        ]

    async def show_sign_in(self, request: web.Request) -> web.StreamResponse:
        target = _target(request.query.get("next", ""))
        if request.get(USER) is not None:
            raise web.HTTPSeeOther(target)
        return self._renderer.page(request, "sign_in.html", {"form": Form(), "target": target})

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        form = await read_form(request)
        target = _target(form.raw("next"))
        try:
            caller = self._gate.caller_of(request).network
            token = await self._accounts.sign_in(form.text("name"), form.raw("password"), caller=caller)
        except (UnauthorizedError, TooManyError) as error:
            failed = form.failing("password", error)
            return self._renderer.page(request, "sign_in.html", {"form": failed, "target": target}, status=error.status)
        return self._begun(request, target, token)

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        if session := request.get(SESSION):
            await self._accounts.sign_out(session)
        response = see("/sign-in")
        self._gate.end(request, response)
        return response

    async def show_welcome(self, request: web.Request) -> web.StreamResponse:
        """Shows a button: a link preview, or a reload, uses nothing up."""
        is_welcome = await self._accounts.is_welcome(request.match_info["code"])
        return self._renderer.page(
            request, "welcome.html", {"is_welcome": is_welcome}, status=200 if is_welcome else 410
        )

    async def enter(self, request: web.Request) -> web.StreamResponse:
        try:
            token = await self._accounts.enter(request.match_info["code"])
        except GoneError as error:
            return self._renderer.page(request, "welcome.html", {"is_welcome": False}, status=error.status)
        return self._begun(request, "/welcome/password", token)

    async def show_password(self, request: web.Request) -> web.StreamResponse:
        user = signed_in(request)
        return self._show_password(request, user.name, Form())

    async def set_password(self, request: web.Request) -> web.StreamResponse:
        user, form = signed_in(request), await read_form(request)
        try:
            await self._accounts.set_password(user.id, form.raw("password"))
        except ScaleMeshError as error:
            return self._show_password(request, user.name, form.failing("password", error))
        return self._begun(request, "/", await self._accounts.begin_session(user.id))

    def _begun(self, request: web.Request, target: str, session: Secret) -> web.Response:
        response = see(target)
        self._gate.begin(request, response, session)
        return response

    def _show_password(self, request: web.Request, name: str, form: Form) -> web.Response:
        context = {"name": name, "form": form, "shortest": MIN_PASSWORD, "longest": MAX_PASSWORD}
        return self._renderer.page(request, "first_password.html", context)


def see(path: str) -> web.Response:
    """After a POST: look there."""
    return web.Response(status=303, headers={"Location": path})


def _target(wanted: str) -> str:
    return wanted if LOCAL_PATH.fullmatch(wanted) else "/"
