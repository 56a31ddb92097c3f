"""Requests of S3 over HTTP: signed, tried again where that may help, answers as bytes.

A call of boto3 costs 2 ms of CPU, most of it for its model of the API, and a publish makes ten thousand calls; this way
it is a third of that. So the libraries find credentials and addresses, and sign; urllib3, on which both stand, does the
rest.
"""

import random
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry, Timeout

from plugins.stores.buckets.answers import AnsweredNo, is_error
from plugins.stores.buckets.config import BucketConfig
from plugins.stores.buckets.signing import NOTHING, Signer
from scalemesh.errors import ConfigError

AGAIN: Final = (429, 500, 502, 503, 504)  #: SlowDown is a 503
#: That may begin as a success, with blanks while the server works, and end as an error.
_LONG: Final = ("CopyObject", "UploadPartCopy", "CompleteMultipartUpload")
_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 5.0
_READERS: Final = 64  #: connections kept beside those of the threads


@dataclass(frozen=True, slots=True)
class _Request:
    operation: str
    method: str
    key: str
    headers: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | IO[bytes] = b""
    payload: str = NOTHING
    patience_s: float = 0.0


class Patience(Retry):
    """Waits up to twice as long each time, for a random part of it: those who failed together do not come together."""

    def get_backoff_time(self) -> float:
        return random.uniform(0, super().get_backoff_time())  # noqa: S311 -- no secret

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        wished = super().get_retry_after(response)
        return None if wished is None else min(wished, _LONGEST_WAIT_S)


class Wire:
    """One bucket's connections. Every method blocks."""

    def __init__(self, config: BucketConfig, signer: Signer) -> None:
        check_authority(config)
        self._config, self._signer = config, signer
        self._making = threading.Lock()
        self._pools: urllib3.PoolManager | None = None
        self._again = Patience(
            total=config.tries - 1,
            redirect=0,
            status_forcelist=AGAIN,
            allowed_methods=None,  # each of ours may be repeated
            backoff_factor=_FIRST_WAIT_S,
            backoff_max=_LONGEST_WAIT_S,
            raise_on_status=False,
        )

    def ask(
        self,
        operation: str,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] = b"",
        payload: str = NOTHING,
        patience_s: float = 0.0,
    ) -> BaseHTTPResponse:
        """The answer to *operation* (as AWS names it), all of it read. *patience_s*: beyond the usual time limit.

        Raises:
            AnsweredNo: an answer that is no success.
            HTTPError: no answer.
        """
        request = _Request(operation, method, key, headers or {}, query or {}, body, payload, patience_s)
        for left in reversed(range(self._config.tries)):
            answer = self._send(request, whole=True)
            if operation not in _LONG or not is_error(answer.data):
                return answer
            if not left:
                raise AnsweredNo(operation, 500, answer.headers, answer.data)
            time.sleep(random.uniform(0, _LONGEST_WAIT_S / (1 + left)))  # noqa: S311 -- no secret
        raise AssertionError

    def stream(self, operation: str, key: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        """As ``ask``, for an object: whoever gets it reads and closes it."""
        return self._send(_Request(operation, "GET", key, headers), whole=False)

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        with self._making:
            if self._pools:
                self._pools.clear()

    def _send(self, request: "_Request", *, whole: bool) -> BaseHTTPResponse:
        url = f"{self._signer.address()}/{quote(request.key)}"
        if request.query:
            url = f"{url}?{urlencode(sorted(request.query.items()), quote_via=quote)}"
        sent = self._signer.signed(request.method, url, request.headers, request.payload)
        limit_s = self._config.read_timeout_s + request.patience_s
        connections, target = self._way(url)
        answer = connections.urlopen(
            request.method,
            target,
            body=request.body or None,
            headers=sent,
            retries=self._again,
            redirect=False,
            timeout=Timeout(connect=self._config.connect_timeout_s, read=limit_s),
            preload_content=whole,
            decode_content=False,
        )
        if answer.status >= 300:
            failed = AnsweredNo(request.operation, answer.status, answer.headers, answer.data)
            answer.release_conn()
            raise failed
        return answer

    def _way(self, url: str) -> tuple[urllib3.PoolManager | urllib3.HTTPConnectionPool, str]:
        """What to ask, and for what: a manager of pools only where a proxy is asked for whole URLs; it takes longer."""
        with self._making:
            if self._pools is None:
                self._pools = connections(self._config, url)
        if self._pools.proxy is not None:
            return self._pools, url
        return self._pools.connection_from_url(url), url[url.index("/", len("https://")) :]


def check_authority(config: BucketConfig) -> None:
    """Raises ConfigError if the file of an authority is named that cannot be used."""
    if config.ca is None:
        return
    try:
        ssl.create_default_context(cafile=config.ca)
    except (OSError, ssl.SSLError) as error:
        fix = "name a PEM file with the certificate of the authority, readable for the daemon's account"
        raise ConfigError(
            f"the authority of the store, {config.ca}, cannot be read", why=str(error), fix=fix
        ) from error


def connections(config: BucketConfig, url: str) -> urllib3.PoolManager:
    """To be asked for what lies under *url*, through the proxy that the environment names for it, if any."""
    parts = urlsplit(url)
    proxy = "" if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme, "")
    options: dict[str, Any] = {
        "maxsize": config.threads + _READERS,
        "ca_certs": str(config.ca) if config.ca else None,
    }
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
