"""The files of this tree that a clone would hold, also where it is no Git checkout."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
NOT_OURS: Final = frozenset({".git", ".scalemesh", ".venv", "__pycache__", "node_modules", "dist", "build"})


def files() -> Iterator[Path]:
    """Every file of the tree, without what tools and builds leave behind."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS and not name.endswith(("_cache", ".egg-info"))]
        yield from (Path(folder) / name for name in names)


def copy_tree(into: Path) -> Path:
    """Copy the tree to *into* and return that."""
    for source in files():
        target = into / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    return into
