"""Decides what a visit is answered: a pure function, shared by every way into the house."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from scalemesh.edge import pages
from scalemesh.edge.answers import Answer, Headers, Passage, Slice, Visit
from scalemesh.edge.conditions import etag_of, http_date, is_current, range_applies
from scalemesh.edge.ranges import Span, Unsatisfiable, asked_span
from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.rules.outcome import Changes, Forward, Missing, Protected, Redirect, Serve
from scalemesh.edge.rules.trace import Trace
from scalemesh.edge.rules.walk import walk
from scalemesh.edge.site import Site
from scalemesh.edge.targets import Malformed, TooLong, read_target
from scalemesh.patterns import Spent
from scalemesh.rules import NEVER_SET
from scalemesh.values import Entry, HostKind, Manifest, Route

READ: Final = frozenset({"GET", "HEAD"})
ALLOWED: Final = "GET, HEAD, OPTIONS"
REVALIDATE: Final = ("Cache-Control", "public, max-age=0, must-revalidate")
FOR_EVER: Final = ("Cache-Control", "public, max-age=31536000, immutable")
NO_STORE: Final = ("Cache-Control", "no-store")
NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")

NOT_INDEXED: Final = frozenset({HostKind.PERMALINK, HostKind.BRANCH})


def decide(visit: Visit, site: Site, now: datetime, trace: Trace | None = None) -> Answer | Passage:
    """The answer to *visit* on *site*, at the time *now*; *trace* notes how it came about.

    HEAD is answered as GET is; whoever sends the answer leaves the body out.
    """
    common = common_headers(site.route)
    try:
        asked = Asked(visit, read_target(visit.target))
    except Malformed as why:
        if visit.method not in READ:
            return _not_read(visit, common)
        return pages.too_long(visit, common) if isinstance(why, TooLong) else pages.malformed(visit, common)
    try:
        outcome = walk(asked, site.manifest, site.rules, trace)
    except Spent:
        return pages.too_slow(visit, common)
    if isinstance(outcome, Forward):
        return _passage(outcome, common)
    if visit.method not in READ and not (isinstance(outcome, Redirect) and outcome.any_method):
        return _not_read(visit, common)
    answer = changed(_carried_out(outcome, visit, site.manifest, common), _changes_of(outcome))
    ours = isinstance(answer.body, bytes) and answer.body  # a page of our own, which follows Accept
    return replace(answer, by_target=not asked.needs_more and not ours)


def _not_read(visit: Visit, common: Headers) -> Answer:
    if visit.method == "OPTIONS":
        return Answer(status=204, headers=(("Allow", ALLOWED), *common), because="OPTIONS")
    return pages.method_not_allowed(visit, (("Allow", ALLOWED), *common))


def _passage(outcome: Forward, common: Headers) -> Passage:
    changes = tuple((made.change.name, made.value) for made in outcome.changes if made.change.how != "remove")
    return Passage(
        url=outcome.url,
        keeps_credentials=outcome.keeps_credentials,
        headers=outcome.request_headers,
        answer_headers=(*common, *changes),
        because=outcome.because,
    )


def _carried_out(
    outcome: Serve | Redirect | Missing | Protected, visit: Visit, manifest: Manifest, common: Headers
) -> Answer:
    because = outcome.because
    if isinstance(outcome, Serve):
        return _file(visit, outcome.entry, manifest, common, because)
    if isinstance(outcome, Redirect):
        headers: Headers = (("Location", outcome.location), REVALIDATE, *common)
        return Answer(status=outcome.status, headers=headers, because=because)
    if isinstance(outcome, Protected):
        return pages.protected(visit, common, because)
    if outcome.page is None:
        return pages.no_such_page(visit, common, because, outcome.status)
    headers = (("Content-Type", outcome.page.content_type), NO_STORE, *common)
    return Answer(status=outcome.status, headers=headers, body=_whole(outcome.page), because=because)


def _changes_of(outcome: Serve | Redirect | Missing | Protected) -> Changes:
    return () if isinstance(outcome, Protected) else outcome.changes


def changed(answer: Answer, changes: Changes) -> Answer:
    """*answer* with its headers as rules change them, in their order; how a message is framed is ours to say."""
    if not changes:
        return answer
    headers = list(answer.headers)
    for made in changes:
        name, how = made.change.name, made.change.how
        if name.lower() in NEVER_SET:
            continue
        before = [value for key, value in headers if key.lower() == name.lower()]
        headers = [pair for pair in headers if pair[0].lower() != name.lower()]
        if how != "remove":
            headers.append((name, ", ".join([*before, made.value]) if how == "append" else made.value))
    return replace(answer, headers=tuple(headers))


def common_headers(route: Route | None) -> Headers:
    """What every answer of a route's host carries, and what one of no route does."""
    headers: list[tuple[str, str]] = [NOSNIFF]
    if route is not None and route.deployment is not None:
        headers.append(("X-Scalemesh-Deployment", route.deployment))
    if route is None or route.kind in NOT_INDEXED:
        headers.append(("X-Robots-Tag", "noindex"))
    return tuple(headers)


def _file(visit: Visit, entry: Entry, manifest: Manifest, common: Headers, because: str) -> Answer:
    etag, modified = etag_of(entry.sha256), http_date(manifest.created_at)
    validators = (
        ("ETag", etag),
        ("Last-Modified", modified),
        FOR_EVER if entry.immutable else REVALIDATE,
        *common,
    )
    if is_current(visit, etag, modified):
        return Answer(status=304, headers=validators, because=because)
    try:
        span = _span(visit, entry, etag, modified)
    except Unsatisfiable:
        bounds = (("Content-Range", f"bytes */{entry.size_bytes}"), *common)
        return pages.range_not_satisfiable(visit, bounds)
    headers = (("Content-Type", entry.content_type), ("Accept-Ranges", "bytes"), *validators)
    if span is None:
        return Answer(status=200, headers=headers, body=_whole(entry), because=because)
    part = ("Content-Range", f"bytes {span.start}-{span.stop - 1}/{entry.size_bytes}")
    return Answer(status=206, headers=(part, *headers), body=_slice(entry, span.start, span.stop), because=because)


def _span(visit: Visit, entry: Entry, etag: str, modified: str) -> Span | None:
    if visit.range is None or not range_applies(visit, etag, modified):
        return None
    return asked_span(visit.range, entry.size_bytes)


def _whole(entry: Entry) -> Slice:
    return _slice(entry, 0, entry.size_bytes)


def _slice(entry: Entry, start: int, stop: int) -> Slice:
    return Slice(sha256=entry.sha256, size_bytes=entry.size_bytes, start=start, stop=stop)
