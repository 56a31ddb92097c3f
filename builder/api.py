"""Calls to the daemon: JSON and bytes over a unix socket, TCP or TLS, repeated until they are taken."""

import http.client
import json
import random
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final
from urllib.parse import urlsplit

from builder.errors import GivenUp
from builder.life import Life
from builder.protocol import EXIT_GIVEN_UP, GIVE_UP_S, NONCE_HEADER

CONNECT_S: Final = 10
ANSWER_S: Final = 120
BACK_OFF_S: Final = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
BLOCK_BYTES: Final = 256 * 1024
STOP: Final = {401: EXIT_GIVEN_UP, 409: EXIT_GIVEN_UP, 410: EXIT_GIVEN_UP}
REFUSED: Final = frozenset({400, 403, 404, 405, 413, 422})
TOO_LARGE: Final = 413  #: final whoever says it: a proxy with a limit has it the next time, too
PROBLEM: Final = "application/problem+json"  #: what every error of the daemon's own is


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    kind: str = ""  #: its Content-Type

    @property
    def is_no(self) -> bool:
        """Whether asking again will not help. A proxy that is set up anew may say anything meanwhile."""
        is_final = self.status in STOP or self.status in REFUSED
        return is_final and (self.kind.startswith(PROBLEM) or self.status == TOO_LARGE)

    def json(self) -> Any:
        return json.loads(self.body) if self.body else {}


