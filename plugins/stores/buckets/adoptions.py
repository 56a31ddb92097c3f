"""The list of what an adoption takes, as it lies in the store."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from plugins.stores.buckets.answers import Found
from plugins.stores.buckets.keys import digest_of
from scalemesh.values import Digest

MOST_LISTED: Final = 20_000  #: uploads in one list
MOST_BYTES: Final = 16 * 1024 * 1024  #: of one list


@dataclass(frozen=True, slots=True)
class Adoption:
    """Uploads of one room that are blobs by being listed."""

    room: str
    uploads: Mapping[Digest, Found]
    is_cleared: bool = False  #: they are no uploads any more, and go once they are copied

    @property
    def name(self) -> str:
        """The same for the same uploads: what is written again replaces what was."""
        return hashlib.sha256(json.dumps(self._entries()).encode()).hexdigest()

    def encoded(self) -> bytes:
        return json.dumps({"is_cleared": self.is_cleared, "uploads": self._entries()}).encode()

    def _entries(self) -> list[tuple[Digest, int, str]]:
        return [(sha256, found.size_bytes, found.etag) for sha256, found in sorted(self.uploads.items())]


def decoded(room: str, data: bytes) -> Adoption:
    """Raises ValueError for what was not encoded here."""
    now = datetime.now(UTC)
    try:
        told = json.loads(data)
        uploads = {}
        for sha256, size_bytes, etag in told["uploads"]:
            if digest_of(sha256) != sha256 or not isinstance(size_bytes, int) or not isinstance(etag, str):
                raise ValueError(f"{sha256!r:.80} is no upload")
            uploads[Digest(sha256)] = Found(f"{room}{sha256}", size_bytes, etag, now)
        return Adoption(room, uploads, is_cleared=bool(told["is_cleared"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no list of uploads: {error!r}") from error
