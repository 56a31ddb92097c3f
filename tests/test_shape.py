"""The shape of the code: nothing grows past what one look can hold, and nothing is left for later."""

import ast
import re
from pathlib import Path

import pytest

from tests.tree import ROOT, files

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
VAGUE_NAMES = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
LATER = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")  # in halves, so that this line is no hit

SOURCES = sorted(
    path
    for room in ("scalemesh", "builder", "plugins", "tests")
    for path in (ROOT / room).rglob("*.py")
    if "fixtures" not in path.parts
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_stays_under_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_MODULE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_function_stays_under_50_lines(path: Path) -> None:
    """Counted without decorators and docstring: words that explain are not what makes a function long."""
    long = [
        f"{node.name} ({length(node)} lines)"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node) > MAX_FUNCTION_LINES
    ]
    assert not long


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    is_docstring = ast.get_docstring(function) is not None
    told = (first.end_lineno or first.lineno) - first.lineno + 1 if is_docstring else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - told


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [name_of(path) for path in SOURCES if path.name in VAGUE_NAMES]


def test_nothing_is_left_for_later() -> None:
    texts = [path for path in files() if path.suffix in {".py", ".sh", ".sql", ".toml", ".md", ".html", ".js", ".css"}]
    assert texts
    assert not [name_of(path) for path in texts if LATER.search(path.read_text())]
