"""The one road of a log line: clean, mask, number, keep, publish; and back out."""

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from builder.cleaning import clean, is_clean
from builder.masking import Masker
from builder.protocol import MAX_BLOCK_BYTES, MAX_BLOCK_LINES, MAX_LINE_BYTES, STEPS, STREAMS
from scalemesh.errors import InvalidError, ScaleMeshError, TooLargeError, UnreachableError
from scalemesh.faults import fault
from scalemesh.ports import LogBus, LogStore
from scalemesh.values import DeploymentId, LogBlock, LogLine

log = logging.getLogger(__name__)

PAGE_LINES: Final = 500
MAX_SEQ: Final = 1 << 53  #: the number of a builder's block; a store keeps 64 bits
POLL_S: Final = 3.0  #: a follower looks into the store at least so often, since a bus may forget
MOST_TALKERS: Final = 2  #: attempts that have a log's room each: a lost build is tried once more
OLDEST_MS: Final = 10 * 60 * 1000  #: before its arrival; a line that says more has a wrong clock
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# The builder's blocks count from 1 within their attempt. The daemon's own, of "attempt 0", take these places.
DAEMON: Final = 0
CLOSING_SEQ: Final = 0
CUT_SEQ: Final = -1


class LogPipeline:
    """Takes lines from the daemon and from builders, keeps them, and gives them to readers."""

    def __init__(
        self,
        store: LogStore,
        bus: LogBus,
        *,
        now: Callable[[], datetime],
        poll_s: float = POLL_S,
        counted: Callable[[int], None] = lambda _lines: None,
    ) -> None:
        self._store, self._bus, self._now, self._poll_s = store, bus, now, poll_s
        self._counted = counted
        # A block takes milliseconds of work, and twenty builds may send one at the same moment: one thread at a time.
        self._cleaning = asyncio.Semaphore(1)
        self._bytes: dict[DeploymentId, int] = {}  # kept so far, of deployments whose builder is talking

    async def write(
        self,
        deployment: DeploymentId,
        step: str,
        text: str,
        *,
        stream: str = "system",
        secrets: Iterable[str] = (),
        once: int | None = None,
    ) -> None:
        """Add the daemon's own *text*, one line or several.

        *once* is a number from 1 that names this text within the deployment: a repeat, also by a later daemon, adds
        nothing. What the text tells has happened, so a log that cannot be kept now fails nothing.
        """
        now = self._now()
        raw = [_parsed([_milliseconds(now), stream, step, part], now) for part in text.split("\n")]
        block = LogBlock(deployment=deployment, lines=_cleaned(raw, secrets))
        with _told(deployment):
            await self._keep(block, attempt=DAEMON, seq=once)

    async def take(
        self,
        deployment: DeploymentId,
        attempt: int,
        seq: int,
        lines: Sequence[object],
        *,
        secrets: Collection[str],
        log_bytes: int,
    ) -> int:
        """Keep a builder's block of ``[at_ms, stream, step, text]`` and return the *seq* that comes next.

        A repeat adds nothing. Past the cap of *log_bytes* lines are dropped and one system line says so.

        Raises:
            InvalidError: a line is none.
            TooLargeError: more lines or bytes than a block may have.
            UnreachableError: the store does not answer; the same call may be repeated.
        """
        if attempt < 1 or not 1 <= seq <= MAX_SEQ:
            raise InvalidError(f"attempt {attempt}, block {seq}: both count from 1")
        if len(lines) > MAX_BLOCK_LINES:
            raise TooLargeError(f"a block of {len(lines)} lines; at most {MAX_BLOCK_LINES} are taken")
        async with self._cleaning:
            wanted = await asyncio.to_thread(_received, lines, self._now(), secrets)
        cap_bytes = min(attempt, MOST_TALKERS) * _cap(log_bytes)
        kept = await self._within_cap(deployment, wanted, cap_bytes)
        if kept:
            await self._keep(LogBlock(deployment=deployment, lines=kept), attempt=attempt, seq=seq)
        if len(kept) < len(wanted):
            text = f"The log has reached {cap_bytes} bytes: what the build printed from here on is not kept."
            await self.write(deployment, wanted[-1].step, text, once=CUT_SEQ)
        return seq + 1

    async def close(self, deployment: DeploymentId) -> None:
        """Tell all readers that nothing follows. Repeatable; call it after the last line was written.

        Where that cannot be kept now, readers learn the end from the deployment's state.
        """
        closing = LogBlock(deployment=deployment, lines=(), closes=True)
        with _told(deployment):
            if not await self._keep(closing, attempt=DAEMON, seq=CLOSING_SEQ):
                await self._publish(closing)  # the daemon that kept it may have died before it could tell
        self._bytes.pop(deployment, None)

    async def follow(
        self, deployment: DeploymentId, after: int, is_final: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[LogBlock]:
        """Every line numbered above *after*, each once and in order, as they come. Read it under ``aclosing()``.

        It ends with a block that ``closes`` once the log was closed, or once *is_final* says that nothing will be
        written any more (a final state alone does not: the last words follow it); without one if the bus was closed,
        because the daemon stops.
        """
        seen, closed = after, False
        async with self._listen(deployment) as live:  # before reading, so that nothing falls between
            while True:
                closed = closed or await is_final()  # before reading too: all that came before its end is read now
                while lines := await self._store.read(deployment, seen, PAGE_LINES):
                    seen = lines[-1].number
                    yield LogBlock(deployment=deployment, lines=lines)
                if closed or live.is_over:
                    break
                while (block := await live.next(self._poll_s)) is not None and not block.closes:
                    if block.lines and block.lines[0].number > seen + 1:
                        break  # one was dropped, or overtaken by this one: the store has both
                    if lines := [line for line in block.lines if line.number > seen]:
                        seen = lines[-1].number
                        yield LogBlock(deployment=deployment, lines=lines)
                closed = block is not None and block.closes
        if closed:
            yield LogBlock(deployment=deployment, lines=(), closes=True)

    async def read(self, deployment: DeploymentId, after: int = 0, limit: int = 1000) -> Sequence[LogLine]:
        """At most *limit* kept lines numbered above *after*, in order."""
        return await self._store.read(deployment, after, limit)

    async def search(self, deployment: DeploymentId, text: str, limit: int = 100) -> Sequence[LogLine]:
        """The first *limit* kept lines that contain *text*, letter case and colours ignored."""
        return await self._store.search(deployment, text, limit)

    async def drop(self, deployment: DeploymentId) -> None:
        """Forget the log and let its followers go. Repeatable."""
        await self._store.drop(deployment)
        self._bytes.pop(deployment, None)
        await self._publish(LogBlock(deployment=deployment, lines=(), closes=True))

    async def _keep(self, block: LogBlock, *, attempt: int, seq: int | None) -> bool:
        """Keep *block*, then show it: who has seen a line will find it again. False if it was kept before."""
        kept = await self._store.append(block, attempt=attempt, seq=seq)
        fault("logs.after_append")
        if kept is None:
            return False
        if attempt != DAEMON:
            self._bytes[block.deployment] = self._bytes.get(block.deployment, 0) + sum(map(_size, block.lines))
        self._counted(len(block.lines))
        await self._publish(kept)
        return True

    async def _publish(self, block: LogBlock) -> None:
        try:
            await self._bus.publish(block)
        except ScaleMeshError as error:  # followers find it in the store a little later
            log.warning("a log block was kept but not published: %s", error, extra={"deployment": block.deployment})

    async def _within_cap(
        self, deployment: DeploymentId, lines: Sequence[LogLine], cap_bytes: int
    ) -> Sequence[LogLine]:
        """The first of *lines* that still fit under the cap."""
        if deployment not in self._bytes:
            kept_bytes = await self._count(deployment)
            self._bytes.setdefault(deployment, kept_bytes)
        room = cap_bytes - self._bytes[deployment]
        for number, line in enumerate(lines):
            room -= _size(line)
            if room < 0:
                return lines[:number]
        return lines

    async def _count(self, deployment: DeploymentId) -> int:
        """What a former daemon has kept, in bytes; one empty page for a fresh deployment."""
        total, seen = 0, 0
        while lines := await self._store.read(deployment, seen, PAGE_LINES):
            total, seen = total + sum(map(_size, lines)), lines[-1].number
        return total

    @asynccontextmanager
    async def _listen(self, deployment: DeploymentId) -> AsyncIterator["_Listener"]:
        async with self._bus.subscribe(deployment) as live, aclosing(_Listener(live)) as listener:
            yield listener


class _Listener:
    """Waits for fresh blocks for a limited time; unlike wait_for(anext()), running out of it ends nothing."""

    def __init__(self, live: AsyncGenerator[LogBlock | None]) -> None:
        self._live = live
        self._coming: asyncio.Task[LogBlock | None] | None = None
        self.is_over = False  #: the bus was closed

    async def next(self, timeout_s: float) -> LogBlock | None:
        """The next block; None: look into the store."""
        coming = self._coming = self._coming or asyncio.create_task(self._take())
        done, _ = await asyncio.wait({coming}, timeout=timeout_s)
        if not done:
            return None
        self._coming = None
        return coming.result()

    async def aclose(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)

    async def _take(self) -> LogBlock | None:
        async for block in self._live:
            return block
        self.is_over = True
        return None


def _received(raw: Sequence[object], now: datetime, secrets: Iterable[str]) -> list[LogLine]:
    lines = [_parsed(line, now) for line in raw]
    if sum(map(_size, lines)) > MAX_BLOCK_BYTES + len(lines):
        raise TooLargeError(f"a block of lines over {MAX_BLOCK_BYTES} bytes")
    return _cleaned(lines, secrets)


@contextmanager
def _told(deployment: DeploymentId) -> Iterator[None]:
    """What cannot be written into a build's log is told in the daemon's own."""
    try:
        yield
    except UnreachableError as error:
        log.warning("a log line is not kept", extra={"deployment": deployment, "error": str(error)})


def _parsed(raw: object, now: datetime) -> LogLine:
    """A line as it was sent, checked and with its time put between ten minutes before its arrival and that."""
    match raw:
        case [int(at_ms), str(stream), str(step), str(text)] if stream in STREAMS and step in STEPS:
            arrival_ms = _milliseconds(now)
            at = EPOCH + timedelta(milliseconds=max(arrival_ms - OLDEST_MS, min(at_ms, arrival_ms)))
        case _:
            raise InvalidError(
                f"{str(raw)[:100]!r} is no line",
                fix=f"send [at_ms, stream, step, text], stream one of {STREAMS}, step one of {STEPS}",
            )
    return LogLine(number=0, at=at, step=step, stream=stream, text=text)


def _cleaned(lines: Sequence[LogLine], secrets: Iterable[str]) -> list[LogLine]:
    """*lines* cleaned, masked and then split: a control sequence could hide a secret, a cut tear it apart."""
    texts = [line.text for line in lines]
    if not is_clean("\n".join(texts)) or any("\n" in text for text in texts):
        texts = [clean(text) for text in texts]
    masker = Masker(secrets)
    if masker.spans("\n".join(texts)):  # one look at the whole block: most have nothing to hide
        texts = [masker.mask(text) for text in texts]
    return [
        LogLine(number=0, at=line.at, step=line.step, stream=line.stream, text=part)
        for line, text in zip(lines, texts, strict=True)
        for part in _split(text)
    ]


def _split(text: str) -> Iterable[str]:
    """*text* in parts of at most MAX_LINE_BYTES, cut neither inside a character nor inside a colour sequence."""
    data = text.encode()
    while len(data) > MAX_LINE_BYTES:
        cut = MAX_LINE_BYTES
        while data[cut] & 0xC0 == 0x80:
            cut -= 1
        escape = data.rfind(b"\x1b", cut - 40, cut)
        if escape > 0 and b"m" not in data[escape:cut]:
            cut = escape
        yield data[:cut].decode()
        data = data[cut:]
    yield data.decode()


def _cap(log_bytes: int) -> int:
    """What one attempt may keep. The builder cuts at *log_bytes* itself and then shows the end, which needs room."""
    return log_bytes + log_bytes // 4 + MAX_BLOCK_BYTES


def _size(line: LogLine) -> int:
    return len(line.text.encode("utf-8", "surrogatepass")) + 1


def _milliseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)
