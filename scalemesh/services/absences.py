"""Executors that did not answer when a build was to start there: left alone for a while, then tried by one build."""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from scalemesh.services import executors


class Absences:
    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._until: dict[str, datetime] = {}  #: by kind of those that did not answer: nothing starts there before
        self._pause_s: dict[str, float] = {}
        self._tried: set[str] = set()  #: where a start is under way that shows whether they answer again

    def here(self, kinds: Collection[str]) -> set[str]:
        """Those of *kinds* on which a build may start now."""
        now = self._now()
        return {kind for kind in kinds if kind not in self._tried and self._until.get(kind, now) <= now}

    def is_doubtful(self, kind: str) -> bool:
        """Whether it has not answered since it did not."""
        return kind in self._until

    def begins(self, kind: str) -> None:
        """A build is about to start there; where that is doubtful, no other does before it is known."""
        if kind in self._until:
            self._tried.add(kind)

    def answered(self, kind: str) -> None:
        self._tried.discard(kind)
        self._until.pop(kind, None)
        self._pause_s.pop(kind, None)

    def silent(self, kind: str) -> datetime:
        """It did not answer; until when it is left alone. Each pause is twice as long as the last."""
        now = self._now()
        if kind in self._tried or self._until.get(kind, now) <= now:  # else several were starting there at once
            last_s = self._pause_s.get(kind, executors.ASK_AGAIN_S / 2)
            self._pause_s[kind] = min(2 * last_s, executors.MOST_PAUSE_S)
            self._until[kind] = now + timedelta(seconds=self._pause_s[kind])
            self._tried.discard(kind)
        return self._until[kind]

    def next(self, since: datetime) -> datetime | None:
        """When the next of them may be tried, of those that might not at *since*."""
        return min((at for kind, at in self._until.items() if kind not in self._tried and at > since), default=None)
