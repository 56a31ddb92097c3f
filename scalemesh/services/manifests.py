"""The manifest of a deployment: made from a listing of files, kept as bytes, read back with nothing believed."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from builder.protocol import MAX_PATH_BYTES
from scalemesh.errors import InvalidError, TooLargeError
from scalemesh.rules import Dialect, Rules
from scalemesh.services import long_lists
from scalemesh.services.content_types import content_type, is_page
from scalemesh.services.entries import Entries
from scalemesh.services.hashed_names import immutable_test
from scalemesh.services.rules.compiled import Compiled, Override
from scalemesh.services.rules.form import read_rules, write_rules
from scalemesh.services.rules.sources import name_of
from scalemesh.values import DeploymentId, Digest, Entry, Manifest

FORMAT: Final = 2
NO_RULES: Final = Rules()
MAX_ENTRIES: Final = 200_000
MAX_BYTES: Final = 64 * 1024 * 1024  #: of an encoded manifest
MAX_PART_BYTES: Final = 255  #: what file systems allow between two slashes
UTF8_BYTES: Final = 4  #: of one character, at most
MAX_TYPES: Final = 1000

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TYPE: Final = re.compile(
    r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,100}(?:; ?[a-zA-Z0-9._+-]{1,64}=[a-zA-Z0-9._+-]{1,64}){0,4}"
)
_CLIMBS: Final = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)")
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A new manifest, and how many files it leaves out because their names begin with a dot."""

    manifest: Manifest
    dropped: int


def make_manifest(
    deployment: DeploymentId,
    created_at: datetime,
    files: Iterable[tuple[str, str, int]],
    immutable: Sequence[str] = (),
    compiled: Compiled | None = None,
) -> Made:
    """Make the manifest of *files*: (path, sha256, size in bytes). *immutable* are the framework's globs.

    *compiled* are the rules of the site; without them it follows the default dialect.

    The same arguments always make the same manifest, and so the same bytes.

    Raises:
        InvalidError: a path could mean something else than one file of this site, or stands there twice.
        TooLargeError: there are more than MAX_ENTRIES files.
    """
    is_immutable = immutable_test(immutable)
    compiled = compiled or Compiled(rules=Rules())
    entries: dict[str, Entry] = {}
    dropped = 0
    for listed, sha256, size_bytes in files:
        if name_of(listed) is not None:
            continue
        override = compiled.overrides.get(listed, Override())
        path = check_path(listed)
        if override.path:
            path = check_path(override.path)
        if is_hidden(path):
            dropped += 1
            continue
        if path in entries:
            raise _unfit(path, "it stands in the listing twice")
        if len(entries) == MAX_ENTRIES:
            raise TooLargeError(f"the site has more than {MAX_ENTRIES} files")
        entries[path] = Entry(
            sha256=_digest(sha256),
            size_bytes=_size(size_bytes),
            content_type=_checked_type(override.content_type) or content_type(listed),
            immutable=is_immutable(path),
        )
    manifest = Manifest(
        deployment=deployment,
        created_at=created_at.astimezone(UTC),
        entries=entries,
        rules=_with_fallback(compiled.rules, entries),
    )
    return Made(manifest=manifest, dropped=dropped)


def _with_fallback(rules: Rules, entries: Mapping[str, Entry]) -> Rules:
    """In the default dialect unknown pages are ``index.html``'s own to show where it is the only HTML file."""
    if rules.dialect is Dialect.DEFAULT and [path for path in entries if is_page(path)] == ["index.html"]:
        return replace(rules, fallback="index.html")
    return rules


def _checked_type(value: str | None) -> str | None:
    """A type that a build wrote by hand, if we can keep it."""
    return value if value is not None and _TYPE.fullmatch(value) else None


def check_path(path: str) -> str:
    """Return *path* if it names one file below a root, and nothing else, wherever it is used.

    Raises:
        InvalidError: it is empty, absolute, too long, climbs, or holds a control character or a backslash.
    """
    if _UNFIT.search(path):
        raise _unfit(path, "it holds a control character, a backslash or broken UTF-8")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise _unfit(path, f"it is longer than {MAX_PATH_BYTES} bytes")
    if _CLIMBS.search(path):
        raise _unfit(path, "it is empty or absolute, or a part of it is empty, '.' or '..'")
    if len(path) * UTF8_BYTES > MAX_PART_BYTES and any(len(p.encode()) > MAX_PART_BYTES for p in path.split("/")):
        raise _unfit(path, f"a part of it is longer than {MAX_PART_BYTES} bytes")
    return path


def is_hidden(path: str) -> bool:
    """Whether a part of *path* begins with a dot; ``.well-known`` at the root does not count (RFC 8615)."""
    return ("/." in path or path.startswith(".")) and any(
        part.startswith(".") for part in path.removeprefix(".well-known/").split("/")
    )


