"""One object, or a range of it, as it comes; taken up again where the connection broke."""

import time
from collections.abc import Callable, Iterator
from typing import Final

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from plugins.stores.buckets.answers import AnsweredNo
from plugins.stores.buckets.bucket import Bucket

CHUNK_BYTES: Final = 256 * 1024
_BREAKS: Final = 4  #: of one reading that are mended, if it came on in between
_PAUSE_S: Final = 0.2


class Reading:
    """Bytes *start* to *stop* of *key*, of that *etag* alone if one is given. Blocks; ``close`` may come any time."""

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        start: int = 0,
        stop: int | None = None,
        *,
        etag: str = "",
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket, self._key, self._etag, self._pause = bucket, key, etag, pause
        self._at, self._stop = start, stop
        self._answer: BaseHTTPResponse | None = None
        self._breaks = 0

    def next(self) -> bytes:
        """The next bytes; none at the end. AnsweredNo or HTTPError as the bucket tells."""
        while True:
            try:
                if self._answer is None:
                    self._answer = self._open()
                data = self._answer.read(CHUNK_BYTES) if self._answer is not None else b""
            except HTTPError:
                if self._answer is None or self._breaks >= _BREAKS:
                    raise
                self._breaks += 1
                self.close()
                self._pause(_PAUSE_S * self._breaks)
            else:
                self._at += len(data)
                return data

    def all(self) -> Iterator[bytes]:
        """What is left, and close."""
        try:
            while data := self.next():
                yield data
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back, or up if there is more to come."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    def _open(self) -> BaseHTTPResponse | None:
        """None: there is nothing in that range."""
        if self._stop is not None and self._stop <= self._at:
            if not self._bucket.head(self._key):
                raise AnsweredNo("HeadObject", 404, {}, b"<Error><Code>NoSuchKey</Code></Error>")
            return None
        try:
            return self._bucket.get(self._key, self._at, self._stop, etag=self._etag)
        except AnsweredNo as error:
            if error.status == 416:  # it begins behind the end: a slice would be empty too
                return None
            raise
