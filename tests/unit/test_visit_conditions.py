"""Conditional requests: 304 exactly where the visitor's copy still holds."""

from datetime import UTC, datetime

import pytest

from scalemesh.edge.answers import Visit
from scalemesh.edge.conditions import etag_of, http_date, is_current, range_applies
from scalemesh.values import Digest

ETAG = etag_of(Digest("ab" * 32))
MODIFIED = http_date(datetime(1994, 11, 6, 8, 49, 37, 999_999, tzinfo=UTC))


def test_a_date_is_written_as_http_writes_it() -> None:
    assert MODIFIED == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("sent", "current"),
    [
        (ETAG, True),
        (f"W/{ETAG}", True),
        ("*", True),
        (" * ", True),
        (f'"x", {ETAG} , W/"y"', True),
        (f'"a,b",{ETAG}', True),
        ('"x"', False),
        ("", False),
        (ETAG.strip('"'), False),
        (f'"x{ETAG[1:]}', False),
        ('"*"', False),
    ],
)
def test_tags_are_compared_weakly_and_as_a_list(sent: str, current: bool) -> None:
    assert is_current(Visit(method="GET", target="/", if_none_match=sent), ETAG, MODIFIED) is current


@pytest.mark.parametrize(
    ("sent", "current"),
    [
        (MODIFIED, True),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True),
        ("Sun Nov  6 08:49:37 1994", True),
        ("Sun, 06 Nov 1994 08:49:36 GMT", False),
        ("Mon, 07 Nov 1994 08:49:37 GMT", False),  # a newer copy: the site was rolled back
        ("yesterday", False),
        ("", False),
        ("Sun, 06 Nov 99999999999 08:49:37 GMT", False),
        ("0", False),
    ],
)
def test_a_date_holds_only_if_it_is_the_very_date(sent: str, current: bool) -> None:
    assert is_current(Visit(method="GET", target="/", if_modified_since=sent), ETAG, MODIFIED) is current


def test_a_date_does_not_count_where_tags_were_sent() -> None:
    visit = Visit(method="GET", target="/", if_none_match='"old"', if_modified_since=MODIFIED)
    assert not is_current(visit, ETAG, MODIFIED)


def test_without_a_condition_nothing_is_current() -> None:
    assert not is_current(Visit(method="GET", target="/"), ETAG, MODIFIED)


@pytest.mark.parametrize(
    ("sent", "applies"),
    [
        (None, True),
        (ETAG, True),
        (f"W/{ETAG}", False),
        ('"x"', False),
        (MODIFIED, True),
        ("Sun, 06 Nov 1994 08:49:38 GMT", False),
        ("nonsense", False),
    ],
)
def test_a_range_is_followed_only_for_the_very_same_bytes(sent: str | None, applies: bool) -> None:
    assert range_applies(Visit(method="GET", target="/", if_range=sent), ETAG, MODIFIED) is applies
