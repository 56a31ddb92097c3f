"""Whether a store holds the senders of uploads to what they were allowed, found out by trying to cheat it."""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from typing import Final

from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from plugins.stores.buckets.bucket import Bucket
from plugins.stores.buckets.config import BucketConfig
from plugins.stores.buckets.keys import Keys
from plugins.stores.buckets.wire import connections
from scalemesh.values import Blob, Digest, SignedRequest

_LIMIT_S: Final = 3.0
_LATER: Final = (408, 429)


class Proof:
    """Sends uploads as a builder would, by signed requests of the kind that builders get."""

    def __init__(self, config: BucketConfig, bucket: Bucket, keys: Keys) -> None:
        self._config, self._bucket, self._keys = config, bucket, keys

    def doubt(self) -> str:
        """Empty if wrong bytes were refused, however they were sent, and the right ones taken; else why not. Blocks."""
        right = secrets.token_bytes(32)
        blob = Blob(sha256=Digest(hashlib.sha256(right).hexdigest()), size_bytes=len(right))
        key = f"{self._keys.staging}proof-{secrets.token_hex(8)}/0/{blob.sha256}"
        try:
            return self._tried(self._bucket.upload(key, blob), right)
        except HTTPError:
            if not self._config.public_endpoint:
                raise
            return "the daemon cannot reach the store by its public_endpoint, so it cannot see what the store refuses"
        finally:
            self._bucket.delete([key])

    def _tried(self, request: SignedRequest, right: bytes) -> str:
        http = connections(self._config, request.url)
        try:

            def took(body: bytes, headers: Mapping[str, str]) -> bool:
                limit, never = Timeout(_LIMIT_S), Retry(0, redirect=False)
                answer = http.urlopen("PUT", request.url, body=body, headers=headers, timeout=limit, retries=never)
                if answer.status >= 500 or answer.status in _LATER:
                    raise HTTPError(f"the store answered {answer.status}, which tells nothing")
                return answer.status < 300

            wrong = bytes(byte ^ 0xFF for byte in right)
            cheats = [(wrong, headers) for headers in _cheats(request.headers, wrong)]
            longer = (right + b"!", {**request.headers, "content-length": str(len(right) + 1)})
            if any(took(*cheat) for cheat in [*cheats, longer]):
                return "the store takes wrong bytes by a signed URL"
            return "" if took(right, request.headers) else "the store refuses what a signed URL allows"
        finally:
            http.clear()


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
