"""What Netlify's header rules mean, in the normal form. A protection that cannot be read lets nobody in."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from scalemesh.rules import HeaderChange, Protection, Rule
from scalemesh.services.rules.headers_file import BASIC_AUTH, Block, Field, change_of
from scalemesh.services.rules.notebook import Notebook, Unfit, refusal
from scalemesh.services.rules.placeholders import Source, netlify_header_source

MOST: Final = 1000  #: header rules of one site
MOST_PROTECTIONS: Final = 200
MOST_USERS: Final = 100  #: of one protection
_PAGE: Final = re.compile(r"(?:/index)?(?:\.html)?/?$")


@dataclass(frozen=True, slots=True)
class HeaderRules:
    rules: tuple[Rule, ...]
    protections: tuple[Protection, ...]


def compile_headers(blocks: Iterable[Block], notes: Notebook) -> HeaderRules:
    """The rules of *blocks*, in their order. What cannot be honoured is noted.

    Raises:
        RulesError: paths were to be protected, and it cannot be told which.
    """
    rules: list[Rule] = []
    protections: list[Protection] = []
    for block in blocks:
        protections += _protections(block, notes)
        if len(protections) > MOST_PROTECTIONS:
            raise refusal(block.place, f"more than {MOST_PROTECTIONS} paths are protected by Basic-Auth.")
        try:
            if len(rules) >= MOST:
                raise Unfit(f"a site has at most {MOST:,} header rules.")
            source = _source(block)
            changes = _changes(block, notes)
        except Unfit as why:
            notes.left_out(block.place, why)
            continue
        if changes:
            rules.append(Rule(place=block.place, pattern=source.pattern, ignores_case=True, headers=changes))
    return HeaderRules(tuple(rules), tuple(protections))


def _source(block: Block) -> Source:
    if not block.path.startswith("/"):
        raise Unfit("a rule for headers names a path.", "a path that begins with /")
    if not block.fields:
        raise Unfit("no header stands below this path.", "headers on the lines that follow it")
    return netlify_header_source(block.path)


def _changes(block: Block, notes: Notebook) -> tuple[HeaderChange, ...]:
    found = []
    for read in block.fields:
        if read.name.lower() == BASIC_AUTH:
            continue
        try:
            found.append(change_of(read, ()))
        except Unfit as why:
            notes.left_out(read.place, why)
    return tuple(found)


def _protections(block: Block, notes: Notebook) -> list[Protection]:
    fields = [read for read in block.fields if read.name.lower() == BASIC_AUTH]
    if not fields:
        return []
    users = [user for read in fields for user in (read.value or "").split()]
    good = [user for user in users if 0 < user.find(":") < len(user) - 1]
    if len(good) < len(users) or not good:
        what = "a user of Basic-Auth has no name or no password; nobody enters by it."
        notes.limited(fields[0].place, what, "Basic-Auth: name:password other:password")
    if len(good) > MOST_USERS:
        raise refusal(fields[0].place, f"Basic-Auth has more than {MOST_USERS} users.")
    return [Protection(place=fields[0].place, pattern=_guarded(block, fields[0]), users=tuple(good))]


def _guarded(block: Block, at: Field) -> str:
    """Every address of what lies at the path of *block*: a page has several, and upper case would be no way round."""
    try:
        source = _source(block)
    except Unfit as why:
        raise refusal(at.place, f"what Basic-Auth is to protect cannot be told: {why.what}", why.instead) from why
    if "*" in block.path or "/:" in block.path:
        return f"(?i){source.pattern}"
    stem = netlify_header_source(_PAGE.sub("", block.path, count=1) or "/").pattern.removesuffix("/?")
    return rf"(?i){stem}(?:/index)?(?:\.html)?/?"
