"""netlify.toml: its redirects and headers, each with its line, and what it says of pretty URLs."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scalemesh.rules import Place
from scalemesh.services.rules.headers_file import BASIC_AUTH, MOST_FIELDS, Block, Field
from scalemesh.services.rules.notebook import Notebook, Unfit, place_of, refusal
from scalemesh.services.rules.redirects_file import Redirection

FILE: Final = "netlify.toml"
MAX_CHARS: Final = 1024 * 1024
MAX_DOTS: Final = 500  #: of one line: the time that tomllib takes for a key grows with the square of its parts
_AT_LINE: Final = re.compile(r"\(at line (\d{1,9})")
_NOT_SERVED: Final = {
    "edge_functions": "edge functions are not served.",
    "functions": "functions are not served.",
    "plugins": "build plug-ins of Netlify's are not run.",
}
_REDIRECT_KEYS: Final = frozenset(
    {"from", "to", "status", "force", "query", "conditions", "headers", "signed", "edge_functions"}
)
#: Former names, which Netlify still takes.
_FORMER: Final = {
    "origin": "from",
    "destination": "to",
    "params": "query",
    "parameters": "query",
    "sign": "signed",
    "signing": "signed",
}


@dataclass(frozen=True, slots=True)
class NetlifyToml:
    redirections: Sequence[Redirection] = ()
    blocks: Sequence[Block] = ()
    pretty_urls: bool = True
    places: tuple[Place, ...] = ()  #: of what turns pretty URLs off


def read_toml(text: str, notes: Notebook) -> NetlifyToml:
    """What the file says of serving; single tables that make no sense are noted.

    Raises:
        RulesError: it is no TOML, or far too long.
    """
    document = _document(text)
    for key, words in _NOT_SERVED.items():
        if key in document:
            notes.left_out(place_of(FILE, _line_of(text, key), key), Unfit(words))
    redirections = [
        found
        for place, table in _tables(text, document, "redirects", notes)
        if (found := _noted(place, table, notes, _redirection)) is not None
    ]
    blocks = [_block(place, table, notes) for place, table in _tables(text, document, "headers", notes)]
    off = _why_off(document)
    places = (place_of(FILE, 0, off),) if off else ()
    return NetlifyToml(redirections, [block for block in blocks if block], not off, places)


def _document(text: str) -> dict[str, Any]:
    if len(text) > MAX_CHARS:
        raise refusal(Place(file=FILE), f"the file is longer than {MAX_CHARS >> 20} MiB.")
    if any(line.count(".") > MAX_DOTS for line in text.split("\n")):
        raise refusal(Place(file=FILE), f"a line has more than {MAX_DOTS:,} dots.")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise refusal(Place(file=FILE), "the file is nested too deeply.") from None
    except ValueError as error:
        at = _AT_LINE.search(str(error))
        place = Place(file=FILE, line=int(at[1]) if at else 0)
        raise refusal(place, f"the file is not valid TOML: {error}.") from error


def _tables(text: str, document: Mapping[str, Any], key: str, notes: Notebook) -> Iterator[tuple[Place, Any]]:
    """Each table of the list *key*, and where its header stands."""
    found = document.get(key, [])
    if not isinstance(found, list):
        notes.left_out(place_of(FILE, _line_of(text, key), key), Unfit(f"{key} is no list of tables.", f"[[{key}]]"))
        return
    header = re.compile(rf"^[ \t]*\[\[[ \t]*{key}[ \t]*\]\]", re.MULTILINE)
    lines = _numbered(text, header)
    for number, table in enumerate(found):
        line = lines[number] if len(lines) == len(found) else 0
        yield place_of(FILE, line, _words_of(key, table)), table


def _numbered(text: str, header: "re.Pattern[str]") -> list[int]:
    """The lines on which *header* matches."""
    lines, line, last = [], 1, 0
    for found in header.finditer(text):
        line += text.count("\n", last, found.start())
        last = found.start()
        lines.append(line)
    return lines


def _line_of(text: str, key: str) -> int:
    return next(iter(_numbered(text, re.compile(rf"^[ \t]*\[?\[?[ \t]*{key}\b", re.MULTILINE))), 0)


def _words_of(key: str, table: Any) -> str:
    if not isinstance(table, dict):
        return f"[[{key}]]"
    keys = ("from", "to", "status") if key == "redirects" else ("for",)
    return " ".join(str(table[name])[:200] for name in keys if name in table) or f"[[{key}]]"


def _noted(place: Place, table: Any, notes: Notebook, read: Any) -> Any:
    try:
        return read(place, table, notes)
    except Unfit as why:
        notes.left_out(place, why)
        return None


def _redirection(place: Place, table: Any, notes: Notebook) -> Redirection:
    if not isinstance(table, dict):
        raise Unfit("it is no table.", "[[redirects]]")
    named = {str(_FORMER.get(key, key)): value for key, value in table.items()}
    source, target, status = named.get("from"), named.get("to"), named.get("status")
    if not isinstance(source, str) or not source.strip():
        raise Unfit("from is missing, or no text.", 'from = "/path"')
    if target is not None and not isinstance(target, str):
        raise Unfit("to is no text.", 'to = "/path"')
    if target is None and status is None:
        raise Unfit("the rule has neither to nor status.", 'to = "/path"')
    if (
        isinstance(status, bool)
        or not isinstance(status, int | None)
        or (status is not None and not 100 <= status <= 999)
    ):
        raise Unfit("status is no number of three digits.", "status = 301")
    _name_the_rest(place, named, notes)
    return Redirection(
        place=place,
        source=source.strip(),
        target=None if target is None else target.strip(),
        status=status,
        forced=named.get("force") is True,
        query=_texts(named, "query"),
        conditions=_conditions(named),
        request_headers=_texts(named, "headers"),
    )


def _name_the_rest(place: Place, named: Mapping[str, Any], notes: Notebook) -> None:
    if named.get("edge_functions"):
        raise Unfit("edge functions are not served.")
    if named.get("signed"):
        notes.limited(place, "requests to the other origin are not signed.")
    if unknown := sorted(named.keys() - _REDIRECT_KEYS):
        notes.limited(place, f"{unknown[0][:40]!r} is not known here, and makes no difference.")


def _texts(named: Mapping[str, Any], key: str) -> dict[str, str]:
    found = named.get(key, {})
    if not isinstance(found, dict) or not all(isinstance(value, str) and value for value in found.values()):
        raise Unfit(f"{key} is no table of texts.", f'{key} = {{name = "value"}}')
    return found


def _conditions(named: Mapping[str, Any]) -> dict[str, list[str]]:
    found = named.get("conditions", {})
    if not isinstance(found, dict):
        raise Unfit("conditions is no table.", 'conditions = {Language = ["en"]}')
    lists = {name.lower(): value if isinstance(value, list) else [value] for name, value in found.items()}
    if not all(isinstance(value, str) and value for values in lists.values() for value in values):
        raise Unfit("a condition is neither a text nor a list of texts.", 'conditions = {Language = ["en"]}')
    return {name: [part for value in values for part in value.split(",")] for name, values in lists.items()}


def _block(place: Place, table: Any, notes: Notebook) -> Block | None:
    path = table.get("for") if isinstance(table, dict) else None
    values = table.get("values") if isinstance(table, dict) else None
    if not isinstance(path, str) or not isinstance(values, dict) or len(values) > MOST_FIELDS:
        if isinstance(values, dict) and any(name.strip().lower() == BASIC_AUTH for name in values):
            raise refusal(place, "what Basic-Auth is to protect cannot be told: for is missing.", 'for = "/path"')
        notes.left_out(place, Unfit("a header rule needs for and values.", 'for = "/*" and [headers.values]'))
        return None
    path = path.strip()
    block = Block(place, path if "://" in path or path.startswith("/") else f"/{path}")
    for name, value in values.items():
        texts = value if isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            notes.left_out(place, Unfit(f"the value of {name[:60]!r} is neither a text nor a list of texts."))
            texts = [""] if name.strip().lower() == BASIC_AUTH else []
        block.fields.extend(Field(place, name.strip(), _on_one_line(text)) for text in texts)
    return block


def _on_one_line(text: Any) -> str:
    """As Netlify has it: a value may go over several lines, its parts divided by commas."""
    return re.sub(r"\s*,\s*", ", ", str(text).strip()) if "\n" in str(text) else str(text).strip()


def _why_off(document: Mapping[str, Any]) -> str:
    build = document.get("build")
    processing = build.get("processing") if isinstance(build, dict) else None
    if not isinstance(processing, dict):
        return ""
    if processing.get("skip_processing") is True:
        return "skip_processing = true"
    html = processing.get("html")
    return "pretty_urls = false" if isinstance(html, dict) and html.get("pretty_urls") is False else ""
