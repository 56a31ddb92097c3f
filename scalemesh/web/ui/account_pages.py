"""The account's page: its password, its API tokens."""

from datetime import UTC, datetime, timedelta

from aiohttp import web

from scalemesh.errors import InvalidError
from scalemesh.services.accounts import MAX_PASSWORD, MIN_PASSWORD, Accounts
from scalemesh.values import Secret
from scalemesh.web.auth import Gate, signed_in
from scalemesh.web.ui.forms import Form, read_form
from scalemesh.web.ui.render import Renderer
from scalemesh.web.ui.sign_in_pages import see

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AccountPages:
    def __init__(self, renderer: Renderer, accounts: Accounts, gate: Gate) -> None:
        self._renderer, self._accounts, self._gate = renderer, accounts, gate

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/account", self.show),
            web.post("/account/password", self.set_password),
            web.post("/account/tokens", self.new_token),
            web.post("/account/tokens/{token}/delete", self.drop_token),
        ]

    async def show(self, request: web.Request) -> web.Response:
        return await self._page(request)

    async def set_password(self, request: web.Request) -> web.Response:
        """Every session ends, and this one begins anew."""
        user, form = signed_in(request), await read_form(request)
        try:
            await self._accounts.set_password(user.id, form.raw("password"))
        except InvalidError as error:
            return await self._page(request, status=error.status, form=form.failing("password", error))
        response = see("/account?did=password")
        self._gate.begin(request, response, await self._accounts.begin_session(user.id))
        return response

    async def new_token(self, request: web.Request) -> web.Response:
        """The answer shows the token itself, this once: it is not kept and cannot be redirected to."""
        user, form = signed_in(request), await read_form(request)
        try:
            _, secret = await self._accounts.new_token(user.id, form.text("token_name"))
        except InvalidError as error:
            return await self._page(request, status=error.status, form=form.failing("token_name", error))
        return await self._page(request, fresh=secret)

    async def drop_token(self, request: web.Request) -> web.Response:
        await self._accounts.drop_token(signed_in(request).id, request.match_info["token"])
        return see("/account?did=token-deleted")

    async def _page(
        self, request: web.Request, *, status: int = 200, form: Form | None = None, fresh: Secret | None = None
    ) -> web.Response:
        user = signed_in(request)
        tokens = [
            {"id": token, "name": name, "created_at": EPOCH + timedelta(milliseconds=made)}
            for token, name, made in await self._accounts.tokens(user.id)
        ]
        context = {
            "form": form or Form(),
            "fresh": fresh,
            "tokens": tokens,
            "did": request.query.get("did", ""),
            "shortest": MIN_PASSWORD,
            "longest": MAX_PASSWORD,
        }
        return self._renderer.page(request, "account.html", context, status=status)
