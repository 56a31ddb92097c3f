"""What lies at the end of an archive of modules: that it is whole, whose it is, what its install left in the source.

Where a project has scripts of its own that belong to an install, what was written into the source may be theirs, and
they run again, or that of a package's script, which does not. Only afterwards can it be seen which of the two it was.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.footprint import Footprint, changed, footprint
from builder.tree import MAX_CONFIG_BYTES, Tree

MOST_BYTES: Final = MAX_CONFIG_BYTES - 1  #: of a mark; of a longer one a part would be read


@dataclass(frozen=True, slots=True)
class Mark:
    """*key* is that of the archive; *wrote* has the digest of each file in the source that the install wrote."""

    key: str
    wrote: Mapping[str, str]

    def text(self) -> str:
        return json.dumps({"key": self.key, "wrote": dict(self.wrote)})

    def unwritten(self, work: Path, before: Footprint | None) -> str:
        """The first of its files that is neither written since *before* nor as the install left it; empty: none."""
        after = footprint(work)
        if before is None or after is None:
            return next(iter(self.wrote), "")
        fresh = set(changed(before, after, "src/"))
        left = [path for path in self.wrote if path not in fresh]
        now = digests(work, left)
        return next((path for path in left if not now[path] or now[path] != self.wrote[path]), "")


def read_mark(text: str | None) -> Mark | None:
    """What ``Mark.text`` gave, or None."""
    with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        said = json.loads(text or "")
        return Mark(str(said["key"]), {str(path): str(digest) for path, digest in said["wrote"].items()})
    return None


def digests(work: Path, paths: Sequence[str]) -> dict[str, str]:
    """SHA-256 of the files *paths* of the folder *work*; empty for what is no plain file."""
    tree, found = Tree(work), dict.fromkeys(paths, "")
    for path in paths:
        with suppress(OSError), tree.file(path) as opened, os.fdopen(os.dup(opened), "rb") as file:
            found[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
