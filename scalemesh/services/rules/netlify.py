"""Reads the rule files of the dialect netlify: ``_redirects``, ``_headers`` and netlify.toml."""

from collections.abc import Iterator
from typing import Final

from scalemesh.rules import Dialect, Rules
from scalemesh.services.rules.compiled import Compiled
from scalemesh.services.rules.headers_file import blocks_of
from scalemesh.services.rules.lines import lines_of
from scalemesh.services.rules.netlify_headers import compile_headers
from scalemesh.services.rules.netlify_redirects import compile_redirects
from scalemesh.services.rules.netlify_toml import FILE, NetlifyToml, read_toml
from scalemesh.services.rules.notebook import Notebook, Unfit
from scalemesh.services.rules.redirects_file import Redirection, netlify_line
from scalemesh.services.rules.sources import Sources

MAX_LINE: Final = 8192  #: characters


def read(sources: Sources) -> Compiled:
    """The rules of a site of this dialect: those of the two files come before those of netlify.toml.

    Raises:
        RulesError: netlify.toml is malformed, or what is to be protected cannot be told.
    """
    notes = Notebook()
    toml = sources.text(FILE)
    settings = NetlifyToml() if toml is None else read_toml(toml, notes)
    redirections = [*_lines(sources, notes), *settings.redirections]
    lines = lines_of("_headers", sources.text("_headers") or "", MAX_LINE)
    headers = compile_headers([*blocks_of(lines, notes, removes=False), *settings.blocks], notes)
    rules = Rules(
        dialect=Dialect.NETLIFY,
        pretty_urls=settings.pretty_urls,
        first=compile_redirects(redirections, notes),
        found=headers.rules,
        protections=headers.protections,
        places=settings.places,
    )
    return Compiled(rules=rules, notes=notes.notes)


def _lines(sources: Sources, notes: Notebook) -> Iterator[Redirection]:
    for line in lines_of("_redirects", sources.text("_redirects") or "", MAX_LINE):
        try:
            if line.unfit:
                raise line.unfit
            yield netlify_line(line.place, line.text)
        except Unfit as why:
            notes.left_out(line.place, why)
