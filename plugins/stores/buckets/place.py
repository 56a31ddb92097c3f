"""Sees to it that the bucket is there and that the place in it is this installation's own."""

import hashlib
import json
import time
from collections.abc import Callable
from typing import Final

from plugins.stores.buckets.answers import AnsweredNo
from plugins.stores.buckets.bucket import Bucket
from plugins.stores.buckets.config import BucketConfig
from plugins.stores.buckets.keys import Keys
from scalemesh.errors import UnreachableError
from scalemesh.values import Blob, Digest

_MOST_MARKER_BYTES: Final = 64 * 1024
_MADE_S: Final = 10.0  #: within which a bucket that was just made answers
_AGAIN_S: Final = 0.25


class Place:
    """Looked at once by each that opens the store, when it first needs it. ``see`` blocks."""

    def __init__(self, config: BucketConfig, bucket: Bucket, keys: Keys, kind: str) -> None:
        self._config, self._bucket, self._keys, self._kind = config, bucket, keys, kind

    def see(self, pause: Callable[[float], None] = time.sleep) -> None:
        """Make what is absent, if that is allowed; UnreachableError if the place is somebody else's."""
        try:
            owner = self._owner()
        except AnsweredNo as error:
            if error.code != "NoSuchBucket" or not self._config.create_bucket:
                raise
            self._make(pause)
            owner = self._owner()
        if owner is None:
            self._mark()
            owner = self._owner()
        if owner != self._config.owner:
            raise self._foreign()

    def _owner(self) -> str | None:
        """Whose place it is, as the marker tells; None: nobody's yet."""
        try:
            answer = self._bucket.get(self._keys.marker)
        except AnsweredNo as error:
            if error.code == "NoSuchKey":
                return None
            raise
        try:
            return str(json.loads(answer.read(_MOST_MARKER_BYTES)).get("owner", ""))
        except (ValueError, AttributeError):  # whatever it is, it is not ours
            return ""
        finally:
            answer.close()

    def _mark(self) -> None:
        data = json.dumps({"owner": self._config.owner}).encode()
        blob = Blob(sha256=Digest(hashlib.sha256(data).hexdigest()), size_bytes=len(data))
        try:
            self._bucket.put(self._keys.marker, blob, data, once=True)
        except AnsweredNo as error:
            if error.status not in {409, 412}:  # another has been quicker, perhaps we ourselves
                raise

    def _make(self, pause: Callable[[float], None]) -> None:
        self._bucket.make()
        until = time.monotonic() + _MADE_S
        while True:
            try:
                self._bucket.clock()
            except AnsweredNo as error:
                if error.status != 404 or time.monotonic() > until:
                    raise
                pause(_AGAIN_S)
            else:
                return

    def _foreign(self) -> UnreachableError:
        where = f"{self._config.bucket}/{self._keys.prefix}"
        return UnreachableError(
            f"the place {where} in the store belongs to another installation",
            why=f"{self._keys.marker} names another owner; nothing was read, written or deleted there",
            fix=f"set store.{self._kind}.prefix to a place of its own, or name another bucket",
        )
