"""What the files of other hosts say of a build: netlify.toml, and the Wrangler file of a Cloudflare Pages site."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from builder.errors import BuildFailed
from builder.tree import Tree, names

NETLIFY: Final = "netlify.toml"
WRANGLERS: Final = ("wrangler.toml", "wrangler.jsonc", "wrangler.json")
MAX_CHARS: Final = 1024 * 1024
MAX_DOTS: Final = 500  #: of one line: the time that tomllib takes for a key grows with the square of its parts
MAX_TEXT_CHARS: Final = 8192
MAX_VARIABLES: Final = 200
_COMMENTS: Final = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING: Final = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


@dataclass(frozen=True, slots=True, kw_only=True)
class Netlify:
    """The ``[build]`` table of netlify.toml. Absent values are None; an empty command means: run none."""

    base: str = ""  #: relative to the source; commands run there, and *publish* is relative to it
    command: str | None = None
    publish: str | None = None
    ignore: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def read_netlify(tree: Tree) -> Netlify | None:
    """What netlify.toml in *tree* says; None where there is none.

    Raises:
        BuildFailed: rejected: it is malformed, or a value makes no sense.
    """
    text = tree.text(NETLIFY)
    if text is None:
        return None
    document = _toml(text)
    build = _table(document, "build")
    base = _path(build, "base") or ""
    publish = build.get("publish")
    if isinstance(publish, str) and publish.startswith("/") and base:
        raise BuildFailed("rejected", f"publish in {NETLIFY} must be relative to base, {base!r}, and lie below it.")
    return Netlify(
        base=base,
        command=_text(build, "command"),
        publish=_path(build, "publish"),
        ignore=_text(build, "ignore"),
        env=_environment(build),
        warnings=_warnings(document),
    )


def netlify_folder(source: Tree, directory: str) -> str:
    """The folder of *source* whose netlify.toml holds for the root directory *directory*.

    That is the folder itself, or the top of the source where the file there names it as its base.

    Raises:
        BuildFailed: rejected: the file at the top is malformed.
    """
    at_top = read_netlify(source) if directory else None
    return "" if at_top is not None and at_top.base == directory else directory


def pages_output(tree: Tree) -> tuple[str, str] | None:
    """The output directory that a Wrangler file names, and the name of that file.

    A file that cannot be read says nothing.
    """
    for name in WRANGLERS:
        text = tree.text(name)
        if text is None or "pages_build_output_dir" not in text or _is_too_much(text):
            continue
        try:
            document = tomllib.loads(text) if name.endswith(".toml") else json.loads(_without_comments(text))
        except (ValueError, RecursionError):
            continue
        found = document.get("pages_build_output_dir") if isinstance(document, dict) else None
        if isinstance(found, str) and found.strip() and len(found) <= MAX_TEXT_CHARS:
            return found.strip(), name
    return None


def _toml(text: str) -> Mapping[str, Any]:
    if _is_too_much(text):
        raise BuildFailed("rejected", f"{NETLIFY} is longer than {MAX_CHARS >> 20} MiB, or has far too many dots.")
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise BuildFailed("rejected", f"{NETLIFY} is not valid TOML: {error}.") from error
    except RecursionError as error:
        raise BuildFailed("rejected", f"{NETLIFY} is nested too deeply.") from error


def _is_too_much(text: str) -> bool:
    return len(text) > MAX_CHARS or any(line.count(".") > MAX_DOTS for line in text.split("\n"))


def _table(above: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = above.get(key, {})
    if not isinstance(found, dict):
        raise BuildFailed("rejected", f"{key} in {NETLIFY} must be a table.")
    return found


def _text(build: Mapping[str, Any], key: str) -> str | None:
    found = build.get(key)
    if found is not None and not (isinstance(found, str) and len(found) <= MAX_TEXT_CHARS):
        raise BuildFailed("rejected", f"{key} in {NETLIFY} must be a text of at most {MAX_TEXT_CHARS:,} characters.")
    return found.strip() if found is not None else None


def _path(build: Mapping[str, Any], key: str) -> str | None:
    found = _text(build, key)
    if found is None:
        return None
    try:
        return "/".join(names(found.lstrip("/")))
    except OSError:
        raise BuildFailed("rejected", f"{key} in {NETLIFY} must lie inside the source, without '..'.") from None


def _environment(build: Mapping[str, Any]) -> dict[str, str]:
    found = _table(build, "environment")
    if len(found) > MAX_VARIABLES:
        raise BuildFailed("rejected", f"{NETLIFY} sets more than {MAX_VARIABLES} variables.")
    for name, value in found.items():
        if not isinstance(value, str | int | float) or len(str(value)) > MAX_TEXT_CHARS:
            raise BuildFailed("rejected", f"The variable {name[:60]!r} in {NETLIFY} must be a text.")
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in found.items()}


def _warnings(document: Mapping[str, Any]) -> tuple[str, ...]:
    contexts = document.get("context")
    if not isinstance(contexts, dict) or not contexts:
        return ()
    named = ", ".join(str(name)[:40] for name in list(contexts)[:5])
    return (f"The contexts of {NETLIFY} ({named}) are not followed: what [build] says holds for every deployment.",)


def _without_comments(text: str) -> str:
    """JSON of text that may have comments, and commas behind the last item."""
    return _TRAILING.sub(lambda found: found[1] or "", _COMMENTS.sub(lambda found: found[1] or " ", text))
