"""What is asked of every contender: requests as a browser sends them, and what their answers must be."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from tests.bench.serving import sites

SEED: Final = 7
DRAWS: Final = 10_007  #: a prime: on no number of connections does one of them always get the same kind
AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
COMMON: Final = (
    ("Connection", "keep-alive"),
    ("User-Agent", AGENT),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", '"Linux"'),
)
NAVIGATION: Final = (
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-User", "?1"),
    ("Sec-Fetch-Dest", "document"),
)
PART: Final = (
    ("Accept", "*/*"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Mode", "no-cors"),
    ("Sec-Fetch-Dest", "script"),
    ("Referer", "http://localhost/"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One kind of request, and what answers it."""

    path: str
    status: int = 200
    method: str = "GET"
    headers: Sequence[tuple[str, str]] = NAVIGATION
    file: str | None = None  #: of the site: the body must be this one's content
    encoding: str | None = None
    location: str | None = None
    with_tag: bool = False  #: each request carries the ETag that the contender gives its host's file

    @property
    def head(self) -> str:
        """Up to the host name."""
        return f"{self.method} {self.path} HTTP/1.1\r\nHost: "

    @property
    def tail(self) -> str:
        """What follows the host name."""
        return "".join(f"\r\n{name}: {value}" for name, value in (*COMMON, *self.headers)) + "\r\n\r\n"

    def request(self, host: str, tag: str | None = None) -> bytes:
        """The whole of it, to *host*."""
        return f"{self.head}{self.host(host, tag)}{self.tail}".encode()

    def host(self, host: str, tag: str | None) -> str:
        """What stands between head and tail."""
        return host if tag is None else f"{host}\r\nIf-None-Match: {tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a load asks, in which order: a draw is host * len(asks) + ask."""

    asks: Sequence[Ask]
    hosts: Sequence[str]
    draws: Sequence[int]
    made_ahead: bool = True  #: requests are made once and kept; there are too many of them otherwise
    tags: Mapping[str, str] = field(default_factory=dict)  #: host -> ETag


PAGE: Final = Ask(path="/", file=sites.PAGE)
ASSET: Final = Ask(path=f"/{sites.ASSET}", headers=PART, file=sites.ASSET)
FILM: Final = Ask(path=f"/{sites.FILM}", headers=PART, file=sites.FILM)
NOT_MODIFIED: Final = Ask(path="/", status=304, with_tag=True)
STYLE: Final = Ask(path=f"/{sites.STYLE}", headers=PART, file=sites.STYLE, encoding="br")
NOT_FOUND: Final = Ask(path="/no/such/page", status=404, file=sites.LOST)
REDIRECT: Final = Ask(path="/old/post-7", status=301, location="/new/post-7")
PARTIAL: Final = Ask(path=ASSET.path, status=206, headers=(*PART, ("Range", "bytes=100-2147")))
REFUSED: Final = Ask(path="/", status=405, method="POST", headers=(*NAVIGATION, ("Content-Length", "0")))
SLOW: Final = (PARTIAL, REFUSED, REDIRECT)
SLOW_SHARE: Final = 0.1


def evenly(ask: Ask, hosts: Sequence[str]) -> Work:
    """The same of each host in turn."""
    return Work(asks=(ask,), hosts=hosts, draws=range(len(hosts)))


def mixed(hosts: Sequence[str]) -> Work:
    """Pages, and SLOW_SHARE of the requests of any connection are slow ones."""
    drawn = random.Random(SEED)
    asks = (PAGE, *SLOW)
    slow = [1 + number % len(SLOW) if drawn.random() < SLOW_SHARE else 0 for number in range(DRAWS)]
    draws = [(number % len(hosts)) * len(asks) + which for number, which in enumerate(slow)]
    return Work(asks=asks, hosts=hosts, draws=draws)


def by_zipf(asks: Sequence[Ask], hosts: Sequence[str], count: int) -> Work:
    """*count* visits: of hosts by a Zipf law with s = 1, of each host's pages equally often."""
    drawn = random.Random(SEED)
    weights = zipf(len(hosts))
    found = drawn.choices(range(len(hosts)), cum_weights=weights, k=count)
    draws = [host * len(asks) + drawn.randrange(len(asks)) for host in found]
    return Work(asks=asks, hosts=hosts, draws=draws, made_ahead=False)


def spread(asks: Sequence[Ask], hosts: Sequence[str], count: int) -> Work:
    """*count* visits of hosts and their pages equally often, each request made when it is sent, as ``by_zipf``'s."""
    drawn = random.Random(SEED)
    draws = [drawn.randrange(len(hosts) * len(asks)) for _ in range(count)]
    return Work(asks=asks, hosts=hosts, draws=draws, made_ahead=False)


def zipf(count: int) -> list[float]:
    """Cumulative weights of *count* ranks: the first is visited twice as often as the second, and so on."""
    return list(accumulate(1 / rank for rank in range(1, count + 1)))
