"""Reads the rule files of the dialect cloudflare: ``_redirects`` and ``_headers``, as Cloudflare Pages does.

Its reading is open source (cloudflare/workers-sdk, pages-shared, metadata-generator); limits and order are those.
"""

import re
from typing import Final

from scalemesh.rules import Condition, Dialect, HeaderChange, Rule, Rules
from scalemesh.services.rules.compiled import Compiled
from scalemesh.services.rules.headers_file import BASIC_AUTH, Block, blocks_of, change_of
from scalemesh.services.rules.lines import lines_of
from scalemesh.services.rules.notebook import Notebook, Unfit, place_of
from scalemesh.services.rules.placeholders import (
    NAME,
    Source,
    cloudflare_source,
    template_of,
    unknown_names,
)
from scalemesh.services.rules.redirects_file import Redirection, cloudflare_line
from scalemesh.services.rules.sources import Sources

MAX_LINE: Final = 2000  #: characters
MOST_STATIC: Final = 2000
MOST_DYNAMIC: Final = 100
MOST_HEADER_RULES: Final = 100
_NOT_RUN: Final = ("_worker.js", "_worker.js/index.js", "_routes.json")


def read(sources: Sources) -> Compiled:
    """The rules of a site of this dialect. What cannot be honoured is noted.

    Raises:
        RulesError: something was to be protected by Basic-Auth, which cannot be told.
    """
    notes = Notebook()
    for path in _NOT_RUN:
        if path in sources.paths:
            notes.left_out(place_of(path, 0, path), Unfit("functions are not served."))
    rules = Rules(
        dialect=Dialect.CLOUDFLARE,
        first=_redirects(sources.text("_redirects") or "", notes),
        found=_headers(sources.text("_headers") or "", notes),
    )
    return Compiled(rules=rules, notes=notes.notes)


def _redirects(text: str, notes: Notebook) -> tuple[Rule, ...]:
    """Static ones first, whatever stands above them; an exact path below the first dynamic rule is dynamic too."""
    static: list[Rule] = []
    dynamic: list[Rule] = []
    seen: set[str] = set()
    for line in lines_of("_redirects", text, MAX_LINE):
        if len(dynamic) >= MOST_DYNAMIC:
            notes.left_out(
                line.place, Unfit(f"there are at most {MOST_DYNAMIC} dynamic redirects; the rest is not read.")
            )
            break
        try:
            if line.unfit:
                raise line.unfit
            rule, source = _redirect(cloudflare_line(line.place, line.text), notes)
            if source in seen:
                raise Unfit(f"a line above has the same path, {source[:80]!r}, and wins.")
            is_dynamic = bool(rule.pattern or dynamic)
            if len(static) >= MOST_STATIC and not is_dynamic:
                raise Unfit(f"there are at most {MOST_STATIC:,} static redirects.")
        except Unfit as why:
            notes.left_out(line.place, why)
            continue
        seen.add(source)
        (dynamic if is_dynamic else static).append(rule)
    return (*static, *dynamic)


def _redirect(wanted: Redirection, notes: Notebook) -> tuple[Rule, str]:
    """The rule, and its path as it is written."""
    written, target, status = wanted.source, wanted.target or "", wanted.status or 302
    if "://" in written:
        raise Unfit("from is a URL.", "a path that begins with /: rules hold for every host of the site")
    path = f"/{written.lstrip('/')}" if not written.startswith("/") else written
    bare = re.split(r"[?#]", path, maxsplit=1)[0]
    if bare != path:
        notes.limited(wanted.place, "only the path of from is looked at, not its query.", bare)
    source = cloudflare_source(bare)
    if status == 200 and not target.startswith("/"):
        raise Unfit("a rewrite (200) leads to a path of this site only.", "a path that begins with /")
    if re.search(r"/\*?$", bare) and re.search(r"/index(\.html)?$", target) and target.startswith("/"):
        raise Unfit(
            "the rule leads to itself, since pages are served without their extension.", "nothing: leave it out"
        )
    if target.lower().startswith("http://"):
        raise Unfit("the target is a URL of http.", "https://, or a path that begins with /")
    if unknown := unknown_names(target, source.names):
        notes.limited(wanted.place, f":{unknown[0]} stands in the target as it is: nothing captures it.")
    to = template_of(target.partition("#")[0] if status == 200 else target, source.names)
    return Rule(place=wanted.place, path=source.path, pattern=source.pattern, to=to, status=status), bare


def _headers(text: str, notes: Notebook) -> tuple[Rule, ...]:
    found: list[Rule] = []
    for block in blocks_of(lines_of("_headers", text, MAX_LINE), notes, removes=True):
        if len(found) >= MOST_HEADER_RULES:
            what = f"there are at most {MOST_HEADER_RULES} header rules; the rest is not read."
            notes.left_out(block.place, Unfit(what))
            break
        try:
            host, source = _header_source(block)
            changes = _changes(block, source.names | _names_of(host), notes)
        except Unfit as why:
            notes.left_out(block.place, why)
            continue
        if changes:
            rule = Rule(place=block.place, path=source.path, pattern=source.pattern, has=host, headers=changes)
            found.append(rule)
    return tuple(found)


def _header_source(block: Block) -> tuple[tuple[Condition, ...], Source]:
    if not block.fields:
        raise Unfit("no header stands below this path.", "headers on the lines that follow it")
    if block.path.startswith("/"):
        return (), cloudflare_source(block.path)
    if not block.path.startswith("https://"):
        raise Unfit("it is neither a path nor a URL of https.", "a path that begins with /")
    host, slash, path = block.path.removeprefix("https://").partition("/")
    return (_host_condition(host.lower()),), cloudflare_source(slash + path or "/")


def _host_condition(host: str) -> Condition:
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,253}", host):
        raise Unfit(f"{host[:80]!r} is no host.", "a host name, perhaps with placeholders")
    pieces = NAME.split(host)
    if len(pieces) == 1:
        return Condition(of="host", check="eq", values=(host.partition(":")[0],))
    named = [re.escape(piece) if at % 2 == 0 else f"(?P<{piece}>[^/.]+)" for at, piece in enumerate(pieces)]
    if len(set(pieces[1::2])) < len(pieces[1::2]):
        raise Unfit("a placeholder stands there twice.", "a name of its own for each placeholder")
    return Condition(of="host", check="re", values=("".join(named),))


def _names_of(conditions: tuple[Condition, ...]) -> frozenset[str]:
    return frozenset(re.findall(r"\(\?P<(\w+)>", conditions[0].values[0])) if conditions else frozenset()


def _changes(block: Block, names: frozenset[str], notes: Notebook) -> tuple[HeaderChange, ...]:
    """What is removed comes before what is set, in whatever order they are written."""
    found = []
    for read in sorted(block.fields, key=lambda read: read.value is not None):
        try:
            if read.name.lower() == BASIC_AUTH:
                raise Unfit("Basic-Auth protects nothing in this dialect.", "the project's dialect netlify")
            found.append(change_of(read, names))
        except Unfit as why:
            notes.left_out(read.place, why)
    return tuple(found)
