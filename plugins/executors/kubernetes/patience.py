"""For how long a job that tells nothing is waited for before it is looked at anew."""

from collections.abc import Callable
from typing import Final

from plugins.executors.kubernetes import ends
from plugins.executors.kubernetes.watch import News

SETTLE_S: Final = 2.0  #: within which a Job tells that it deleted its pod itself, at its deadline


class Patience:
    """With one job, from the moment that it is waited for. *start_s*: until its container must run."""

    def __init__(self, start_s: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start_by = clock() + start_s
        self._settled_by: float | None = None

    def due_s(self, news: News) -> float | None:
        """Seconds until a look can tell that it is over; 0: now; None: not before something is heard."""
        if ends.is_finished(news) or news.is_job_gone or ends.is_hopeless(news):
            return 0.0
        if ends.has_lost_a_pod(news):
            self._settled_by = self._settled_by or self._clock() + SETTLE_S
            return max(0.0, self._settled_by - self._clock())
        return None if ends.has_begun(news) else max(0.0, self._start_by - self._clock())
