"""`scalemesh rules`: which files of a folder are read, how rules are told, and what the exit code says."""

import json
from pathlib import Path
from typing import Any

import pytest

from builder.protocol import MAX_RULE_FILE_BYTES
from scalemesh.cli.main import run
from scalemesh.cli.rule_files import find_rule_files
from scalemesh.rules import Condition, Dialect, HeaderChange, Place, Protection, Rule, Rules
from scalemesh.services.rules.compiling import compile_rules
from scalemesh.services.rules.form import write_rules
from scalemesh.services.rules.notes import RulesError
from scalemesh.services.rules.sources import Sources
from scalemesh.services.rules.words import listed, masked

SAMPLES = {
    Dialect.VERCEL: ("vercel.json", b'{"redirects": [\n  {"source": "/old", "destination": "/new"}\n]}', 2),
    Dialect.NETLIFY: ("_redirects", b"# ours\n/old /new 301\n", 2),
    Dialect.CLOUDFLARE: ("_redirects", b"# ours\n/old /new 301\n", 2),
}
HAND_MADE = Rules(
    dialect=Dialect.NETLIFY,
    places=(Place(file="vercel.json", line=3, text="cleanUrls true"),),
    protections=(
        Protection(
            place=Place(file="_headers", line=9, text="Basic-Auth: ann:s3cret bob:hunter2"),
            pattern="/private/.*",
            users=("ann:s3cret", "bob:hunter2"),
        ),
    ),
    first=(
        Rule(place=Place(file="_redirects", line=1, text="/old /new 301"), path="/old", to="/new", status=301),
        Rule(place=Place(file="_redirects", line=2), pattern="/api/(.*)", to="https://api.example/${1}", status=200),
        Rule(place=Place(file="_redirects", line=3), path="/gone", status=410),
        Rule(
            place=Place(file="_redirects", line=4),
            path="/beta",
            to="/b.html",
            forced=False,
            methods=("GET",),
            has=(Condition(of="cookie", key="beta", check="eq", values=("yes",)),),
            missing=(Condition(of="header", key="x-bot"),),
        ),
    ),
    found=(
        Rule(
            place=Place(file="_headers", line=1),
            pattern="/.*",
            headers=(
                HeaderChange(name="X-A", value="1"),
                HeaderChange(name="Link", value="</a>", how="append"),
                HeaderChange(name="X-B", how="remove"),
            ),
        ),
    ),
)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def told_json(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert run(["rules", *arguments, "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_notes_are_told_by_file_and_line_whatever_found_them_first() -> None:
    redirects = b"/a /b Country=de\n/only-a-path\n/c/*/d /e\n"
    sources = Sources({"_redirects": redirects, "_headers": b"/*\n  a b: 1\n"})
    places = [str(note.place) for note in compile_rules(sources, Dialect.NETLIFY).notes]
    assert places == ["_headers:2", "_redirects:1", "_redirects:2", "_redirects:3"]


def test_a_refusal_in_short_is_its_first_note_and_the_number_of_the_others() -> None:
    bad = b'{"redirects": [\n{"source": "/a"},\n{"source": "/(", "destination": "/b"}]}'
    with pytest.raises(RulesError) as error:
        compile_rules(Sources({"vercel.json": bad}))
    short = error.value.in_short
    assert short.startswith("vercel.json:2: a rule has no `destination`")
    assert short.endswith(" And 1 more: see the log.")
    assert "\n" not in short


def test_every_kind_of_rule_is_told_with_what_it_matches_and_does() -> None:
    rows = [(row.kind, row.matches, row.does, str(row.place)) for row in listed(HAND_MADE)]
    assert rows == [
        ("setting", "every path", "cleanUrls true", "vercel.json:3"),
        ("protect", "/private/.*", "asks for a name and a password (ann, bob)", "_headers:9"),
        ("redirect", "/old /new 301", "301 to /new", "_redirects:1"),
        ("proxy", "/api/(.*)", "asks https://api.example/${1}", "_redirects:2"),
        ("status", "/gone", "answers 410", "_redirects:3"),
        (
            "rewrite",
            "/beta",
            "shows /b.html (if cookie beta = yes, unless there is a header x-bot, for GET, unless a file is there)",
            "_redirects:4",
        ),
        ("headers", "/.*", "X-A: 1; adds Link: </a>; removes X-B", "_headers:1"),
    ]


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('{"source": "/old/:path*", "destination": "/new"}', "/old/:path*"),
        ('{"src": "/x", "status": 404}', "/x"),
        ('{"source": "/cut off…', '{"source": "/cut off…'),
        ("/old /new 301", "/old /new 301"),
        ("", "/old"),
    ],
)
def test_of_a_rule_that_was_written_as_an_object_its_source_is_told(text: str, matches: str) -> None:
    rule = Rule(place=Place(file="vercel.json", text=text), path="/old", to="/new", status=308)
    assert next(listed(Rules(first=(rule,)))).matches == matches


def test_no_password_of_a_protected_path_is_ever_told() -> None:
    told = json.dumps(write_rules(masked(HAND_MADE))) + "".join(map(repr, listed(HAND_MADE)))
    assert "ann" in told
    assert "s3cret" not in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("files", "read"),
    [
        ({"_redirects": b"1", "public/_redirects": b"2"}, "_redirects"),
        ({"static/_redirects": b"1", "public/_redirects": b"2"}, "static/_redirects"),
        ({"public/_redirects": b"1", "dist/_redirects": b"2"}, "public/_redirects"),
        ({"dist/_redirects": b"1", "out/_redirects": b"2"}, "dist/_redirects"),
        ({"www/_redirects": b"1", "netlify.toml": b'[build]\npublish = "www/"'}, "www/_redirects"),
        ({"www/_redirects": b"1", "wrangler.toml": b'pages_build_output_dir = "./www"'}, "www/_redirects"),
        ({"www/_redirects": b"1", "wrangler.jsonc": b'{"pages_build_output_dir": "www", // x\n}'}, "www/_redirects"),
        ({"www/_redirects": b"1", "vercel.json": b'{"outputDirectory": "www"}'}, "www/_redirects"),
        ({"www/_redirects": b"1"}, None),
        ({"dist/_redirects": b"1", "netlify.toml": b"broken ["}, "dist/_redirects"),
    ],
)
def test_rules_of_the_output_are_found_where_they_come_from(
    tmp_path: Path, files: dict[str, bytes], read: str | None
) -> None:
    found = find_rule_files(write(tmp_path, files))
    assert found.paths.get("_redirects") == read
    if read:
        assert found.sources.files["_redirects"] == files[read]


