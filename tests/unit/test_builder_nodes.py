"""Version ranges, and the choice of a Node among those installed."""

import shutil
from pathlib import Path

import pytest

from builder.nodes import Node, Wish, choose, installed
from builder.semver import parse_range, parse_version

NODES = (Node((24, 1, 0), "/24"), Node((22, 12, 0), "/22"), Node((20, 20, 2), "/20"), Node((18, 0, 0), "/18"))


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("1.2.3", ["1.2.3"], ["1.2.4", "1.2.2"]),
        ("v20", ["20.0.0", "20.9.9"], ["21.0.0", "19.9.9"]),
        ("20.x", ["20.1.0"], ["21.0.0"]),
        ("20.10.*", ["20.10.9"], ["20.11.0"]),
        ("*", ["0.0.1", "99.0.0"], []),
        ("", ["5.0.0"], []),
        ("^20.19.0 || >=22.12.0", ["20.19.0", "22.12.0", "24.0.0"], ["20.18.9", "21.0.0", "22.11.0"]),
        ("^1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0"]),
        ("^0.2.3", ["0.2.9"], ["0.3.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        ("^0", ["0.9.9"], ["1.0.0"]),
        ("~1.2.3", ["1.2.9"], ["1.3.0"]),
        ("~1", ["1.9.9"], ["2.0.0"]),
        (">=18 <21", ["18.0.0", "20.9.9"], ["21.0.0", "17.9.9"]),
        (">= 18.17.0", ["18.17.0", "30.0.0"], ["18.16.9"]),
        (">18", ["19.0.0"], ["18.5.0"]),
        ("<=18", ["18.9.9"], ["19.0.0"]),
        ("<18", ["17.9.9"], ["18.0.0"]),
        ("1.2 - 1.4", ["1.2.0", "1.4.9"], ["1.5.0", "1.1.9"]),
        ("1.2.3 - 2.0.0", ["2.0.0"], ["2.0.1"]),
        ("=20.1.0", ["20.1.0"], ["20.1.1"]),
        (">=16.0.0, <23", ["22.9.9"], ["23.0.0"]),
        (">=20.0.0-rc.1", ["20.0.0"], ["19.0.0"]),
    ],
)
def test_a_range_holds_what_npm_says_it_holds(text: str, yes: list[str], no: list[str]) -> None:
    wanted = parse_range(text)
    assert wanted is not None
    for version in yes:
        assert wanted(parse_version(version) or (0, 0, 0)), version
    for version in no:
        assert not wanted(parse_version(version) or (0, 0, 0)), version


@pytest.mark.parametrize("text", ["banana", ">=", "1.2.3.4", "20 || x y", "^^1", "1" * 600, "a" * 40, "1 - ", "12ab"])
def test_what_is_no_range_is_told_apart(text: str) -> None:
    assert parse_range(text) is None


@pytest.mark.parametrize(
    ("ranges", "version"),
    [
        ([], "24.1.0"),
        (["20"], "20.20.2"),
        (["lts/*"], "24.1.0"),
        (["lts/iron"], "20.20.2"),
        (["node"], "24.1.0"),
        (["lts/jod", ">=18"], "22.12.0"),
        (["22", "20"], "22.12.0"),
    ],
)
def test_the_newest_that_meets_the_wishes_is_chosen(ranges: list[str], version: str) -> None:
    assert str(choose(NODES, [Wish(text, "x") for text in ranges]).node) == version


def test_a_wish_that_cannot_be_met_is_warned_about() -> None:
    choice = choose(NODES, [Wish("16.x", ".nvmrc"), Wish("^20", "engines"), Wish("?", "odd")])
    assert str(choice.node) == "20.20.2"
    assert choice.warnings == (
        ".nvmrc asks for Node 16.x, which is not installed here (have: 24.1.0, 22.12.0, 20.20.2, 18.0.0).",
        "odd asks for Node '?', which is not a version range.",
    )


def test_installed_nodes_are_asked_for_their_version(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node is not None
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/node").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "broken/node").chmod(0o755)
    found = installed([str(tmp_path / "broken"), str(tmp_path / "absent"), str(Path(node).parent)])
    assert [each.folder for each in found] == [str(Path(node).parent)]
    assert found[0].version >= (18, 0, 0)
