"""Rule files that strangers write: whatever stands in them ends in rules, notes or a refusal, and soon."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.protocol import MAX_RULE_FILE_BYTES
from scalemesh.edge.answers import Answer
from scalemesh.edge.rules.trace import Trace
from scalemesh.rules import Dialect
from scalemesh.services import manifests
from scalemesh.services.rules.compiled import Compiled
from scalemesh.services.rules.compiling import compile_rules
from scalemesh.services.rules.notes import RulesError, told
from scalemesh.services.rules.sources import Sources
from tests.unit.dialects import AT, ID, MATRIX, Asked, made

BOTH = (Dialect.NETLIFY, Dialect.CLOUDFLARE)
LONGEST_S = 10.0  #: of one core, a slow one; a tenth of it is usual
WORDS = st.sampled_from(
    [
        *(
            "/",
            "/a",
            "/*",
            "/:a",
            ":a",
            "*",
            "/a/*",
            "/a/:b/*",
            "#",
            "#x",
            "!",
            "200",
            "301!",
            "404",
            "999",
            "0",
            "a=:b",
        ),
        *(
            "Country=de",
            "Language=en",
            "Cookie=a,b",
            "https://h.example/:splat",
            "http://",
            "https://[::1]:99999/",
            "%",
        ),
        *(
            "%ff",
            "%00",
            "\x00",
            "\u2028",
            "é",
            "X-A:",
            "Basic-Auth:",
            "a:b",
            "$",
            "${a}",
            "\\",
            "(?:",
            "[",
            "{1,9}",
            "|",
        ),
    ]
)
LINES = st.lists(st.lists(WORDS | st.text(max_size=6), max_size=5).map(" ".join), max_size=8).map("\n".join)
TARGETS = st.sampled_from(["/", "/a", "/a/b/c", "/a?b=x&a=", "/é", "/file", "//a", "/%ff", "/a/%2e%2e"])


def compiled(dialect: Dialect, **files: bytes) -> Compiled | None:
    names = {"redirects": "_redirects", "headers": "_headers", "toml": "netlify.toml"}
    try:
        return compile_rules(Sources({names[name]: data for name, data in files.items()}), dialect)
    except RulesError as error:
        _check_told(error)
        return None


def _check_told(error: RulesError) -> None:
    assert told(error.notes)


@settings(max_examples=300)
@given(st.sampled_from(BOTH), LINES, LINES, TARGETS)
def test_whatever_the_lines_say_a_site_can_be_published_and_visited(
    dialect: Dialect, redirects: str, headers: str, target: str
) -> None:
    encode = str.encode
    found = compiled(dialect, redirects=encode(redirects, errors="replace"), headers=encode(headers, errors="replace"))
    if found is None:
        return
    assert all("\n" not in str(note) for note in found.notes)
    site, sent = made(found, MATRIX), {"accept_language": "en", "cookie": "a=1"}
    answer = site.decide(target, headers=dict(sent))
    assert site.decide(target, headers=dict(sent), trace=Trace()) == answer  # who looks on changes nothing
    if isinstance(answer, Answer):
        for name, value in answer.headers:
            assert name.isascii()
            assert value.isascii()
            assert value.replace("\t", " ").isprintable()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_text_are_read_as_well_as_they_can_be(data: bytes) -> None:
    for dialect in BOTH:
        compiled(dialect, redirects=data, headers=data, toml=data)


LONG = 1024 * 1024
HOSTILE = {
    "one long line": b"/" + b"a" * LONG,
    "one long line of words": b"/a /b " * (LONG // 6),
    "nothing but NULs": b"\0" * LONG,
    "NULs on every line": b"/a\0 /b\n" * 20_000,
    "20,000 lines that are wrong": b"x\n" * 20_000,
    "100,000 redirects": b"".join(b"/%d /x\n" % number for number in range(100_000)),
    "20,000 patterns": b"".join(b"/%d/:a/* /x\n" % number for number in range(20_000)),
    "20,000 paths with a header": b"".join(b"/%d\n X: 1\n" % number for number in range(20_000)),
    "20,000 headers of a path": b"/*\n" + b" X: 1\n" * 20_000,
    "many placeholders": b"".join(b"/:a%d" % number for number in range(200_000)) + b" /x",
    "many stars": b"/" + b"*a" * 900 + b" /x\n",
    "many stars in header paths": (b"/" + b"*a" * 900 + b"\n X: 1\n") * 500,
    "white space": b" \t" * (LONG // 2),
    "carriage returns": b"\r" * LONG,
    "many cookies": (b"/a /b 301 Cookie=" + b"a," * 4000 + b"\n") * 100,
}


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_notes_or_a_refusal_and_soon(name: str, dialect: Dialect) -> None:
    data = HOSTILE[name][:MAX_RULE_FILE_BYTES]
    began = time.process_time()
    found = compiled(dialect, redirects=data, headers=data)
    assert time.process_time() - began < LONGEST_S
    if found is not None:
        assert len(found.notes) <= 1001
        assert len(manifests.encode(manifests.make_manifest(ID, AT, [], [], found).manifest)) < manifests.MAX_BYTES


@pytest.mark.parametrize(
    "text",
    [
        b"a" + b".a" * 400_000 + b" = 1",
        b"[" + b"a." * 400_000 + b"a]",
        b"a = " + b"[" * 500_000,
        b"a = '''" + b"x" * LONG,
        b"[[redirects]]\n" * 70_000,
        b"".join(b"[[redirects]]\nfrom = '/%d'\nto = '/x'\n" % number for number in range(25_000)),
        b"[[headers]]\nfor = '/'\n[headers.values]\n" + b"".join(b"X%d = 'a'\n" % number for number in range(50_000)),
        b"\0" * LONG,
    ],
    ids=range(8),
)
def test_a_hostile_netlify_toml_ends_in_notes_or_a_refusal_and_soon(text: bytes) -> None:
    began = time.process_time()
    compiled(Dialect.NETLIFY, toml=text[:MAX_RULE_FILE_BYTES])
    assert time.process_time() - began < LONGEST_S


def test_a_visit_of_2000_static_and_100_dynamic_rules_takes_less_than_a_millisecond() -> None:
    lines = "".join(f"/s{number}/x /new/{number}\n" for number in range(2000))
    lines += "".join(f"/d{number}/:a/* /n/:a/:splat\n" for number in range(100))
    found = compiled(Dialect.CLOUDFLARE, redirects=lines.encode())
    assert found is not None
    site = made(found, MATRIX)
    for target, location in (("/s1999/x", "/new/1999"), ("/d99/a/b", "/n/a/b"), ("/nothing", None)):
        assert site.ask(target).location == location
        assert min(_seconds(site, target) for _ in range(20)) < 0.001


def _seconds(site: Asked, target: str) -> float:
    began = time.perf_counter()
    site.decide(target)
    return time.perf_counter() - began
