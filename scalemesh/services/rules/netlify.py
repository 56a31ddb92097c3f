"""Reads the rule files of the dialect netlify."""

from scalemesh.rules import Dialect, Rules
from scalemesh.services.rules.compiled import Compiled
from scalemesh.services.rules.sources import Sources


def read(_sources: Sources) -> Compiled:
    """The rules of a site of this dialect."""
    return Compiled(rules=Rules(dialect=Dialect.NETLIFY))
