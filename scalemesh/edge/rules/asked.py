"""What rules may ask of a visit. It is remembered whether they asked for more than its target."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Final
from urllib.parse import parse_qsl

from scalemesh.edge.answers import Visit
from scalemesh.edge.targets import Target
from scalemesh.patterns import Budget

MAX_FIELDS: Final = 200  #: of a query: more are not looked at


class Asked:
    """One visit, as the rules see it."""

    def __init__(self, visit: Visit, target: Target) -> None:
        self._visit = visit
        self.method = visit.method
        self.path = f"/{target.path}"  #: decoded
        self.query = target.query
        self.budget = Budget()
        self.needs_more = False  #: the answer depends on more than host, path and query

    @property
    def host(self) -> str:
        return self._visit.host

    @property
    def navigates(self) -> bool:
        """Whether a browser goes there, instead of loading it for a page."""
        self.needs_more = True
        return self._visit.fetch_mode == "navigate"

    def header(self, name: str) -> str | None:
        """*name* in lower case."""
        self.needs_more = True
        return self._visit.headers.get(name)

    def cookie(self, name: str) -> str | None:
        """The first of that name. Whatever other cookies hold, it is found (RFC 6265, 5.4)."""
        self.needs_more = True
        return self._cookies.get(name)

    def field(self, name: str) -> str | None:
        """The first value of a field of the query."""
        return self._fields.get(name)

    @property
    def language(self) -> str:
        """What the visitor likes best to read, in lower case (RFC 9110, 12.5.4); empty where they say nothing."""
        self.needs_more = True
        return self._language

    # Read once, however many rules ask

    @cached_property
    def _cookies(self) -> Mapping[str, str]:
        parts = [part.partition("=") for part in (self.header("cookie") or "").split(";")]
        return {key.strip(): value.strip().strip('"') for key, equals, value in reversed(parts) if equals}

    @cached_property
    def _fields(self) -> Mapping[str, str]:
        return dict(reversed(fields_of(self.query)))

    @cached_property
    def _language(self) -> str:
        weighed = []
        for part in (self.header("accept-language") or "").split(",")[:50]:
            tag, _, parameters = part.partition(";")
            quality = parameters.strip().removeprefix("q=") or "1"
            with suppress(ValueError):
                weighed.append((-float(quality), tag.strip().lower()))
        liked = [tag for quality, tag in sorted(weighed, key=lambda pair: pair[0]) if tag and quality < 0]
        return liked[0] if liked else ""


def fields_of(query: str) -> list[tuple[str, str]]:
    """The fields of *query*, decoded, in their order; of an absurd one none."""
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="replace")
    except ValueError:
        return []


def visit_headers(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Names in lower case; what stands there twice is joined as HTTP allows it."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        joined[key] = f"{joined[key]}{'; ' if key == 'cookie' else ', '}{value}" if key in joined else value
    return joined
