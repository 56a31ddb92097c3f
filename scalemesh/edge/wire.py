"""An answer as bytes: the one order of its headers, whichever way it is sent."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Final

from scalemesh.edge.answers import Answer, Headers

BODILESS: Final = frozenset({204, 304})  # RFC 9110, 6.4.1: they have no body, so no length either
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def own_headers(answer: Answer) -> Headers:
    """All headers of *answer* but those that are new at each answer (date and request id)."""
    length: Headers = () if answer.status in BODILESS else (("Content-Length", str(answer.length)),)
    return (*answer.headers, ("Server", "scalemesh"), *length)


def fresh_headers(date: str, request_id: str) -> Headers:
    """What is new at each answer, and stands last."""
    return (("Date", date), ("X-Request-Id", request_id))


def status_and_headers(answer: Answer) -> bytes:
    """The first lines of *answer*, up to what is new at each answer."""
    lines = [f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, '')}"]
    lines += [f"{name}: {value}" for name, value in own_headers(answer)]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


def http_now() -> str:
    """The time, as a Date header has it."""
    return format_datetime(datetime.now(UTC), usegmt=True)


def request_ids() -> Iterator[bytes]:
    """Sixteen hex digits each, that nobody can foresee; endless."""
    while True:
        digits = os.urandom(4096).hex().encode()
        for start in range(0, len(digits), 16):
            yield digits[start : start + 16]
