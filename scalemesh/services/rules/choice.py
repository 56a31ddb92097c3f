"""Which dialect a site is written in, where nobody chose one by hand."""

import tomllib

import json5

from scalemesh.rules import Dialect
from scalemesh.services.rules.sources import CONFIG, Sources

MAX_WRANGLER_CHARS = 64 * 1024


def dialect_of(sources: Sources) -> Dialect:
    """By the files that are there, the most telling first."""
    files = sources.files
    if "vercel.json" in files or CONFIG in files:
        return Dialect.VERCEL
    if _is_cloudflare_pages(sources):
        return Dialect.CLOUDFLARE
    if not {"_redirects", "_headers", "netlify.toml"}.isdisjoint(files):
        return Dialect.NETLIFY
    return Dialect.DEFAULT


def _is_cloudflare_pages(sources: Sources) -> bool:
    """Whether a Wrangler file says that this is a Pages site. One that cannot be read says nothing."""
    for name in ("wrangler.toml", "wrangler.jsonc", "wrangler.json"):
        text = sources.text(name)
        if text is None or "pages_build_output_dir" not in text or len(text) > MAX_WRANGLER_CHARS:
            continue
        try:
            found = tomllib.loads(text) if name.endswith(".toml") else json5.loads(text)
        except (ValueError, RecursionError):
            continue
        return isinstance(found, dict) and "pages_build_output_dir" in found
    return False
