"""The calls of S3 that a store needs; all of them block."""

import base64
import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Final
from urllib.parse import quote
from xml.sax.saxutils import escape

from urllib3.response import BaseHTTPResponse

from plugins.stores.buckets import answers
from plugins.stores.buckets.answers import AnsweredNo, Found, Page, StrangeAnswer, UnfinishedPage
from plugins.stores.buckets.config import BucketConfig
from plugins.stores.buckets.signing import Signer
from plugins.stores.buckets.wire import Wire
from scalemesh.values import Blob, Digest, SignedRequest

TYPE: Final = "application/octet-stream"
URL_S: Final = 15 * 60  #: for which a signed URL is good
MOST_AT_ONCE: Final = 1000  #: keys in one list, or in one request that deletes
_COPIED_BYTES_A_SECOND: Final = 20_000_000  #: by the server itself; slower ones run into the time limit
_CONFLICT_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0)
_HOME: Final = "us-east-1"  #: the region that a request for a new bucket must not name


class Bucket:
    """One bucket through a Wire."""

    def __init__(self, config: BucketConfig, signer: Signer, wire: Wire) -> None:
        self._config, self._signer, self._wire = config, signer, wire
        self._encrypted = _encryption(config)
        self._kept = {**self._encrypted, **_named("x-amz-storage-class", config.storage_class)}

    # Objects

    def put(self, key: str, blob: Blob, body: bytes | IO[bytes], *, once: bool) -> str:
        """Store *body*, which is *blob*; the ETag. *once*: not if the key is there: then AnsweredNo 412."""
        kept = self._kept if once else self._encrypted
        headers = {**_bound(blob), **kept, **({"if-none-match": "*"} if once else {})}

        def send() -> BaseHTTPResponse:
            if not isinstance(body, bytes):
                body.seek(0)
            return self._wire.ask("PutObject", "PUT", key, headers=headers, body=body, payload=blob.sha256)

        return _etag(_after_others(send))

    def get(self, key: str, start: int = 0, stop: int | None = None, *, etag: str = "") -> BaseHTTPResponse:
        """The bytes of a range that is not empty, to be read and closed. *etag*: only if it still has that one."""
        ranged = start > 0 or stop is not None
        last = "" if stop is None else str(stop - 1)
        headers = {"range": f"bytes={start}-{last}"} if ranged else {}
        return self._wire.stream("GetObject", key, headers | _named("if-match", f'"{etag}"' if etag else ""))

    def head(self, key: str) -> bool:
        """Whether it is there."""
        try:
            self._wire.ask("HeadObject", "HEAD", key)
        except AnsweredNo as error:
            if error.status == 404:
                return False
            raise
        return True

    def copy(self, source: Found, key: str, sha256: Digest) -> None:
        """Copy *source* as it was when it was found.

        AnsweredNo 412: *key* is there already, or *source* is another by now. Where the server tells the digest of what
        it copied and it is not *sha256*, the copy is deleted again and that is a 412 too.
        """
        headers = {
            **self._kept,
            "x-amz-copy-source": f"/{self._config.bucket}/{quote(source.key)}",
            "x-amz-copy-source-if-match": f'"{source.etag}"',
            "x-amz-checksum-algorithm": "SHA256",
            "if-none-match": "*",
        }
        patience_s = source.size_bytes / _COPIED_BYTES_A_SECOND
        answer = _after_others(lambda: self._wire.ask("CopyObject", "PUT", key, headers=headers, patience_s=patience_s))
        told = answers.words_of(answer.data).get("ChecksumSHA256", "")
        if told and "-" not in told and told != _base64(sha256):
            self.delete([key])
            raise AnsweredNo("CopyObject", 412, answer.headers, b"")

    def forget(self, found: Found) -> None:
        """Delete it if it still is as it was found; a server that cannot tell deletes what is there."""
        try:
            self._wire.ask("DeleteObject", "DELETE", found.key, headers={"if-match": f'"{found.etag}"'})
        except AnsweredNo as error:
            if error.status not in {404, 412}:
                raise

    def delete(self, keys: Sequence[str]) -> None:
        """Forget at most MOST_AT_ONCE of them; one that is not there is no error."""
        if len(keys) == 1:
            self._wire.ask("DeleteObject", "DELETE", keys[0])
            return
        named = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
        body = f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>{named}</Delete>'.encode()
        digest = hashlib.sha256(body)
        headers = {
            "content-md5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
            "x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode(),
            "content-type": "application/xml",
        }
        answer = self._wire.ask(
            "DeleteObjects", "POST", query={"delete": ""}, headers=headers, body=body, payload=digest.hexdigest()
        )
        for failed in answers.errors_of(answer.data):
            if failed.get("Code") not in {"NoSuchKey", "NoSuchVersion"}:
                raise AnsweredNo("DeleteObjects", 403, answer.headers, _as_error(failed))

    def first(self, prefix: str, after: str) -> str:
        """The first key behind *after*; empty if there is none. No delimiter: some tell of folders without files."""
        page = self.page(prefix, after=after, most=1)
        return page.objects[0].key if page.objects else ""

    def page(self, prefix: str, *, after: str = "", more: str = "", most: int = MOST_AT_ONCE) -> Page:
        """At most *most* objects in order: those behind *after*, or what *more* of the page before leads to.

        A page without objects is the end: where a server gives one before that, as it may, the next is asked for.
        """
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(most)} | _named("start-after", after)
        while True:
            asked = query | _named("continuation-token", more)
            page = answers.page_of(self._wire.ask("ListObjectsV2", "GET", query=asked).data)
            if page.more and page.more == more:
                raise StrangeAnswer("the list of objects leads from a page to the same one")
            if page.objects or not page.more:
                return page
            more = page.more

    # Uploads in parts

    def begin(self, key: str, *, once: bool) -> str:
        headers = {"content-type": TYPE, **(self._kept if once else self._encrypted)}
        answer = self._wire.ask("CreateMultipartUpload", "POST", key, query={"uploads": ""}, headers=headers)
        return answers.words_of(answer.data)["UploadId"]

    def part(self, key: str, upload: str, number: int, data: bytes) -> str:
        query = {"partNumber": str(number), "uploadId": upload}
        payload = hashlib.sha256(data).hexdigest()
        headers = {"content-length": str(len(data))}
        return _etag(self._wire.ask("UploadPart", "PUT", key, query=query, headers=headers, body=data, payload=payload))

    def part_copy(self, key: str, upload: str, number: int, source: Found, first: int, last: int) -> str:
        """As ``part``, of the bytes *first* to *last* of *source*."""
        headers = {
            "x-amz-copy-source": f"/{self._config.bucket}/{quote(source.key)}",
            "x-amz-copy-source-if-match": f'"{source.etag}"',
            "x-amz-copy-source-range": f"bytes={first}-{last}",
        }
        query = {"partNumber": str(number), "uploadId": upload}
        patience_s = (last - first) / _COPIED_BYTES_A_SECOND
        answer = self._wire.ask("UploadPartCopy", "PUT", key, query=query, headers=headers, patience_s=patience_s)
        return answers.words_of(answer.data)["ETag"].strip('"')

    def complete(self, key: str, upload: str, etags: Sequence[str], *, once: bool) -> str:
        """Make the object of its parts; the ETag. *once*: as ``put``."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{escape(etag)}&quot;</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        headers = {"content-type": "application/xml", **({"if-none-match": "*"} if once else {})}
        answer = self._wire.ask(
            "CompleteMultipartUpload",
            "POST",
            key,
            query={"uploadId": upload},
            headers=headers,
            body=body,
            payload=hashlib.sha256(body).hexdigest(),
        )
        return answers.words_of(answer.data).get("ETag", "").strip('"')

    def abort(self, key: str, upload: str) -> None:
        """Forget an upload and its parts; one that is not there is no error."""
        try:
            self._wire.ask("AbortMultipartUpload", "DELETE", key, query={"uploadId": upload})
        except AnsweredNo as error:
            if error.status != 404:
                raise

    def unfinished(self, prefix: str, more: tuple[str, str] | None = None) -> UnfinishedPage:
        """At most MOST_AT_ONCE: the first ones, or those that *more* of the page before leads to."""
        query = {"uploads": "", "prefix": prefix, "max-uploads": str(MOST_AT_ONCE)}
        if more is not None:
            query |= _named("key-marker", more[0]) | _named("upload-id-marker", more[1])
        return answers.unfinished_of(self._wire.ask("ListMultipartUploads", "GET", query=query).data)

    # The bucket itself

    def clock(self) -> datetime:
        """The server's, by an answer of the bucket."""
        answer = self._wire.ask("HeadBucket", "HEAD")
        return answers.date_of(answer.headers) or datetime.now(UTC)

    def make(self) -> None:
        """Make the bucket; if it is there already, that is fine: the marker tells whose it is."""
        region = self._signer.region()
        named = f"<LocationConstraint>{escape(region)}</LocationConstraint>" if region not in {"", _HOME} else ""
        body = f"<CreateBucketConfiguration>{named}</CreateBucketConfiguration>".encode() if named else b""
        try:
            self._wire.ask("CreateBucket", "PUT", body=body, payload=hashlib.sha256(body).hexdigest())
        except AnsweredNo as error:
            if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    # Requests for others

    def upload(self, key: str, blob: Blob) -> SignedRequest:
        """A PUT of *blob* alone, for who has not our credentials."""
        return self._signer.upload(key, {**_bound(blob), **self._encrypted, "if-none-match": "*"}, blob.sha256, URL_S)

    def download(self, key: str) -> SignedRequest:
        return self._signer.download(key, URL_S)


