"""Calls of the API for the command line: over the admin socket, or over http(s) with a token.

Stdlib only, and imported in a few milliseconds: the start of the command counts in the time from ``deploy`` to live.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from scalemesh.errors import InvalidError, NotFoundError, RefusedError, ScaleMeshError, UnreachableError

CONNECT_S: Final = 10.0
ANSWER_S: Final = 120.0
BEAT_S: Final = 60.0  #: a followed log is never silent for so long: the daemon sends an empty line every 15 s
IDLE_S: Final = 5.0  #: an older connection may have been closed at the other end: a new one costs next to nothing
RETRY_S: Final = (0.1, 0.4, 1.0)  #: pauses between tries of a call that changes nothing
AWAY_S: Final = 120.0  #: how long a followed log waits for a daemon that restarts
BLOCK_BYTES: Final = 256 * 1024

Json = dict[str, Any]
Body = bytes | Iterator[bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the daemon is: a unix *socket* on this machine, or a *url*."""

    socket: Path | None = None
    url: str | None = None
    token: str | None = None

    def __str__(self) -> str:
        return str(self.socket or self.url)


class Client:
    """One keep-alive connection. Errors of the daemon come out as the ScaleMeshError that it raised."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = _connection(server)
        self._used_at = float("-inf")
        self._prefix = "" if server.url is None else urlsplit(server.url).path.rstrip("/")

    def another(self) -> "Client":
        """A connection of its own, for another thread."""
        return Client(self._server)

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str, **query: object) -> Json:
        """Ask; repeated a few times where the daemon cannot be reached.

        Raises:
            UnreachableError: it still does not answer.
            ScaleMeshError: what it answered.
        """
        for pause in RETRY_S:
            try:
                return self._json("GET", path, query=query)
            except UnreachableError:
                time.sleep(pause)
        return self._json("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Json:
        """Say *body*, once. Errors as ``get``."""
        return self._json("POST", path, json.dumps(body or {}).encode())

    def put(self, path: str, body: Mapping[str, object]) -> Json:
        """As ``post``, for calls that may be repeated."""
        return self._json("PUT", path, json.dumps(body).encode())

    def patch(self, path: str, body: Mapping[str, object]) -> Json:
        return self._json("PATCH", path, json.dumps(body).encode())

    def delete(self, path: str, **query: object) -> Json:
        return self._json("DELETE", path, query=query)

    def upload(self, path: str, file: IO[bytes], size_bytes: int) -> None:
        """Send *size_bytes* of *file*. Errors as ``get``.

        Raises:
            RefusedError: the file has become shorter than that.
        """
        self._call("PUT", path, _exactly(file, size_bytes), {"Content-Length": str(size_bytes)})

    def follow(
        self, deployment: str, after: int = 0, *, on_break: Callable[[str], None] = lambda _why: None
    ) -> Iterator[Json]:
        """Each line of the log numbered above *after*, as it comes, and at the end ``{"end": …}``.

        A connection that breaks is made again, and the log goes on where it was; *on_break* is told once.

        Raises:
            UnreachableError: the daemon has been away for AWAY_S.
            ScaleMeshError: what it answered.
        """
        answered_at, pause, is_told = time.monotonic(), RETRY_S[0], False
        while True:
            try:
                for row in self._rows(deployment, after):
                    answered_at, pause, is_told = time.monotonic(), RETRY_S[0], False
                    yield row
                    if "end" in row:
                        return
                    after = row["number"]
                why = "the connection was closed"
            except UnreachableError as error:
                if time.monotonic() - answered_at > AWAY_S:
                    raise
                why = error.why or error.what
            if not is_told:
                on_break(why)
            is_told = True
            time.sleep(pause)
            pause = min(pause * 2, 2.0)

    def _rows(self, deployment: str, after: int) -> Iterator[Json]:
        """One connection's worth; it is closed when the reader goes."""
        other = self.another()
        try:
            path = f"/api/v1/deployments/{part(deployment)}/logs"
            response = other._send("GET", path, query={"follow": 1, "after": after}, timeout_s=BEAT_S)
            while line := response.readline():
                if line.endswith(b"\n") and line.strip():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError("the log broke off", why=str(error) or type(error).__name__) from error
        finally:
            other.close()

    def _json(
        self, method: str, path: str, body: bytes | None = None, *, query: Mapping[str, object] | None = None
    ) -> Json:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        data = self._call(method, path, body, headers, query=query)
        found: Json = json.loads(data) if data else {}
        return found

    def _call(
        self,
        method: str,
        path: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        *,
        query: Mapping[str, object] | None = None,
    ) -> bytes:
        response = self._send(method, path, body, headers, query=query)
        try:
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        self._used_at = time.monotonic()
        return data

    def _send(
        self,
        method: str,
        path: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> http.client.HTTPResponse:
        if time.monotonic() - self._used_at > IDLE_S:
            self._connection.close()
        sent = {"Accept": "application/json", **(headers or {})}
        if self._server.token:
            sent["Authorization"] = f"Bearer {self._server.token}"
        target = self._prefix + path + (f"?{urlencode(query)}" if query else "")
        try:
            if self._connection.sock is None:
                self._connection.connect()
            self._connection.sock.settimeout(timeout_s)
            with suppress(BrokenPipeError):  # an answer may come before all of the body has gone out
                self._connection.request(method, target, body=body, headers=sent)
            response = self._connection.getresponse()
            if response.status < 300:
                return response
            raise _problem(response.status, response.read())
        except ScaleMeshError:
            self._connection.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UnreachableError:
        self._connection.close()
        where = "start it with `scalemesh serve`" if self._server.socket else "check --url and the network"
        return UnreachableError(
            f"no daemon answers at {self._server}", why=str(error) or type(error).__name__, fix=where
        )


def part(text: str) -> str:
    """*text* as one part of a path."""
    if text in {"", ".", ".."}:
        raise NotFoundError(f"{text!r} is no name")
    return quote(text, safe="")


def _exactly(file: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    """What was announced: more would be taken for the next request, less would be waited for."""
    while size_bytes:
        chunk = file.read(min(BLOCK_BYTES, size_bytes))
        if not chunk:
            raise RefusedError("the file has become shorter while it was sent")
        size_bytes -= len(chunk)
        yield chunk


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CONNECT_S, blocksize=BLOCK_BYTES)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CONNECT_S)
        self.sock.connect(str(self._path))


