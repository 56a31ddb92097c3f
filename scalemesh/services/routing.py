"""The route table: which host leads where, in memory, one project at a time and never half."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from scalemesh.values import ProjectId, Route


class Followers(Protocol):
    """Others who serve by the same routes."""

    async def follow(self, project: ProjectId, generation: int, routes: Sequence[Route]) -> None:
        """Return once all of them serve by *routes*, or are out of the way."""

    async def forget(self, project: ProjectId) -> None:
        """Return once none of them serves *project* any more."""

    async def move(self, kind: str) -> None:
        """Return once all of them read blobs from the store of that kind, or are out of the way."""


class Nobody:
    """There are none."""

    async def follow(self, project: ProjectId, generation: int, routes: Sequence[Route]) -> None:
        """Nothing to wait for."""

    async def forget(self, project: ProjectId) -> None:
        """Nothing to wait for."""

    async def move(self, kind: str) -> None:
        """Nothing to wait for."""


class RouteTable:
    """Host -> Route for the visits. Changed after the transaction that decided the change, never before.

    No method awaits, so on one event loop a visit sees all of a change or nothing of it.
    """

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._hosts: dict[ProjectId, tuple[str, ...]] = {}
        self._generations: dict[ProjectId, int] = {}
        self._removed: set[ProjectId] = set()
        #: The route of a host, written as ``hosts.normal_host`` writes it; None where it leads nowhere.
        self.find: Callable[[str], Route | None] = self._routes.get

    def apply(self, project: ProjectId, generation: int, routes: Sequence[Route]) -> bool:
        """Replace all hosts of *project* by *routes*; True if they are what is served now.

        *generation* is that of the transaction which decided the routes; it grows with each, over all projects.
        An older one than was applied before is ignored, and so is everything after ``remove``. A repeat changes
        nothing. A host that two projects name belongs to the younger generation.
        """
        if any(route.project != project for route in routes):
            raise ValueError("a project's routes lead to that project alone")
        if project in self._removed or generation < self._generations.get(project, generation):
            return False
        self._clear(project)
        self._generations[project] = generation
        own = {route.host: route for route in routes if self._yields(route.host, generation)}
        self._routes.update(own)
        self._hosts[project] = tuple(own)
        return True

    def all(self) -> Iterator[tuple[ProjectId, int, list[Route]]]:
        """Every project's generation and routes, as ``apply`` takes them."""
        for project, hosts in self._hosts.items():
            yield project, self._generations[project], [self._routes[host] for host in hosts if host in self._routes]

    def remove(self, project: ProjectId) -> None:
        """Forget *project* for good: its id is never given again, so nothing late can bring it back."""
        self._clear(project)
        self._generations.pop(project, None)
        self._removed.add(project)

    def _clear(self, project: ProjectId) -> None:
        for host in self._hosts.pop(project, ()):
            route = self._routes.get(host)
            if route is not None and route.project == project:  # else it was taken over meanwhile
                del self._routes[host]

    def _yields(self, host: str, generation: int) -> bool:
        holder = self._routes.get(host)
        return holder is None or self._generations[holder.project] <= generation
