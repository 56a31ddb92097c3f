"""Sites with rule files, compiled and asked as a visit would."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scalemesh.edge.answers import Answer, Passage, Slice, Visit
from scalemesh.edge.decide import decide
from scalemesh.edge.rules.ruleset import Ruleset
from scalemesh.edge.rules.trace import Trace
from scalemesh.edge.site import Site
from scalemesh.rules import Dialect, Rules
from scalemesh.services import manifests
from scalemesh.services.rules.compiled import Compiled
from scalemesh.services.rules.compiling import compile_rules
from scalemesh.services.rules.sources import Sources
from scalemesh.values import DeploymentId, Digest, HostKind, Manifest, ProjectId, Route

ID = DeploymentId("dpl_abcdefghij2345678901")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROUTE = Route(
    host="shop.localhost",
    kind=HostKind.PRODUCTION,
    project=ProjectId("prj_a"),
    project_name="shop",
    deployment=ID,
    manifest=Digest("0" * 64),
)
MATRIX = ("file.html", "folder/index.html", "both.html", "both/index.html")
FORMS = (
    *("/file", "/file/", "/file.html", "/folder", "/folder/"),
    *("/folder/index.html", "/both", "/both/", "/both.html", "/both/index.html"),
)


@dataclass(frozen=True)
class Said:
    """An answer, in the words of a test."""

    status: int
    headers: dict[str, list[str]]  #: names in lower case
    file: str | None
    because: str
    by_target: bool

    def one(self, name: str) -> str | None:
        values = self.headers.get(name.lower(), [])
        assert len(values) <= 1, f"{name} stands there twice"
        return values[0] if values else None

    @property
    def location(self) -> str | None:
        return self.one("Location")


@dataclass(frozen=True)
class Asked:
    """A site that can be asked."""

    compiled: Compiled
    manifest: Manifest
    rules: Ruleset

    @property
    def notes(self) -> list[str]:
        return [str(note) for note in self.compiled.notes]

    def decide(self, target: str, method: str = "GET", *, trace: Trace | None = None, **more: Any) -> Answer | Passage:
        headers = {name.replace("_", "-"): value for name, value in more.pop("headers", {}).items()}
        visit = Visit(method=method, target=target, **{"host": "shop.localhost", "headers": headers, **more})
        return decide(visit, Site(route=ROUTE, manifest=self.manifest, rules=self.rules), AT, trace)

    def ask(self, target: str, method: str = "GET", **more: Any) -> Said:
        answer = self.decide(target, method, **more)
        assert isinstance(answer, Answer)
        found: dict[str, list[str]] = {}
        for name, value in answer.headers:
            found.setdefault(name.lower(), []).append(value)
        return Said(answer.status, found, self.served(answer), answer.because, answer.by_target)

    def passed(self, target: str, method: str = "GET", **more: Any) -> Passage:
        answer = self.decide(target, method, **more)
        assert isinstance(answer, Passage)
        return answer

    def served(self, answer: Answer) -> str | None:
        body = answer.body
        if not isinstance(body, Slice):
            return None
        return next(path for path, entry in self.manifest.entries.items() if entry.sha256 == body.sha256)

    def steps(self, target: str, **more: Any) -> list[tuple[str, bool, str]]:
        """(place, whether it matched, why) of each step of a visit."""
        trace = Trace()
        self.decide(target, trace=trace, **more)
        return [(str(step.place or ""), step.matched, step.why) for step in trace.steps]


def brought(dialect: Dialect, files: dict[str, str], paths: tuple[str, ...] = ()) -> Asked:
    """A site of *paths* with the rule *files*, through the manifest as it is kept."""
    sources = Sources({name: text.encode() for name, text in files.items()}, frozenset(paths))
    return made(compile_rules(sources, dialect), paths)


def with_rules(rules: Rules, *paths: str) -> Asked:
    return made(Compiled(rules=rules), paths)


def made(compiled: Compiled, paths: tuple[str, ...]) -> Asked:
    listing = [(path, f"{number:064x}", 100 + number) for number, path in enumerate(paths)]
    kept = manifests.encode(manifests.make_manifest(ID, AT, listing, ["assets/**"], compiled).manifest)
    manifest = manifests.decode(kept)
    return Asked(compiled, manifest, Ruleset(manifest.rules))