def _connection(server: Server) -> http.client.HTTPConnection:
    if server.socket is not None:
        return _UnixConnection(server.socket)
    parts = urlsplit(server.url or "")
    kinds: dict[str, type[http.client.HTTPConnection]] = {
        "http": http.client.HTTPConnection,
        "https": http.client.HTTPSConnection,
    }
    try:
        if parts.hostname:
            return kinds[parts.scheme](parts.hostname, parts.port, timeout=CONNECT_S, blocksize=BLOCK_BYTES)
    except (KeyError, ValueError):
        pass
    raise InvalidError(f"{server.url!r} is no address", fix="write it like https://scalemesh.example.com")


def _problem(status: int, data: bytes) -> ScaleMeshError:
    """The error that the daemon raised, from its problem+json; or one for whatever else stands in its place."""
    try:
        said = json.loads(data)
        what, why, fix = (str(said.get(name) or "") for name in ("title", "detail", "fix"))
        code = str(said.get("code"))
    except (ValueError, AttributeError):
        return _error("", status)(
            f"the answer was status {status}, and not from Scale Mesh", fix="is --url the control host's address?"
        )
    if status >= 500 and code == "error":
        why = f"{why} (request {said.get('request_id')})"
    return _error(code, status)(what, why=why, fix=fix)


def _error(code: str, status: int) -> type[ScaleMeshError]:
    classes: list[type[ScaleMeshError]] = [*ScaleMeshError.__subclasses__(), ScaleMeshError]
    by_code = {cls.code: cls for cls in classes}
    by_status = {cls.status: cls for cls in classes}
    return by_code.get(code) or by_status.get(status) or ScaleMeshError
