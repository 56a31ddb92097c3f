"""The client against a server that answers what a test says, raw: cut connections, strange answers."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scalemesh.client import Client, Server, part
from scalemesh.errors import ConflictError, InvalidError, NotFoundError, ScaleMeshError, TooManyError, UnreachableError


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives each connection the next of *answers* and hangs up; yields its URL and what it heard."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heard.append(request(connection))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", heard
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def request(connection: socket.socket) -> bytes:
    """All of a request, which may come in pieces."""
    with connection.makefile("rb") as stream:
        head = b""
        while (line := stream.readline()) not in {b"", b"\r\n"}:
            head += line
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        return head + b"\r\n" + stream.read(int(length[1]) if length else 0)


def answer(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


def log(*rows: object) -> bytes:
    """The beginning of an NDJSON answer that never says it is whole."""
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def line(number: int) -> dict[str, object]:
    return {"number": number, "step": "build", "stream": "out", "text": str(number)}


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("conflict", 409, ConflictError),
        ("not_found", 404, NotFoundError),
        ("", 429, TooManyError),
        ("new", 418, ScaleMeshError),
    ],
)
def test_a_problem_comes_out_as_the_error_that_it_was(code: str, status: int, error: type[ScaleMeshError]) -> None:
    body = json.dumps({"title": "what", "detail": "why", "fix": "fix", "code": code}).encode()
    with answering(answer(body, status)) as (url, _), pytest.raises(error) as caught:
        Client(Server(url=url)).post("/x")
    assert (type(caught.value), caught.value.what, caught.value.why, caught.value.fix) == (error, "what", "why", "fix")


def test_an_answer_that_is_not_ours_says_so() -> None:
    with (
        answering(answer(b"<h1>Not found</h1>", 404)) as (url, _),
        pytest.raises(NotFoundError, match="not from Scale Mesh"),
    ):
        Client(Server(url=url)).get("/x")


def test_a_question_is_asked_again_when_the_connection_breaks_and_a_change_is_not() -> None:
    with answering(b"", answer(b'{"a": 1}')) as (url, heard):
        assert Client(Server(url=url)).get("/x") == {"a": 1}
        assert len(heard) == 2
    with answering(b"", b"") as (url, heard):
        with pytest.raises(UnreachableError):
            Client(Server(url=url)).post("/x")
        assert len(heard) == 1


def test_the_token_goes_along() -> None:
    with answering(answer(b"{}")) as (url, heard):
        Client(Server(url=url, token="smt_x")).get("/x", a="b c")
    assert b"Authorization: Bearer smt_x\r\n" in heard[0]
    assert heard[0].startswith(b"GET /x?a=b+c HTTP/1.1\r\n")


def test_a_followed_log_goes_on_where_it_broke_off() -> None:
    breaks: list[str] = []
    torn = log(line(1), line(2)) + b'{"number": 3, "te'
    with answering(torn, b"", log(line(3), {"end": {"state": "ready"}})) as (url, heard):
        rows = list(Client(Server(url=url)).follow("dpl_x", on_break=breaks.append))
    assert rows == [line(1), line(2), line(3), {"end": {"state": "ready"}}]
    assert [text.split(b"after=")[1].split()[0] for text in heard] == [b"0", b"2", b"2"]
    assert len(breaks) == 1


def test_a_followed_log_of_nothing_is_an_error_and_no_endless_wait() -> None:
    body = json.dumps({"title": "no deployment", "code": "not_found"}).encode()
    with answering(answer(body, 404)) as (url, _), pytest.raises(NotFoundError):
        list(Client(Server(url=url)).follow("dpl_x"))


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x", "https://", "http://x:y"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(InvalidError, match="is no address"):
        Client(Server(url=url))


def test_a_name_cannot_leave_its_place_in_a_path() -> None:
    assert part("a/../b?c#d") == "a%2F..%2Fb%3Fc%23d"
    for name in ("", ".", ".."):
        with pytest.raises(NotFoundError):
            part(name)
