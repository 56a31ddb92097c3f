"""Addresses of what is deployed, as a person opens them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scalemesh.services import hosts
from scalemesh.values import DeploymentId, HostKind, Project, Route

ORDER = (HostKind.DOMAIN, HostKind.PRODUCTION, HostKind.BRANCH, HostKind.PERMALINK)


@dataclass(frozen=True, slots=True)
class Site:
    """One address, and what kind it is."""

    host: str
    kind: HostKind
    url: str


class Sites:
    """Knows under which host, scheme and port a person reaches a site."""

    def __init__(self, base: str, site_url: Callable[[str], str]) -> None:
        self._base, self._site_url = base, site_url

    def production(self, project: Project) -> Site:
        """Where the project's production is shown."""
        host = f"{hosts.production_label(project.name)}.{self._base}"
        return Site(host, HostKind.PRODUCTION, self._site_url(host))

    def of_deployment(self, deployment: DeploymentId, routes: Sequence[Route]) -> list[Site]:
        """Every address that shows *deployment* now, the most telling first; none before it is ready."""
        found = [
            Site(route.host, route.kind, self._site_url(route.host))
            for route in routes
            if route.deployment == deployment
        ]
        return sorted(found, key=lambda site: (ORDER.index(site.kind), len(site.host), site.host))
