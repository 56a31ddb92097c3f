"""Which files of a deployment are rules, and where they come from."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from builder import protocol
from builder.protocol import MOST_FUNCTIONS, RULES_FOLDER
from scalemesh.ports import BlobStore
from scalemesh.rules import Place
from scalemesh.services.listings import OutputFile, whole
from scalemesh.services.rules.notes import Note, RulesError

MAX_FILE_BYTES: Final = protocol.MAX_RULE_FILE_BYTES
IN_OUTPUT: Final = protocol.IN_OUTPUT  #: read at the top of an output, and never served
CONFIG: Final = ".vercel/output/config.json"
FUNCTIONS: Final = ".vercel/output/functions/"
FUNCTION: Final = ".func/.vc-config.json"
#: Those that are read. Whatever else lies below RULES_FOLDER is neither read nor served.
NAMES: Final = IN_OUTPUT | {"wrangler.toml", "wrangler.json", "wrangler.jsonc", CONFIG}


@dataclass(frozen=True, slots=True)
class Sources:
    """The rule files of one deployment, under the names by which their author knows them.

    Names: ``vercel.json``, ``netlify.toml``, ``wrangler.toml``, ``wrangler.json``, ``wrangler.jsonc`` (from the root
    directory of the source, else from the top of the output), ``_redirects``, ``_headers`` (from the output),
    ``.vercel/output/config.json`` and ``.vercel/output/functions/<name>.func/.vc-config.json`` (without its bytes).
    """

    files: Mapping[str, bytes]
    paths: frozenset[str] = frozenset()  #: of the files that are served

    def text(self, name: str) -> str | None:
        """The file as text; None where it is not there. Bytes that are no UTF-8 become U+FFFD."""
        data = self.files.get(name)
        return None if data is None else data.decode("utf-8-sig", "replace")


def name_of(path: str) -> str | None:
    """The name under which the rule file at *path* of a listing is known; None for what is no rule file."""
    if path.startswith(f"{RULES_FOLDER}/"):
        return path.removeprefix(f"{RULES_FOLDER}/")
    return path if path in IN_OUTPUT else None


def rule_files(paths: Iterable[str]) -> dict[str, str]:
    """Name -> path in the listing, for what is read. What came from the source outweighs what lies in the output."""
    named = [(name, path) for path in paths if (name := name_of(path)) is not None and name in NAMES]
    return dict(sorted(named, key=lambda pair: pair[1].startswith(f"{RULES_FOLDER}/")))


def function_files(paths: Iterable[str]) -> list[str]:
    """The names of functions' configurations, at most MOST_FUNCTIONS. That they are there is all that is asked."""
    names = (name for path in paths if (name := name_of(path)) is not None)
    return list(islice((name for name in names if is_function(name)), MOST_FUNCTIONS))


def is_function(name: str) -> bool:
    """Whether a rule file is the configuration of a function."""
    return name.startswith(FUNCTIONS) and name.endswith(FUNCTION)


def check_size(name: str, size_bytes: int) -> None:
    """Refuse a rule file that no host would read.

    Raises:
        RulesError: it is longer than MAX_FILE_BYTES.
    """
    if size_bytes > MAX_FILE_BYTES:
        what = f"it is longer than {MAX_FILE_BYTES >> 20} MiB."
        raise RulesError([Note(place=Place(file=name), what=what, effect="refused")])


async def read_sources(store: BlobStore, files: Sequence[OutputFile]) -> Sources:
    """The rule files among *files*.

    Raises:
        RulesError: one is too long.
        NotFoundError, UnreachableError: the store does not give one.
    """
    named, served = await asyncio.to_thread(_sorted_out, files)
    found: dict[str, bytes] = {}
    for name, path in rule_files(named).items():
        check_size(name, named[path].size_bytes)
        found[name] = await whole(store, named[path].sha256)
    found |= dict.fromkeys(function_files(named), b"")
    return Sources(found, served)


def _sorted_out(files: Sequence[OutputFile]) -> tuple[dict[str, OutputFile], frozenset[str]]:
    """Rule files by their paths, and the paths of all others."""
    named = {file.path: file for file in files if name_of(file.path) is not None}
    return named, frozenset(file.path for file in files if file.path not in named)
