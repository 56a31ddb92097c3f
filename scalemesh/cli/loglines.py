"""Prints log lines: the step in front, coloured on a terminal and plain elsewhere."""

import re
import sys
from collections.abc import Mapping
from typing import IO, Any, Final

from scalemesh.cli.output import is_colourful

STEP_COLOURS: Final = {
    "queue": 33,
    "fetch": 34,
    "detect": 35,
    "restore": 90,
    "install": 36,
    "save": 90,
    "build": 32,
    "collect": 34,
    "upload": 34,
    "publish": 35,
    "end": 33,
}
WIDTH: Final = 8
_SGR: Final = re.compile(r"\x1b\[[0-9;:]*m")


class LinePrinter:
    def __init__(self, stream: IO[str], *, is_colourful: bool) -> None:
        self._stream, self._is_colourful = stream, is_colourful

    def show(self, line: Mapping[str, Any]) -> None:
        """Print one line as the API gives it."""
        step, text = str(line["step"]), str(line["text"])
        if not self._is_colourful:
            print(f"{step:<{WIDTH}} {_SGR.sub('', text)}", file=self._stream, flush=True)
            return
        label = f"\x1b[{STEP_COLOURS.get(step, 37)}m{step:>{WIDTH}}\x1b[0m \x1b[2m│\x1b[0m "
        is_ours = line["stream"] == "system"
        body = f"\x1b[1m{text}\x1b[0m" if is_ours else f"{text}\x1b[0m"
        print(label + body, file=self._stream, flush=True)


def printer(stream: IO[str] | None = None) -> LinePrinter:
    """For *stream*, standard error by default."""
    wanted = stream or sys.stderr
    return LinePrinter(wanted, is_colourful=is_colourful(wanted))
