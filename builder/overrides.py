"""What people wrote by hand instead of leaving it to detection.

The project's settings come first, then vercel.json, netlify.toml, and the Wrangler file of a Cloudflare Pages site.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from builder.errors import BuildFailed
from builder.hosts import NETLIFY, Netlify, pages_output
from builder.job import BuildSettings
from builder.tree import Tree

#: setting -> its key in vercel.json
_KEYS: Final = {
    "framework": "framework",
    "install_command": "installCommand",
    "build_command": "buildCommand",
    "output_directory": "outputDirectory",
    "ignore_command": "ignoreCommand",
}
MAX_COMMAND_CHARS: Final = 8192


@dataclass(frozen=True, slots=True)
class Override:
    """A value and who set it. An empty command means: run none."""

    value: str
    why: str


def find_overrides(tree: Tree, settings: BuildSettings, netlify: Netlify | None = None) -> dict[str, Override]:
    """All values set by hand, by the names of BuildSettings (and ``ignore_command``).

    Raises:
        BuildFailed: vercel.json cannot be read.
    """
    found = {**_of_wrangler(tree), **_of_netlify(netlify)}
    vercel = read_json(tree, "vercel.json")
    for name, key in _KEYS.items():
        value = vercel.get(key)
        if isinstance(value, str) and len(value) <= MAX_COMMAND_CHARS:
            found[name] = Override(value.strip(), f"vercel.json sets {key}")
        elif name == "framework" and key in vercel and value is None:
            found[name] = Override("other", "vercel.json sets framework to null")
        elif value is not None:
            raise BuildFailed("rejected", f"{key} in vercel.json must be a text of at most 8,192 characters.")
    for name in _KEYS:
        value = getattr(settings, name, None)
        if value is not None:
            found[name] = Override(value.strip(), "the project's settings say so")
    return found


def _of_wrangler(tree: Tree) -> dict[str, Override]:
    named = pages_output(tree)
    return {"output_directory": Override(named[0], f"{named[1]} sets pages_build_output_dir")} if named else {}


def _of_netlify(netlify: Netlify | None) -> dict[str, Override]:
    if netlify is None:
        return {}
    values = {
        "build_command": ("command", netlify.command),
        "output_directory": ("publish", netlify.publish),
        "ignore_command": ("ignore", netlify.ignore),
    }
    return {
        name: Override(value, f"{NETLIFY} sets {key}")
        for name, (key, value) in values.items()
        if value is not None and (value or name != "output_directory")
    }


def read_json(tree: Tree, path: str) -> Mapping[str, Any]:
    """The object in the file *path*; empty where there is no such file.

    Raises:
        BuildFailed: rejected, with the place of the mistake.
    """
    text = tree.text(path)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BuildFailed("rejected", f"{path} is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise BuildFailed("rejected", f"{path} is nested too deeply.") from error
    if not isinstance(found, dict):
        raise BuildFailed("rejected", f"{path} must hold a JSON object.")
    return found
