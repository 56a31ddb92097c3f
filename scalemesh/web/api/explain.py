"""Explain: why a visit is answered as it is."""

from dataclasses import asdict, dataclass

from aiohttp import web

from scalemesh.services.explaining import Explainer
from scalemesh.web.auth import signed_in
from scalemesh.web.bodies import read_as


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedExplanation:
    url: str
    method: str = "GET"
    headers: tuple[tuple[str, ...], ...] = ()  #: (name, value) each

    def __post_init__(self) -> None:
        if any(len(pair) != 2 for pair in self.headers):
            raise ValueError("headers: each must be [name, value]")


class ExplainRoutes:
    def __init__(self, explainer: Explainer) -> None:
        self._explainer = explainer

    def table(self) -> list[web.RouteDef]:
        return [web.post("/api/v1/explain", self.explain)]

    async def explain(self, request: web.Request) -> web.Response:
        """Decide a visit and tell all of it. A POST, since headers are no part of an address; it changes nothing."""
        signed_in(request)
        wanted = await read_as(request, WantedExplanation)
        pairs = [(name, value) for name, value in wanted.headers]
        found = await self._explainer.explain(wanted.url, method=wanted.method, headers=pairs)
        return web.json_response(asdict(found))
