"""What a visit to one route can need, loaded."""

from dataclasses import dataclass, field

from scalemesh.edge.rules.ruleset import Ruleset
from scalemesh.services.encodings import Encodings
from scalemesh.services.windows import Window
from scalemesh.values import Manifest, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A route and the tables that it names."""

    route: Route
    manifest: Manifest
    rules: Ruleset  #: those of the manifest, ready to be tried
    encodings: Encodings = field(default_factory=Encodings)
    window: Window = field(default_factory=Window)
