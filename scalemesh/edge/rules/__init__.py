"""The rules of sites: each dialect reads a target against a manifest and says what to answer."""

from collections.abc import Mapping
from typing import Final

from scalemesh.edge.rules import default
from scalemesh.edge.rules.outcome import Dialect

DIALECTS: Final[Mapping[str, Dialect]] = {"default": default.resolve}
