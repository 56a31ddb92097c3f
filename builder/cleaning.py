"""Make a line of output harmless: no control sequence but colours (SGR), no control character but tab. Pure.

Progress bars redraw a line after a carriage return: the last text drawn is kept. Also removed: characters that
turn the reading direction round or break lines for some readers only, since a log must show what was printed.
The result is stable: cleaning it again changes nothing.
"""

import re
from typing import Final

_STRING_END: Final = "(?:\x07|\x1b\\\\|\x9c|$)"
_CONTROL: Final = re.compile(
    "(?P<sgr>\x1b\\[[0-9;:]{0,32}m)"
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: cursor, erase, modes
    f"|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f]).*?{_STRING_END}"  # OSC, DCS, SOS, PM, APC with their text
    "|\x1b[ -/]*[0-~]?"  # every other escape
    "|[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]",
    re.DOTALL,
)
_SUSPECT: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SGR_ONLY: Final = re.compile("(?:\x1b\\[[0-9;:]{0,32}m)+")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def clean(line: str) -> str:
    """Return *line*, which holds no newline, without anything that could harm who reads it."""
    if not _SUSPECT.search(line):
        return line
    unseen = ""
    for part in reversed(line.split("\r")):
        text = _CONTROL.sub(_keep_colour, _SURROGATE.sub("\ufffd", part)) if part else ""
        if _SGR_ONLY.sub("", text).strip():
            return text
        unseen = unseen or text
    return unseen


def is_clean(text: str) -> bool:
    """Whether *text* (newlines aside) certainly needs no cleaning; cheap, for whole blocks of lines."""
    return not _SUSPECT.search(text.replace("\n", ""))


def _keep_colour(match: re.Match[str]) -> str:
    return match["sgr"] or ""
