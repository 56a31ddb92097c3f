"""What builds keep for later builds: archives that may be lost at any time, one folder for each project.

A build never names where it reads or writes: production reads and writes production's; a preview reads its
branch's, then production's, and writes only its branch's. So nothing that a preview made reaches production.
"""

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Final

from scalemesh.errors import InvalidError, TooLargeError, UnreachableError
from scalemesh.values import Deployment, Environment, ProjectId

KEY: Final = re.compile(r"[0-9a-zA-Z_-]{8,128}")
PRODUCTION: Final = "production"


class Caches:
    def __init__(self, folder: Path, *, project_bytes: int) -> None:
        """*project_bytes* is what one project may keep; the least recently used goes first."""
        self._folder, self._project_bytes = folder, project_bytes

    async def find(self, deployment: Deployment, key: str) -> Path | None:
        """The archive under *key*, if there is one for this kind of deployment.

        Raises:
            InvalidError: the key is none.
        """
        _check(key)
        scopes = dict.fromkeys([scope_of(deployment), PRODUCTION])
        paths = [self._path(deployment.project, scope, key) for scope in scopes]
        return await asyncio.to_thread(_first_used, paths)

    async def keep(self, deployment: Deployment, key: str, size_bytes: int, chunks: AsyncIterable[bytes]) -> None:
        """Keep an archive, in place of one that is there.

        Raises:
            InvalidError: the key is none, or the bytes are not as many as said.
            TooLargeError: it alone is more than a project may keep.
            UnreachableError: the disk is full or fails.
        """
        _check(key)
        if size_bytes > self._project_bytes:
            raise TooLargeError(f"a project keeps at most {self._project_bytes >> 20} MiB for later builds")
        path = self._path(deployment.project, scope_of(deployment), key)
        try:
            await self._write(path, size_bytes, chunks)
            await asyncio.to_thread(_shrink, path.parent, self._project_bytes)
        except OSError as error:
            raise UnreachableError("nothing can be kept for later builds", why=str(error)) from error

    async def drop(self, project: ProjectId) -> None:
        """Forget all that the project's builds kept. Repeatable."""
        await asyncio.to_thread(shutil.rmtree, self._folder / project, ignore_errors=True)

    def _path(self, project: ProjectId, scope: str, key: str) -> Path:
        return self._folder / project / hashlib.sha256(f"{scope}\0{key}".encode()).hexdigest()

    async def _write(self, path: Path, size_bytes: int, chunks: AsyncIterable[bytes]) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix="new-")
        try:
            written = 0
            with os.fdopen(descriptor, "wb") as file:
                async for chunk in chunks:
                    written += len(chunk)
                    if written > size_bytes:
                        break
                    await asyncio.to_thread(file.write, chunk)
            if written != size_bytes:
                raise InvalidError(f"{written} bytes came, {size_bytes} were announced")
            await asyncio.to_thread(Path(name).replace, path)
        finally:
            await asyncio.to_thread(Path(name).unlink, missing_ok=True)


def scope_of(deployment: Deployment) -> str:
    """Whose archives a deployment writes."""
    if deployment.environment is Environment.PRODUCTION:
        return PRODUCTION
    return f"branch:{deployment.branch or ''}"


def _check(key: str) -> None:
    if not KEY.fullmatch(key):
        raise InvalidError(f"{key[:80]!r} is no key: 8 to 128 letters, digits, _ or -")


def _first_used(paths: list[Path]) -> Path | None:
    for path in paths:
        try:
            os.utime(path)
        except OSError:
            continue
        return path
    return None


def _shrink(folder: Path, most_bytes: int) -> None:
    kept = sorted(((path.stat(), path) for path in folder.iterdir()), key=lambda found: found[0].st_mtime, reverse=True)
    total = 0
    for facts, path in kept:
        total += facts.st_size
        if total > most_bytes:
            path.unlink(missing_ok=True)
