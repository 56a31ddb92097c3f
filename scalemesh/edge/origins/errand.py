"""One visit on its way to an origin: all that is known before the origin is asked."""

from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from scalemesh.edge.answers import Headers, Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What goes to the origin, and what every answer carries back."""

    request: web.BaseRequest  #: the visitor's
    passage: Passage
    url: URL
    headers: CIMultiDict[str]  #: for the origin
    own: Headers  #: on every answer
    request_id: str

    @property
    def has_left(self) -> bool:
        """Whether the visitor's connection is gone."""
        transport = self.request.transport
        return transport is None or transport.is_closing()

    def cut(self) -> None:
        """End the visitor's connection at once: a half must not look like a whole."""
        if self.request.transport is not None:
            self.request.transport.abort()
