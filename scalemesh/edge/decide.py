"""Decides what a visit is answered: a pure function, shared by every way into the house."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from scalemesh.edge import pages
from scalemesh.edge.answers import Answer, Headers, Passage, Visit
from scalemesh.edge.cookies import host_only
from scalemesh.edge.files import REVALIDATE, File, file_answer, page_answer
from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.rules.outcome import Change, Changes, Forward, Missing, Protected, Redirect, Serve
from scalemesh.edge.rules.trace import Trace
from scalemesh.edge.rules.walk import walk
from scalemesh.edge.site import Site
from scalemesh.edge.targets import Malformed, TooLong, read_target
from scalemesh.patterns import Spent
from scalemesh.rules import NEVER_SET
from scalemesh.services.windows import Former
from scalemesh.values import Entry, HostKind, Route

#: What we vary by is a fact; and a body without a type would be given one by whatever sends it.
NEVER_REMOVED: Final = frozenset({"vary", "content-type"})
TYPED: Final = NEVER_SET | {"content-type"}
READ: Final = frozenset({"GET", "HEAD"})
ALLOWED: Final = "GET, HEAD, OPTIONS"
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
            return _not_read(visit, common, trace)
        if trace is not None:
            trace.note("read the address", None, str(why), matched=True)
        return pages.too_long(visit, common) if isinstance(why, TooLong) else pages.malformed(visit, common)
    try:
        outcome = walk(asked, site.manifest, site.rules, trace, lambda path: site.window.find(path, now))
    except Spent:
        return pages.too_slow(visit, common)
    if isinstance(outcome, Forward):
        return _passage(outcome, common, trace)
    if visit.method not in READ and not (isinstance(outcome, Redirect) and outcome.any_method):
        return _not_read(visit, common, trace)
    if trace is not None:
        trace.outcome = outcome
    answer = _carried_out(outcome, visit, site, common)
    ours = isinstance(answer.body, bytes) and answer.body  # a page of our own, which follows Accept
    is_typed = ours or isinstance(answer.body, tuple)  # by us: a file's type would be a lie
    return Answer(
        status=answer.status,
        headers=changed(answer.headers, _changes_of(outcome), trace, fixed=TYPED if is_typed else NEVER_SET),
        body=answer.body,
        because=answer.because,
        by_target=not (asked.needs_more or ours),
    )


def _not_read(visit: Visit, common: Headers, trace: Trace | None) -> Answer:
    if trace is not None:
        trace.note(f"the method {visit.method}", None, "sites are read, by GET and HEAD", matched=True)
    if visit.method == "OPTIONS":
        return Answer(status=204, headers=(("Allow", ALLOWED), *common), because="OPTIONS")
    return pages.method_not_allowed(visit, (("Allow", ALLOWED), *common))


def _passage(outcome: Forward, common: Headers, trace: Trace | None) -> Passage:
    if trace is not None:
        trace.outcome = outcome
    return Passage(
        url=outcome.url,
        keeps_credentials=outcome.keeps_credentials,
        headers=outcome.request_headers,
        answer_headers=changed(common, outcome.changes, trace),
        because=outcome.because,
    )


def _carried_out(outcome: Serve | Redirect | Missing | Protected, visit: Visit, site: Site, common: Headers) -> Answer:
    because = outcome.because
    if isinstance(outcome, Serve):
        if outcome.former is not None:
            return file_answer(visit, _former_file(outcome.entry, outcome.former, site, because))
        return file_answer(visit, _file(outcome.entry, site, common, because))
    if isinstance(outcome, Redirect):
        headers: Headers = (("Location", outcome.location), REVALIDATE, *common)
        return Answer(status=outcome.status, headers=headers, because=because)
    if isinstance(outcome, Protected):
        return pages.protected(visit, common, because)
    if outcome.page is None:
        return pages.no_such_page(visit, common, because, outcome.status)
    return page_answer(visit, _file(outcome.page, site, common, because), outcome.status)


def _file(entry: Entry, site: Site, common: Headers, because: str) -> File:
    modified = site.manifest.created_at
    return File(entry=entry, encodings=site.encodings, modified=modified, common=common, because=because)


def _former_file(entry: Entry, former: Former, site: Site, because: str) -> File:
    """Its answer names the deployment that it comes from, not the one that is live."""
    common = common_headers(replace(site.route, deployment=former.deployment))
    encodings, modified = site.window.encodings, former.created_at
    return File(entry=entry, encodings=encodings, modified=modified, common=common, because=because)


def _changes_of(outcome: Serve | Redirect | Missing | Protected) -> Changes:
    return () if isinstance(outcome, Protected) else outcome.changes


def changed(
    before: Headers, changes: Changes, trace: Trace | None = None, fixed: Collection[str] = NEVER_SET
) -> Headers:
    """Headers as rules change them, in their order; those that are *fixed*, in lower case, are ours to say."""
    given: dict[str, list[Change]] = {}  #: name in lower case -> what gives it a value; empty: it is removed
    for made in changes:
        key, how = made.change.name.lower(), made.change.how
        if key == "vary":  # what we vary by is a fact: a rule may add to it
            how = "append" if made.value else how
        is_ours = key in fixed or (how == "remove" and key in NEVER_REMOVED)
        if trace is not None:
            trace.changed(made, "ignored" if is_ours else how)
        if is_ours:
            continue
        earlier = given.get(key, []) if how == "append" else []
        joined = [*(one for one in earlier if not one.is_default), made]
        given[key] = [] if how == "remove" else joined
    if not given:
        return before
    kept = [pair for pair in before if pair[0].lower() not in given]
    varies = [value for name, value in before if name.lower() == "vary"]  # a fact: a rule may add to it
    return tuple(kept + [pair for key, made in given.items() for pair in _fields(key, made, varies)])


def _fields(key: str, given: Sequence[Change], varies: Sequence[str]) -> list[tuple[str, str]]:
    """One field, its values joined; Set-Cookie stands for itself each time (RFC 6265, 3)."""
    if key == "vary":
        values = [*varies, *(made.value for made in given if made.value)]
        return [("Vary", ", ".join(values))] if values else []
    if key == "set-cookie":
        cookies = [(made.change.name, host_only(made.value)) for made in given]
        return [(name, cookie) for name, cookie in cookies if cookie is not None]
    return [(given[0].change.name, ", ".join(made.value for made in given))] if given else []


def common_headers(route: Route | None) -> Headers:
    """What every answer of a route's host carries, and what one of no route does."""
    headers: list[tuple[str, str]] = [NOSNIFF]
    if route is not None and route.deployment is not None:
        headers.append(("X-Scalemesh-Deployment", route.deployment))
    if route is None or route.kind in NOT_INDEXED:
        headers.append(("X-Robots-Tag", "noindex"))
    return tuple(headers)
