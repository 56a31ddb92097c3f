"""Tells a decided visit to people: what it met, what answers, and who set each header. Decides nothing itself."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from scalemesh.edge.answers import Answer, Headers, Passage, Slice, Visit
from scalemesh.edge.reasons import caching_in_words, reason_of
from scalemesh.edge.rules.outcome import Change, Missing, Redirect, Serve
from scalemesh.edge.rules.ruleset import NO_PATH
from scalemesh.edge.rules.trace import Step as Met
from scalemesh.edge.rules.trace import Trace
from scalemesh.edge.wire import own_headers
from scalemesh.services.explaining import Caching, Explanation, Proxied, SentHeader, Step
from scalemesh.values import HostKind, Route

MOST_STEPS: Final = 2000  #: told, besides those that matched; a site may have 20,000 rules
OURS: Final = "Scale Mesh"
_SECRET: Final = re.compile(r"(basic-auth\s*[:=]).*", re.IGNORECASE)
_KINDS: Final = {
    HostKind.PRODUCTION: "the production of the project {}",
    HostKind.BRANCH: "the newest deployment of a branch of the project {}",
    HostKind.PERMALINK: "one deployment of the project {}, for ever",
    HostKind.DOMAIN: "the project {}, whose domain it is",
}


@dataclass(slots=True, kw_only=True)
class Decided:
    """A visit, and all that became of it."""

    visit: Visit
    route: Route | None
    outcome: Answer | Passage
    trace: Trace = field(default_factory=Trace)
    small_bytes: int  #: files up to here are kept in memory


def told(decided: Decided) -> Explanation:
    """The explanation of *decided*."""
    route, outcome, trace = decided.route, decided.outcome, decided.trace
    steps, left_out = _steps(trace.steps)
    shared = Explanation(
        method=decided.visit.method,
        host=decided.visit.host,
        target=decided.visit.target,
        leads_to=_leads_to(decided),
        project=route.project_name if route else None,
        host_kind=route.kind if route else None,
        deployment=route.deployment if route else None,
        dialect=decided.trace.site.rules.rules.dialect if decided.trace.site else None,
        steps=steps,
        steps_left_out=left_out,
        because=outcome.because,
        withheld=_withheld(trace),
    )
    if isinstance(outcome, Passage):
        return _of_passage(shared, outcome, trace)
    return _of_answer(shared, outcome, decided)


def _of_passage(shared: Explanation, passage: Passage, trace: Trace) -> Explanation:
    return replace(
        shared,
        proxied=Proxied(
            url=passage.url,
            keeps_credentials=passage.keeps_credentials,
            request_headers=tuple(name for name, _ in passage.headers),
        ),
        headers=_headers(passage.answer_headers, trace, is_made=False, rule=""),
        caching=Caching(
            control="", says="As the other origin says, or the rules.", same_for_all=False, served_from="origin"
        ),
    )


def _of_answer(shared: Explanation, answer: Answer, decided: Decided) -> Explanation:
    slices = [piece for piece in answer.pieces if isinstance(piece, Slice)]
    file = _file(decided)
    is_made = not slices and not file
    outcome = decided.trace.outcome
    rule = _rule_of(answer, decided.trace) if isinstance(outcome, Redirect) else ""
    control = next((value for name, value in answer.headers if name.lower() == "cache-control"), "")
    return replace(
        shared,
        status=answer.status,
        file=file,
        former_deployment=outcome.former.deployment if isinstance(outcome, Serve) and outcome.former else None,
        headers=_headers(own_headers(answer), decided.trace, is_made=is_made, rule=rule),
        caching=Caching(
            control=control,
            says=caching_in_words(control),
            same_for_all=answer.by_target,
            served_from=_served_from(answer, slices, decided.small_bytes),
        ),
        size_bytes=answer.length,
        sha256=_digest(answer),
    )


def _leads_to(decided: Decided) -> str:
    route = decided.route
    if route is None:
        return f"No site has the host {decided.visit.host or '(none)'}."
    where = f"{route.host} leads to {_KINDS[route.kind].format(route.project_name)}"
    if route.manifest is None:
        state = f": the newest one is {route.waiting}" if route.waiting else " yet"
        return f"{where}; no deployment is ready{state}."
    return f"{where}: {route.deployment}."


def _steps(met: Sequence[Met]) -> tuple[tuple[Step, ...], int]:
    """All that matched, and as many of the others as can be shown; how many were left out."""
    room, kept = MOST_STEPS, []
    for each in met:
        if not each.matched and each.why == NO_PATH:
            room -= 1
            if room < 0:
                continue
        kept.append(
            Step(
                what=_shown(each.what),
                file=each.place.file if each.place else "",
                line=each.place.line if each.place else 0,
                matched=each.matched,
                why=each.why,
            )
        )
    return tuple(kept), len(met) - len(kept)


def _shown(text: str) -> str:
    """*text* of a rule, without a password that its author wrote there."""
    return _SECRET.sub(r"\1 ***", text)


def _rule_of(answer: Answer, trace: Trace) -> str:
    """The place of the rule, or of the setting, that is why; empty where it is a habit of the dialect."""
    places = [str(step.place) for step in trace.steps if step.matched and step.place is not None]
    return next((at for at in reversed(places) if answer.because == at or answer.because.startswith(f"{at}: ")), "")


def _headers(headers: Headers, trace: Trace, *, is_made: bool, rule: str) -> tuple[SentHeader, ...]:
    return tuple(_header(name, value, trace, is_made=is_made, rule=rule) for name, value in headers)


def _header(name: str, value: str, trace: Trace, *, is_made: bool, rule: str) -> SentHeader:
    made = trace.set_by.get(name.lower())
    if made:
        made = [each for each in made if not each.is_default] or made  # a default gives way to rules
        return SentHeader(name=name, value=value, by=_places(made), why=_how(value, made))
    if rule and name == "Location":
        return SentHeader(name=name, value=value, by=rule, why="where it leads")
    return SentHeader(name=name, value=value, by=OURS, why=reason_of(name, value, is_made=is_made))


def _how(value: str, made: Sequence[Change]) -> str:
    if value == made[-1].value:
        return "set by a rule"
    return "joined from several rules" if len(made) > 1 else "joined with our own"


def _places(made: Sequence[Change]) -> str:
    return ", ".join(dict.fromkeys(str(each.place) for each in made))


def _withheld(trace: Trace) -> tuple[SentHeader, ...]:
    removed = [(made, "removed by a rule") for made in trace.removed.values()]
    ignored = [
        (made, "no rule may set it: it says how the message is framed, or who answers") for made in trace.ignored
    ]
    return tuple(
        SentHeader(name=made.change.name, value=made.value, by=str(made.place), why=why)
        for made, why in (*removed, *ignored)
    )


def _file(decided: Decided) -> str:
    """The path of the entry that was chosen; empty where it is none of the manifest's."""
    outcome = decided.trace.outcome
    return outcome.path if isinstance(outcome, Serve | Missing) else ""


def _served_from(answer: Answer, slices: Sequence[Slice], small_bytes: int) -> str:
    if not answer.length:
        return "nothing"
    if not slices:
        return "made"
    return "file" if max(piece.size_bytes for piece in slices) > small_bytes else "memory"


def _digest(answer: Answer) -> str | None:
    body = answer.body
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest()
    return body.sha256 if isinstance(body, Slice) and answer.length == body.size_bytes else None
