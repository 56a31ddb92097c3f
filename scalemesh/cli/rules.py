"""``rules``: how the rule files of a folder are read, before anything is deployed. Talks to no daemon."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from scalemesh.cli.output import FAILED, examples, fail, json_option, say, show_json, table
from scalemesh.errors import RefusedError
from scalemesh.rules import Dialect, Place

if TYPE_CHECKING:
    from scalemesh.services.rules.compiled import Compiled
    from scalemesh.services.rules.notes import Note, RulesError

KIND_COLOURS: Final = {
    "redirect": "cyan",
    "rewrite": "green",
    "proxy": "magenta",
    "status": "yellow",
    "protect": "yellow",
    "headers": "blue",
    "setting": "dim",
}


@click.command(
    epilog=examples("scalemesh rules .", "scalemesh rules dist --dialect cloudflare", "scalemesh rules . --json")
)
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--dialect",
    type=click.Choice([dialect.value for dialect in Dialect]),
    help="How the files are read. Default: by the files that are there.",
)
@json_option
def rules(*, folder: Path, dialect: str | None, as_json: bool) -> int:
    """Read a folder's rules without deploying: redirects, rewrites, headers.

    Shows what each rule matches as it was written, what it does, and its file and line, in the order in which a visit
    meets them. DIR is a finished site or a source; of a source, _redirects and _headers are looked for in static/,
    public/ and what a build has left. What is wrong with a rule is told on standard error. Exit code 1: a deploy would
    be refused.
    """
    from scalemesh.cli.rule_files import find_rule_files  # noqa: PLC0415 -- readers of rules are no other verb's business
    from scalemesh.services.rules.choice import dialect_of  # noqa: PLC0415
    from scalemesh.services.rules.compiling import compile_rules  # noqa: PLC0415
    from scalemesh.services.rules.notes import RulesError  # noqa: PLC0415

    report = _Report(folder, dialect, as_json=as_json)
    try:
        found = find_rule_files(folder)
        chosen = Dialect(dialect) if dialect else dialect_of(found.sources)
        report = _Report(folder, chosen, found.paths, as_json=as_json)
        report.read(compile_rules(found.sources, chosen))
    except RulesError as error:
        report.refused(error)
        return FAILED
    return 0


class _Report:
    """What is told of one folder."""

    def __init__(
        self, folder: Path, dialect: str | None, paths: Mapping[str, str] = MappingProxyType({}), *, as_json: bool
    ) -> None:
        """*dialect* None: the files could not be read so far that it was found out."""
        self._folder, self._dialect, self._paths, self._as_json = folder, dialect, paths, as_json

    def read(self, compiled: "Compiled") -> None:
        """Tell rules that a deployment would have."""
        from scalemesh.services.rules.form import write_rules  # noqa: PLC0415 -- as above
        from scalemesh.services.rules.words import listed, masked  # noqa: PLC0415

        rows = list(listed(compiled.rules))
        if self._as_json:
            self._show_json(
                refused=False,
                rules=write_rules(masked(compiled.rules)),
                listed=[
                    {
                        "kind": row.kind,
                        "matches": row.matches,
                        "does": row.does,
                        "when": row.when,
                        **self._at(row.place),
                    }
                    for row in rows
                ],
                notes=compiled.notes,
            )
            return
        self._say_files()
        cells = [[row.kind, row.matches, row.does, self._where(row.place)] for row in rows]
        table(["KIND", "MATCHES", "DOES", "WHERE"], cells, colours=KIND_COLOURS)
        sys.stdout.flush()
        self._say_notes(compiled.notes)

    def refused(self, error: "RulesError") -> None:
        """Tell why a deployment would be refused."""
        if self._as_json:
            self._show_json(refused=True, rules=None, listed=[], notes=error.notes)
            return
        self._say_files()
        self._say_notes(error.notes)
        fail(RefusedError("a deployment of this folder would be refused", fix=error.fix))

    def _show_json(
        self, *, refused: bool, rules: dict[str, Any] | None, listed: list[dict[str, object]], notes: Sequence["Note"]
    ) -> None:
        show_json(
            {
                "folder": str(self._folder),
                "dialect": self._dialect,
                "refused": refused,
                "files": [{"name": name, "path": path} for name, path in sorted(self._paths.items())],
                "rules": rules,
                "listed": listed,
                "notes": [
                    {**self._at(note.place), "effect": note.effect, "what": note.what, "instead": note.instead}
                    for note in notes
                ],
            }
        )

    def _say_files(self) -> None:
        files = ", ".join(sorted(self._paths.values())) or "no rule file was found"
        if self._paths and self._dialect == Dialect.DEFAULT:
            files = f"it reads none of {files}"
        say(f"Dialect {self._dialect or 'unknown'}; {files}")

    def _say_notes(self, notes: Sequence["Note"]) -> None:
        for note in notes:
            say(f"{self._where(note.place)}: {note.effect}: {note.what}")
            if note.instead:
                say(f"  instead: {note.instead}")

    def _at(self, place: Place) -> dict[str, object]:
        return {"file": self._paths.get(place.file, place.file), "line": place.line}

    def _where(self, place: Place) -> str:
        at = self._at(place)
        return f"{at['file']}:{place.line}" if place.line else str(at["file"])
