"""What a visit is answered, decided without a connection: rules, statuses and headers."""

from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.edge import pages
from scalemesh.edge.answers import Answer, Slice, Visit
from scalemesh.edge.decide import changed, decide
from scalemesh.edge.rules.outcome import Change
from scalemesh.edge.rules.ruleset import Ruleset
from scalemesh.edge.site import Site
from scalemesh.rules import HeaderChange, Place
from scalemesh.services.encodings import Encodings
from scalemesh.services.manifests import make_manifest
from scalemesh.values import Blob, Digest, HostKind, Manifest, Route, State
from tests.unit.dialects import AT, ID, ROUTE

MATRIX = ("file.html", "folder/index.html", "both.html", "both/index.html", "404.html", "folder/404.html")


def site(*paths: str) -> Manifest:
    listing = [(path, f"{number:064x}", 100 + number) for number, path in enumerate(paths)]
    return make_manifest(ID, AT, listing, ["assets/**"]).manifest


def ask(manifest: Manifest, target: str, method: str = "GET", **headers: str) -> Answer:
    visit: dict[str, Any] = {"method": method, "target": target, **headers}
    return answered(Visit(**visit), ROUTE, manifest)


def answered(visit: Visit, route: Route, manifest: Manifest, encodings: Encodings | None = None) -> Answer:
    rules, known = Ruleset(manifest.rules), encodings or Encodings()
    answer = decide(visit, Site(route=route, manifest=manifest, rules=rules, encodings=known), AT)
    assert isinstance(answer, Answer)
    return answer


def served(answer: Answer, manifest: Manifest) -> str | None:
    """The path of the entry that is the body."""
    if not isinstance(answer.body, Slice):
        return None
    return next(path for path, entry in manifest.entries.items() if entry.sha256 == answer.body.sha256)


def header(answer: Answer, name: str) -> str | None:
    found = [value for key, value in answer.headers if key == name]
    assert len(found) <= 1, f"{name} stands there twice"
    return found[0] if found else None


@pytest.mark.parametrize(
    ("target", "status", "what"),
    [
        ("/file", 200, "file.html"),
        ("/file/", 404, "404.html"),
        ("/file.html", 200, "file.html"),
        ("/folder", 308, "/folder/"),
        ("/folder?a=b&c", 308, "/folder/?a=b&c"),
        ("/folder/", 200, "folder/index.html"),
        ("/folder/index.html", 200, "folder/index.html"),
        ("/folder/index", 200, "folder/index.html"),
        ("/both", 200, "both.html"),
        ("/both/", 200, "both/index.html"),
        ("/both.html", 200, "both.html"),
        ("/both/index.html", 200, "both/index.html"),
        ("/", 404, "404.html"),
        ("/nothing", 404, "404.html"),
        ("/folder/nothing", 404, "folder/404.html"),
        ("/folder/deep/nothing/", 404, "folder/404.html"),
        ("/both/nothing", 404, "404.html"),
        ("/404.html", 200, "404.html"),
        ("/404", 200, "404.html"),
        ("/FILE", 404, "404.html"),
        ("/nothing.png", 404, "404.html"),
        ("//folder", 308, "/folder"),
        ("/folder//index.html?q", 308, "/folder/index.html?q"),
        ("//evil.example/", 308, "/evil.example/"),
        ("///", 308, "/"),
        ("/file%2ehtml", 200, "file.html"),
        ("/folder%2f", 200, "folder/index.html"),
        ("/folder\\index.html", 404, "404.html"),
    ],
)
def test_the_default_dialect_follows_its_row_of_the_slash_matrix(target: str, status: int, what: str) -> None:
    manifest = site(*MATRIX)
    answer = ask(manifest, target)
    assert answer.status == status
    assert (header(answer, "Location") if status == 308 else served(answer, manifest)) == what
    assert answer.because


APP = site("index.html", "assets/index-BxYz12aB.js", "robots.txt")


@pytest.mark.parametrize(
    "target", ["/", "/users/jane.doe", "/v1.2", "/a/b/c/", "/search/a%2Fb", "/a%5Cb", "/login?x=1"]
)
def test_a_single_page_application_answers_its_own_pages(target: str) -> None:
    answer = ask(APP, target)
    assert (answer.status, served(answer, APP)) == (200, "index.html")
    assert header(answer, "Cache-Control") == "public, max-age=0, must-revalidate"


@pytest.mark.parametrize(
    "target", ["/assets/index-old12345.js", "/a.css", "/x.PNG", "/data.json", "/f.woff2", "/a.map"]
)
def test_a_missing_asset_is_never_a_page_unless_somebody_navigates_there(target: str) -> None:
    missing = ask(APP, target, fetch_mode="no-cors")
    assert missing.status == 404
    assert header(missing, "Cache-Control") == "no-store"
    assert ask(APP, target, fetch_mode="navigate").status == 200


