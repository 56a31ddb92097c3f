"""Lists that come in pages of which some are empty, as S3 allows and the servers of the other tests never do."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from plugins.stores.buckets.store import BucketStore
from plugins.stores.buckets.sweep import sweep
from plugins.stores.s3 import S3Config, S3Store
from scalemesh.errors import UnreachableError
from scalemesh.values import Digest, Secret

DIGESTS = [Digest(f"{number:064x}") for number in range(1, 401)]
KEYS = [*(f"blobs/{digest[:2]}/{digest}" for digest in DIGESTS), *(f"staging/dpl_a/1/{digest}" for digest in DIGESTS)]
AT = "2026-01-01T00:00:00.000Z"


class Sparse(ThreadingHTTPServer):
    """Gives two empty pages before each that has something, and lists of uploads one at a time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.keys = list(KEYS)
        self.uploads = [f"blobs/00/{number}" for number in range(3)]
        self.aborted: list[str] = []
        self.goes_round = False  #: the second page leads to itself

    def objects(self, query: dict[str, str]) -> str:
        token = query.get("continuation-token", "")
        if self.goes_round and token:
            return f"<NextContinuationToken>{token}</NextContinuationToken>"
        if len(token) < 2:
            return f"<NextContinuationToken>{token}x</NextContinuationToken>"
        after, prefix = query.get("start-after", ""), query["prefix"]
        found = [key for key in self.keys if key.startswith(prefix) and key > after][: int(query["max-keys"])]
        item = f"<Size>1</Size><LastModified>{AT}</LastModified><ETag>e</ETag>"
        return "".join(f"<Contents><Key>{key}</Key>{item}</Contents>" for key in found)

    def unfinished(self, query: dict[str, str]) -> str:
        left = [key for key in self.uploads if key.startswith(query["prefix"]) and key > query.get("key-marker", "")]
        if not left:
            return "<IsTruncated>false</IsTruncated>"
        first = f"<Upload><Key>{left[0]}</Key><UploadId>u</UploadId><Initiated>{AT}</Initiated></Upload>"
        markers = f"<NextKeyMarker>{left[0]}</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"
        return f"<IsTruncated>{'true' if len(left) > 1 else 'false'}</IsTruncated>{markers}{first}"


class Answer(BaseHTTPRequestHandler):
    server: Sparse
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if "uploads" in query:
            self._say(f"<ListMultipartUploadsResult>{self.server.unfinished(query)}</ListMultipartUploadsResult>")
        else:
            self._say(f"<ListBucketResult>{self.server.objects(query)}</ListBucketResult>")

    def do_DELETE(self) -> None:
        self.server.aborted.append(urlsplit(self.path).path.removeprefix("/sparse/"))
        self._say("")

    def do_HEAD(self) -> None:
        self.send_response(404)  # a list was to be enough
        self.end_headers()

    def _say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(server: Sparse) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Sparse:
    return Sparse()


@pytest.fixture
async def sparse(server: Sparse) -> AsyncIterator[BucketStore]:
    with serving(server) as url:
        keys = {"access_key": "k", "secret_key": Secret("s"), "region": "us-east-1"}
        config = S3Config(bucket="sparse", endpoint=url, path_style=True, tries=1, **keys)  # type: ignore[arg-type]
        async with S3Store.open(config) as opened:
            yield opened


async def test_an_empty_page_that_is_not_the_last_hides_no_blob(sparse: BucketStore) -> None:
    async with asyncio.timeout(10):
        assert await sparse.missing(DIGESTS) == set()
        assert await sparse.staged() == ["dpl_a"]
        assert [kept.sha256 async for page in sparse.blobs() for kept in page] == DIGESTS
        assert len(sparse.bucket.page("staging/").objects) == 400


async def test_a_list_that_leads_nowhere_is_told_and_not_followed_for_ever(server: Sparse, sparse: BucketStore) -> None:
    server.goes_round = True
    with pytest.raises(UnreachableError):
        await asyncio.wait_for(sparse.staged(), 10)


async def test_old_uploads_in_parts_are_found_on_every_page_of_their_list(server: Sparse, sparse: BucketStore) -> None:
    server.uploads += ["aaa/theirs", "staging/dpl_a/1/x", "zzz/theirs"]
    assert await sweep(sparse, datetime.now(UTC) + timedelta(days=1)) == 4
    assert server.aborted == ["blobs/00/0", "blobs/00/1", "blobs/00/2", "staging/dpl_a/1/x"]