def encode(manifest: Manifest) -> bytes:
    """*manifest* as compact JSON; equal manifests give equal bytes, whatever the order of their files.

    It blocks, as ``make_manifest`` does: some microseconds for each file.
    """
    types = sorted({entry.content_type for entry in manifest.entries.values()})
    numbers = {kind: number for number, kind in enumerate(types)}
    rows = [
        [path, entry.sha256, entry.size_bytes, numbers[entry.content_type], int(entry.immutable)]
        for path, entry in sorted(manifest.entries.items())
    ]
    document = {
        "v": FORMAT,
        "deployment": manifest.deployment,
        "created_at": manifest.created_at.astimezone(UTC).isoformat(),
        "rules": write_rules(manifest.rules),
        "types": types,
        "entries": [],
    }
    written = json.dumps(document, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    before, name, after = written.partition('"entries":')  # what stands before it has no text of a stranger
    return f"{before}{name}{long_lists.written(rows, ensure_ascii=False)}{after.removeprefix('[]')}".encode()


def decode(data: bytes) -> Manifest:
    """Read what ``encode`` wrote. Every field is checked: a manifest decides what leaves the store.

    Raises:
        InvalidError: it is none of ours, of another format, or damaged.
    """
    if len(data) > MAX_BYTES:
        raise _damaged(f"it is longer than {MAX_BYTES} bytes")
    try:
        return _manifest(long_lists.parsed(data))
    except (ValueError, TypeError, KeyError, RecursionError) as cause:
        raise _damaged(str(cause)) from cause


_ENTRIES: Final = (b'"entries":[', b'],"rules":')


def read(data: bytes, sha256: Digest) -> Manifest:
    """The manifest in *data*, its entries read when they are asked for: for whoever serves it.

    The digest proves that these are the bytes that ``encode`` wrote.

    Raises:
        InvalidError: they are not.
    """
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _damaged(f"its bytes are not those of {sha256}")
    start, end = data.find(_ENTRIES[0]), data.find(_ENTRIES[1])
    if start < 0 or end < start or not data.endswith(b'"v":2}'):
        return decode(data)  # of an older format
    document = json.loads(data[: start + len(_ENTRIES[0])] + data[end:])
    return Manifest(
        deployment=DeploymentId(document["deployment"]),
        created_at=datetime.fromisoformat(document["created_at"]),
        entries=Entries(data[start + len(_ENTRIES[0]) - 1 : end + 1], document["types"]),
        rules=read_rules(document["rules"]) if document["rules"] else NO_RULES,
    )


_KEYS: Final = frozenset({"v", "deployment", "created_at", "rules", "types", "entries"})


def _manifest(document: Any) -> Manifest:
    if type(document) is dict and document.get("v") == 1:
        document = _of_format_1(document)
    if type(document) is not dict or document.get("v") != FORMAT or document.keys() != _KEYS:
        raise ValueError(f"not a manifest of format {FORMAT}")
    types = [_matching(_TYPE, kind) for kind in _list(document["types"], MAX_TYPES)]
    rows = _list(document["entries"], MAX_ENTRIES)
    entries = dict(_entry(row, types) for row in rows)
    rules = read_rules(document["rules"])
    created_at = datetime.fromisoformat(_text(document["created_at"]))
    if len(entries) != len(rows) or not (not rules.fallback or rules.fallback in entries):
        raise ValueError("a path stands there twice, or the fallback is missing")
    if created_at.tzinfo is None:
        raise ValueError("created_at without a zone")
    return Manifest(
        deployment=DeploymentId(_matching(re.compile(r"dpl_[a-z0-9]{1,60}"), document["deployment"])),
        created_at=created_at.astimezone(UTC),
        entries=entries,
        rules=rules,
    )


def _of_format_1(document: dict[str, Any]) -> dict[str, Any]:
    """As this format has it: of rules the first one knew only the default dialect's fallback."""
    kept = {key: value for key, value in document.items() if key not in ("dialect", "fallback")}
    fallback = document.get("fallback")
    return {**kept, "v": FORMAT, "rules": {} if fallback is None else {"fallback": fallback}}


def _entry(row: Any, types: Sequence[str]) -> tuple[str, Entry]:
    path, sha256, size_bytes, kind, immutable = _list(row, 5)
    if type(kind) is not int or kind < 0 or immutable not in (0, 1):
        raise ValueError("not an entry")
    try:
        content = types[kind]
    except IndexError as cause:
        raise ValueError("unknown content type") from cause
    if is_hidden(check_path(_text(path))):
        raise ValueError("a hidden file")
    entry = Entry(sha256=_digest(sha256), size_bytes=_size(size_bytes), content_type=content, immutable=bool(immutable))
    return path, entry


def _digest(value: Any) -> Digest:
    return Digest(_matching(_DIGEST, value))


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise InvalidError(f"{value!r} is no size in bytes")
    return value


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if type(value) is not str or not pattern.fullmatch(value):
        raise InvalidError(f"{str(value)[:80]!r} is not what stands here", why=f"expected {pattern.pattern}")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("a text was expected")
    return value


def _list(value: Any, most: int) -> list[Any]:
    if type(value) is not list or len(value) > most:
        raise ValueError(f"a list of at most {most} was expected")
    return value


def _unfit(path: str, why: str) -> InvalidError:
    return InvalidError(f"the file {path[:120]!r} cannot be served", why=why, fix="rename it in the build's output")


def _damaged(why: str) -> InvalidError:
    return InvalidError("the manifest cannot be read", why=why, fix="deploy again: it is made anew")
