"""Whether a store holds the senders of uploads to what they were allowed, found out by trying to cheat it."""

import base64
import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from plugins.stores.buckets.answers import AnsweredNo
from plugins.stores.buckets.bucket import Bucket
from plugins.stores.buckets.config import BucketConfig
from plugins.stores.buckets.keys import Keys
from plugins.stores.buckets.wire import connections
from scalemesh.values import Blob, Digest, SignedRequest

_LIMIT_S: Final = 3.0
_LATER: Final = (408, 429)
_UNKNOWN: Final = 501  #: how some refuse a header that does not belong there
_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was seen of a store; both empty: it can be trusted with all that comes by its URLs."""

    doubt: str = ""  #: why uploads are read and hashed
    danger: str = ""  #: why nobody gets a URL for an upload: whoever has one could read what it does not lead to
    is_seen: bool = True  #: else it could not be looked at, and may be later


_UNSEEN: Final = "the daemon cannot reach the store by its public_endpoint, so it cannot see what the store refuses"
_LED: Final = "the store lets a signed URL copy any object that the daemon may read"


class Proof:
    """Sends uploads as a builder would, by signed requests of the kind that builders get."""

    def __init__(self, config: BucketConfig, bucket: Bucket, keys: Keys) -> None:
        self._config, self._bucket, self._keys = config, bucket, keys

    def verdict(self) -> Verdict:
        """Whether wrong bytes were refused, however they were sent, and the right ones taken. Blocks."""
        right = secrets.token_bytes(_SIZE)
        blob = Blob(sha256=Digest(hashlib.sha256(right).hexdigest()), size_bytes=len(right))
        key = f"{self._keys.staging}proof-{secrets.token_hex(8)}/0/{blob.sha256}"
        request = self._bucket.upload(key, blob)
        try:
            with self._sender(request, key) as sender:
                return self._tried(sender, request.headers, right)
        except HTTPError:
            if not self._config.public_endpoint:
                raise
            return Verdict(_UNSEEN, _UNSEEN, is_seen=False)
        finally:
            self._bucket.delete([key])

    def _tried(self, sender: "_Sender", headers: Mapping[str, str], right: bytes) -> Verdict:
        if any(sender.left(body, led) not in {None, right} for body, led in self._misled(headers, right)):
            return Verdict(_LED, _LED)  # hashing does not help: what was read is in the sender's hands by then
        wrong = bytes(byte ^ 0xFF for byte in right)
        cheats = [(wrong, cheated) for cheated in _cheats(headers, wrong)]
        longer = (right + b"!", {**headers, "content-length": str(len(right) + 1)})
        if any(sender.took(*cheat) for cheat in [*cheats, longer]):
            return Verdict("the store takes wrong bytes by a signed URL")
        return Verdict("" if sender.took(right, headers) else "the store refuses what a signed URL allows")

    def _misled(self, headers: Mapping[str, str], right: bytes) -> list[tuple[bytes, dict[str, str]]]:
        """Bodies and headers that ask for an object that is no upload; the header that does was never signed."""
        led = {**headers, "x-amz-copy-source": f"/{self._config.bucket}/{quote(self._keys.marker)}"}
        return [(right, led), (b"", {**led, "content-length": "0"})]

    @contextmanager
    def _sender(self, request: SignedRequest, key: str) -> Iterator["_Sender"]:
        http = connections(self._config, request.url)
        try:
            yield _Sender(http, request.url, self._bucket, key)
        finally:
            http.clear()


class _Sender:
    """Has a URL, and our own rights to look what came of it."""

    def __init__(self, http: urllib3.PoolManager, url: str, bucket: Bucket, key: str) -> None:
        self._http, self._url, self._bucket, self._key = http, url, bucket, key

    def took(self, body: bytes, headers: Mapping[str, str]) -> bool:
        limit, never = Timeout(_LIMIT_S), Retry(0, redirect=False)
        answer = self._http.urlopen("PUT", self._url, body=body, headers=headers, timeout=limit, retries=never)
        if answer.status in _LATER or (answer.status >= 500 and answer.status != _UNKNOWN):
            raise HTTPError(f"the store answered {answer.status}, which tells nothing")
        return answer.status < 300

    def left(self, body: bytes, headers: Mapping[str, str]) -> bytes | None:
        """What lay there after it; None: nothing. It is deleted, so that the next try is not refused for it."""
        if not self.took(body, headers):
            return None
        try:
            answer = self._bucket.get(self._key)
        except AnsweredNo as error:
            if error.status == 404:  # an answer that began well and ended otherwise
                return None
            raise
        try:
            return answer.read(_SIZE + 1)
        finally:
            answer.close()
            self._bucket.delete([self._key])


def _cheats(headers: Mapping[str, str], wrong: bytes) -> list[dict[str, str]]:
    """Headers with which somebody may try to have other bytes taken."""
    bare = {name: value for name, value in headers.items() if not name.lower().startswith("x-amz-checksum-")}
    return [
        dict(headers),
        bare,
        {**bare, **_named_after(wrong)},
        {**bare, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
    ]


def _named_after(data: bytes) -> dict[str, str]:
    digest = hashlib.sha256(data)
    return {
        "x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode(),
        "x-amz-content-sha256": digest.hexdigest(),
    }
