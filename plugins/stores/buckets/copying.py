"""How an upload becomes a blob: the server copies it, if it still is the one that was looked at."""

import hashlib

from plugins.stores.buckets.answers import AnsweredNo, Found
from plugins.stores.buckets.bucket import Bucket
from plugins.stores.buckets.keys import Keys
from plugins.stores.buckets.reading import Reading
from scalemesh.faults import fault
from scalemesh.values import Digest


class Copying:
    """Every method blocks."""

    def __init__(self, bucket: Bucket, keys: Keys) -> None:
        self._bucket, self._keys = bucket, keys

    def copied(self, sha256: Digest, found: Found) -> bool:
        """Whether it is a blob now; if not, it is no longer what it was when it was found."""
        key = self._keys.blob(sha256)
        fault("store.before_link")
        try:
            self._bucket.copy(found, key, sha256)
        except AnsweredNo as error:
            return self.is_there(key, error)
        fault("store.after_link")
        return True

    def copied_anyhow(self, sha256: Digest, found: Found) -> bool:
        """As ``copied``, but one that was sent again meanwhile is looked at again. If not, its bytes are gone."""
        if self.copied(sha256, found):
            return True
        listed = self._bucket.page(found.key).objects
        again = next((each for each in listed if each.key == found.key), None)
        return again is not None and self.is_right(sha256, again) and self.copied(sha256, again)

    def is_there(self, key: str, error: AnsweredNo) -> bool:
        """Whether what could not be copied is a blob already.

        Raises:
            AnsweredNo: *error*, where that may become so without us: it is to be tried once more.
        """
        if error.status not in {404, 409, 412} or error.code == "NoSuchBucket":
            raise error
        is_there = self._bucket.head(key)
        if not is_there and error.status == 409:
            raise error
        return is_there

    def is_right(self, sha256: Digest, found: Found) -> bool:
        """Whether it reads as what its name says; one that does not is deleted."""
        digest = hashlib.sha256()
        try:
            for chunk in Reading(self._bucket, found.key, etag=found.etag).all():
                digest.update(chunk)
        except AnsweredNo as error:
            if error.status in {404, 412}:  # it went, or another came: the next list tells
                return False
            raise
        if digest.hexdigest() == sha256:
            return True
        self._bucket.forget(found)
        return False
