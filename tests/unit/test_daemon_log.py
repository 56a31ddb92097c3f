"""The daemon's own log: one line an event, and nothing in it that a stranger could write."""

import logging

from aiohttp.http_exceptions import BadStatusLine

from scalemesh.daemon import Fields, is_ours_to_mend


def record(error: Exception | None = None, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord(
        "x", logging.ERROR, "x.py", 1, "it failed", (), (type(error), error, None) if error else None
    )
    vars(made).update(fields)
    return made


def test_fields_follow_the_event() -> None:
    assert Fields("%(message)s").format(record(deployment="dpl_a", tries=2)) == "it failed deployment=dpl_a tries=2"


def test_a_field_never_begins_a_line_of_its_own() -> None:
    shown = Fields("%(message)s").format(record(path="/x\n2026-01-01 INFO forged \x1b[2J"))
    assert shown == "it failed path='/x\\n2026-01-01 INFO forged \\x1b[2J'"


def test_who_speaks_no_http_fills_no_log() -> None:
    assert not is_ours_to_mend(record(BadStatusLine("x")))
    assert is_ours_to_mend(record(ValueError("a bug")))
    assert is_ours_to_mend(record())


def test_a_store_that_is_away_fills_no_log_with_each_try() -> None:
    tried = logging.LogRecord("urllib3.connectionpool", logging.WARNING, "x.py", 1, "Retrying", (), None)
    assert not is_ours_to_mend(tried)
    failed = logging.LogRecord("urllib3.connectionpool", logging.ERROR, "x.py", 1, "failed", (), None)
    assert is_ours_to_mend(failed)
