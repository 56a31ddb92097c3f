"""What the rules of a site may say about a visit: the common tongue of all dialects."""

from dataclasses import dataclass

from scalemesh.edge.answers import Headers
from scalemesh.rules import HeaderChange, Place
from scalemesh.services.windows import Former
from scalemesh.values import Entry


@dataclass(frozen=True, slots=True)
class Change:
    """A header as a rule changes it, its value filled in, and where that was written."""

    change: HeaderChange
    value: str
    place: Place
    is_default: bool = False  #: a habit of the dialect: what a rule says of this header takes its place


Changes = tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Answer with this entry: 200, or the status that a rule gave."""

    entry: Entry
    because: str
    path: str = ""  #: of the entry
    status: int = 200
    changes: Changes = ()
    former: Former | None = None  #: whose file it is, where it is not the current deployment's


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Send the visitor to another address."""

    location: str
    status: int
    because: str
    changes: Changes = ()
    any_method: bool = False  #: also for methods that no file answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Let another origin answer; it gets every method."""

    url: str
    because: str
    keeps_credentials: bool = False
    request_headers: Headers = ()
    changes: Changes = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Answer 404 (or another status without content) with the site's own page, or with ours where it brought none."""

    page: Entry | None
    path: str = ""  #: of the page, where it is a file of the site
    because: str
    status: int = 404
    changes: Changes = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """Ask for a name and a password."""

    because: str


Outcome = Serve | Redirect | Forward | Missing | Protected
