"""The builder's words and the daemon's are the same: neither imports the other's list."""

import re
from pathlib import Path

from builder.protocol import REASONS, STEPS
from scalemesh.values import Reason
from scalemesh.web.ui import words

BUILDS = Path(__file__).parents[2] / "docs" / "builds.md"


def test_the_builder_knows_the_reasons_that_the_daemon_knows() -> None:
    assert set(REASONS) == {reason.value for reason in Reason}
    assert len(REASONS) == len(set(REASONS))


def test_the_steps_are_those_that_documents_and_pages_tell_in_the_same_order() -> None:
    table = BUILDS.read_text().partition("| step |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| ([a-z]+) \|", table, re.MULTILINE) == list(STEPS)
    assert list(words.STEPS) == list(STEPS)
