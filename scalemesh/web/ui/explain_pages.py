"""The page that explains a visit: a form, and below it the whole decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from aiohttp import web

from scalemesh.errors import InvalidError
from scalemesh.services.explaining import Explainer, Explanation, Step, header_of_line
from scalemesh.services.projects import Projects
from scalemesh.web.auth import signed_in
from scalemesh.web.ui.forms import Form, read_form
from scalemesh.web.ui.render import Renderer
from scalemesh.web.ui.sites import Sites

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
FOLDED: Final = 4  #: so many steps in a row that only have another path are shown as one line


@dataclass(frozen=True, slots=True)
class Run:
    """Steps that follow each other and are shown in one way."""

    steps: Sequence[Step]
    is_folded: bool  #: behind one line that counts them


class ExplainPages:
    def __init__(self, renderer: Renderer, projects: Projects, explainer: Explainer, sites: Sites) -> None:
        self._renderer, self._projects, self._explainer, self._sites = renderer, projects, explainer, sites

    def table(self) -> list[web.RouteDef]:
        at = "/projects/{project}/explain"
        return [web.get(at, self.show), web.post(at, self.explain)]

    async def show(self, request: web.Request) -> web.Response:
        """The empty form; with ``?url=`` the explanation of a plain visit, so that a link can lead to it."""
        url = request.query.get("url", "")
        return await self._page(request, Form({"url": url} if url else {}))

    async def explain(self, request: web.Request) -> web.Response:
        """A POST, since headers may hold what no address should; it changes nothing."""
        return await self._page(request, await read_form(request))

    async def _page(self, request: web.Request, form: Form) -> web.Response:
        signed_in(request)
        project = await self._projects.named(request.match_info["project"])
        site, found = self._sites.production(project), None
        if form.values:
            try:
                found = await self._explained(form, site.url)
            except InvalidError as error:
                form = form.failing("headers" if "header" in error.what or "Host" in error.what else "url", error)
        context = {
            "project": project,
            "site": site,
            "form": form,
            "methods": [(method, method) for method in METHODS],
            "found": found,
            "runs": runs(found.steps) if found else [],
        }
        return self._renderer.page(request, "explain.html", context, status=400 if form.wrong else 200)

    async def _explained(self, form: Form, site_url: str) -> Explanation:
        url = form.text("url") or "/"
        if url.startswith("/"):
            url = site_url.rstrip("/") + url
        headers = [header_of_line(line) for line in form.text("headers").splitlines() if line.strip()]
        return await self._explainer.explain(url, method=form.text("method") or "GET", headers=headers)


def runs(steps: Sequence[Step]) -> list[Run]:
    """*steps* in their order; many in a row that only have another path are folded."""
    found: list[Run] = []
    for is_dull, group in groupby(steps, key=lambda step: not step.matched and step.why == "the path does not match"):
        each = list(group)
        found.append(Run(each, is_folded=is_dull and len(each) >= FOLDED))
    return found
