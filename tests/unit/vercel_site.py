"""A site in Vercel's dialect, from its files and rule files to answers, without a connection."""

import json
from dataclasses import dataclass
from typing import Any

from scalemesh.edge.answers import Answer, Passage, Slice, Visit
from scalemesh.edge.decide import decide
from scalemesh.edge.rules.ruleset import Ruleset
from scalemesh.edge.rules.trace import Trace
from scalemesh.edge.site import Site
from scalemesh.services.manifests import decode, encode, make_manifest
from scalemesh.services.rules.compiled import Compiled
from scalemesh.services.rules.compiling import compile_rules
from scalemesh.services.rules.sources import CONFIG, Sources
from scalemesh.values import Manifest
from tests.unit.dialects import AT, ID, ROUTE


@dataclass(frozen=True)
class VercelSite:
    manifest: Manifest
    compiled: Compiled

    def ask(self, target: str, method: str = "GET", trace: Trace | None = None, **visit: Any) -> Answer | Passage:
        asked = Visit(**{"host": "shop.localhost", "method": method, "target": target, **visit})
        site = Site(route=ROUTE, manifest=self.manifest, rules=Ruleset(self.manifest.rules))
        return decide(asked, site, AT, trace)

    def answer(self, target: str, method: str = "GET", **visit: Any) -> Answer:
        answer = self.ask(target, method, **visit)
        assert isinstance(answer, Answer), answer
        return answer

    def forwarded(self, target: str, method: str = "GET", **visit: Any) -> str:
        passage = self.ask(target, method, **visit)
        assert isinstance(passage, Passage), passage
        return passage.url

    def shown(self, target: str, **visit: Any) -> str:
        """The answer in a word: the file that is served, "308 /where", or "404"."""
        answer = self.answer(target, **visit)
        if answer.status in (301, 302, 303, 307, 308):
            return f"{answer.status} {header(answer, 'location')}"
        return self.file(answer) or "nothing" if answer.status == 200 else str(answer.status)

    def file(self, answer: Answer) -> str | None:
        if not isinstance(answer.body, Slice):
            return None
        return next(path for path, entry in self.manifest.entries.items() if entry.sha256 == answer.body.sha256)

    @property
    def notes(self) -> list[str]:
        return [str(note) for note in self.compiled.notes]


def vercel(*paths: str, **settings: Any) -> VercelSite:
    """A site with a vercel.json."""
    return site_of(paths, {"vercel.json": written(settings)})


def build_output(*paths: str, functions: tuple[str, ...] = (), **settings: Any) -> VercelSite:
    """A site with a Build Output API config.json."""
    files = {f".vercel/output/functions/{name}.func/.vc-config.json": b"{}" for name in functions}
    return site_of(paths, {CONFIG: written({"version": 3, **settings}), **files})


def site_of(paths: tuple[str, ...], files: dict[str, bytes]) -> VercelSite:
    compiled = compile_rules(Sources(files, frozenset(paths)))
    listing = [(path, f"{number:064x}", 100 + number) for number, path in enumerate(paths)]
    manifest = make_manifest(ID, AT, listing, (), compiled).manifest
    kept = decode(encode(manifest))  # what is served is what was kept
    assert kept == manifest
    return VercelSite(kept, compiled)


def written(settings: dict[str, Any]) -> bytes:
    return json.dumps(settings, indent=2).encode()


def header(answer: Answer | Passage, name: str) -> str | None:
    headers = answer.headers if isinstance(answer, Answer) else answer.answer_headers
    found = [value for key, value in headers if key.lower() == name.lower()]
    assert len(found) <= 1, f"{name} stands there twice"
    return found[0] if found else None
