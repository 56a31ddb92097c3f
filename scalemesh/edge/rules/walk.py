"""The one way of a visit through the rules of its site, whatever their dialect.

Protected paths; the rules before files; files; the rules for what is not there; what answers the rest. Each rule
that is tried is noted for ``explain``, where somebody asks.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl, unquote

from scalemesh.edge.rules import cloudflare, default, netlify, vercel
from scalemesh.edge.rules.asked import Asked, fields_of
from scalemesh.edge.rules.habits import Habits
from scalemesh.edge.rules.outcome import Change, Changes, Forward, Missing, Outcome, Protected, Redirect, Serve
from scalemesh.edge.rules.protection import may_enter
from scalemesh.edge.rules.ruleset import NO_PATH, Captures, Phase, Ready, Ruleset, filled, filled_address, in_header
from scalemesh.edge.rules.trace import Trace
from scalemesh.edge.targets import Malformed, read_target, write_target
from scalemesh.patterns import Budget
from scalemesh.rules import Dialect, HeaderChange, Place, Rule
from scalemesh.services.content_types import HTML, is_asset
from scalemesh.services.windows import Former
from scalemesh.values import Entry, Manifest

DIALECTS: Final[Mapping[Dialect, Habits]] = {
    Dialect.DEFAULT: default.HABITS,
    Dialect.VERCEL: vercel.HABITS,
    Dialect.NETLIFY: netlify.HABITS,
    Dialect.CLOUDFLARE: cloudflare.HABITS,
}
ABSOLUTE: Final = ("http://", "https://")
LOOK_EVERY: Final = 32  #: rules that are tried between two looks at the time
PRIVATE: Final = "private, max-age=0, must-revalidate"
PRIVATE_FOR_EVER: Final = "private, max-age=31536000, immutable"
GUARD: Final = "Basic-Auth"  #: never as it was written: passwords stand there


#: path -> the file that a former production deployment still answers there
Kept = Callable[[str], tuple[Former, Entry] | None]


def walk(
    asked: Asked, manifest: Manifest, ruleset: Ruleset, trace: Trace | None = None, kept: Kept = lambda _path: None
) -> Outcome:
    """What the rules say of *asked*. They are tried in their order, each at most once.

    A file that *kept* has counts as one of the site's own, where the site has none of that path any more.
    """
    return _Walk(asked, manifest, ruleset, trace, kept).outcome()


class _Walk:
    def __init__(
        self,
        asked: Asked,
        manifest: Manifest,
        ruleset: Ruleset,
        trace: Trace | None,
        kept: Kept,
        *,
        is_inner: bool = False,
    ) -> None:
        self._asked, self._manifest, self._ruleset, self._trace, self._kept = asked, manifest, ruleset, trace, kept
        self._rules = ruleset.rules
        self._is_inner = is_inner  #: it only looks whether something answers
        self._habits = DIALECTS[ruleset.rules.dialect]
        self._path = asked.path[1:]  #: where files are looked for; a rule may lead elsewhere
        self._status = 0  #: of the answer, where a rule said so
        self._changes: list[Change] = []
        self._guard: Place | None = None  #: of the protection that let the visitor in

    def outcome(self) -> Outcome:
        if (refused := self._protected()) is not None:
            return refused
        if (proper := self._proper()) is not None:
            return proper
        follows = self._habits.rematches
        found = self._try_all(self._ruleset.first, follows=follows) or self._file()
        if found is None:
            found = self._try_all(self._ruleset.missed, follows=follows)
        if found is None or _lacks_page(found) or self._is_page_for_asset(found):
            found = self._try_all(self._ruleset.failed) or self._lacking()
        return self._with_headers(found)

    def _protected(self) -> Protected | None:
        path = re.sub("/{2,}", "/", self._asked.path)  # some rules and habits take them for one
        for guard in self._ruleset.guards:
            covers = guard.covers(path, self._asked.budget)
            place = guard.protection.place
            if covers and not may_enter(self._asked.header("authorization"), guard.protection.users):
                self._note(GUARD, place, "a name and a password are needed", matched=True)
                return Protected(because=str(place))
            self._guard = place if covers else self._guard
            self._note(GUARD, place, "the visitor may enter" if covers else NO_PATH)
        return None

    def _proper(self) -> Redirect | None:
        """The address that the site's settings want, if anything answers there: nobody is sent on to a 404."""
        asked = self._asked
        wanted = (
            self._habits.proper(asked.path[1:], self._rules) if self._habits.proper and not self._is_inner else None
        )
        if wanted is None:
            return None
        path, setting = wanted
        place = next((place for place in self._rules.places if place.text == setting), None)
        there = copy(asked)
        there.path = f"/{path}"
        inner = _Walk(there, self._manifest, self._ruleset, None, self._kept, is_inner=True).outcome()
        asked.needs_more |= there.needs_more
        if isinstance(inner, Missing):
            self._note(setting, place, f"/{path} would be the address, but nothing answers there")
            return None
        self._note(setting, place, f"the address is /{path}", matched=True)
        location = write_target(path, asked.query)
        because = f"{place or self._rules.dialect}: {setting}"
        return Redirect(location=location, status=308, because=because, any_method=isinstance(inner, Forward))

    def _try_all(self, phase: Phase, *, follows: bool = False) -> Outcome | None:
        """The outcome of the first rule that has one, or the file that outweighs it; None if there is neither.

        *follows*: they see the path that rules before them led to.
        """
        for ready in _paced(self._in_turn(phase, follows=follows), self._asked.budget):
            rule = ready.rule
            captures, why = ready.match(self._asked, f"/{self._path}" if follows else None)
            if captures is None:
                self._note(rule.place.text, rule.place, why)
                continue
            if not rule.forced and (file := self._find(self._path)) is not None:
                self._note(rule.place.text, rule.place, "matches, but a file is there", matched=False)
                self._note(f"look for a file at /{self._path}", None, file.because, matched=True)
                return file
            self._note(rule.place.text, rule.place, why, matched=True)
            outcome = self._apply(rule, captures)
            if outcome is not None:
                return outcome
            if rule.tries:
                if (there := self._file()) is not None:
                    return there
            elif rule.stops or ((rule.to or rule.status) and not rule.goes_on and not 300 <= rule.status < 400):
                return self._file() if rule.to else None
        return None

    def _in_turn(self, phase: Phase, *, follows: bool) -> Iterator[Ready]:
        """The rules that may match, in their order; all of them where each is to be noted."""
        if phase.is_empty:
            return
        if self._trace is not None:
            yield from phase
            return
        past = 0
        while True:
            path = f"/{self._path}" if follows else self._asked.path
            for number in phase.reachable(path, past):
                past = number + 1
                yield phase[number]
                if follows and f"/{self._path}" != path:
                    break  # that rule led elsewhere: others may match from here on
            else:
                return

    def _apply(self, rule: Rule, captures: Captures) -> Outcome | None:
        """Do what *rule* says. None: it changed headers, or leads to another file."""
        because, budget = str(rule.place), self._asked.budget
        for change in rule.headers:
            value = filled(change.value, captures, budget, escape=in_header)
            self._changes.append(Change(change, value, rule.place))
        if not rule.to:
            return Missing(page=None, status=rule.status, because=because) if rule.status and not rule.goes_on else None
        url = filled_address(rule.to, captures, budget)
        is_far = rule.to.lower().startswith(ABSOLUTE)  # of the template: what a visitor sent names no origin
        url = url if is_far else on_this_host(url)
        if 300 <= rule.status < 400:
            any_method = self._habits.redirects_any_method
            location = self._with_query(url)
            if not rule.headers and self._is_here(location):
                self._note(rule.place.text, rule.place, "it leads to where the visitor is", matched=False)
                return None
            return Redirect(location=location, status=rule.status, because=because, any_method=any_method)
        if is_far:
            if climbs(url):
                return Missing(page=None, because=f"{because}: what the visitor sent would climb in the other origin")
            sent = tuple(
                (name, filled(value, captures, budget, escape=in_header)) for name, value in rule.request_headers
            )
            return Forward(
                url=self._with_query(url),
                because=because,
                keeps_credentials=rule.keeps_credentials,
                request_headers=sent,
            )
        return self._lead_to(url, rule)

    def _lead_to(self, url: str, rule: Rule) -> Outcome | None:
        """Look for files at *url* from now on."""
        try:
            self._path = read_target(url).path
        except Malformed:
            self._note(url, rule.place, "it leads to no path of this site")
            return Missing(page=None, because=str(rule.place))
        self._status = rule.status or self._status
        return None

    def _file(self) -> Outcome | None:
        found = self._find(self._path)
        words = f"look for a file at /{self._path}"
        self._note(words, None, found.because if found else "there is none", matched=found is not None)
        if isinstance(found, Serve) and self._status not in (0, 200):
            return Missing(page=found.entry, path=found.path, status=self._status, because=found.because)
        return found

    def _find(self, path: str) -> Serve | Redirect | None:
        is_led = path != self._asked.path[1:]
        find = self._habits.find_led if is_led and self._habits.find_led else self._habits.find
        found = find(path, self._asked.query, self._manifest, self._rules)
        if found is not None or (kept := self._kept(path)) is None:
            return found
        former, entry = kept
        self._asked.needs_more = True  # what is kept ends with time
        return Serve(entry=entry, because=f"asset window: {path} of {former.deployment}", path=path, former=former)

    def _is_page_for_asset(self, found: Outcome) -> bool:
        """A missing asset never answers as a page, whatever a rule says: a browser would take it for the asset."""
        path = self._asked.path[1:]
        shown = _shown_as_found(found)
        if shown is None or self._path == path or not shown.content_type.startswith(HTML) or not is_asset(path):
            return False
        if self._asked.navigates:
            return False
        self._note(f"/{path}", None, "a page is what a rule leads to, and an asset was asked for")
        return True

    def _lacking(self) -> Outcome:
        outcome = self._habits.lacking(self._asked, self._manifest, self._rules)
        self._note("nothing answered so far", None, outcome.because, matched=True)
        return outcome

    def _with_headers(self, outcome: Outcome) -> Outcome:
        is_found = isinstance(outcome, Serve) or (isinstance(outcome, Missing) and self._habits.changes_missing)
        if is_found:
            self._try_all(self._ruleset.found)
        if isinstance(outcome, Protected):
            return outcome
        changes = (*self._habits.sets, *self._kept_private(outcome), *self._changes)
        return replace(outcome, changes=changes) if changes else outcome

    def _kept_private(self, outcome: Outcome) -> Changes:
        """A cache between us and others would show a protected file to everybody."""
        if self._guard is None or not isinstance(outcome, Serve):
            return ()
        value = PRIVATE_FOR_EVER if outcome.entry.immutable else PRIVATE
        return (Change(HeaderChange(name="Cache-Control", value=value), value, self._guard, is_default=True),)

    def _with_query(self, url: str) -> str:
        """*url* with the visitor's query: all of it where the URL has none, else as the dialect has it."""
        query = self._asked.query
        bare, hash_, fragment = url.partition("#")
        if query and "?" not in bare:
            bare = f"{bare}?{query}"
        elif query and self._habits.merges_query:
            own = {name for name, _ in parse_qsl(bare.partition("?")[2], keep_blank_values=True)}
            more = [part for part in query.split("&") if own.isdisjoint(name for name, _ in fields_of(part))]
            bare = "&".join([bare, *more])
        return f"{bare}{hash_}{fragment}"

    def _is_here(self, location: str) -> bool:
        """Whether *location* is the very address that was asked for: a browser would go round and round."""
        path, _, query = location.partition("#")[0].partition("?")
        return query == self._asked.query and unquote(path) == self._asked.path

    def _note(self, what: str, place: Place | None, why: str, *, matched: bool = False) -> None:
        if self._trace is not None:
            self._trace.note(what, place, why, matched=matched)


def _paced(rules: Iterable[Ready], budget: Budget) -> Iterator[Ready]:
    """*rules*, as long as there is time for them; else raises Spent."""
    for count, ready in enumerate(rules, 1):
        if count % LOOK_EVERY == 0:
            budget.go_on()
        yield ready


def _shown_as_found(outcome: Outcome) -> Entry | None:
    """The file that *outcome* shows with a status that says that all is well."""
    if isinstance(outcome, Serve):
        return outcome.entry
    return outcome.page if isinstance(outcome, Missing) and outcome.status < 400 else None


def _lacks_page(outcome: Outcome) -> bool:
    """Whether a rule said 404, and left the page to the site."""
    return isinstance(outcome, Missing) and outcome.page is None and outcome.status == 404


def climbs(url: str) -> bool:
    """Whether a part of the path of *url* is ``.`` or ``..``: the visitor wrote it, and its author did not."""
    path = url.partition("#")[0].partition("?")[0].partition("://")[2]
    return not {".", ".."}.isdisjoint(path.split("/")[1:])


def on_this_host(url: str) -> str:
    """*url* with one slash in front: two would name another host, which the visitor chose."""
    return "/" + url.lstrip("/\\")
