"""How log lines and errors look, on a terminal and elsewhere."""

import io
import json
from pathlib import Path

import pytest

from scalemesh.cli.loglines import LinePrinter
from scalemesh.cli.main import VERBS, run
from scalemesh.cli.main import scalemesh as command
from scalemesh.cli.output import fail
from scalemesh.errors import (
    ForbiddenError,
    InvalidError,
    NotFoundError,
    ScaleMeshError,
    UnauthorizedError,
    UnreachableError,
)

LINE = {"number": 1, "step": "build", "stream": "out", "text": "\x1b[31mred\x1b[0m alert"}


def shown(line: dict[str, object], *, is_colourful: bool) -> str:
    stream = io.StringIO()
    LinePrinter(stream, is_colourful=is_colourful).show(line)
    return stream.getvalue()


def test_without_a_terminal_lines_are_plain() -> None:
    assert shown(LINE, is_colourful=False) == "build    red alert\n"


def test_on_a_terminal_colours_end_with_their_line() -> None:
    text = shown(LINE, is_colourful=True)
    assert "\x1b[31mred" in text
    assert text.endswith("\x1b[0m\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [(InvalidError, 1), (UnreachableError, 3), (UnauthorizedError, 4), (ForbiddenError, 4), (NotFoundError, 4)],
)
def test_an_error_is_three_lines_and_an_exit_code(
    error: type[ScaleMeshError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(error("what", why="why", fix="fix")) == code
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "error: what\n  why: why\n  fix: fix\n")


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy"]) == 2
    assert run(["no-such-verb"]) == 2
    assert run(["cancel", "--socket", "/nobody"]) == 2
    assert capsys.readouterr().out == ""


def test_every_verb_tells_itself_in_a_line() -> None:
    assert set(command.commands) == set(VERBS)
    for name, verb in command.commands.items():
        assert verb.name == name
        assert verb.get_short_help_str(limit=200)


def test_every_option_explains_itself() -> None:
    silent = [
        f"{name} {param.name}"
        for name, verb in command.commands.items()
        for leaf in (getattr(verb, "commands", {"": verb})).values()
        for param in leaf.params
        if param.param_type_name == "option" and not getattr(param, "help", None)
    ]
    assert not silent


def test_detect_prints_a_plan_without_any_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.html").write_text("<h1>hi</h1>")
    assert run(["detect", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["build_command"] is None
