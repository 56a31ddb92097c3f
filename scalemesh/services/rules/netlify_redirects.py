"""What Netlify's redirects mean, in the normal form."""

import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote_plus, urlsplit

from scalemesh.rules import NEVER_SET, Condition, Rule
from scalemesh.services.rules.headers import is_name
from scalemesh.services.rules.notebook import Notebook, Unfit
from scalemesh.services.rules.placeholders import (
    NAME,
    netlify_source,
    template_of,
    unknown_names,
    value_template,
)
from scalemesh.services.rules.redirects_file import Redirection

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MOST: Final = 15_000  #: redirects of one site
MOST_PATTERNS: Final = 3_000  #: of them those with placeholders, splats or conditions
MOST_VALUES: Final = 20  #: of one condition
_LANGUAGE: Final = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*")


def compile_redirects(redirections: Iterable[Redirection], notes: Notebook) -> tuple[Rule, ...]:
    """The rules of *redirections*, in their order. Those that cannot be honoured are noted."""
    found: list[Rule] = []
    patterns = 0
    for redirection in redirections:
        if len(found) >= MOST or patterns >= MOST_PATTERNS:
            most = f"{MOST:,} redirects, {MOST_PATTERNS:,} of them with placeholders or conditions"
            notes.left_out(
                redirection.place, Unfit(f"a site has at most {most}; this one and what follows is too many.")
            )
            break
        try:
            rules = _rules_of(redirection, notes)
        except Unfit as why:
            notes.left_out(redirection.place, why)
            continue
        found += rules
        patterns += sum(bool(rule.pattern or rule.has) for rule in rules)
    return tuple(found)


def _rules_of(wanted: Redirection, notes: Notebook) -> list[Rule]:
    host, path = _split_source(wanted.source)
    source = netlify_source(path)
    query = [_query_condition(name, value) for name, value in wanted.query.items()]
    captured = [condition.capture for condition in query if condition.capture]
    names = [*source.names, *captured]
    if len(set(names)) < len(names):
        raise Unfit("a placeholder stands there twice.", "a name of its own for each placeholder")
    status = wanted.status or 301
    target = _target(wanted, path, status)
    _check(host, path, target, status)
    if unknown := unknown_names(target, names):
        notes.limited(wanted.place, f":{unknown[0]} stands in the target as it is: nothing captures it.")
    asked = [Condition(of="host", check="eq", values=(host,))] if host else []
    return [
        Rule(
            place=wanted.place,
            path=source.path,
            ignores_slash=bool(source.path),
            pattern=source.pattern,
            has=(*asked, *query, *conditions),
            to=template_of(target, names) if target else "",
            status=status,
            forced=wanted.forced,
            request_headers=_request_headers(wanted, names),
        )
        for conditions in _alternatives(wanted)
    ]


def _split_source(written: str) -> tuple[str, str]:
    """Host (empty: any) and path."""
    if not written.startswith(("http://", "https://")):
        path = written if written.startswith("/") else f"/{written}"
        host = ""
    else:
        rest = written.partition("://")[2]
        authority, slash, path = rest.partition("/")
        path = slash + path or "/"
        try:
            host = (urlsplit(f"//{authority}").hostname or "").encode("idna").decode()
        except ValueError:
            host = ""
        if not host or NAME.search(host) or "*" in host:
            raise Unfit(f"{authority[:80]!r} is no host.", "a host name in full")
    if "?" in path or "#" in path:
        raise Unfit("the path holds a ? or a #.", "fields of the query behind the path, as in: /path id=:id /target")
    if path.startswith("/.netlify"):
        raise Unfit("paths below /.netlify are Netlify's own.")
    return host, path


def _target(wanted: Redirection, path: str, status: int) -> str:
    """The target, also where it was left out: then 200 means the path itself, an error status means no page."""
    if wanted.target is not None:
        return wanted.target
    if status in REDIRECTS:
        raise Unfit("the rule has no target.", "where it leads to")
    return re.sub(r"\*$", ":splat", path) if status == 200 else ""


def _check(host: str, path: str, target: str, status: int) -> None:
    if status not in REDIRECTS and status != 200 and not 400 <= status <= 599:
        raise Unfit(f"a rule with status {status} is not served.", "200, 301, 302, 303, 307, 308, 404 or another error")
    if target.startswith("/.netlify/"):
        raise Unfit("functions, and what else lies below /.netlify, are not served.")
    is_far = not target.startswith("/") and bool(target)
    if is_far and status not in REDIRECTS and status != 200:
        raise Unfit(f"another origin cannot answer with status {status}.", "200, or a path of this site")
    if status not in REDIRECTS:
        return
    there = re.sub(r"^https?://[^/]*", "", target) or "/" if is_far else target
    to_host = (target.partition("://")[2].partition("/")[0].partition(":")[0]).lower() if is_far else ""
    here = re.sub(r"\*$", ":splat", path)
    if there.rstrip("/") == here.rstrip("/") and to_host == host:
        instead = "nothing: that visits use HTTPS is for the server, or the proxy before it" if host else ""
        raise Unfit("the rule leads to itself; neither the scheme nor a slash at the end makes a difference.", instead)


def _query_condition(name: str, value: str) -> Condition:
    key = unquote_plus(name)
    if found := NAME.fullmatch(value):
        return Condition(of="query", key=key, capture=found[1])
    return Condition(of="query", key=key, check="eq", values=(unquote_plus(value),))


def _alternatives(wanted: Redirection) -> list[tuple[Condition, ...]]:
    """What must hold besides: one tuple for each cookie of which any will do."""
    for name in wanted.conditions:
        if name in ("country", "role"):
            words = "where a visitor comes from" if name == "country" else "the roles of visitors"
            raise Unfit(f"the condition {name.capitalize()} is not available: nothing here knows {words}.")
        if name not in ("language", "cookie"):
            raise Unfit(f"the condition {name[:40]!r} is not known.", "Language or Cookie")
    if any(len(values) > MOST_VALUES for values in wanted.conditions.values()):
        raise Unfit(f"a condition has more than {MOST_VALUES} values.", "several rules")
    languages = tuple(wanted.conditions.get("language", ()))
    if not all(_LANGUAGE.fullmatch(value) for value in languages):
        raise Unfit("the condition Language names no language.", "Language=en,de")
    always = (Condition(of="language", values=languages),) if languages else ()
    cookies: Sequence[str] = wanted.conditions.get("cookie", ())
    if not all(cookies):
        raise Unfit("the condition Cookie has an empty name.", "Cookie=first,second")
    return [(*always, Condition(of="cookie", key=name)) for name in cookies] or [always]


def _request_headers(wanted: Redirection, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    for name, value in wanted.request_headers.items():
        if not is_name(name) or name.lower() in NEVER_SET or name.lower() == "host":
            raise Unfit(f"the header {name[:60]!r} cannot be sent to another origin.")
        if not (value.isascii() and value.isprintable() and len(value) <= 8192):
            raise Unfit(f"the value of the header {name[:60]!r} cannot be sent.", "printable ASCII on one line")
    return tuple((name, value_template(value, names)) for name, value in wanted.request_headers.items())