def _after_others(send: Callable[[], BaseHTTPResponse]) -> BaseHTTPResponse:
    """What *send* is answered, again and again while another request for that key is under way (409).

    Nobody knows how that will end, so after some time the 409 is raised: it says neither that the key is there nor that
    it is not.
    """
    for pause_s in _CONFLICT_PAUSES_S:
        try:
            return send()
        except AnsweredNo as error:
            if error.status != 409:
                raise
        time.sleep(random.uniform(0, pause_s))  # noqa: S311 -- no secret
    return send()


def _bound(blob: Blob) -> dict[str, str]:
    """What ties a request to the bytes of *blob*."""
    return {
        "content-type": TYPE,
        "content-length": str(blob.size_bytes),
        "x-amz-checksum-sha256": _base64(blob.sha256),
    }


def _encryption(config: BucketConfig) -> dict[str, str]:
    key = "x-amz-server-side-encryption-aws-kms-key-id"
    return _named("x-amz-server-side-encryption", config.sse) | _named(key, config.kms_key_id)


def _named(name: str, value: str) -> dict[str, str]:
    return {name: value} if value else {}


def _base64(sha256: Digest) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _etag(answer: BaseHTTPResponse) -> str:
    return answer.headers.get("etag", "").strip('"')


def _as_error(words: Mapping[str, str]) -> bytes:
    code, message = escape(words.get("Code", "")), escape(words.get("Message", ""))
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
