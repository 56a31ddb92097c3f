"""The smaller spellings of a deployment's files, kept as one blob beside its manifest.

The blob of encodings and the variants it names are kept for the deployment row that names that blob: whoever deletes
blobs that nobody needs must follow ``deployment.encodings`` as it follows ``deployment.manifest``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from scalemesh.errors import InvalidError
from scalemesh.services import strict
from scalemesh.services.content_types import BY_EXTENSION
from scalemesh.values import Blob, Digest, Entry

FORMAT: Final = 1
MAX_BYTES: Final = 128 * 1024 * 1024  #: of an encoded table
MAX_FILES: Final = 200_000
CODINGS: Final = ("br", "zstd", "gzip")  #: as HTTP names them (RFC 9110, 8.4.1; RFC 7932; RFC 8878)
MIN_BYTES: Final = 1024  #: what is shorter fits into a packet or two as it is

#: Binary types that nobody has compressed before.
_LOOSE: Final = frozenset(
    BY_EXTENSION[extension]
    for extension in (
        "wasm",
        "ttf",
        "otf",
        "eot",
        "ico",
        "bmp",
        "glb",
        "gltf",
        "stl",
        "obj",
        "onnx",
        "ps",
        "rtf",
        "tar",
    )
    if BY_EXTENSION[extension] != BY_EXTENSION["bin"]
)
_NONE: Final[Mapping[str, Blob]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Encodings:
    """Variants by the digest of the file they are made of. A file with none was tried, and gains nothing."""

    by_digest: Mapping[Digest, Mapping[str, Blob]] = field(default_factory=dict)

    def variants_of(self, sha256: Digest) -> Mapping[str, Blob]:
        """Coding (one of CODINGS) -> the encoded bytes; empty where there is none, or none yet."""
        return self.by_digest.get(sha256, _NONE)


def is_compressible(entry: Entry) -> bool:
    """Whether *entry* has variants, or may get some: then its answers differ by Accept-Encoding."""
    if entry.size_bytes < MIN_BYTES:
        return False
    kind = entry.content_type
    bare = kind.partition(";")[0].rstrip()
    return (
        kind.endswith("charset=utf-8") or bare.startswith("text/") or bare.endswith(("+json", "+xml")) or bare in _LOOSE
    )


def encode(encodings: Encodings) -> bytes:
    """*encodings* as compact JSON; equal ones give equal bytes."""
    return json.dumps({"v": FORMAT, "files": to_json(encodings)}, separators=(",", ":"), sort_keys=True).encode()


def decode(data: bytes) -> Encodings:
    """Read what ``encode`` wrote. Every field is checked: this decides what leaves the store.

    Raises:
        InvalidError: it is none of ours, of another format, or damaged.
    """
    keys = frozenset({"v", "files"})
    return from_json(strict.document(data, most_bytes=MAX_BYTES, keys=keys, version=FORMAT)["files"])


def to_json(encodings: Encodings) -> dict[str, Any]:
    """*encodings* as a value inside another table."""
    return {
        sha256: {coding: [variant.sha256, variant.size_bytes] for coding, variant in variants.items()}
        for sha256, variants in encodings.by_digest.items()
    }


def from_json(files: Any) -> Encodings:
    """Read what ``to_json`` made, with nothing believed.

    Raises:
        InvalidError: it is damaged.
    """
    if type(files) is not dict or len(files) > MAX_FILES:
        raise InvalidError(f"expected at most {MAX_FILES} files")
    return Encodings({strict.digest(sha256): _variants(variants) for sha256, variants in files.items()})


def _variants(value: Any) -> Mapping[str, Blob]:
    if type(value) is not dict or not value.keys() <= set(CODINGS):
        raise InvalidError(f"expected variants of {', '.join(CODINGS)}")
    return {coding: _variant(row) for coding, row in value.items()} or _NONE


def _variant(value: Any) -> Blob:
    sha256, size_bytes = strict.row(value, 2)
    return Blob(sha256=strict.digest(sha256), size_bytes=strict.number(size_bytes))
