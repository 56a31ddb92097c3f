"""The session's cookie: one name for https and another for plain http, and no way to slip in a third.

Sites of strangers are neighbours: they may set cookies for the domain that we share, and over plain http anybody on the
way may. Browsers let neither set a ``__Host-`` name, so a request over https is known by that name alone. aiohttp's own
reading would undo this: to it, ``a=b __Host-scalemesh=planted`` is two cookies, and the later one wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from scalemesh.values import Secret

PLAIN: Final = "scalemesh"
SECURE: Final = "__Host-scalemesh"


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """That of a request whose visitor speaks https (*is_secure*), or not."""

    is_secure: bool

    @property
    def name(self) -> str:
        return SECURE if self.is_secure else PLAIN

    def read(self, lines: Sequence[str]) -> str | None:
        """The session in the Cookie header's *lines*; None also where the name comes twice: one of them is planted.

        Strictly as browsers write it (RFC 6265, 5.4): pairs parted by semicolons, names compared to the letter.
        """
        pairs = (pair.strip(" \t").partition("=") for line in lines for pair in line.split(";"))
        found = [value for name, _, value in pairs if name == self.name]
        return found[0] if len(found) == 1 else None

    def give(self, response: web.StreamResponse, session: Secret, *, lifetime_s: int) -> None:
        """Give the browser its session."""
        response.set_cookie(
            self.name, str(session), max_age=lifetime_s, path="/",
            secure=self.is_secure, httponly=True, samesite="Lax",
        )  # fmt: skip

    def take(self, response: web.StreamResponse) -> None:
        """Take the cookie away again."""
        response.del_cookie(self.name, path="/", secure=self.is_secure, httponly=True, samesite="Lax")
