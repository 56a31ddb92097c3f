"""How each noun looks in JSON: one function each."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from scalemesh.services.hosts import production_label
from scalemesh.services.links import Links
from scalemesh.services.routing import RouteTable
from scalemesh.values import Deployment, Environment, LogLine, Project
from scalemesh.web.ui.words import ADVICE

Json = dict[str, Any]


class Views:
    """What is live comes from the routes in memory: the very ones that visitors are served by."""

    def __init__(self, routes: RouteTable, links: Links) -> None:
        self._routes, self._links = routes, links

    def project(self, project: Project) -> Json:
        return {
            "id": project.id,
            "name": project.name,
            "git_url": project.git_url,
            "production_branch": project.production_branch,
            "settings": asdict(project.settings),
            "executor": project.executor,
            "retention": asdict(project.retention),
            "pinned": project.pinned,
            "live": project.live,
            "url": self._links.production(project.name),
            "created_at": iso(project.created_at),
        }

    def deployment(self, deployment: Deployment) -> Json:
        permalink = self._links.permalink(deployment)
        is_live = self.is_live(deployment)
        return {
            "id": deployment.id,
            "sequence": deployment.sequence,
            "project": deployment.project_name,
            "state": deployment.state,
            "environment": deployment.environment,
            "source": deployment.source,
            "url": self._links.production(deployment.project_name) if is_live else permalink,
            "permalink": permalink,
            "is_live": is_live,
            "kept": deployment.is_kept,
            "branch": deployment.branch,
            "commit": _commit(deployment),
            "framework": deployment.framework,
            "executor": deployment.executor,
            "uses_cache": deployment.uses_cache,
            "attempt": deployment.attempt,
            "reason": deployment.reason,
            "message": deployment.message,
            "fix": ADVICE[deployment.reason][1] if deployment.reason else "",
            "created_at": iso(deployment.created_at),
            "started_at": iso(deployment.started_at),
            "finished_at": iso(deployment.finished_at),
        }

    def end(self, deployment: Deployment) -> Json:
        """The last words of a followed log."""
        shown = self.deployment(deployment)
        return {name: shown[name] for name in ("state", "url", "reason", "message", "fix")}

    def is_live(self, deployment: Deployment) -> bool:
        """Whether it is what visitors of the project's own host see."""
        route = self._routes.find(f"{production_label(deployment.project_name)}.{self._links.base}")
        return route is not None and route.deployment == deployment.id


def log_lines(lines: Sequence[LogLine]) -> list[Json]:
    return [
        {"number": line.number, "at": iso(line.at), "step": line.step, "stream": line.stream, "text": line.text}
        for line in lines
    ]


def variable(name: str, environment: Environment, updated_at_ms: int) -> Json:
    return {"name": name, "environment": environment, "updated_at": _iso_of_ms(updated_at_ms)}


def token(token_id: str, name: str, created_at_ms: int) -> Json:
    return {"id": token_id, "name": name, "created_at": _iso_of_ms(created_at_ms)}


def iso(at: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds and a Z."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _iso_of_ms(value: int) -> str | None:
    return iso(datetime.fromtimestamp(value / 1000, UTC))


def _commit(deployment: Deployment) -> Json | None:
    if deployment.commit_sha is None:
        return None
    return {
        "sha": deployment.commit_sha,
        "message": deployment.commit_message,
        "author": deployment.commit_author,
    }
