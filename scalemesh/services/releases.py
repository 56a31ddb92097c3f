"""A release is a pointer: going live, promote, rollback, unpin. No build, no copying."""

from scalemesh.db import aliases, deployments, projects
from scalemesh.db.aliases import AliasRows
from scalemesh.db.database import Transaction
from scalemesh.db.deployments import DeploymentRows
from scalemesh.errors import ConflictError
from scalemesh.services import hosts
from scalemesh.services.asset_windows import AssetWindows
from scalemesh.services.ledger import Ledger
from scalemesh.values import Deployment, DeploymentId, Environment, HostKind, Project, ProjectId, Route, State


class Releases:
    """Moves production aliases, on a person's word."""

    def __init__(self, ledger: Ledger, windows: AssetWindows) -> None:
        self._ledger, self._windows = ledger, windows
        self._aliases, self._rows = AliasRows(ledger.database), DeploymentRows(ledger.database)

    async def of_project(self, project: ProjectId) -> list[Route]:
        """All hosts of the project."""
        return await self._aliases.of_project(project)

    async def promote(self, deployment: Deployment) -> None:
        """Show *deployment* as production from now on; newer ones go live by themselves again. Repeatable.

        Raises:
            ConflictError: it is not ready.
            NotFoundError: it is deleted.
        """
        await self._point(deployment, pinned=False)

    async def rollback(self, project: Project, to: Deployment | None = None) -> DeploymentId:
        """Show an older deployment and hold it there until somebody promotes or unpins.

        Without *to*: the newest ready production deployment before the live one.

        Raises:
            ConflictError: there is none, or *to* is not ready or another project's.
        """
        if to is None:
            to = await self._before_live(project)
        if to.project != project.id:
            raise ConflictError(f"{to.id} is a deployment of {to.project_name}, not of {project.name}")
        await self._point(to, pinned=True)
        return to.id

    async def unpin(self, project: ProjectId) -> None:
        """Let newer deployments go live by themselves again. Repeatable."""
        async with self._ledger.change(project) as tx:
            await projects.pin(tx, project, pinned=False)

    async def _before_live(self, project: Project) -> Deployment:
        live = await self._rows.get(project.live) if project.live else None
        previous = await self._aliases.previous(project.id, live.sequence) if live else None
        if previous is None:
            raise ConflictError(f"{project.name} has no earlier deployment to go back to")
        return await self._rows.get(previous)

    async def _point(self, deployment: Deployment, *, pinned: bool) -> None:
        async def point(tx: Transaction) -> None:
            found = await deployments.get(tx, deployment.id)  # it may have been deleted since the caller looked
            if found.state is not State.READY:
                raise ConflictError(f"{found.id} is {found.state}", why="only what is ready can be live")
            await aliases.point_production(tx, found.project, found.id)
            await projects.pin(tx, found.project, pinned=pinned)

        await self._windows.move(deployment.project, point)


async def go_live(tx: Transaction, deployment: Deployment, project: Project, base: str) -> list[str]:
    """Move the aliases that follow a deployment that has become ready; return the hosts that moved.

    Production moves to newer deployments only, and not while a person has pinned it.
    """
    moved = []
    if deployment.environment is Environment.PRODUCTION and not project.pinned:
        host = f"{hosts.production_label(project.name)}.{base}"
        moved += [host] * await aliases.point_if_newer(tx, host, deployment)
    if deployment.branch is not None:
        host = f"{hosts.branch_label(project.name, deployment.branch)}.{base}"
        await aliases.reserve(tx, host, project.id, HostKind.BRANCH, branch=deployment.branch)
        moved += [host] * await aliases.point_if_newer(tx, host, deployment)
    return moved