@pytest.mark.parametrize("target", ["/.env", "/.git/config", "/a/.b", "/.well-known/change-password", "/.well-known/x"])
def test_hidden_and_well_known_names_are_never_an_applications(target: str) -> None:
    assert ask(APP, target).status == 404
    assert ask(APP, target, fetch_mode="navigate").status == 404


@pytest.mark.parametrize(
    "target", ["/%2e%2e/etc/passwd", "/../x", "/a%00", "/%", "/%c0%ae", "*", "/a/..", "/%0d%0aSet-Cookie:a"]
)
def test_a_malformed_target_is_400_and_kept_by_nobody(target: str) -> None:
    answer = ask(APP, target)
    assert answer.status == 400
    assert header(answer, "Cache-Control") == "no-store"


def test_a_target_that_is_too_long_is_414() -> None:
    assert ask(APP, "/" + "a" * 5000).status == 414


def test_options_tells_what_is_allowed() -> None:
    for target in ("/", "*", "/nothing"):
        answer = ask(APP, target, "OPTIONS")
        assert (answer.status, header(answer, "Allow"), answer.body) == (204, "GET, HEAD, OPTIONS", b"")


@pytest.mark.parametrize("name", ["Content-Type", "Vary", "content-type"])
def test_no_rule_takes_away_the_type_of_a_body_or_what_it_varies_by(name: str) -> None:
    before = (("Content-Type", "text/html"), ("Vary", "Accept-Encoding"))
    change = Change(HeaderChange(name=name, how="remove"), "", Place(file="_headers", line=2))
    assert changed(before, (change,)) == before


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get"])
def test_other_methods_are_not_allowed(method: str) -> None:
    answer = ask(APP, "/", method)
    assert (answer.status, header(answer, "Allow")) == (405, "GET, HEAD, OPTIONS")


def test_a_document_is_asked_for_again_and_a_hashed_file_never() -> None:
    page, script = ask(APP, "/"), ask(APP, "/assets/index-BxYz12aB.js")
    assert header(page, "Cache-Control") == "public, max-age=0, must-revalidate"
    assert header(script, "Cache-Control") == "public, max-age=31536000, immutable"
    assert header(script, "Content-Type") == "text/javascript; charset=utf-8"
    assert header(page, "ETag") == f'"{APP.entries["index.html"].sha256}"'
    assert header(page, "Last-Modified") == "Fri, 02 Jan 2026 03:04:05 GMT"
    assert header(page, "Accept-Ranges") == "bytes"


def test_a_known_tag_is_304_with_all_that_a_cache_needs() -> None:
    first = ask(APP, "/")
    again = ask(APP, "/", if_none_match=header(first, "ETag") or "", range="bytes=0-1")
    assert (again.status, again.body) == (304, b"")
    for name in ("ETag", "Cache-Control", "Last-Modified"):
        assert header(again, name) == header(first, name)


def test_a_404_page_is_neither_conditional_nor_cut() -> None:
    manifest = site("index.html", "404.html")
    sha256 = manifest.entries["404.html"].sha256
    answer = ask(manifest, "/nothing", if_none_match=f'"{sha256}"', range="bytes=0-1")
    assert (answer.status, served(answer, manifest), answer.length) == (404, "404.html", 101)
    assert header(answer, "ETag") is None


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "length"),
    [
        ("bytes=0-9", 206, "bytes 0-9/100", 10),
        ("bytes=90-", 206, "bytes 90-99/100", 10),
        ("bytes=-5", 206, "bytes 95-99/100", 5),
        ("bytes=0-", 206, "bytes 0-99/100", 100),
        ("bytes=5-999", 206, "bytes 5-99/100", 95),
        ("bytes=0-1,5-6", 206, "bytes 0-6/100", 7),
        ("bytes=9-0", 200, None, 100),
        ("bytes=100-", 416, "bytes */100", None),
        ("bytes=-0", 416, "bytes */100", None),
    ],
)
def test_a_range_is_answered_with_its_part(
    asked: str, status: int, content_range: str | None, length: int | None
) -> None:
    answer = ask(APP, "/", range=asked)
    assert (answer.status, header(answer, "Content-Range")) == (status, content_range)
    assert length in (None, answer.length)


def test_a_range_of_other_bytes_than_the_visitors_is_the_whole_file() -> None:
    assert ask(APP, "/", range="bytes=0-1", if_range='"other"').status == 200
    tag = header(ask(APP, "/"), "ETag") or ""
    assert ask(APP, "/", range="bytes=0-1", if_range=tag).status == 206


