"""The rules of a site in their one normal form: plain values that the manifest keeps and the edge interprets. No I/O.

Every dialect is compiled into this form once, at publish; see ``services/rules``. Paths that patterns see are
percent-decoded and begin with a slash. A template is text in which ``${name}`` stands for what a pattern or a condition
captured under that name (or number), and ``$$`` for a dollar sign.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

#: Orders to a server in front of us, or about ports: they would have it send its own files, or visitors elsewhere.
ORDERS: Final = frozenset({"alt-svc", "x-accel-redirect", "x-sendfile", "x-lighttpd-send-file"})
#: Headers that no rule sets: they say how a message is framed (RFC 9110, 7.6.1; RFC 9112), or are ours to vouch for.
NEVER_SET: Final = frozenset(
    {
        *("connection", "content-length", "date", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "x-scalemesh-deployment", "x-request-id", "content-encoding"),
        *("content-range", "accept-ranges", "etag", "last-modified", "server"),
        *ORDERS,
    }
)


class Dialect(StrEnum):
    """Whose habits a site follows."""

    DEFAULT = "default"
    VERCEL = "vercel"
    NETLIFY = "netlify"
    CLOUDFLARE = "cloudflare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a rule was written."""

    file: str  #: as its author knows it: "vercel.json", "_redirects", ".vercel/output/config.json"
    line: int = 0  #: from 1; 0: not one line
    text: str = ""  #: the rule as it was written, on one line and cut, for people

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


Check = Literal["exists", "re", "eq", "neq", "inc", "ninc", "pre", "suf", "gt", "gte", "lt", "lte"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something else than the path that a rule asks about."""

    of: Literal["host", "header", "cookie", "query", "language"]
    key: str = ""  #: header names in lower case; empty for host and language
    check: Check = "exists"
    values: tuple[str, ...] = ()  #: "re": one pattern over the whole value, its groups are captured; "inc": any of them
    capture: str = ""  #: the name under which the value is captured


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderChange:
    """What a rule does to one header of the answer."""

    name: str
    value: str = ""  #: a template
    how: Literal["set", "append", "remove"] = "set"  #: append: joined with a comma to what other rules gave it


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: what it matches, and what it does then.

    With *to* and a status of 3xx it redirects. With *to* and another status, or none, it shows what is at *to*: a path
    of the same site, or of another origin where *to* is an absolute URL. With a status alone it ends the visit with
    that. With neither it changes headers, and the next rule has its turn.
    """

    place: Place
    path: str = ""  #: the very path that it matches; else *pattern*
    pattern: str = ""  #: a regular expression over the whole path
    ignores_case: bool = False
    ignores_slash: bool = False  #: of *path*: one more or less at its end makes no difference
    methods: tuple[str, ...] = ()  #: none: every method
    has: tuple[Condition, ...] = ()  #: all must hold
    missing: tuple[Condition, ...] = ()  #: none may hold
    to: str = ""  #: a template: an absolute path or URL, percent-encoded, perhaps with a query
    status: int = 0
    headers: tuple[HeaderChange, ...] = ()  #: of the answer
    goes_on: bool = False  #: the next rule has its turn, whatever this one did
    tries: bool = False  #: where there is no file at *to*, the next rule has its turn, from there
    stops: bool = False  #: no other rule of its list has its turn, though this one neither leads nor answers
    forced: bool = True  #: False: a file at the visited path outweighs this rule
    keeps_credentials: bool = False  #: another origin gets Cookie and Authorization too
    request_headers: tuple[tuple[str, str], ...] = ()  #: what another origin is sent besides; values are templates


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """Paths that ask for a name and a password (Basic-Auth of ``_headers``)."""

    place: Place
    pattern: str
    users: tuple[str, ...]  #: each "name:password"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All rules of a deployment, each list in the order in which it is tried."""

    dialect: Dialect = Dialect.DEFAULT
    clean_urls: bool = False  #: vercel
    trailing_slash: bool | None = None  #: vercel; None: both answer
    pretty_urls: bool = True  #: netlify
    fallback: str = ""  #: the entry that answers unknown page paths (single-page application)
    first: tuple[Rule, ...] = ()  #: before files are looked for
    missed: tuple[Rule, ...] = ()  #: where there is no file
    found: tuple[Rule, ...] = ()  #: where there is one, and for the page of a 404: they change headers
    failed: tuple[Rule, ...] = ()  #: where nothing answers
    protections: tuple[Protection, ...] = ()
    places: tuple[Place, ...] = ()  #: of settings that are no rules (cleanUrls, trailingSlash, ...), by text
