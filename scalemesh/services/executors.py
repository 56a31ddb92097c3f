"""Where builds run: every executor of the config by its kind, the default among them, and patience with those away."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from scalemesh.errors import ScaleMeshError
from scalemesh.ports import Executor
from scalemesh.values import Deployment, Project

T = TypeVar("T")
log = logging.getLogger(__name__)
ASK_AGAIN_S: Final = 2.0  #: first pause before an executor that did not answer is asked again; each is twice as long
MOST_PAUSE_S: Final = 30.0


class Executors:
    def __init__(self, by_kind: Mapping[str, Executor]) -> None:
        """*by_kind*: in the order of the config, at least one; the first is the default."""
        self._by_kind = dict(by_kind)
        self.kinds: Final = tuple(self._by_kind)
        self.default: Final = self.kinds[0]

    def named(self, kind: str) -> Executor:
        """The executor of one of ``kinds``."""
        return self._by_kind[kind]

    def chosen(self, project: Project) -> str:
        """The kind for the project's next build; the config may not list it any more."""
        return project.executor or self.default

    def kind_of(self, deployment: Deployment) -> str:
        """The kind it was submitted for. One from before there was a choice has the default."""
        return deployment.executor or self.default

    def find(self, deployment: Deployment) -> Executor | None:
        """Where *deployment* builds; None: the config does not list that kind any more."""
        return self._by_kind.get(self.kind_of(deployment))

    def of(self, deployment: Deployment) -> Executor:
        """As ``find``, for one that builds: what cannot build anywhere was ended at the start."""
        return self.named(self.kind_of(deployment))

    def why_not(self, kind: str) -> str:
        """In words: the config does not list *kind*."""
        return f'no builds run on "{kind}" here: executor.kind lists {", ".join(self.kinds)}'


async def answered(ask: Callable[[], Awaitable[T]], what: str, kind: str) -> T:
    """What *ask* returns, once the executor answers: asked again and again, told in the log each time.

    Also where it answers and says no (a right that was taken away): whoever can mend it reads of it there.
    """
    pause_s = ASK_AGAIN_S
    while True:
        try:
            return await ask()
        except ScaleMeshError as error:
            log.warning(what, extra={"executor": kind, "error": str(error), "again_in_s": pause_s})
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MOST_PAUSE_S)
