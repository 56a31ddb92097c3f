"""Vercel's dialect: vercel.json and the Build Output API."""

from typing import Final

from scalemesh.edge.rules import default
from scalemesh.edge.rules.habits import Habits

HABITS: Final[Habits] = default.HABITS