class Refused(Exception):  # noqa: N818
    """The daemon understood and said no; repeating will not help."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.message = _problem(answer)
        super().__init__(self.message)


class Contact:
    """When the daemon last answered, for all connections of one builder, and how long to go on without."""

    def __init__(self, life: Life, give_up_s: float = GIVE_UP_S) -> None:
        self.life = life
        self._give_up_s = give_up_s
        self._last = time.monotonic()

    def made(self) -> None:
        self._last = time.monotonic()

    def lost(self, why: str) -> None:
        """Note a call that failed.

        Raises:
            GivenUp: the daemon has been away for too long.
        """
        silent_s = time.monotonic() - self._last
        if silent_s > self._give_up_s:
            raise GivenUp(f"the daemon has not answered for {silent_s:.0f} s ({why})")


class Api:
    """One keep-alive connection to one origin; each thread makes its own by ``another()``."""

    def __init__(self, url: str, token: str | None, contact: Contact, nonce: str = "") -> None:
        """*nonce*: what the attempt was, or will be, claimed with."""
        self._url, self._token, self._contact, self._nonce = url, token, contact, nonce
        self._connection = _connection(url)
        self._prefix = "" if url.startswith("unix:") else urlsplit(url).path.rstrip("/")

    def another(self) -> "Api":
        return Api(self._url, self._token, self._contact, self._nonce)

    def close(self) -> None:
        self._connection.close()

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Say *body* and return the answer; repeated until taken."""
        data = json.dumps(body, separators=(",", ":")).encode()
        return self.post_bytes(path, data)

    def post_bytes(self, path: str, data: bytes) -> dict[str, Any]:
        """The same for JSON that is ready."""
        headers = {"Content-Type": "application/json"}
        answer: dict[str, Any] = self.call("POST", path, lambda: data, headers).json()
        return answer

    def download(self, path: str, file: IO[bytes], max_bytes: int) -> bool:
        """Try once to get *path* into *file*; false where it is not there, too large, or anything fails."""
        try:
            self._connection.request("GET", self._prefix + path, headers=self._authorization())
            response = self._connection.getresponse()
            if response.status == 200:
                while file.tell() <= max_bytes and (data := response.read(BLOCK_BYTES)):
                    file.write(data)
                if response.isclosed():
                    return True
            response.read(BLOCK_BYTES)
        except (OSError, http.client.HTTPException):
            pass
        self._connection.close()
        return False

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Try once to get *path*, or to say *body* there; None where that fails, whatever the reason."""
        try:
            return self.once(path, body)
        except (Refused, OSError):
            return None

    def once(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The same, with the reason.

        Raises:
            Refused: any answer but a good one.
            OSError: there is none, or none that can be read.
        """
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        said = self._good("GET" if data is None else "POST", path, lambda: data, headers)
        try:
            found = said.json()
        except ValueError as error:
            raise OSError(f"what the daemon answers is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise OSError("what the daemon answers is no object")
        return found

    def offer(self, path: str, file: IO[bytes], size: int) -> None:
        """Try once to put *file*, which is closed by it. Raises what ``once`` raises."""
        self._good("PUT", path, lambda: file, {"Content-Length": str(size)})

    def get(self, path: str) -> bytes:
        return self.call("GET", path, lambda: None).body

    def call(
        self,
        method: str,
        path: str,
        body: Callable[[], bytes | IO[bytes] | None],
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Do one call; *body* is asked for the bytes anew at each try.

        Raises:
            Refused: the answer is a final no.
            GivenUp: the attempt is over, or the daemon is away for good.
        """
        for attempt in range(1_000_000):
            delay = BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)]
            self._contact.life.rest(delay * random.uniform(0.5, 1.0))  # noqa: S311
            answer, why = self._once(method, path, body, headers or {})
            if answer is not None and (200 <= answer.status < 300 or answer.is_no):
                self._contact.made()
                return _taken(answer)
            self._contact.lost(why or f"status {answer.status if answer else 0}")
        raise GivenUp("the daemon never took a call")

    def _good(
        self, method: str, path: str, body: Callable[[], bytes | IO[bytes] | None], headers: Mapping[str, str]
    ) -> Answer:
        answer, why = self._once(method, path, body, headers)
        if answer is None:
            raise OSError(why)
        if not 200 <= answer.status < 300:
            raise Refused(answer)
        return answer

    def _once(
        self,
        method: str,
        path: str,
        body: Callable[[], bytes | IO[bytes] | None],
        headers: Mapping[str, str],
    ) -> tuple[Answer | None, str]:
        sent = self._authorization()
        source = body()
        try:
            self._connection.request(method, self._prefix + path, body=source, headers={**sent, **headers})
            response = self._connection.getresponse()
            return Answer(response.status, response.read(), response.headers.get("Content-Type", "")), ""
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return None, f"{type(error).__name__}: {error}"
        finally:
            if source is not None and not isinstance(source, bytes):
                source.close()

    def _authorization(self) -> dict[str, str]:
        if not self._token:
            return {}
        return {"Authorization": f"Bearer {self._token}", NONCE_HEADER: self._nonce}


def hello(url: str, timeout_s: float) -> tuple[str | None, str]:
    """Ask the daemon at *url* once which builder it needs: its fingerprint, or None and why it is not reached."""
    try:
        connection = _connection(url)
        connection.timeout = timeout_s
        prefix = "" if url.startswith("unix:") else urlsplit(url).path.rstrip("/")
        connection.request("GET", f"{prefix}/build/v1/hello")
        answer = connection.getresponse()
        body = answer.read(64 * 1024)
        connection.close()
        found = str(json.loads(body)["builder"]) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, GivenUp, ValueError, KeyError, TypeError) as error:
        return None, f"{url} cannot be reached: {type(error).__name__}: {error}"
    return found, "" if found else f"{url} answers {answer.status}: no daemon of ours, or a path that is not its own"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S, blocksize=BLOCK_BYTES)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CONNECT_S)
        self.sock.connect(self._path)
        self.sock.settimeout(ANSWER_S)


def _connection(url: str) -> http.client.HTTPConnection:
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:"))
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise GivenUp(f"SCALEMESH_URL is neither http(s)://host nor unix:/path: {url!r}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=ANSWER_S, blocksize=BLOCK_BYTES)


def _taken(answer: Answer) -> Answer:
    if answer.status in STOP:
        raise GivenUp(_problem(answer), STOP[answer.status])
    if answer.status in REFUSED:
        raise Refused(answer)
    return answer


def _problem(answer: Answer) -> str:
    try:
        said = answer.json()
        parts = [str(said[key]) for key in ("title", "detail", "fix") if said.get(key)]
    except (ValueError, TypeError, AttributeError):
        parts = []
    return (
        ". ".join(part.rstrip(".") for part in parts) or f"the daemon, or a proxy before it, answered {answer.status}"
    )
