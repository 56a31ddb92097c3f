"""What became of a container, and how it is ended. Everything here blocks."""

import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from docker.errors import APIError, NotFound

from plugins.executors.docker.engine import close_stream
from plugins.executors.docker.recipe import DEADLINE
from scalemesh.values import BuildEnd, EndCause

FINAL: Final = frozenset({"exited", "dead"})
KILLED: Final = 128 + 9
#: Told to end from outside (our builder ends by none of them): somebody, or an engine that stops or was stopped.
ENDED: Final = frozenset({128 + 1, 128 + 2, 128 + 15, KILLED, 255})
MOST_WORDS: Final = 4000
NEVER_S: Final = 3600.0
REMOVING_S: Final = 5.0


def end_of(container: Any) -> BuildEnd:
    """How the ended container ended."""
    state = container.attrs["State"]
    code = int(state["ExitCode"])
    if state.get("OOMKilled"):
        limit = container.attrs["HostConfig"]["Memory"] >> 20
        return BuildEnd(cause=EndCause.OOM, exit_code=code, detail=f"over its {limit} MiB of memory")
    if code == KILLED and _ran_s(state) >= _deadline_s(container):
        return BuildEnd(cause=EndCause.TIMEOUT, exit_code=code)
    if code in ENDED and not state.get("Error"):
        return BuildEnd(cause=EndCause.LOST, exit_code=code, detail="its container was ended by somebody or its engine")
    if code == 0:
        return BuildEnd(cause=EndCause.OK, exit_code=0)
    return BuildEnd(cause=EndCause.FAILED, exit_code=code, detail=state.get("Error") or _last_words(container))


def left_s(container: Any) -> float:
    """Seconds until the running container has to be ended."""
    started = _time(container.attrs["State"].get("StartedAt", ""))
    if started is None:
        return NEVER_S
    return _deadline_s(container) - (datetime.now(UTC) - started).total_seconds()


def kill(container: Any) -> None:
    """End it at once; one that has ended meanwhile is no error."""
    with suppress(APIError):
        container.kill()


def remove(client: Any, name: str) -> None:
    """Kill and remove the container of that name, and wait until it is gone. Repeatable."""
    until = time.monotonic() + REMOVING_S
    while True:
        try:
            client.api.remove_container(name, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409 or time.monotonic() > until:  # 409: its removal is under way
                raise
        time.sleep(0.05)


def remove_volume(client: Any, name: str) -> None:
    """Remove the volume of that name. Repeatable."""
    with suppress(NotFound):
        client.api.remove_volume(name, force=True)


def output(container: Any) -> str:
    """The last line that it printed on its standard output."""
    lines = container.logs(stdout=True, stderr=False, tail=5).decode(errors="replace").strip().splitlines()
    return str(lines[-1]) if lines else ""


def first_line(container: Any, within_s: float) -> str:
    """The first line that it prints; empty if it ends without one, or prints none in time.

    The client follows a log without a limit, also where the engine has gone without a word.
    """
    data = b""
    stream = container.logs(stream=True, follow=True)
    limit = threading.Timer(within_s, _break_off, [stream])
    limit.daemon = True
    limit.start()
    try:
        for chunk in stream:
            data += chunk
            if b"\n" in data or len(data) > MOST_WORDS:
                break
    finally:
        limit.cancel()
        close_stream(stream)
    return data.partition(b"\n")[0].decode(errors="replace").strip()


def _break_off(stream: Any) -> None:
    with suppress(OSError, ValueError, AttributeError):
        stream.close()  # wakes its reader, which lets go of the rest


def _last_words(container: Any) -> str:
    with suppress(APIError):
        lines = container.logs(tail=5).decode(errors="replace").strip().splitlines()
        return str(lines[-1])[-MOST_WORDS:] if lines else ""
    return ""


def _ran_s(state: dict[str, Any]) -> float:
    started, finished = _time(state.get("StartedAt", "")), _time(state.get("FinishedAt", ""))
    return (finished - started).total_seconds() if started and finished else 0.0


def _deadline_s(container: Any) -> float:
    return float(container.labels.get(DEADLINE, NEVER_S))


def _time(text: str) -> datetime | None:
    """A time of the engine, which counts nanoseconds; None for the year 1, which means never."""
    head, _, fraction = text.rstrip("Z").partition(".")
    with suppress(ValueError):
        found = datetime.fromisoformat(f"{head}.{fraction[:6]:0<6}+00:00")
        return found if found.year > 1 else None
    return None
