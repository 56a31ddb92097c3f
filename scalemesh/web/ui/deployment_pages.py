"""A deployment's page, its log, and what can be done with it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from aiohttp import web

from scalemesh.services.deployer import Deployer
from scalemesh.services.log_pipeline import LogPipeline
from scalemesh.services.projects import Projects
from scalemesh.services.releases import Releases
from scalemesh.values import Deployment, LogLine, State
from scalemesh.web.auth import signed_in
from scalemesh.web.ui import sgr
from scalemesh.web.ui.forms import read_form
from scalemesh.web.ui.project_pages import page_number
from scalemesh.web.ui.render import Renderer
from scalemesh.web.ui.sign_in_pages import see
from scalemesh.web.ui.sites import Sites

LINES: Final = 500  #: of the log on the page as it is served; the rest follows live, or by paging
RAW_LINES: Final = 2000  #: read at once for a download
MAX_SEARCH: Final = 200  #: characters
STALL_S: Final = 60.0  #: a reader who takes nothing for so long is let go


@dataclass(frozen=True, slots=True)
class Section:
    """Lines of one step that follow each other."""

    step: str
    lines: Sequence[LogLine]
    seconds: float  #: until the next section's first line


class DeploymentPages:
    def __init__(
        self,
        renderer: Renderer,
        *,
        projects: Projects,
        deployer: Deployer,
        releases: Releases,
        logs: LogPipeline,
        sites: Sites,
    ) -> None:
        self._renderer, self._projects, self._deployer = renderer, projects, deployer
        self._releases, self._logs, self._sites = releases, logs, sites

    def table(self) -> list[web.RouteDef]:
        at = "/deployments/{deployment}"
        return [
            web.get(at, self.show),
            web.get(f"{at}/summary", self.show_summary),
            web.get(f"{at}/log.txt", self.show_raw),
            web.post(f"{at}/cancel", self.cancel),
            web.post(f"{at}/promote", self.promote),
            web.post(f"{at}/rollback", self.rollback),
            web.post(f"{at}/redeploy", self.redeploy),
            web.post(f"{at}/keep", self.keep),
            web.post(f"{at}/delete", self.delete),
        ]

    async def show(self, request: web.Request) -> web.Response:
        deployment = await self._deployment(request)
        summary, log = await self._summary(deployment), await self._log(deployment, request)
        context = {"did": request.query.get("did", ""), **summary, **log}
        return self._renderer.page(request, "deployment.html", context)

    async def show_summary(self, request: web.Request) -> web.Response:
        """The page's upper part alone, which a script asks for when something has changed."""
        deployment = await self._deployment(request)
        return self._renderer.page(request, "summary.html", {"did": "", **await self._summary(deployment)})

    async def show_raw(self, request: web.Request) -> web.StreamResponse:
        """The whole log as text, without colours."""
        deployment = await self._deployment(request)
        disposition = f'attachment; filename="{deployment.project_name}-{deployment.id}.log"'
        response = web.StreamResponse(headers={"Content-Disposition": disposition})
        response.content_type, response.charset = "text/plain", "utf-8"
        await response.prepare(request)
        seen = 0
        while lines := await self._logs.read(deployment.id, seen, RAW_LINES):
            seen = lines[-1].number
            async with asyncio.timeout(STALL_S):
                await response.write("".join(f"{sgr.plain(line.text)}\n" for line in lines).encode())
        await response.write_eof()
        return response

    async def cancel(self, request: web.Request) -> web.Response:
        deployment = await self._deployer.cancel((await self._deployment(request)).id)
        return see(f"/deployments/{deployment.id}")

    async def promote(self, request: web.Request) -> web.Response:
        deployment = await self._deployment(request)
        await self._releases.promote(deployment)
        return see(f"/deployments/{deployment.id}?did=promoted")

    async def rollback(self, request: web.Request) -> web.Response:
        deployment = await self._deployment(request)
        project = await self._projects.named(deployment.project)
        await self._releases.rollback(project, deployment)
        return see(f"/deployments/{deployment.id}?did=rollback")

    async def redeploy(self, request: web.Request) -> web.Response:
        deployment, form = await self._deployment(request), await read_form(request)
        project = await self._projects.named(deployment.project)
        user, uses_cache = signed_in(request), not form.text("no_cache")
        again = await self._deployer.redeploy(user, deployment, project, uses_cache=uses_cache)
        return see(f"/deployments/{again.id}")

    async def keep(self, request: web.Request) -> web.Response:
        """Keep it whatever the rules of retention say, or leave it to them again."""
        deployment, form = await self._deployment(request), await read_form(request)
        kept = bool(form.text("kept"))
        await self._deployer.keep(deployment.id, kept=kept)
        return see(f"/deployments/{deployment.id}?did={'kept' if kept else 'let-go'}")

    async def delete(self, request: web.Request) -> web.Response:
        deployment = await self._deployment(request)
        await self._deployer.delete(deployment.id)
        return see(f"/projects/{deployment.project_name}?did=deployment-deleted")

    async def _summary(self, deployment: Deployment) -> dict[str, object]:
        project = await self._projects.named(deployment.project)
        return {
            "deployment": deployment,
            "project": project,
            "live": await self._deployer.get(project.live) if project.live else None,
            "sites": self._sites.of_deployment(deployment.id, await self._releases.of_project(project.id)),
            "others_waiting": await self._others_waiting(deployment),
        }

    async def _log(self, deployment: Deployment, request: web.Request) -> dict[str, object]:
        """A page of the log, or what a search has found in it."""
        wanted = request.query.get("q", "").strip()[:MAX_SEARCH]
        if wanted:
            found = await self._logs.search(deployment.id, wanted, LINES)
            return {"sections": _sections(found), "query": wanted, "found": len(found), "after": 0, "following": None}
        after = page_number(request.query.get("after", ""))
        lines = await self._logs.read(deployment.id, after, LINES + 1)
        following = lines[LINES - 1].number if len(lines) > LINES else None
        return {
            "sections": _sections(lines[:LINES]),
            "query": "",
            "found": 0,
            "after": after,
            "following": following,
        }

    async def _others_waiting(self, deployment: Deployment) -> int:
        if deployment.state is not State.QUEUED:
            return 0
        return (await self._deployer.tallies()).get(State.QUEUED, 1) - 1

    async def _deployment(self, request: web.Request) -> Deployment:
        signed_in(request)
        return await self._deployer.get(request.match_info["deployment"])


def _sections(lines: Sequence[LogLine]) -> list[Section]:
    groups = [list(group) for _, group in groupby(lines, key=lambda line: line.step)]
    ends = [group[0].at for group in groups[1:]] + [group[-1].at for group in groups[-1:]]
    return [
        Section(group[0].step, group, (end - group[0].at).total_seconds())
        for group, end in zip(groups, ends, strict=True)
    ]
