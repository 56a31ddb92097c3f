"""The settings that every store of buckets has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scalemesh.values import Secret

#: Marks what the daemon fills in from other tables: no setting for people, so no document shows it.
GIVEN: Final[Mapping[str, bool]] = {"given": True}
_NO_SECRET: Final = Secret("")
SSE: Final = ("", "AES256", "aws:kms")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/?)*")
_REGION: Final = re.compile(r"[A-Za-z0-9_-]{0,60}")
_MOST_PREFIX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketConfig:
    """Which bucket, how it is reached, and how objects are kept in it."""

    bucket: str
    prefix: str = ""  #: before every key, so that several installations may share a bucket
    region: str = ""  #: such as eu-central-1
    endpoint: str = ""  #: http or https URL of the server
    public_endpoint: str = ""  #: by which builds reach it, if other than ``endpoint``
    path_style: bool = False  #: endpoint/bucket/key instead of bucket.endpoint/key
    create_bucket: bool = False  #: make the bucket if it is absent
    direct: bool = True  #: whether builds get signed URLs and send straight to the store
    ca: Path | None = None  #: PEM file of the authority that signed the server's certificate; None: the system's
    access_key: str = ""  #: empty: where the library usually looks for credentials
    secret_key: Secret = _NO_SECRET
    storage_class: str = ""  #: of blobs; uploads that wait in staging have the bucket's own
    sse: str = ""  #: encryption by the server: AES256 or aws:kms; empty: what the bucket says
    kms_key_id: str = ""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0  #: between two pieces of an answer
    tries: int = 5  #: of one request, with growing waits of random length between them
    threads: int = 16  #: requests at the same time, beside those of readers
    owner: str = field(default="", metadata=GIVEN)  #: names this installation; empty: it will only read
    is_keeper: bool = field(default=True, metadata=GIVEN)  #: the one process of the installation that adopts

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket) or ".." in self.bucket:
            raise ValueError("bucket: 3 to 63 of a-z, 0-9, dots and hyphens")
        if not _PREFIX.fullmatch(self.prefix) or len(self.prefix) > _MOST_PREFIX:
            raise ValueError(
                "prefix: names of A-Z, a-z, 0-9, '_', '.' and '-' with '/' between them, none beginning with '.'"
            )
        for name in ("endpoint", "public_endpoint"):
            _check_url(name, getattr(self, name))
        if not _REGION.fullmatch(self.region):
            raise ValueError("region: letters, digits and hyphens, such as eu-central-1")
        if bool(self.access_key) != bool(self.secret_key):
            raise ValueError("access_key and secret_key: name both, or neither")
        if self.sse not in SSE:
            raise ValueError("sse must be AES256, aws:kms or empty")
        if self.kms_key_id and self.sse != "aws:kms":
            raise ValueError('kms_key_id: only with sse = "aws:kms"')
        self._check_bounds()

    def _check_bounds(self) -> None:
        if not 0 < self.connect_timeout_s <= 60 or not 0 < self.read_timeout_s <= 600:
            raise ValueError("connect_timeout_s must be above 0 and at most 60, read_timeout_s at most 600")
        if not 1 <= self.tries <= 10:
            raise ValueError("tries must be between 1 and 10")
        if not 1 <= self.threads <= 128:
            raise ValueError("threads must be between 1 and 128")


def _check_url(name: str, url: str) -> None:
    parts = urlsplit(url)
    if url and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}):
        raise ValueError(f"{name} must be a URL such as https://s3.example.com:9000, without a path")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{name} takes a scheme, a host and a port, nothing else")
