"""Netlify's dialect: _redirects, _headers and netlify.toml."""

from typing import Final

from scalemesh.edge.rules import default
from scalemesh.edge.rules.habits import Habits

HABITS: Final[Habits] = default.HABITS
