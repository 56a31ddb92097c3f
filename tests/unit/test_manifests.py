"""A manifest is made from what a build left, and believed only as far as it can be checked."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.errors import InvalidError, TooLargeError
from scalemesh.rules import Dialect, Place, Rule, Rules
from scalemesh.services import manifests
from scalemesh.services.content_types import ASSET_EXTENSIONS, content_type, is_asset
from scalemesh.services.hashed_names import carries_hash, immutable_test
from scalemesh.services.manifests import decode, encode, is_hidden, make_manifest, read
from scalemesh.services.rules.compiled import Compiled
from scalemesh.values import DeploymentId, Digest, Manifest

ID = DeploymentId("dpl_abcdefghij2345678901")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make(*paths: str, immutable: tuple[str, ...] = ()) -> Manifest:
    return make_manifest(ID, AT, [(path, "ab" * 32, len(path)) for path in paths], immutable).manifest


def test_a_manifest_knows_each_file_by_its_path() -> None:
    entry = make("index.html", "a/b c.css").entries["a/b c.css"]
    assert (entry.sha256, entry.size_bytes, entry.content_type) == ("ab" * 32, 9, "text/css; charset=utf-8")
    assert not entry.immutable


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "./a",
        "a/.",
        "a\x00b",
        "a\nb",
        "a\x7f",
        "a\x85",
        "a\\b",
        "\ud800",
        "x" * 256,
        "/".join(["abcdefg"] * 129),
        "ü" * 128,
    ],
)
def test_a_path_that_could_mean_something_else_is_refused(path: str) -> None:
    with pytest.raises(InvalidError):
        make(path)


def test_a_path_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(InvalidError):
        make("a", "a")


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        (".env", True),
        (".git/config", True),
        ("a/.htpasswd", True),
        (".well-known/security.txt", False),
        (".well-known/.secret", True),
        ("a/.well-known/x", True),
        (".well-known.html", True),
        ("a.b/c.d", False),
    ],
)
def test_hidden_files_are_left_out_and_counted(path: str, hidden: bool) -> None:
    made = make_manifest(ID, AT, [("index.html", "ab" * 32, 1), (path, "ab" * 32, 1)])
    assert is_hidden(path) == hidden
    assert (path in made.manifest.entries) == (not hidden)
    assert made.dropped == int(hidden)


@pytest.mark.parametrize(("sha256", "size"), [("AB" * 32, 1), ("ab", 1), ("ab" * 32, -1), ("ab" * 32, 1 << 60)])
def test_a_digest_or_size_that_cannot_be_is_refused(sha256: str, size: int) -> None:
    with pytest.raises(InvalidError):
        make_manifest(ID, AT, [("a", sha256, size)])


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_ENTRIES", 3)
    make("a", "b", "c")
    with pytest.raises(TooLargeError):
        make("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("paths", "fallback"),
    [
        (("index.html", "assets/app.js"), "index.html"),
        (("index.html", "404.html"), None),
        (("index.html", "about.html"), None),
        (("index.html", "a/index.html"), None),
        (("home.html",), None),
        (("app/index.html",), None),
        (("a.txt",), None),
    ],
)
def test_a_site_of_one_html_file_at_its_root_is_a_single_page_application(
    paths: tuple[str, ...], fallback: str | None
) -> None:
    assert make(*paths).rules.fallback == (fallback or "")


PARTS = st.text(st.characters(exclude_categories=["C"], exclude_characters="/\\."), min_size=1, max_size=20)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@given(st.lists(st.tuples(PATHS, st.integers(0, 1 << 40)), unique_by=lambda file: file[0]))
def test_what_is_written_is_read_back(files: list[tuple[str, int]]) -> None:
    listing = [(path, f"{number:064x}", size) for number, (path, size) in enumerate(files)]
    manifest = make_manifest(ID, AT, listing, ["assets/**"]).manifest
    assert decode(encode(manifest)) == manifest
    assert encode(make_manifest(ID, AT, listing[::-1], ["assets/**"]).manifest) == encode(manifest)


ODD_PARTS = st.text(st.sampled_from('a"],[ü😀:0'), min_size=1, max_size=6)
ODD_PATHS = st.lists(st.one_of(PARTS, ODD_PARTS), min_size=1, max_size=3).map("/".join)


@given(st.lists(ODD_PATHS, unique=True, max_size=30), ODD_PATHS, st.booleans())
def test_entries_read_one_by_one_are_those_that_were_written(paths: list[str], other: str, is_long: bool) -> None:
    filling = [f"z/{number}" for number in range(300)] if is_long else []
    every = dict.fromkeys([*paths, *filling])
    made = make_manifest(ID, AT, [(path, f"{n:064x}", n * 7) for n, path in enumerate(every)], ["**"]).manifest
    data = encode(made)
    found = read(data, digest_of(data))
    assert (found.deployment, found.created_at, found.rules) == (made.deployment, made.created_at, made.rules)
    assert dict(found.entries) == made.entries
    assert list(found.entries) == sorted(made.entries)
    assert found.entries.get(other) == made.entries.get(other)
    assert (other in found.entries) == (other in made.entries)


def test_rules_come_along_with_entries_read_one_by_one() -> None:
    tricky = Rule(place=Place(file="_redirects", line=1, text='],"rules":{'), path='/"],["x"', to="/y", status=301)
    rules = Rules(dialect=Dialect.NETLIFY, first=(tricky,))
    data = encode(make_manifest(ID, AT, [("a", "ab" * 32, 1)], (), Compiled(rules=rules)).manifest)
    found = read(data, digest_of(data))
    assert found.rules == rules
    assert list(found.entries) == ["a"]


def test_bytes_that_are_not_those_of_the_digest_are_refused() -> None:
    data = encode(make("index.html"))
    with pytest.raises(InvalidError, match="manifest"):
        read(data.replace(b"index", b"inbox"), digest_of(data))


def test_a_manifest_of_the_first_format_is_read_too() -> None:
    document = json.loads(encode(make("index.html")))
    del document["rules"]
    data = json.dumps(document | {"v": 1, "dialect": "default", "fallback": "index.html"}, sort_keys=True).encode()
    assert read(data, digest_of(data)) == make("index.html")


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def test_times_of_other_zones_are_the_same_times() -> None:
    there = AT.astimezone(timezone(timedelta(hours=5)))
    assert encode(make_manifest(ID, there, []).manifest) == encode(make_manifest(ID, AT, []).manifest)


def test_a_manifest_of_the_first_format_is_still_served() -> None:
    document = json.loads(encode(make("index.html")))
    del document["rules"]
    old = document | {"v": 1, "dialect": "default", "fallback": "index.html"}
    assert decode(json.dumps(old).encode()) == make("index.html")


ENTRY = ("entries", 0)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("v",), 3),
        (("v",), None),
        (("more",), 1),
        (("deployment",), "dpl_<script>"),
        (("deployment",), 7),
        (("created_at",), "2026-01-01T00:00:00"),
        (("created_at",), "yesterday"),
        (("rules", "dialect"), "../x"),
        (("rules",), {"first": [{"place": {"file": "x"}, "to": 5}]}),
        (("rules", "fallback"), "other.html"),
        (("rules", "fallback"), ["x"]),
        (("extra",), []),
        (("entries",), {}),
        (("entries", 1), ["app.js", "ab" * 32, 6, 0]),
        (("entries", 1), ["app.js", "ab" * 32, 6, 0, 0]),
        (("entries", 1), None),
        (("types", 0), "text/html\r\nSet-Cookie: a=b"),
        ((*ENTRY, 0), "../etc/passwd"),
        ((*ENTRY, 0), ".env"),
        ((*ENTRY, 0), 7),
        ((*ENTRY, 1), "../../x"),
        ((*ENTRY, 2), -1),
        ((*ENTRY, 2), True),
        ((*ENTRY, 3), 2),
        ((*ENTRY, 3), -1),
        ((*ENTRY, 4), "yes"),
        ((*ENTRY, 4), []),
        ((*ENTRY, 4), 2),
    ],
    ids=str,
)
def test_a_manifest_with_one_wrong_field_is_refused(place: tuple[Any, ...], value: object) -> None:
    document = json.loads(encode(make("index.html", "app.js")))
    decode(json.dumps(document).encode())
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    with pytest.raises(InvalidError):
        decode(json.dumps(document).encode())


def test_a_manifest_without_one_of_its_fields_is_refused() -> None:
    document = json.loads(encode(make("index.html")))
    for field in document:
        with pytest.raises(InvalidError):
            decode(json.dumps({name: value for name, value in document.items() if name != field}).encode())


@given(st.binary(max_size=200))
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidError):
        decode(data)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"null", b"[]", b"{}", b'{"v":1}', b"\xff", b"1" * 5000])
def test_json_that_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError):
        decode(data)


def test_a_manifest_over_its_limit_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(make("index.html"))
    monkeypatch.setattr(manifests, "MAX_BYTES", len(data) - 1)
    with pytest.raises(InvalidError, match="longer"):
        decode(data)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("APP.JS", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.css.map", "application/json; charset=utf-8"),
        ("site.webmanifest", "application/manifest+json; charset=utf-8"),
        ("logo.svg", "image/svg+xml; charset=utf-8"),
        ("feed.xml", "application/xml; charset=utf-8"),
        ("a.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a.png", "image/png"),
        ("a.unheard-of", "application/octet-stream"),
        ("LICENSE", "application/octet-stream"),
        ("a.js/b", "application/octet-stream"),
        ("js", "application/octet-stream"),
        (".well-known/apple-app-site-association", "application/json; charset=utf-8"),
    ],
)
def test_a_file_is_typed_by_its_extension(path: str, expected: str) -> None:
    assert content_type(path) == expected


@pytest.mark.parametrize("path", ["users/jane.doe", "v1.2", "about", "a.html", "app.js/view", "", "node.", "2.0"])
def test_a_page_is_no_asset(path: str) -> None:
    assert not is_asset(path)


@pytest.mark.parametrize("path", ["app.js", "A.PNG", "x/y.woff2", "a.map", "data.json", "a.zip", "film.mp4", "a.wasm"])
def test_what_a_page_loads_is_an_asset(path: str) -> None:
    assert is_asset(path)
    assert "html" not in ASSET_EXTENSIONS


@pytest.mark.parametrize(
    "name",
    [
        "index-BxYz12aB.js",
        "index-DiwrgTda.css",
        "index.C3v9_xQ2.css",
        "B7Kq-x2Z.js",
        "main.8f2a1c3d.js",
        "787.1a2b3c4d.chunk.js",
        "main-0123456789abcdef.js",
        "polyfills-FFHMD2TL.js",
        "entry.Bz3kLm9Q.mjs",
        "component---src-pages-index-js-0a1b2c3d4e5f60718293.js",
        "app.md.x1Y2z3W4.lean.js",
        "app_page_1a2b3c4d.js",
        "style.4f2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b.css",
    ],
)
def test_a_hash_in_a_name_is_seen(name: str) -> None:
    assert carries_hash(f"assets/{name}")


@pytest.mark.parametrize(
    "name",
    [
        "index.js",
        "my-component.js",
        "photo-20240101.jpg",
        "bootstrap5.min.js",
        "section2.css",
        "MyHeader.js",
        "sw.js",
        "logo-iPhone12.png",
        "banner-1280x720.png",
        "page-Version2.js",
        "data-HTMLPage.js",
        "a-v2_final.png",
        "LICENSE",
        "service-worker.js",
        "jquery-3.7.1.min.js",
        "abc12345",
        "favicon.ico",
        "thisIsALongFileNameOfAPage.js",
    ],
)
def test_a_name_that_a_person_wrote_is_not_taken_for_a_hash(name: str) -> None:
    assert not carries_hash(f"assets/{name}")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("assets/*-<hash>.*", "assets/index-BxYz12aB.js", True),
        ("assets/*-<hash>.*", "assets/deep/index-BxYz12aB.js", False),
        ("assets/*-<hash>.*", "other/index-BxYz12aB.js", False),
        ("assets/*-<hash>.*", "assets/index.js", False),
        ("_astro/**", "_astro/a/b.BxYz12aB.css", True),
        ("_astro/", "_astro/a/b.BxYz12aB.css", True),
        ("_astro/", "x_astro/b.BxYz12aB.css", False),
        ("static/js/*.<hash>.*", "static/js/main.8f2a1c3d.js", True),
        ("static/js/*.<hash>.*", "static/js/787.1a2b3c4d.chunk.js", True),
        ("**/*.js", "a/b/c-BxYz12aB.js", True),
        ("**/*.js", "c-BxYz12aB.js", True),
        ("/_app/immutable/**", "_app/immutable/chunks/B7Kq-x2Z.js", True),
        ("_app/immutable/**", "_app/immutable/version.json", False),
        ("a.b/*", "aXb/c-BxYz12aB.js", False),
        ("static/**", "static/6ce24c58023cc2f8fd88fe9d219db6c6/photo.png", True),
        ("static/**", "static/6ce24c58/photo.png", False),
        ("_nuxt/<hash>.*", "_nuxt/B7Kq-x2Z.js", True),
        ("_nuxt/builds/meta/*", "_nuxt/builds/meta/3f2a1b0c-9d8e-4f7a-8b6c-5d4e3f2a1b0c.json", True),
        ("**/*.<hash>.*", "css/main.min.4f2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d.css", True),
        ("*-<hash>.js", "main-FFHMD2TL.js", True),
        ("assets/*.<hash>.*", "assets/app.md.x1Y2z3W4.lean.js", True),
    ],
)
def test_only_a_hashed_name_in_the_frameworks_place_is_immutable(pattern: str, path: str, expected: bool) -> None:
    assert immutable_test([pattern])(path) is expected
    assert make(path, immutable=(pattern,)).entries[path].immutable is expected


def test_without_a_framework_nothing_is_immutable() -> None:
    assert not make("assets/index-BxYz12aB.js").entries["assets/index-BxYz12aB.js"].immutable
