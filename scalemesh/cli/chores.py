"""Watches a long piece of work of the daemon from the command line, and says how it ended."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from scalemesh.amounts import size
from scalemesh.cli.output import FAILED, is_colourful, say
from scalemesh.client import AWAY_S, Client
from scalemesh.errors import ConflictError, NotFoundError, RefusedError, UnreachableError

STOPPED: Final = 5
LOOK_S: Final = 0.5
TELL_S: Final = 10.0  #: where no bar can be drawn, a line so often
CURRENT: Final = "/api/v1/chores/current"

Chore = dict[str, Any]
Show = Callable[[Chore], None]


def watch(talk: Client, chore: Chore, verb: str) -> Chore:
    """Show how far it is until it ends; a daemon that restarts meanwhile is waited for.

    Raises:
        RefusedError: the restarted daemon does not go on with it.
        UnreachableError: the daemon has been away for AWAY_S.
    """
    try:
        with _shown() as show:
            while chore["state"] == "running":
                show(chore)
                time.sleep(LOOK_S)
                chore = _current(talk, chore)
    except KeyboardInterrupt:
        say(f"it goes on in the daemon: `scalemesh {verb}` shows it again, `scalemesh {verb} --stop` stops it")
        raise
    return chore


def stop(talk: Client, verb: str, kind: str) -> Chore:
    """Stop the work of that kind, and wait until it has; how far it came.

    Raises:
        ConflictError: none of that kind is under way.
    """
    running = current(talk)
    if running is None or running["kind"] != kind or running["state"] != "running":
        raise ConflictError(f"no `scalemesh {verb}` is under way")
    return watch(talk, talk.post(f"{CURRENT}/stop"), verb)


def current(talk: Client) -> Chore | None:
    """The one that runs, or the last one."""
    try:
        return talk.get(CURRENT)
    except NotFoundError:
        return None


def exit_code(chore: Chore) -> int:
    """Tell what went wrong on the way; 0 if all is well."""
    for error in chore["errors"]:
        say("error: " + error.replace("\n", "\n  "))
    if chore["error_count"] > len(chore["errors"]):
        say(f"error: and {chore['error_count'] - len(chore['errors'])} more")
    if chore["state"] == "stopped":
        return STOPPED
    return 0 if chore["state"] == "done" and chore["result"]["well"] else FAILED


def _current(talk: Client, before: Chore) -> Chore:
    since = time.monotonic()
    while True:
        try:
            found = current(talk)
        except UnreachableError:
            if time.monotonic() - since > AWAY_S:
                raise
            time.sleep(LOOK_S)
            continue
        if found is None or found["kind"] != before["kind"]:
            raise RefusedError("the daemon was restarted meanwhile", fix="run the command again")
        return found


@contextmanager
def _shown() -> Iterator[Show]:
    """A bar on a terminal, else a line now and then; on standard error."""
    if not is_colourful(sys.stderr):
        yield _Lines().show
        return
    from rich.console import Console  # noqa: PLC0415 -- rich takes longer to import than all the rest
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, words="")

        def show(chore: Chore) -> None:
            words = chore["words"] or (_amount(chore) if chore["phase"] else "beginning")
            done, total = chore["done"], chore["total"]
            bar.update(task, description=chore["phase"], completed=done, total=total, words=words.replace("[", "("))

        yield show


class _Lines:
    def __init__(self) -> None:
        self._last, self._said_at = ("", ""), float("-inf")

    def show(self, chore: Chore) -> None:
        heads = (chore["phase"], chore["words"])
        if not any(heads) or (heads == self._last and time.monotonic() - self._said_at < TELL_S):
            return
        self._last, self._said_at = heads, time.monotonic()
        say(": ".join(filter(None, (chore["phase"], chore["words"] or _amount(chore)))))


def _amount(chore: Chore) -> str:
    if chore["total"] is None:  # a phase that counts nothing
        return ""
    return f"{chore['done']} of {chore['total']} blobs, {size(chore['done_bytes'])}, {size(chore['bytes_per_s'])}/s"
