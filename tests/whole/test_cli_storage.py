"""The command tells what uses the disk, throws away what may go, and sets what is kept."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys

import pytest

from scalemesh.cli.storage import bar
from tests.whole.control_host import ControlHost, fill_disk
from tests.whole.test_cli import call, host

__all__ = ["host"]  # the fixture


async def test_disk_tells_how_full_it_is_and_what_uses_it(
    host: ControlHost, capsys: pytest.CaptureFixture[str]
) -> None:
    await host.life.ready(bytes(1_500_000))
    assert await call("disk") == 0
    told = capsys.readouterr().out
    assert "no build starts above 90 %" in told
    assert "1.5 MB" in told
    assert "site" in told
    assert await call("disk", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["level"] == "roomy"
    assert [one["project"] for one in found["projects"]] == ["site"]


async def test_gc_tells_what_would_go_and_then_lets_it_go(
    host: ControlHost, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_ = [await host.life.ready(b"version %d" % number) for number in range(3)]
    await host.life.services.storage.windows.purge((await host.life.project()).id)
    assert await call("project", "change", "site", "--keep-production", "1") == 0
    capsys.readouterr()
    assert await call("gc", "--dry-run") == 0
    assert first in capsys.readouterr().out
    assert await call("deployment", "show", first) == 0
    assert await call("gc") == 0
    assert await call("deployment", "show", first) == 4


async def test_keep_holds_a_deployment_and_undo_lets_it_go(
    host: ControlHost, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = await host.life.ready(b"one")
    assert await call("deployment", "keep", ready) == 0
    assert await call("deployment", "list") == 0
    assert "kept" in capsys.readouterr().out
    assert await call("deployment", "keep", ready, "--undo") == 0
    assert not (await host.life.services.deployer.get(ready)).is_kept


async def test_what_is_kept_is_a_number_or_empty(host: ControlHost, capsys: pytest.CaptureFixture[str]) -> None:
    await host.ask("POST", "/projects", {"name": "one"}, status=201)
    assert await call("project", "change", "one", "--keep-previews", "7", "--keep-logs", "0") == 0
    assert await call("project", "change", "one", "--keep-previews", "") == 0
    assert (await host.ask("GET", "/projects/one"))["retention"]["log_days"] == 0
    assert (await host.ask("GET", "/projects/one"))["retention"]["preview_days"] is None
    assert await call("project", "change", "one", "--keep-failed", "some") == 2
    assert "must be a number" in capsys.readouterr().err


async def test_a_disk_that_is_full_is_told_with_what_to_do(
    host: ControlHost, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_disk(host)
    async with asyncio.timeout(60):
        assert await call("deploy", "https://git.example/a/shop.git") == 1
        said = capsys.readouterr().err
        assert "there is no room on the disk for this" in said
        assert "scalemesh gc" in said
        assert await call("status") == 1
        assert "nothing is taken that needs room" in capsys.readouterr().out


def test_a_bar_shows_what_is_not_nothing() -> None:
    assert [bar(0), bar(0.0001), bar(0.5), bar(1)] == ["", "▏", "█" * 10, "█" * 20]


TABLE = """
from scalemesh.cli.output import table
heads = ["PROJECT", "SIZE", "FILES", "VARIANTS", "LISTS", "WINDOW", "CACHES"]
table(heads, [["a-project-whose-name-has-forty-characters", *["123.4 MB"] * 6]], folding="PROJECT")
"""


def test_on_a_narrow_terminal_names_are_folded_and_numbers_stay_whole() -> None:
    ours, theirs = pty.openpty()
    try:
        environ = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": ""}
        subprocess.run([sys.executable, "-c", TABLE], stdout=theirs, env=environ, check=True, timeout=30)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", os.read(ours, 65536).decode()).splitlines()
    finally:
        os.close(ours)
        os.close(theirs)
    assert max(map(len, lines)) <= 80
    assert lines[1].count("123.4 MB") == 6
    assert "".join(line.split()[0] for line in lines[1:]) == "a-project-whose-name-has-forty-characters"


async def test_verify_answers_on_standard_output_and_stop_with_json_too(
    host: ControlHost, capsys: pytest.CaptureFixture[str]
) -> None:
    await host.life.ready(b"one page")
    assert await call("store", "verify") == 0
    assert "0 damaged, 0 missing, 0 unknown" in capsys.readouterr().out
    assert await call("store", "verify", "--stop", "--json") == 1
    assert capsys.readouterr().out == ""


async def test_what_keeps_a_move_from_beginning_is_told_line_by_line(
    host: ControlHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await call("store", "migrate", "--to", "disk") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "error: the blobs live in disk already" in told.err
    assert "0 blobs" not in told.err
