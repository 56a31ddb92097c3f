"""Which dialect reads which files, and that what is not read is told."""

import pytest

from scalemesh.rules import Dialect
from scalemesh.services.rules.compiling import compile_rules
from scalemesh.services.rules.notes import RulesError
from scalemesh.services.rules.sources import CONFIG, Sources

V, N, C, D = Dialect.VERCEL, Dialect.NETLIFY, Dialect.CLOUDFLARE, Dialect.DEFAULT
TEXTS = {
    "vercel.json": '{"redirects": [{"source": "/a", "destination": "/b"}]}',
    CONFIG: '{"version": 3}',
    "_redirects": "/a /b\n",
    "_headers": "/*\n  X-A: 1\n",
    "netlify.toml": '[[redirects]]\nfrom = "/a"\nto = "/b"\n',
    "wrangler.toml": 'pages_build_output_dir = "dist"\n',
    "wrangler.jsonc": '{"pages_build_output_dir": "dist"} // a site',
}


def sources(*names: str, **texts: str) -> Sources:
    files = {name: TEXTS[name] for name in names} | texts
    return Sources({name: text.encode() for name, text in files.items()})


@pytest.mark.parametrize(
    ("names", "dialect", "unread"),
    [
        ((), D, ()),
        (("vercel.json",), V, ()),
        ((CONFIG,), V, ()),
        (("vercel.json", "wrangler.toml"), V, ()),
        (("vercel.json", "_redirects", "_headers", "netlify.toml"), V, ("_redirects", "_headers", "netlify.toml")),
        (("_redirects",), N, ()),
        (("_headers",), N, ()),
        (("netlify.toml",), N, ()),
        (("_redirects", "_headers", "netlify.toml"), N, ()),
        (("wrangler.toml", "_redirects"), C, ()),
        (("wrangler.jsonc", "_redirects", "netlify.toml"), C, ("netlify.toml",)),
    ],
)
def test_the_files_choose_the_dialect_and_those_of_another_are_named(
    names: tuple[str, ...], dialect: Dialect, unread: tuple[str, ...]
) -> None:
    compiled = compile_rules(sources(*names))
    assert compiled.rules.dialect is dialect
    told = [note for note in compiled.notes if "not read" in note.what]
    assert {note.place.file for note in told} == set(unread)
    assert all(note.effect == "left out" and str(dialect) in note.what for note in told)


@pytest.mark.parametrize("chosen", list(Dialect))
def test_the_setting_always_wins_and_no_file_is_passed_over_in_silence(chosen: Dialect) -> None:
    read = {V: {"vercel.json"}, N: {"_redirects", "_headers", "netlify.toml"}, C: {"_redirects", "_headers"}, D: set()}
    compiled = compile_rules(sources("vercel.json", "_redirects", "_headers", "netlify.toml"), chosen)
    assert compiled.rules.dialect is chosen
    files = {rule.place.file for rule in (*compiled.rules.first, *compiled.rules.found)}
    told = {note.place.file for note in compiled.notes}
    assert files == read[chosen]
    assert told == {"vercel.json", "_redirects", "_headers", "netlify.toml"} - read[chosen]


def test_a_file_without_rules_is_not_talked_about() -> None:
    found = sources("vercel.json", _redirects="\n", **{"netlify.toml": '[build]\ncommand = "make"\n'})
    assert compile_rules(found).notes == ()


def test_a_cookie_for_more_than_its_host_is_named_with_its_line() -> None:
    lines = "/a\n  Set-Cookie: a=1\n/b\n  Set-Cookie: a=1; domain=.example.com\n"
    (note,) = compile_rules(sources(_headers=lines)).notes
    assert (note.place.line, note.effect) == (3, "limited")
    assert "Domain is left out" in note.what


@pytest.mark.parametrize(
    "item",
    [
        '{"source": "/\\ud800", "destination": "/b"}',
        '{"source": "/a", "destination": "/\\uDFFF"}',
        '{"source": "/a", "destination": "/b", "has": [{"type": "header", "key": "a", "value": "\\ud800"}]}',
        '{"source": "/a", "destination": "/b", "\\ud83d": 1}',
    ],
)
def test_half_a_character_in_json_refuses_the_deploy_with_its_line(item: str) -> None:
    with pytest.raises(RulesError, match=r"vercel\.json:2: refused: .*half of a character"):
        compile_rules(sources(**{"vercel.json": f'{{"redirects": [\n{item}]}}'}))


def test_a_whole_character_may_be_written_as_two_halves() -> None:
    text = '{"redirects": [{"source": "/\\ud83d\\ude00", "destination": "/b"}]}'
    assert compile_rules(sources(**{"vercel.json": text})).rules.first[0].path == "/😀"
