"""The asset window as a value: what it takes in, whose file counts, how it is kept."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from scalemesh.edge.answers import Answer, Visit
from scalemesh.edge.decide import decide
from scalemesh.edge.rules.ruleset import Ruleset
from scalemesh.edge.site import Site
from scalemesh.errors import InvalidError
from scalemesh.rules import Dialect, Rules
from scalemesh.services import windows
from scalemesh.services.encodings import Encodings
from scalemesh.services.manifests import make_manifest
from scalemesh.services.windows import Former, Window, decode, encode, grown
from scalemesh.values import Blob, DeploymentId, Digest, HostKind, Manifest, ProjectId, Route

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WEEK = timedelta(days=7)
OLD, OLDER, LIVE = (DeploymentId("dpl_" + letter * 20) for letter in "abc")
HASHED = "assets/index-BxYz12aB.js"
BR = Blob(sha256=Digest("b" * 64), size_bytes=50)


def manifest(deployment: DeploymentId, paths: Sequence[str], mark: int = 1) -> Manifest:
    listing = [(path, f"{mark}{number:063x}", 2000) for number, path in enumerate(paths)]
    return make_manifest(deployment, AT, listing, ["assets/**", "**"]).manifest


def former(deployment: DeploymentId, left: datetime = AT) -> Former:
    return Former(deployment=deployment, created_at=AT - WEEK, until=left + WEEK)


def window(*paths: str) -> Window:
    return grown(Window(), former(OLD), manifest(OLD, paths), Encodings())


def ask(
    found: Window,
    target: str,
    *,
    now: datetime = AT,
    live: Sequence[str] = ("index.html",),
    rules: Rules | None = None,
    **more: str,
) -> Answer:
    route = Route(
        host="shop.localhost",
        kind=HostKind.PRODUCTION,
        project=ProjectId("prj_a"),
        project_name="shop",
        deployment=LIVE,
        manifest=Digest("0" * 64),
    )
    now_live = manifest(LIVE, live, 9)
    now_live = replace(now_live, rules=rules or now_live.rules)
    site = Site(route=route, manifest=now_live, rules=Ruleset(now_live.rules), window=found)
    answer = decide(
        Visit(method="GET", target=target, accept_encoding=more.get("accept_encoding"), range=more.get("range")),
        site,
        now,
    )
    assert isinstance(answer, Answer)
    return answer


def header(answer: Answer, name: str) -> str | None:
    return dict(answer.headers).get(name)


def test_an_address_that_is_proper_only_while_a_former_file_answers_is_kept_by_nobody() -> None:
    """The redirect to it ends with the file."""
    rules = Rules(dialect=Dialect.VERCEL, trailing_slash=False)
    answer = ask(window(HASHED), f"/{HASHED}/", rules=rules)
    assert (answer.status, header(answer, "Location"), answer.by_target) == (308, f"/{HASHED}", False)
    assert ask(window(HASHED), f"/{HASHED}/", now=AT + WEEK, rules=rules).status == 404


def test_a_hashed_file_of_a_former_deployment_is_answered_as_that_deployments() -> None:
    answer = ask(window(HASHED), f"/{HASHED}")
    assert answer.status == 200
    assert header(answer, "X-Scalemesh-Deployment") == OLD
    assert header(answer, "Cache-Control") == "public, max-age=31536000, immutable"
    assert header(answer, "Last-Modified") == "Fri, 26 Dec 2025 03:04:05 GMT"
    assert answer.because == f"asset window: {HASHED} of {OLD}"
    assert not answer.by_target, "who keeps answers must not keep this one past its time"


def test_its_time_ends() -> None:
    assert ask(window(HASHED), f"/{HASHED}", now=AT + WEEK - timedelta(seconds=1)).status == 200
    assert ask(window(HASHED), f"/{HASHED}", now=AT + WEEK).status == 404


def test_what_is_live_counts_first() -> None:
    answer = ask(window(HASHED), f"/{HASHED}", live=(HASHED,))
    assert header(answer, "X-Scalemesh-Deployment") == LIVE


@pytest.mark.parametrize(
    "path",
    [
        "index.html",
        "sw.js",
        "service-worker.js",
        "0123456789abcdef0123456789abcdef/sw.js",
        "assets/app.js",
        "assets/logo.png",
        "robots.txt",
    ],
)
def test_nothing_without_a_hash_and_no_worker_is_kept(path: str) -> None:
    assert window(path).files == {}


def test_a_missing_file_that_nobody_had_is_still_missing() -> None:
    assert ask(window(HASHED), "/assets/index-99zz12aB.js").status == 404
    assert ask(window(HASHED), f"/{HASHED}/").status in (200, 404)  # an application's own page, never the file
    assert header(ask(window(HASHED), f"/{HASHED}/"), "X-Scalemesh-Deployment") == LIVE


def test_parts_and_variants_work_as_for_any_file() -> None:
    files = manifest(OLD, [HASHED])
    known = Encodings({files.entries[HASHED].sha256: {"br": BR}, Digest("e" * 64): {"br": BR}})
    found = grown(Window(), former(OLD), files, known)
    assert found.encodings.by_digest.keys() == {files.entries[HASHED].sha256}
    answer = ask(found, f"/{HASHED}", accept_encoding="br")
    assert (header(answer, "Content-Encoding"), answer.length) == ("br", 50)
    assert ask(found, f"/{HASHED}", range="bytes=0-9").status == 206


def test_of_a_path_that_several_hold_the_newest_ones_file_counts() -> None:
    first = grown(
        Window(), former(OLDER, AT - WEEK / 2), manifest(OLDER, [HASHED, "assets/other-BxYz12aB.js"], 1), Encodings()
    )
    both = grown(first, former(OLD), manifest(OLD, [HASHED], 2), Encodings())
    assert [both.files[path][0].deployment for path in (HASHED, "assets/other-BxYz12aB.js")] == [OLD, OLDER]
    assert [each.deployment for each in both.formers] == [OLD, OLDER]


def test_a_table_comes_back_as_it_was_and_equal_tables_are_equal_bytes() -> None:
    files = manifest(OLD, [HASHED, "assets/x-BxYz12aB.css"])
    known = Encodings({files.entries[HASHED].sha256: {"br": BR}})
    found = grown(Window(), former(OLD), files, known)
    assert decode(encode(found)) == found
    assert encode(replace(found, files=dict(sorted(found.files.items(), reverse=True)))) == encode(found)
    assert decode(encode(Window())) == Window()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("assets/index-BxYz12aB.js", "../index-BxYz12aB.js"),
        ("assets/index-BxYz12aB.js", "assets/index.js"),
        ("assets/index-BxYz12aB.js", ".git/index-BxYz12aB.js"),
        (",2000,0,0]", ",2000,1,0]"),
        (",2000,0,0]", ",2000,0,7]"),
        (",2000,0,0]", ",-1,0,0]"),
        (",2000,0,0]", ",2000,0]"),
        ('"v":1', '"v":2'),
        ("text/javascript", "text/java\\u000ascript"),
        (OLD, "nobody"),
    ],
)
def test_a_damaged_table_is_refused(old: str, new: str) -> None:
    data = encode(window(HASHED)).decode()
    assert old in data
    with pytest.raises(InvalidError):
        decode(data.replace(old, new).encode())


def test_a_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_ENTRIES", 1)
    assert len(window(HASHED, "assets/x-BxYz12aB.css").files) == 1
