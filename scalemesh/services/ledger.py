"""State first, memory second: changes of a project that its routes follow."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from scalemesh.db import aliases
from scalemesh.db.aliases import AliasRows
from scalemesh.db.database import Database, Transaction
from scalemesh.faults import fault
from scalemesh.services.routing import Followers, Nobody, RouteTable
from scalemesh.values import ProjectId, Route


class Ledger:
    """The database and the route table that never runs beside it."""

    def __init__(self, database: Database, routes: RouteTable, followers: Followers | None = None) -> None:
        self.database = database
        self._routes, self._followers = routes, followers or Nobody()

    @asynccontextmanager
    async def change(self, project: ProjectId) -> AsyncIterator[Transaction]:
        """One transaction; once it is committed, the project's routes are what it left, under its generation."""
        async with self.database.transaction() as tx:
            yield tx
            generation, routes = await aliases.snapshot(tx, project)
        await self.apply(project, generation, routes)

    async def apply(self, project: ProjectId, generation: int, routes: Sequence[Route]) -> None:
        """Let the route table follow a transaction of the caller's own, which took this ``aliases.snapshot``.

        Returns once everybody who serves does so by *routes*.
        """
        fault("ledger.before_routes")
        if self._routes.apply(project, generation, routes):
            await self._followers.follow(project, generation, routes)

    async def load(self) -> None:
        """Fill the route table: at the daemon's start, before it listens."""
        rows = AliasRows(self.database)
        generation = await rows.generation()
        async for project, routes in rows.all_routes():
            self._routes.apply(project, generation, routes)

    async def forget(self, project: ProjectId) -> None:
        """The project is deleted: none of its hosts leads anywhere any more."""
        self._routes.remove(project)
        await self._followers.forget(project)
