"""Projects as people see them: found again by source, made, changed, and their environment variables."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Final

from scalemesh.config import Git
from scalemesh.db import aliases, projects, variables
from scalemesh.db.database import Transaction
from scalemesh.db.projects import ProjectRows
from scalemesh.db.variables import VariableRows
from scalemesh.errors import ConflictError, InvalidError, NotFoundError
from scalemesh.keeping import Retention
from scalemesh.rules import Dialect
from scalemesh.services import hosts
from scalemesh.services.git_urls import canonical_git_url
from scalemesh.services.ids import new_id
from scalemesh.services.ledger import Ledger
from scalemesh.services.sources import check_branch, check_git_url, check_root_directory
from scalemesh.services.vault import Vault
from scalemesh.values import BuildSettings, Environment, HostKind, OwnRetention, Project, ProjectId, Secret, User

VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
RESERVED: Final = ("SCALEMESH", "LD_", "DYLD_")  # what tells the builder's children where they are
MAX_VALUE: Final = 64 * 1024
MAX_VARIABLES: Final = 500
MAX_COMMAND: Final = 4096
NAME_TRIES: Final = 20


class Projects:
    def __init__(
        self,
        ledger: Ledger,
        vault: Vault,
        *,
        git: Git,
        base: str,
        reserved: Collection[str],
        executors: Sequence[str],
        rules: Retention,
        now: Callable[[], datetime],
    ) -> None:
        """*reserved*: names that no project may have."""
        self.rules: Final = rules  #: of retention, where a project has none of its own
        self.executors: Final = tuple(executors)  #: kinds that a project may choose; the first is the default
        self._ledger, self._db, self._vault = ledger, ledger.database, vault
        self._rows, self._variables = ProjectRows(ledger.database), VariableRows(ledger.database)
        self._git, self._base, self._reserved, self._now = git, base, reserved, now

    async def all(self, *, limit: int = 1000, offset: int = 0) -> list[Project]:
        """By name."""
        return await self._rows.all(limit=limit, offset=offset)

    async def named(self, name: str) -> Project:
        """The project of that name or id.

        Raises:
            NotFoundError: there is none.
        """
        return await self._rows.named(name)

    async def of_source(
        self, user: User, git_url: str, *, name: str | None = None, settings: BuildSettings | None = None
    ) -> Project:
        """The project of that Git URL and root directory; a new one where there is none.

        Raises:
            InvalidError: the URL or the name cannot be used.
            ConflictError: the source belongs to a project of another name.
        """
        settings = settings or BuildSettings()
        canonical = canonical_git_url(check_git_url(git_url, self._git))
        found = await self._rows.of_source(canonical, settings.root_directory)
        if found is None:
            try:
                return await self.create(user, name=name, git_url=git_url, settings=settings)
            except ConflictError:
                found = await self._rows.of_source(canonical, settings.root_directory)
                if found is None:  # it was the name, and no other deployment of the same source came first
                    raise
        if name not in (None, found.name):
            raise ConflictError(
                f"that Git URL belongs to the project {found.name!r}", fix=f"leave --project out, or say {found.name}"
            )
        return found

    async def create(
        self,
        user: User,
        *,
        name: str | None = None,
        git_url: str | None = None,
        production_branch: str | None = None,
        settings: BuildSettings | None = None,
        executor: str | None = None,
    ) -> Project:
        """Make a project; without *name* one is made from the Git URL, numbered where it is taken.

        Raises:
            InvalidError: name, URL or settings cannot be used.
            ConflictError: the name or the source is taken.
        """
        settings = checked_settings(settings or BuildSettings())
        self._check_executor(executor)
        if git_url is not None:
            check_git_url(git_url, self._git)
        if production_branch is not None:
            check_branch(production_branch)
        if name is None and git_url is None:
            raise InvalidError("a project needs a name or a Git URL")
        if name is not None:
            hosts.check_project_name(name, reserved=self._reserved)
        project = Project(
            id=ProjectId(new_id("prj")),
            name=name or "",
            user=user.id,
            git_url=git_url,
            production_branch=production_branch,
            settings=settings,
            pinned=False,
            created_at=self._now(),
            executor=executor,
        )
        async with self._ledger.change(project.id) as tx:
            if name is None:
                project = replace(project, name=await self._free_name(tx, git_url or ""))
            await projects.insert(tx, project, canonical_git_url(git_url) if git_url else None)
            host = f"{hosts.production_label(project.name)}.{self._base}"
            await aliases.reserve(tx, host, project.id, HostKind.PRODUCTION)
        return project

    async def change(
        self,
        name: str,
        *,
        git_url: str | None,
        production_branch: str | None,
        settings: BuildSettings,
        executor: str | None,
    ) -> Project:
        """Replace source and settings; deployments that exist keep theirs.

        An executor that the project has already may stay, also where the config does not list it any more.

        Raises:
            NotFoundError, InvalidError, ConflictError: as ``create``.
        """
        project = await self.named(name)
        if executor != project.executor:
            self._check_executor(executor)
        if git_url is not None:
            check_git_url(git_url, self._git)
        if production_branch is not None:
            check_branch(production_branch)
        project = replace(
            project,
            git_url=git_url,
            production_branch=production_branch,
            settings=checked_settings(settings),
            executor=executor,
        )
        async with self._db.transaction() as tx:
            await projects.change(tx, project, canonical_git_url(git_url) if git_url else None)
        return project

    async def retain(self, project: ProjectId, retention: OwnRetention) -> None:
        """Set what the project keeps, from now on."""
        async with self._db.transaction() as tx:
            await projects.retain(tx, project, retention)

    async def variables(self, project: ProjectId) -> list[tuple[str, Environment, int]]:
        """Name, environment, time of the last change (ms). Values never come back out."""
        return await self._variables.names(project)

    async def set_variable(
        self, project: ProjectId, name: str, environments: tuple[Environment, ...], value: str
    ) -> None:
        """Set a variable for builds from now on.

        Raises:
            InvalidError: name or value cannot be a variable, or there are too many.
        """
        if not VARIABLE_NAME.fullmatch(name) or name.startswith(RESERVED):
            raise InvalidError(
                f"{name[:140]!r} cannot be a variable's name",
                why="letters, digits and _, not beginning with a digit; SCALEMESH…, LD_… and DYLD_… are kept",
            )
        if len(value.encode()) > MAX_VALUE or "\0" in value:
            raise InvalidError(f"the value of {name} is too long", why=f"at most {MAX_VALUE} bytes, no NUL")
        if await self._variables.count(project) >= MAX_VARIABLES:
            raise InvalidError(f"a project has at most {MAX_VARIABLES} variables")
        async with self._db.transaction() as tx:
            for environment in environments:
                sealed = self._vault.seal(value, project, environment, name)
                await variables.put(tx, project, name, environment, sealed=sealed, now=self._now())

    async def drop_variable(self, project: ProjectId, name: str, environment: Environment | None) -> None:
        """Forget it, in one environment or in both.

        Raises:
            NotFoundError: there is none.
        """
        async with self._db.transaction() as tx:
            if not await variables.delete(tx, project, name, environment):
                raise NotFoundError(f"no variable {name!r}")

    async def environment(self, project: ProjectId, environment: Environment) -> dict[str, Secret]:
        """What a build of *environment* gets."""
        sealed = await self._variables.sealed(project, environment)
        return {name: self._vault.unseal(value, project, environment, name) for name, value in sealed.items()}

    def _check_executor(self, kind: str | None) -> None:
        if kind is not None and kind not in self.executors:
            raise InvalidError(
                f"executor: {kind[:40]!r} is none of those that the config lists",
                fix=f"choose one of {', '.join(self.executors)}, or leave it empty for the first",
            )

    async def _free_name(self, tx: Transaction, git_url: str) -> str:
        for name in islice(hosts.names_after(hosts.name_from_git_url(git_url)), NAME_TRIES):
            if name not in self._reserved and not await projects.is_taken(tx, name):
                return name
        raise ConflictError("no free name was found for that Git URL", fix="choose one with --project")


def checked_settings(settings: BuildSettings) -> BuildSettings:
    """Return *settings* with its root directory in normal form.

    Raises:
        InvalidError: a folder that leaves the repository, or an over-long command.
    """
    for name in ("framework", "install_command", "build_command", "output_directory", "node_version"):
        value = getattr(settings, name)
        if value is not None and (len(value) > MAX_COMMAND or "\0" in value):
            raise InvalidError(f"{name} is too long", why=f"at most {MAX_COMMAND} characters, no NUL")
    return replace(settings, root_directory=check_root_directory(settings.root_directory))


def dialect_named(text: str) -> Dialect | None:
    """The dialect of that name; None for an empty text, which means: detect.

    Raises:
        InvalidError: there is no such dialect.
    """
    if text in list(Dialect):
        return Dialect(text)
    if text:
        raise InvalidError(f"{text[:40]!r} is no dialect", fix=f"choose one of {', '.join(Dialect)}, or leave it empty")
    return None
