"""API tokens of whoever asks."""

from dataclasses import dataclass

from aiohttp import web

from scalemesh.services.accounts import Accounts
from scalemesh.web.api import views
from scalemesh.web.auth import signed_in
from scalemesh.web.bodies import read_as


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    name: str


class TokenRoutes:
    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/tokens", self.all),
            web.post("/api/v1/tokens", self.create),
            web.delete("/api/v1/tokens/{token}", self.delete),
        ]

    async def all(self, request: web.Request) -> web.Response:
        found = await self._accounts.tokens(signed_in(request).id)
        return web.json_response({"tokens": [views.token(*row) for row in found]})

    async def create(self, request: web.Request) -> web.Response:
        """A new token; its secret is in this answer and nowhere else."""
        user, wanted = signed_in(request), await read_as(request, NewToken)
        token, secret = await self._accounts.new_token(user.id, wanted.name)
        return web.json_response({"id": token, "name": wanted.name, "secret": str(secret)}, status=201)

    async def delete(self, request: web.Request) -> web.Response:
        await self._accounts.drop_token(signed_in(request).id, request.match_info["token"])
        return web.Response(status=204)
