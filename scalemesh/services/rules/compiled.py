"""What reading the rule files of a site gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scalemesh.rules import Dialect, Rules
from scalemesh.services.rules.notes import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What a build's own configuration says of one file."""

    path: str | None = None  #: served under this path instead
    content_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The normal form, and what its author is to be told."""

    rules: Rules
    notes: tuple[Note, ...] = ()
    overrides: Mapping[str, Override] = field(default_factory=dict)  #: path of the listing -> override


def summary(rules: Rules) -> list[str]:
    """One line on what was read, for the build log; none where a site brings no rules."""
    if rules.dialect is Dialect.DEFAULT:
        return []
    every = (*rules.first, *rules.missed, *rules.failed, *rules.found)
    headers = sum(not rule.to and not rule.status for rule in every)
    files = dict.fromkeys(rule.place.file for rule in every) or {"no rule file": None}
    leading = len(every) - headers
    counted = "1 redirect or rewrite" if leading == 1 else f"{leading} redirects and rewrites"
    counted += ", 1 header rule" if headers == 1 else f", {headers} header rules"
    return [f"Rules in the dialect {rules.dialect}, from {', '.join(files)}: {counted}"]
