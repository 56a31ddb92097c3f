"""Path patterns as path-to-regexp 6 reads them, which is what ``source`` means in vercel.json.

``:name`` is one segment, ``(…)`` a regular expression of the author's, ``{…}`` a group; ``?``, ``*`` and ``+`` after
of these repeat it; a backslash takes the meaning from what follows. Strict and case-sensitive.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from scalemesh.errors import InvalidError
from scalemesh.patterns import check

ONE_SEGMENT: Final = "[^/]+?"
PREFIXES: Final = "./"  #: what repeats together with the parameter behind it
_NAME: Final = re.compile(r"\w+", re.ASCII)
_NAMED_GROUP: Final = re.compile(r"\(\?P?<[A-Za-z_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPattern:
    """A source, translated."""

    path: str = ""  #: the one path that it matches; empty where *pattern* says it
    pattern: str = ""  #: a regular expression over the whole path
    groups: tuple[str, ...] = ()  #: name of each of its groups, in their order; "" for one without a name

    def references(self) -> dict[str, str]:
        """What a destination may call each group -> its number: its name, or ``0``, ``1``, … of those without one."""
        unnamed = (str(number) for number in range(len(self.groups)))
        return {name or next(unnamed): str(number) for number, name in enumerate(self.groups, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str  #: "text", "escaped", "name", "pattern", "modifier", "{", "}" or "end"
    at: int
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one parameter, or one group in braces, stands for."""

    name: str | None  #: None: it captures nothing
    pattern: str
    before: str
    after: str
    modifier: str


def read_path_pattern(source: str) -> PathPattern:
    """Translate *source*.

    Raises:
        InvalidError: it is badly written, or its regular expressions cannot be used here.
    """
    parts = list(_Reader(list(_tokens(source))).parts())
    if all(isinstance(part, str) for part in parts):
        return PathPattern(path=unquote("".join(str(part) for part in parts)))
    pattern = "".join(re.escape(unquote(part)) if isinstance(part, str) else _as_regex(part) for part in parts)
    check(pattern)
    groups = tuple(part.name for part in parts if isinstance(part, _Part) and part.name is not None)
    return PathPattern(pattern=pattern, groups=groups)


def _tokens(source: str) -> Iterator[_Token]:
    at = 0
    while at < len(source):
        letter, begun = source[at], at
        if letter == ":":
            found = _NAME.match(source, at + 1)
            if found is None:
                raise _bad(at, "a name is missing behind the colon")
            at = found.end()
            yield _Token(kind="name", at=begun, value=found[0])
            continue
        if letter == "(":
            at = _end_of_group(source, at)
            yield _Token(kind="pattern", at=begun, value=source[begun + 1 : at - 1])
            continue
        if letter == "\\":
            if at + 1 == len(source):
                raise _bad(at, "there is nothing behind the backslash")
            yield _Token(kind="escaped", at=at, value=source[at + 1])
            at += 2
            continue
        kind = "modifier" if letter in "*+?" else letter if letter in "{}" else "text"
        yield _Token(kind=kind, at=at, value=letter)
        at += 1
    yield _Token(kind="end", at=at)


def _end_of_group(source: str, begun: int) -> int:
    """Where the regular expression that begins at *begun* is over."""
    depth, at = 1, begun + 1
    if source.startswith("?", at):
        raise _bad(at, 'a pattern in parentheses may not begin with "?"; put a second pair of parentheses around it')
    while at < len(source):
        if source[at] == "\\":
            at += 2
            continue
        depth += {"(": 1, ")": -1}.get(source[at], 0)
        if source[at] == "(" and source[at + 1 : at + 2] != "?":
            raise _bad(at, "a group inside a pattern may not capture; write (?:…)")
        if _NAMED_GROUP.match(source, at):
            raise _bad(at, "a group inside a pattern may have no name; write :name(…)")
        at += 1
        if depth == 0:
            if at == begun + 2:
                raise _bad(begun, "there is no pattern between the parentheses")
            return at
    raise _bad(begun, "a parenthesis is not closed")


class _Reader:
    """Reads tokens into texts and parts."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._at = tokens, 0

    def parts(self) -> Iterator[str | _Part]:
        text = ""
        while not self._take("end"):
            letter, name, pattern = self._take("text"), self._take("name"), self._take("pattern")
            if name or pattern:
                before = letter if letter and letter in PREFIXES else ""
                if text := text + (letter if letter and not before else ""):
                    yield text
                text = ""
                yield self._part(before, name, pattern, "")
            elif more := letter or self._take("escaped"):
                text += more
            else:
                if text:
                    yield text
                text = ""
                yield self._group()
        if text:
            yield text

    def _group(self) -> _Part:
        self._must("{")
        before = self._text()
        name, pattern = self._take("name"), self._take("pattern")
        after = self._text()
        self._must("}")
        return self._part(before, name, pattern, after)

    def _part(self, before: str, name: str | None, pattern: str | None, after: str) -> _Part:
        captures = name or ("" if pattern else None)
        return _Part(
            name=captures,
            pattern=pattern or (ONE_SEGMENT if name else ""),
            before=unquote(before),
            after=unquote(after),
            modifier=self._take("modifier") or "",
        )

    def _take(self, kind: str) -> str | None:
        token = self._tokens[self._at]
        if token.kind != kind:
            return None
        self._at += 1
        return token.value or kind

    def _text(self) -> str:
        text = ""
        while found := self._take("text") or self._take("escaped"):
            text += found
        return text

    def _must(self, kind: str) -> None:
        token = self._tokens[self._at]
        if self._take(kind) is None:
            found = token.value or "the end"
            raise _bad(token.at, f'"{found}" means nothing here; write \\{found} for the letter itself')


def _as_regex(part: _Part) -> str:
    before, after = re.escape(part.before), re.escape(part.after)
    if part.name is None:
        return f"(?:{before}{after}){part.modifier}"
    inner = part.pattern
    if part.modifier in ("", "?"):
        once = f"{before}({inner}){after}"
        return f"(?:{once})?" if part.modifier else once
    if not before and not after:
        return f"((?:{inner}){part.modifier})"
    repeated = f"{before}((?:{inner})(?:{after}{before}(?:{inner}))*){after}"
    return f"(?:{repeated})?" if part.modifier == "*" else repeated


def _bad(at: int, why: str) -> InvalidError:
    return InvalidError("the pattern is badly written", why=f"at character {at + 1}, {why}")