PACKED = site("big.html", "big.png", "404.html", "small.html")
PACKED = replace(
    PACKED,
    entries={
        path: replace(entry, size_bytes=entry.size_bytes if path == "small.html" else 10_000)
        for path, entry in PACKED.entries.items()
    },
)
BR = Blob(sha256=Digest("b" * 64), size_bytes=2000)
GZIP = Blob(sha256=Digest("c" * 64), size_bytes=3000)
VARIANTS = Encodings({PACKED.entries[path].sha256: {"br": BR, "gzip": GZIP} for path in ("big.html", "404.html")})


def ask_packed(target: str, method: str = "GET", encodings: Encodings = VARIANTS, **headers: str) -> Answer:
    visit: dict[str, Any] = {"method": method, "target": target, **headers}
    return answered(Visit(**visit), ROUTE, PACKED, encodings)


def test_an_encoded_answer_is_the_variant_with_a_tag_of_its_own() -> None:
    plain, packed = ask_packed("/big"), ask_packed("/big", accept_encoding="gzip, br")
    sha256 = PACKED.entries["big.html"].sha256
    assert (header(plain, "ETag"), header(packed, "ETag")) == (f'"{sha256}"', f'"{sha256}-br"')
    assert (header(plain, "Content-Encoding"), header(packed, "Content-Encoding")) == (None, "br")
    assert packed.body == Slice(sha256=BR.sha256, size_bytes=2000, start=0, stop=2000)
    assert header(packed, "Accept-Ranges") is None  # a part of it would be a part of the plain bytes
    for name in ("Content-Type", "Last-Modified", "Cache-Control", "Vary"):
        assert header(plain, name) == header(packed, name)


@pytest.mark.parametrize("encodings", [VARIANTS, Encodings()], ids=["made", "not made yet"])
@pytest.mark.parametrize("accepted", ["", "br", "identity"])
def test_every_answer_of_a_file_that_may_be_encoded_varies(encodings: Encodings, accepted: str) -> None:
    first = ask_packed("/big", encodings=encodings, accept_encoding=accepted)
    tag = header(first, "ETag") or ""
    again = ask_packed("/big", encodings=encodings, accept_encoding=accepted, if_none_match=tag)
    part = ask_packed("/big", encodings=encodings, accept_encoding=accepted, range="bytes=0-9")
    lost = ask_packed("/nothing", encodings=encodings, accept_encoding=accepted)
    assert [answer.status for answer in (first, again, part, lost)] == [200, 304, 206, 404]
    assert {header(answer, "Vary") for answer in (first, again, part, lost)} == {"Accept-Encoding"}
    for target in ("/big.png", "/small"):
        assert header(ask_packed(target, encodings=encodings, accept_encoding="br"), "Vary") is None


def test_a_tag_is_held_against_what_would_be_sent() -> None:
    sha256 = PACKED.entries["big.html"].sha256
    for sent, accepted, status in [
        (f'"{sha256}-br"', "br", 304),
        (f'W/"{sha256}-br"', "br", 304),
        (f'"{sha256}-br"', "gzip", 200),
        (f'"{sha256}-br"', "", 200),
        (f'"{sha256}"', "br", 200),
        (f'"{sha256}"', "", 304),
        (f'"{sha256}", "{sha256}-gzip"', "gzip", 304),
    ]:
        answer = ask_packed("/big", accept_encoding=accepted, if_none_match=sent)
        assert answer.status == status, (sent, accepted)


def test_a_range_that_applies_is_cut_from_the_bytes_as_they_are() -> None:
    sha256 = PACKED.entries["big.html"].sha256
    for answer in (
        ask_packed("/big", accept_encoding="br", range="bytes=10-19"),
        ask_packed("/big", accept_encoding="br", range="bytes=10-19", if_range=f'"{sha256}"'),
    ):
        assert answer.status == 206
        assert answer.body == Slice(sha256=sha256, size_bytes=10_000, start=10, stop=20)
        assert (header(answer, "Content-Encoding"), header(answer, "ETag")) == (None, f'"{sha256}"')


def test_a_range_of_the_variant_that_the_visitor_has_is_answered_with_that_variant_whole() -> None:
    sha256 = PACKED.entries["big.html"].sha256
    answer = ask_packed("/big", accept_encoding="br", range="bytes=10-19", if_range=f'"{sha256}-br"')
    assert (answer.status, header(answer, "Content-Encoding"), answer.length) == (200, "br", 2000)


