"""The asset window: hash-named files of former production deployments, merged into one table per project.

A page that was loaded before a deployment goes on asking for the files of its own time. The blob of the table is kept
for the project row that names it, and the files in it for the deployments that they come from.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from scalemesh.errors import InvalidError
from scalemesh.services import strict
from scalemesh.services.encodings import Encodings, from_json, to_json
from scalemesh.services.hashed_names import carries_hash
from scalemesh.services.manifests import check_path, is_hidden
from scalemesh.values import DeploymentId, Entry, Manifest

FORMAT: Final = 1
MAX_BYTES: Final = 192 * 1024 * 1024  #: of an encoded table
MAX_ENTRIES: Final = 200_000  #: the newest first; what is beyond is left out
MAX_FORMERS: Final = 200

_TYPE: Final = re.compile(r"[\x20-\x7e]{1,200}")
#: A worker's script is asked for by one name for ever: an old one would hold its pages back.
_WORKERS: Final = frozenset({"sw.js", "service-worker.js", "serviceworker.js", "firebase-messaging-sw.js"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """A deployment that was production."""

    deployment: DeploymentId
    created_at: datetime
    until: datetime  #: its files answer until then


@dataclass(frozen=True, slots=True)
class Window:
    """What the former production deployments of one project still answer."""

    #: percent-decoded path without a leading slash -> whose file it is, and which
    files: Mapping[str, tuple[Former, Entry]] = field(default_factory=dict)
    encodings: Encodings = field(default_factory=Encodings)  #: of those files
    formers: tuple[Former, ...] = ()  #: all that were merged, newest first

    def find(self, path: str, now: datetime) -> tuple[Former, Entry] | None:
        """The file of a former deployment at *path*, while its time lasts."""
        found = self.files.get(path)
        return found if found is not None and now < found[0].until else None


def grown(window: Window, former: Former, manifest: Manifest, encodings: Encodings) -> Window:
    """*window* with *former*, which left last: of a path that several hold, the newest one's file counts."""
    files = {path: (former, entry) for path, entry in manifest.entries.items() if _stays(path, entry)}
    for path, found in window.files.items():
        files.setdefault(path, found)
    kept = dict(islice(files.items(), MAX_ENTRIES))
    variants = {
        entry.sha256: encodings.variants_of(entry.sha256) or window.encodings.variants_of(entry.sha256)
        for _, entry in kept.values()
    }
    known = Encodings({sha256: each for sha256, each in variants.items() if each})
    return Window(kept, known, (former, *window.formers))


def _stays(path: str, entry: Entry) -> bool:
    return entry.immutable and carries_hash(path) and path.rpartition("/")[2] not in _WORKERS


def encode(window: Window) -> bytes:
    """*window* as compact JSON; equal ones give equal bytes."""
    types = sorted({entry.content_type for _, entry in window.files.values()})
    numbers = {former.deployment: number for number, former in enumerate(window.formers)}
    kinds = {kind: number for number, kind in enumerate(types)}
    document = {
        "v": FORMAT,
        "types": types,
        "formers": [[each.deployment, _ms(each.created_at), _ms(each.until)] for each in window.formers],
        "files": [
            [path, entry.sha256, entry.size_bytes, kinds[entry.content_type], numbers[former.deployment]]
            for path, (former, entry) in sorted(window.files.items())
        ],
        "encodings": to_json(window.encodings),
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()


def decode(data: bytes) -> Window:
    """Read what ``encode`` wrote. Every field is checked: this decides what leaves the store.

    Raises:
        InvalidError: it is none of ours, of another format, or damaged.
    """
    keys = frozenset({"v", "types", "formers", "files", "encodings"})
    found = strict.document(data, most_bytes=MAX_BYTES, keys=keys, version=FORMAT)
    types = [strict.matching(_TYPE, kind) for kind in strict.items(found["types"], MAX_ENTRIES)]
    formers = [_former(row) for row in strict.items(found["formers"], MAX_FORMERS)]
    rows = strict.items(found["files"], MAX_ENTRIES)
    files = dict(_file(row, types, formers) for row in rows)
    if len(files) != len(rows):
        raise InvalidError("a path stands there twice")
    return Window(files, from_json(found["encodings"]), tuple(formers))


def _former(value: Any) -> Former:
    deployment, created_at, until = strict.row(value, 3)
    return Former(deployment=strict.deployment(deployment), created_at=_time(created_at), until=_time(until))


def _file(value: Any, types: list[str], formers: list[Former]) -> tuple[str, tuple[Former, Entry]]:
    path, sha256, size_bytes, kind, former = strict.row(value, 5)
    if type(path) is not str or is_hidden(check_path(path)) or not carries_hash(path):
        raise InvalidError("no path that belongs here")
    entry = Entry(
        sha256=strict.digest(sha256),
        size_bytes=strict.number(size_bytes),
        content_type=types[strict.number(kind, len(types))],
        immutable=True,
    )
    return path, (formers[strict.number(former, len(formers))], entry)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _time(value: Any) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=strict.number(value, 1 << 47))
