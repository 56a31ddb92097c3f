"""Caches on this machine that nobody needs any more, found and removed beside serving."""

import asyncio
import shutil
from pathlib import Path
from typing import Final

from scalemesh.db.database import Database
from scalemesh.db.homes import HomeRows
from scalemesh.services.openings import Openings

GONE: Final = ".gone-"  #: how the name of what is being removed begins


class LeftCaches:
    """The caches of kinds that the blobs have moved away from: nothing reads them, and nothing bounds them."""

    def __init__(self, data_dir: Path, database: Database, stores: Openings) -> None:
        self._root, self._rows, self._stores = data_dir / "cache", HomeRows(database), stores

    async def find(self) -> list[Path]:
        """Their folders. What is no cache by its look is somebody else's."""
        home, move = await self._rows.home(), await self._rows.move()
        needed: set[str | None] = {home.kind, home.leftovers} if home else set()
        needed |= {move.target} if move else set()
        found = await asyncio.to_thread(lambda: [path for path in self._root.glob("*") if _is_cache(path)])
        return [path for path in found if path.name not in needed | self._stores.kinds]

    async def remove(self) -> int:
        """Remove them; how many. Repeatable.

        Raises:
            OSError: one cannot be taken away.
        """
        left = await self.find()
        for folder in left:
            if folder.name not in self._stores.kinds:  # at once with the look: no store opens in what is being removed
                folder.rename(folder.with_name(f"{GONE}{folder.name}"))
        await asyncio.to_thread(self._sweep)
        return len(left)

    def _sweep(self) -> None:
        for folder in self._root.glob(f"{GONE}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _is_cache(folder: Path) -> bool:
    is_gone = folder.name.startswith(GONE)
    return not is_gone and not folder.is_symlink() and (folder / "blobs").is_dir() and (folder / "locks").is_file()
