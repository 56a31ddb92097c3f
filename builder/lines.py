"""From the bytes that a program prints to lines fit for the log: split, cleaned, masked, capped.

The cap keeps the head of the output as it comes and the tail of each program in a ring of raw bytes; what
falls out between is counted, named in the log, and never fails a build.
"""

import codecs
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from builder.cleaning import clean, is_clean
from builder.masking import Masker
from builder.protocol import MAX_LINE_BYTES

HOLD_CHARS: Final = 64 * 1024  #: an unfinished line longer than this is shown in parts
LINE_COST: Final = 16  #: what an empty line counts towards the cap, in bytes
TAIL_LINES: Final = 300  #: of the newest lines, kept to explain a failure; npm prints a page of help after its error
TAIL_SHARE: Final = 6  #: three programs may each use this part of the cap for their tail: half of it in all

Line = tuple[int, str, str, str]  #: at_ms, stream, step, text
Write = Callable[[Iterable[Line]], None]


class Assembler:
    """Makes lines of one stream of bytes, however it is cut into chunks."""

    def __init__(self, masker: Masker, *, joins_midway: bool = False) -> None:
        """*joins_midway*: the start is missing, so the first line may begin inside a secret: it is dropped."""
        self._masker = masker
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._hold = max(HOLD_CHARS, 4 * masker.longest)
        self._skips = joins_midway
        self._part = ""

    def feed(self, data: bytes, *, final: bool = False) -> list[str]:
        """Return the lines that *data* completes; with *final* also the rest."""
        text = self._unskipped(self._part + self._decoder.decode(data, final), final)
        whole, newline, self._part = text.rpartition("\n")
        lines = self._finished(whole) if newline else []
        if final and self._part:
            lines += self._finished(self._part)
            self._part = ""
        elif len(self._part) > self._hold:
            lines += self._overlong()
        return lines

    def _unskipped(self, text: str, final: bool) -> str:
        if not self._skips:
            return text
        _, newline, rest = text.partition("\n")
        if not newline and len(text) <= self._hold and not final:
            return text
        self._skips = False
        if newline:
            return rest
        shown = clean(text)
        return shown[self._masker.safe_start(shown) :]

    def _finished(self, text: str) -> list[str]:
        if not is_clean(text):
            text = "\n".join(map(clean, text.split("\n")))
        return [part for line in self._masker.mask(text).split("\n") for part in fitting(line)]

    def _overlong(self) -> list[str]:
        if self._skips:
            return []
        shown = clean(self._part)
        cut = self._masker.safe_cut(shown)
        self._part = shown[cut:]
        return list(fitting(self._masker.mask(shown[:cut]))) if cut else []


class Log:
    """Where steps say what they do and programs put their output."""

    def __init__(self, write: Write, masker: Masker, log_bytes: int) -> None:
        self._write, self._masker = write, masker
        self._room = log_bytes // 2
        self.tail_bytes = log_bytes // TAIL_SHARE

    def say(self, step: str, text: str) -> None:
        """A line of the builder's own, whatever the cap."""
        for line in text.split("\n"):
            self.write(step, "system", fitting(self.masked(line)))

    def masked(self, text: str) -> str:
        return self._masker.mask(clean(text.replace("\n", " ")))

    def write(self, step: str, stream: str, texts: Iterable[str]) -> None:
        at_ms = int(time.time() * 1000)
        self._write([(at_ms, stream, step, text) for text in texts])

    def output(self, step: str) -> "Output":
        return Output(self, self._masker, step)

    def has_room(self) -> bool:
        return self._room > 0

    def use(self, read_bytes: int, texts: list[str]) -> None:
        """Count what was read too: a progress bar may redraw one line for ever."""
        self._room -= max(read_bytes, sum(map(cost, texts)))

    def piece(self, size: int) -> int:
        """How many bytes to read into lines at once, so that the head cannot outgrow its room by much."""
        return size if self._room > size * (LINE_COST + 1) else min(size, 2048)


class Output:
    """The output of one program: ``feed`` it, then ``close`` it; ``tail`` has its newest lines."""

    def __init__(self, log: Log, masker: Masker, step: str) -> None:
        self._log, self._masker, self._step = log, masker, step
        self._streams = {stream: Assembler(masker) for stream in ("out", "err")}
        self._ring: deque[tuple[str, bytes]] = deque()
        self._ring_bytes = 0
        self._cut_bytes: dict[str, int] = {}
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def feed(self, stream: str, data: bytes) -> None:
        """Take *data* as it came from *stream*; never blocks and never fails."""
        while data and self._log.has_room():
            size = self._log.piece(len(data))
            lines = self._streams[stream].feed(data[:size])
            data = data[size:]
            self._log.use(size, lines)
            self._show(stream, lines)
        if data:
            self._ring.append((stream, data))
            self._ring_bytes += len(data)
        while self._ring_bytes > self._log.tail_bytes and len(self._ring) > 1:
            torn, dropped = self._ring.popleft()
            self._ring_bytes -= len(dropped)
            self._cut_bytes[torn] = self._cut_bytes.get(torn, 0) + len(dropped)

    def close(self) -> None:
        """Show what is still held back. Nothing may be fed afterwards."""
        for torn in self._cut_bytes:
            self._streams[torn] = Assembler(self._masker, joins_midway=True)
        kept: deque[tuple[str, str]] = deque()
        spent = cut_lines = 0
        for stream, line in self._rest():
            kept.append((stream, line))
            spent += cost(line)
            while spent > self._log.tail_bytes and len(kept) > 1:
                spent -= cost(kept.popleft()[1])
                cut_lines += 1
        if self._cut_bytes or cut_lines:
            self._log.say(self._step, self._notice(cut_lines))
        for stream, line in kept:
            self._show(stream, [line])

    def _rest(self) -> Iterator[tuple[str, str]]:
        for stream, data in self._ring:
            for line in self._streams[stream].feed(data):
                yield stream, line
        for stream, assembler in self._streams.items():
            for line in assembler.feed(b"", final=True):
                yield stream, line

    def _notice(self, cut_lines: int) -> str:
        cut_bytes = sum(self._cut_bytes.values())
        much = f"{cut_bytes / 1e6:.1f} MB" if cut_bytes else f"{cut_lines} lines"
        return f"… {much} of output left out here: the log is over its limit …"

    def _show(self, stream: str, lines: list[str]) -> None:
        if lines:
            self.tail.extend(lines[-TAIL_LINES:])
            self._log.write(self._step, stream, lines)


def fitting(line: str) -> Iterator[str]:
    """Split *line* into parts of at most MAX_LINE_BYTES, between characters."""
    if len(line) * 4 <= MAX_LINE_BYTES:
        yield line
        return
    data = line.encode("utf-8", "replace")
    while len(data) > MAX_LINE_BYTES:
        cut = MAX_LINE_BYTES
        while data[cut] & 0xC0 == 0x80:
            cut -= 1
        yield data[:cut].decode()
        data = data[cut:]
    yield data.decode()


def cost(line: str) -> int:
    """What *line* counts towards the cap."""
    return len(line.encode("utf-8", "replace")) + LINE_COST
