"""Lines of the log that a crowd could write: some of them are written, the others counted."""

import time
from collections.abc import Callable


class Seldom:
    """Lets *most* lines through in *every_s* seconds."""

    def __init__(self, most: int, every_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._every_s, self._clock = most, every_s, clock
        self._since, self._told, self._untold = float("-inf"), 0, 0

    def others(self) -> int | None:
        """How many were left out since the last line; None: leave this one out as well."""
        now = self._clock()
        if now - self._since >= self._every_s:
            self._since, self._told = now, 0
        if self._told >= self._most:
            self._untold += 1
            return None
        self._told += 1
        others, self._untold = self._untold, 0
        return others