def test_several_ranges_are_parts_of_one_body() -> None:
    answer = ask_packed("/big", range="bytes=0-9,5000-5009,-10", accept_encoding="br")
    sha256 = PACKED.entries["big.html"].sha256
    assert answer.status == 206
    assert header(answer, "Content-Type") == f"multipart/byteranges; boundary={sha256[:32]}"
    assert header(answer, "Content-Range") is None
    slices = [(piece.start, piece.stop) for piece in answer.pieces if isinstance(piece, Slice)]
    assert slices == [(0, 10), (5000, 5010), (9990, 10_000)]
    heads = b"".join(piece for piece in answer.pieces if isinstance(piece, bytes))
    assert heads.count(b"Content-Type: text/html; charset=utf-8\r\n") == 3
    assert b"Content-Range: bytes 9990-9999/10000\r\n" in heads


def test_the_sites_own_404_page_is_encoded_too() -> None:
    answer = ask_packed("/nothing", accept_encoding="br")
    assert (answer.status, header(answer, "Content-Encoding"), answer.length) == (404, "br", 2000)


@pytest.mark.parametrize("kind", HostKind)
def test_only_permalinks_and_branches_hide_from_search_engines(kind: HostKind) -> None:
    hidden = kind in (HostKind.PERMALINK, HostKind.BRANCH)
    for target, method in [("/", "GET"), ("/x.js", "GET"), ("/%", "GET"), ("/", "POST"), ("/", "OPTIONS")]:
        answer = answered(Visit(method=method, target=target), replace(ROUTE, kind=kind), APP)
        assert (header(answer, "X-Robots-Tag") == "noindex") is hidden
        assert header(answer, "X-Scalemesh-Deployment") == ID
        assert header(answer, "X-Content-Type-Options") == "nosniff"


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/json, text/HTML;q=0.5", True),
        ("*/*", False),
        (None, False),
        ("image/avif,image/webp,*/*;q=0.8", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=0.0", False),
        ("text/htmlx", False),
    ],
)
def test_our_own_pages_are_text_for_whoever_does_not_ask_for_html(accept: str | None, is_html: bool) -> None:
    answer = pages.unknown_host(Visit(method="GET", target="/", accept=accept))
    assert answer.status == 404
    assert isinstance(answer.body, bytes)
    assert answer.body.startswith(b"<!doctype html>") is is_html
    assert (header(answer, "Content-Type") or "").startswith("text/html" if is_html else "text/plain")
    assert header(answer, "Vary") == "Accept"


def test_our_own_pages_load_nothing_and_repeat_nothing() -> None:
    answer = pages.unknown_host(Visit(method="GET", target="/<script>secret", accept="text/html"))
    assert isinstance(answer.body, bytes)
    for word in (b"src=", b"href=", b"url(", b"http", b"<script", b"secret", b"@import"):
        assert word not in answer.body.replace(b"http-equiv", b"")
    assert b"prefers-color-scheme: dark" in answer.body
    assert "default-src 'none'" in (header(answer, "Content-Security-Policy") or "")


@pytest.mark.parametrize("state", [None, *State], ids=str)
def test_a_site_without_anything_ready_tells_its_state_and_looks_again(state: State | None) -> None:
    route = replace(ROUTE, deployment=None, manifest=None, waiting=state)
    answer = pages.waiting(Visit(method="GET", target="/", accept="text/html"), route)
    assert answer.status == 503
    assert isinstance(answer.body, bytes)
    retry = header(answer, "Retry-After")
    assert f'http-equiv="refresh" content="{retry}"'.encode() in answer.body
    assert (state.value.encode() if state else b"no deployment") in answer.body
    assert header(answer, "Cache-Control") == "no-store"


@given(st.text(max_size=40).map(lambda text: "/" + text), st.sampled_from([APP, site(*MATRIX), site()]))
def test_no_target_is_answered_with_anything_but_an_entry_or_our_own_words(target: str, manifest: Manifest) -> None:
    answer = ask(manifest, target)
    assert answer.status in (200, 308, 400, 404)
    assert isinstance(answer.body, bytes) or served(answer, manifest) is not None
    for _, value in answer.headers:
        assert value.isascii()
        assert value.isprintable()


@pytest.mark.parametrize(
    ("how", "value", "vary"),
    [
        ("set", "Origin", "Accept-Encoding, Origin"),
        ("append", "Origin", "Accept-Encoding, Origin"),
        ("remove", "", None),
    ],
)
def test_a_rule_may_add_to_what_an_answer_varies_by_and_take_nothing_from_it(
    how: Literal["set", "append", "remove"], value: str, vary: str | None
) -> None:
    change = Change(HeaderChange(name="vary", value=value, how=how), value, Place(file="_headers", line=1, text="/*"))
    answer = replace(ask_packed("/big"), headers=changed(ask_packed("/big").headers, (change,)))
    found = [value for name, value in answer.headers if name.lower() == "vary"]
    assert found == [vary or "Accept-Encoding"]
