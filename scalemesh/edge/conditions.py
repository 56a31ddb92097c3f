"""Conditional requests (RFC 9110, 13): does the visitor's copy still hold?"""

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import Final

from scalemesh.edge.answers import Visit
from scalemesh.values import Digest

_TAGS: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def etag_of(sha256: Digest, coding: str | None = None) -> str:
    """The strong entity tag of a file, as it is or encoded: different bytes never share one."""
    return f'"{sha256}"' if coding is None else f'"{sha256}-{coding}"'


@lru_cache(4096)
def http_date(at: datetime) -> str:
    """*at* (UTC) as HTTP writes it."""
    return format_datetime(at, usegmt=True)


def is_current(visit: Visit, etag: str, modified: str) -> bool:
    """Whether the visitor already has it, so that 304 says all. Dates count only where no tags were sent."""
    if visit.if_none_match is not None:
        return visit.if_none_match.strip() == "*" or etag in _TAGS.findall(visit.if_none_match)
    # The very date, not any later one: after a rollback the copy at hand is newer than what is live.
    return visit.if_modified_since is not None and _same_date(visit.if_modified_since, modified)


def range_applies(visit: Visit, etag: str, modified: str) -> bool:
    """Whether a Range may be followed: without If-Range always, else only for the very same bytes."""
    if visit.if_range is None:
        return True
    wanted = visit.if_range.strip()
    return wanted == etag or ('"' not in wanted and _same_date(wanted, modified))


def _same_date(one: str, other: str) -> bool:
    return one == other or ((at := _date(one)) is not None and at == _date(other))


def _date(text: str) -> datetime | None:
    """A date in any of the three forms that HTTP knows (RFC 9110, 5.6.7)."""
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
