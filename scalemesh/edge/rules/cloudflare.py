"""The dialect of Cloudflare Pages: _redirects and _headers."""

from typing import Final

from scalemesh.edge.rules import default
from scalemesh.edge.rules.habits import Habits

HABITS: Final[Habits] = default.HABITS
