"""What the rules of a site may say about a path: the common tongue of all dialects."""

from collections.abc import Callable
from dataclasses import dataclass

from scalemesh.edge.targets import Target
from scalemesh.values import Entry, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Answer 200 with this entry."""

    entry: Entry
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Send the visitor to another address."""

    location: str
    status: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Answer 404 with the site's own page, or with ours where it brought none."""

    page: Entry | None
    because: str


Outcome = Serve | Redirect | Missing

#: (target, the manifest, whether the visit is a navigation of a browser) -> what to answer
Dialect = Callable[[Target, Manifest, bool], Outcome]
