"""Vercel's rows of the slash matrix: which address a page has, by cleanUrls and trailingSlash."""

import json

import pytest

from scalemesh.edge.rules.trace import Trace
from tests.unit.vercel_site import VercelSite, header, site_of, vercel

FILES = ("file.html", "folder/index.html", "both.html", "both/index.html")
COLUMNS = (
    *("/file", "/file/", "/file.html", "/folder", "/folder/", "/folder/index.html"),
    *("/both", "/both/", "/both.html", "/both/index.html"),
)
ROWS: dict[str, tuple[str, ...]] = {
    "{}": ("x", "x", "✓", "✓", "✓", "✓", "✓", "✓", "✓", "✓"),
    '{"cleanUrls": false, "trailingSlash": false}': ("x", "x", "✓", "✓", "/folder", "✓", "✓", "/both", "✓", "✓"),
    '{"cleanUrls": false, "trailingSlash": true}': ("x", "x", "✓", "/folder/", "✓", "✓", "/both/", "✓", "✓", "✓"),
    '{"cleanUrls": true}': ("✓", "✓", "/file", "✓", "✓", "/folder", "✓", "✓", "/both", "/both"),
    '{"cleanUrls": true, "trailingSlash": false}': (
        *("✓", "/file", "/file", "✓", "/folder", "/folder"),
        *("✓", "/both", "/both", "/both"),
    ),
    '{"cleanUrls": true, "trailingSlash": true}': (
        *("/file/", "✓", "/file/", "/folder/", "✓", "/folder/"),
        *("/both/", "✓", "/both/", "/both/"),
    ),
}
CELLS = [
    pytest.param(settings, path, cell, id=f"{settings} {path}")
    for settings, cells in ROWS.items()
    for path, cell in zip(COLUMNS, cells, strict=True)
]


@pytest.mark.parametrize(("settings", "path", "cell"), CELLS)
def test_each_cell_of_the_slash_matrix_holds(settings: str, path: str, cell: str) -> None:
    answer = vercel(*FILES, **json.loads(settings)).answer(path)
    if cell in "✓x":
        assert answer.status == {"✓": 200, "x": 404}[cell]
        return
    assert (answer.status, header(answer, "Location")) == (308, cell)


@pytest.mark.parametrize(("settings", "path", "cell"), CELLS)
def test_an_address_that_was_redirected_is_a_page(settings: str, path: str, cell: str) -> None:
    site = vercel(*FILES, **json.loads(settings))
    if cell.startswith("/"):
        assert site.answer(cell).status == 200


CLEAN = {"cleanUrls": True}
SLASH = {"trailingSlash": True}
NO_SLASH = {"trailingSlash": False}
SITE = (*FILES, "index.html", "v1.2", "a.js", "docs/v1.2/index.html", ".well-known/x/index.html", "deep/er/p.html")


@pytest.mark.parametrize(
    ("settings", "target", "shown"),
    [
        (CLEAN, "/index.html", "308 /"),
        (CLEAN, "/index", "308 /"),
        (CLEAN, "/folder/index", "308 /folder"),
        (CLEAN, "/folder/index/", "308 /folder"),
        (CLEAN, "/file.html/", "308 /file"),
        (CLEAN, "/file.html?a=b&c", "308 /file?a=b&c"),
        (CLEAN, "/deep/er/p.html", "308 /deep/er/p"),
        (CLEAN, "/deep/er/p", "deep/er/p.html"),
        (CLEAN, "/both", "both.html"),
        (CLEAN, "/nothing.html", "404"),
        (CLEAN, "/a.js", "a.js"),
        ({**CLEAN, **SLASH}, "/index.html", "308 /"),
        ({**CLEAN, **SLASH}, "/", "index.html"),
        (SLASH, "/folder?x=1", "308 /folder/?x=1"),
        (SLASH, "/docs/v1.2", "docs/v1.2/index.html"),
        (SLASH, "/.well-known/x", ".well-known/x/index.html"),
        (SLASH, "/.well-known/x/", ".well-known/x/index.html"),
        (SLASH, "/a.js/", "308 /a.js"),
        (SLASH, "/deep/er/p.html/", "308 /deep/er/p.html"),
        (SLASH, "/nothing", "404"),
        (NO_SLASH, "/", "index.html"),
        (NO_SLASH, "/folder/?x=1", "308 /folder?x=1"),
        (NO_SLASH, "/a.js/", "308 /a.js"),
        (NO_SLASH, "/.well-known/x/", "308 /.well-known/x"),
        (NO_SLASH, "//evil.example/", "308 /evil.example"),
        ({}, "/folder//index.html?q", "308 /folder/index.html?q"),
        ({}, "//folder", "308 /folder"),
        ({}, "/index", "404"),
        ({}, "/FILE.html", "404"),
        ({}, "/folder%2f", "folder/index.html"),
    ],
)
def test_addresses_are_made_proper_as_at_vercel(settings: dict[str, bool], target: str, shown: str) -> None:
    assert vercel(*SITE, **settings).shown(target) == shown


def test_a_path_that_only_a_rule_answers_is_made_proper_too() -> None:
    rewrites = [{"source": "/app/:view", "destination": "/index.html"}]
    site = vercel("index.html", trailingSlash=False, rewrites=rewrites)
    assert site.shown("/app/x/") == "308 /app/x"
    assert site.shown("/app/x") == "index.html"


def test_explain_names_the_setting_and_its_line() -> None:
    site = site_of(FILES, {"vercel.json": b'{\n  "cleanUrls": true,\n\n  "trailingSlash": false\n}'})
    steps = traced(site, "/folder/").steps
    assert [(step.what, str(step.place), step.matched) for step in steps] == [
        ("trailingSlash", "vercel.json:4", True),
    ]
    assert "/folder" in steps[0].why
    assert site.answer("/file.html").because == "vercel.json:2: cleanUrls"
    refused = traced(site, "/nothing.html").steps[0]
    assert (refused.matched, str(refused.place)) == (False, "vercel.json:2")
    assert "nothing answers there" in refused.why


def traced(site: VercelSite, target: str) -> Trace:
    trace = Trace()
    site.ask(target, trace=trace)
    return trace