@pytest.mark.parametrize("outside", ["..", "../other", "/etc", "a/../../other"])
def test_an_output_folder_that_lies_outside_is_not_looked_into(tmp_path: Path, outside: str) -> None:
    write(tmp_path, {"other/_redirects": b"x", "_redirects": b"x"})
    folder = write(tmp_path / "site", {"netlify.toml": f'[build]\npublish = "{outside}"'.encode()})
    assert "_redirects" not in find_rule_files(folder).paths


def test_the_files_that_are_served_are_those_of_what_was_built(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {"dist/index.html": b"", "dist/_headers": b"", "src/a.js": b"", "node_modules/x/i.js": b""}
    )
    assert find_rule_files(folder).sources.paths == {"index.html"}
    write(folder, {"index.html": b"", "_headers": b""})
    assert find_rule_files(folder).sources.paths == {"index.html", "dist/index.html", "dist/_headers", "src/a.js"}
    write(folder, {".vercel/output/config.json": b"{}", ".vercel/output/static/a.html": b""})
    assert find_rule_files(folder).sources.paths == {"a.html"}


def test_without_rule_files_there_is_nothing_to_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "Dialect default; no rule file was found" in err


def test_the_answer_for_programs_has_its_keys_always(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["folder", "dialect", "refused", "files", "rules", "listed", "notes"]
    read = told_json(capsys, str(write(tmp_path, {"public/_headers": b"/*\n  X-A: 1\n"})))
    assert list(read) == keys
    assert (read["dialect"], read["refused"]) == ("netlify", False)
    assert read["files"] == [{"name": "_headers", "path": "public/_headers"}]
    refused = told_json(capsys, str(write(tmp_path, {"_redirects": b"x" * (MAX_RULE_FILE_BYTES + 1)})), status=1)
    assert list(refused) == keys
    assert (refused["refused"], refused["rules"]) == (True, None)
    assert refused["notes"][0]["effect"] == "refused"


def test_the_dialect_that_is_named_outweighs_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(write(tmp_path, {"_redirects": b"/a /b\n"}))
    assert told_json(capsys, folder)["dialect"] == "netlify"
    assert told_json(capsys, folder, "--dialect", "cloudflare")["dialect"] == "cloudflare"
    assert run(["rules", folder, "--dialect", "default"]) == 0
    assert "Dialect default; it reads none of _redirects" in capsys.readouterr().err
    read = told_json(capsys, folder, "--dialect", "default")
    assert (read["dialect"], read["listed"]) == ("default", [])
    assert run(["rules", folder, "--dialect", "apache"]) == 2


def test_a_folder_that_would_be_refused_says_why_and_how_to_mend_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rules", str(write(tmp_path, {"_headers": b"x" * (MAX_RULE_FILE_BYTES + 1)}))]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "_headers: refused: it is longer than 2 MiB." in err
    assert "would be refused" in err


@pytest.mark.parametrize("dialect", SAMPLES)
def test_a_rule_is_told_with_the_file_that_it_was_read_from_and_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dialect: Dialect
) -> None:
    name, data, line = SAMPLES[dialect]
    path = name if name == "vercel.json" else f"public/{name}"
    folder = str(write(tmp_path, {path: data}))
    told = told_json(capsys, folder, "--dialect", dialect.value)["listed"]
    assert [(row["kind"], row["file"], row["line"]) for row in told] == [("redirect", path, line)]
    assert run(["rules", folder, "--dialect", dialect.value]) == 0
    assert f"{path}:{line}" in capsys.readouterr().out


def test_a_malformed_vercel_json_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = told_json(capsys, str(write(tmp_path, {"vercel.json": b'{"redirects": [{]}'})), status=1)
    assert read["notes"][0]["file"] == "vercel.json"


@pytest.mark.parametrize("dialect", [Dialect.NETLIFY, Dialect.CLOUDFLARE])
def test_a_bad_line_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str], dialect: Dialect) -> None:
    folder = str(write(tmp_path, {"_redirects": b"/a /b 301\n/c /d 999\n"}))
    read = told_json(capsys, folder, "--dialect", dialect.value)
    assert len(read["listed"]) == 1
    assert (read["notes"][0]["line"], read["notes"][0]["effect"]) == (2, "left out")
