"""Builds that fail, starve, flood and steal: each ends with its own reason, and the daemon notices nothing of it.

What protects is shown by its absence: every theft is tried without the sandbox as well, and must succeed there.
"""

import asyncio
import hashlib
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from scalemesh.services.vault import BuildTokens
from scalemesh.values import DeploymentId
from tests.whole import attacks
from tests.whole.daemon import RunningDaemon, repository, running_daemon
from tests.whole.hostile import PYTHON, SECRET, Target, attention, open_target
from tests.whole.outside_world import ALLOWED, FORBIDDEN, OWN, PORT, open_world
from tests.whole.sites import HELLO, built_by

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root"),
    pytest.mark.timeout(300),
]
MIB: Final = 1 << 20
ANSWER_S: Final = 3.0  #: on a loaded machine of two cores, a visit and an API call together

#: what it is, the build, the reason, words of the message
ENDS: Final = [
    ("fails", "echo working; echo 'it broke' >&2; exit 7", "command_failed", "exit code 7.*it broke"),
    ("forks", "bomb() { bomb | bomb & }; bomb; sleep 60", "too_many_processes", "64 processes.*[Rr]aise"),
    (
        "eats-memory",
        f"{PYTHON} -c 'b = [bytearray(1 << 20) for _ in range(2000)]'",
        "out_of_memory",
        r"256 MiB.*peak was \d+ MiB.*[Rr]aise",
    ),
    ("writes-a-huge-file", "mkdir out; head -c 300M /dev/zero >out/index.html", "disk_full", "[Rr]aise"),
    (
        "writes-many-large-files",
        "mkdir out; for n in $(seq 90); do head -c 1M /dev/zero >out/$n; done; sleep 60",
        "disk_full",
        "64 MiB|67 MB",
    ),
    ("publishes-too-much", "mkdir out; head -c 9M /dev/zero >out/index.html", "output_too_large", r"9\.4 MB.*8\.4 MB"),
    ("publishes-too-many", "mkdir out; for n in $(seq 600); do echo >out/$n; done", "too_many_files", "600 files.*500"),
    (
        "makes-files-without-end",
        f'mkdir out; exec {PYTHON} -c \'for n in range(1000000): open(f"out/{{n}}", "w")\'',
        "disk_full|too_many_files",
        "files|disk",
    ),
    ("publishes-another-folder", "ln -s /etc out", "no_output|rejected", "out"),
]
#: what is stolen: the attack, what the loot looks like
THEFTS: Final = {
    "the token from memory": (attacks.TOKEN_IN_MEMORY, r"WyJkcGxf[\w-]{20,}\.[\w-]+\.[\w-]{20,}"),
    "the shadow file": (attacks.SHADOW, r"root:"),
    "the admin socket": (attacks.ADMIN_SOCKET, r'"projects"'),
    "the database": (attacks.DATABASE, r"SQLite format 3"),
    "the key": (attacks.KEY, r"[0-9a-f]{64}"),
    "published files": (attacks.BLOBS, r"<h1>hello</h1>"),
    "another build's files": (attacks.ANOTHER_BUILD, SECRET),
    "the words of processes": (attacks.WORDS_OF_PROCESSES, r"scalemesh\.toml|/data/jobs/"),
    "the daemon's port": (attacks.DAEMONS_PORT, r"HTTP/1\.[01] "),
}
ADDRESSES: Final = (*OWN, *FORBIDDEN)


@pytest.fixture(scope="module")
def world() -> Iterator[str]:
    with open_world() as here:
        yield here


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(world: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    async with open_target(tmp_path_factory.mktemp("guarded"), world) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unguarded(world: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    async with open_target(tmp_path_factory.mktemp("unguarded"), world, 'sandbox = "off"') as opened:
        yield opened


@pytest.mark.parametrize(("name", "script", "reason", "words"), ENDS, ids=[end[0] for end in ENDS])
async def test_a_build_that_goes_wrong_says_why(
    target: Target, name: str, script: str, reason: str, words: str
) -> None:
    async with asyncio.timeout(80), attention(target) as seen:
        found = await target.daemon.until(await target.run(script, name), "failed")
    assert re.fullmatch(reason, found["reason"]), found
    assert re.search(words, found["message"]), found["message"]
    assert seen.usual_s < ANSWER_S
    await target.daemon.eventually(lambda: not target.daemon.processes(found["id"]))


async def test_a_build_that_hangs_is_ended_at_its_time_limit(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, builds="time_limit_s = 6") as daemon:
        url = repository(tmp_path, "hangs", built_by("trap '' TERM INT; echo waiting; sleep 600 & wait; sleep 600"))
        found = await daemon.until(await daemon.deploy(url), "failed", within_s=60)
        assert (found["reason"], "6 s" in found["message"]) == ("timed_out", True)
        assert "waiting" in await daemon.text(found["id"])
        await daemon.eventually(lambda: not daemon.processes(found["id"]))


async def test_a_flood_of_100_mb_is_cut_in_the_middle_and_harms_nobody(target: Target) -> None:
    before = target.memory_bytes()
    flood = "yes 'one line of a flood, about fifty characters long' | head -c 100M"
    async with asyncio.timeout(60), attention(target) as seen:
        found = await target.daemon.until(
            await target.run(f"echo first; {flood}; echo; echo last; {HELLO}", "floods"), "ready"
        )
        lines = await target.daemon.lines(found["id"])
    texts = [line["text"] for line in lines]
    assert "first" in texts
    assert "last" in texts
    assert any("left out here" in text for text in texts)
    assert 0.2 * MIB < sum(map(len, texts)) < 1.5 * MIB
    assert seen.most_bytes - before < 64 * MIB
    assert seen.usual_s < ANSWER_S
    assert len(seen.times_s) > 5


@pytest.mark.parametrize("theft", THEFTS)
async def test_a_theft_fails_and_succeeds_without_the_sandbox(target: Target, unguarded: Target, theft: str) -> None:
    attack, loot = THEFTS[theft]
    found, stolen = await asyncio.gather(target.loot(attack), unguarded.loot(attack))
    assert re.search(loot, stolen), stolen
    assert not re.search(loot, found), found


async def test_a_build_cannot_write_outside_of_its_folders(target: Target, unguarded: Target) -> None:
    await asyncio.gather(target.loot(attacks.PLANT), unguarded.loot(attacks.PLANT))
    assert (unguarded.daemon.data / "planted").exists()
    assert not (target.daemon.data / "planted").exists()


async def test_a_build_reaches_the_world_but_nothing_of_this_machine_and_its_neighbours(
    target: Target, unguarded: Target
) -> None:
    """Loopback, own addresses, the metadata address, private ranges; the packets stay in the tests' own network."""
    attack = attacks.reach((*ADDRESSES, ALLOWED), PORT)
    found, reached = await asyncio.gather(target.loot(attack), unguarded.loot(attack))
    assert reached.split() == [*ADDRESSES, ALLOWED]
    assert found.split() == [ALLOWED]


@pytest.mark.parametrize("has_sandbox", [True, False], ids=["sandbox", "no sandbox"])
async def test_what_is_planted_in_the_repository_is_never_run(
    target: Target, unguarded: Target, has_sandbox: bool
) -> None:
    """That the bait works is shown first: the build's own `git status` takes it."""
    bait = """
        printf '#!/bin/sh\\necho taken >>"%s/out/index.html"\\n' "$PWD" >bait.sh; chmod +x bait.sh
        mkdir -p out hooks
        git config core.fsmonitor "$PWD/bait.sh"
        git config core.hooksPath "$PWD/hooks"
        git config filter.x.clean "$PWD/bait.sh"
        git config filter.x.smudge "$PWD/bait.sh"
        echo '* filter=x' >.gitattributes
        for name in post-checkout pre-commit post-index-change; do cp bait.sh hooks/$name; done
        cp hooks/* .git/hooks/ 2>/dev/null
        git status >/dev/null 2>&1; test -s out/index.html || exit 9
        echo planted >out/index.html
    """
    chosen = target if has_sandbox else unguarded
    found = await chosen.daemon.until(await chosen.run(bait, "plants"), "ready")
    assert await chosen.page(found["permalink"]) == "planted\n"


@pytest.mark.parametrize("has_sandbox", [True, False], ids=["sandbox", "no sandbox"])
async def test_nothing_of_a_build_lives_to_swap_its_output(
    target: Target, unguarded: Target, has_sandbox: bool
) -> None:
    swap = """
        import os, signal
        for number in range(1, 65):
            if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33): signal.signal(number, signal.SIG_IGN)
        while True:
            os.symlink("/etc/passwd", "out/link"); os.replace("out/link", "out/a.txt")
            open("out/plain", "w").write("fine"); os.replace("out/plain", "out/a.txt")
    """
    script = f"{HELLO}; setsid nohup {PYTHON} ./swap.py >/dev/null 2>&1 & sleep 0.5; true"
    chosen = target if has_sandbox else unguarded
    program = "\n".join(line[8:] for line in swap.splitlines())
    found = await chosen.daemon.until(await chosen.run(script, "swaps", **{"swap.py": program}), "ready")
    status, body, _ = await chosen.daemon.visit(host_of(found), "/a.txt")
    assert (status, body) == (200, "fine") or status == 404, (status, body)
    await chosen.daemon.eventually(lambda: not chosen.daemon.processes(found["id"]))


async def test_links_out_of_the_output_and_what_is_no_file_are_left_out(target: Target) -> None:
    script = f"""
        {HELLO}; cd out; ln -s index.html inside.html; ln -s /etc/passwd passwd; ln -s ../../../../etc/passwd up
        ln -s /etc folder; ln -s ../build.sh beside; mkfifo fifo; ln -s fifo to-fifo
        {PYTHON} -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
    """
    found = await target.daemon.until(await target.run(script, "links"), "ready")
    assert await target.page(found["permalink"], "/inside.html") == "<h1>hello</h1>\n"
    for path in ("/passwd", "/up", "/folder/passwd", "/beside", "/fifo", "/to-fifo", "/socket"):
        assert (await target.daemon.visit(host_of(found), path))[0] == 404, path
    text = await target.daemon.text(found["id"])
    assert "Left out 'fifo': it is a FIFO" in text
    assert "Left out 'passwd'" in text


async def test_a_device_cannot_even_be_made(target: Target) -> None:
    found = await target.daemon.until(await target.run(f"{HELLO}; mknod out/null c 1 3", "device"), "failed")
    assert found["reason"] == "command_failed"


async def test_control_sequences_never_reach_the_kept_log(target: Target) -> None:
    script = r"""
        printf 'a\033]0;title\007b\033]8;;http://evil.example\033\\link\033]8;;\033\\c\n'
        printf '\033[2J\033[1;31mred\033[0m\033[10A\033c\033P1$r\033\\d\n'
        printf '\302\2332Jc1\302\235x\302\234 \001\002\b\v\f\177 e\rf\n' >&2
        mkdir out; echo x >out/index.html
    """
    found = await target.daemon.until(await target.run(script, "escapes"), "ready")
    texts = [line["text"] for line in await target.daemon.lines(found["id"])]
    without_colour = re.sub(r"\x1b\[[0-9;:]*m", "", "\n".join(texts))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", without_colour), texts
    assert any("\x1b[1;31mred\x1b[0m" in text for text in texts)
    kept = b"".join(path.read_bytes() for path in target.daemon.data.glob("logs.db*"))
    assert b"\x1b]0;" not in kept
    assert b"\x1b[2J" not in kept


async def test_a_stolen_token_names_no_other_projects_files(target: Target) -> None:
    """Neither asking nor finishing tells whether a digest is known here; naming one ends the deployment."""
    theirs = hashlib.sha256(b"<h1>hello</h1>\n").hexdigest()
    assert any(target.daemon.data.glob(f"store/blobs/*/{theirs}")), "the bytes are here"
    deployment = await target.run("echo waiting; sleep 600", "names")
    await target.daemon.until_said(deployment, "waiting")
    token, nonce = token_of(target.daemon, deployment, 1), nonce_of(target.daemon, deployment)
    assert (await target.daemon.build_call(token, "blobs", {"digests": []}))[0] == 409, "the token alone is spent"

    asked = [{"sha256": theirs, "size": 15}, {"sha256": "0" * 64, "size": 15}]
    status, said = await target.daemon.build_call(token, "blobs", {"digests": asked}, nonce)
    assert (status, [each["sha256"] for each in said["missing"]]) == (200, [theirs, "0" * 64])
    status, said = await target.daemon.build_call(token, "finish", finish(theirs), nonce)
    assert status == 422, said
    found = await target.daemon.until(deployment, "failed")
    assert found["reason"] == "rejected"
    assert (await target.daemon.build_call(token, "finish", finish(theirs), nonce))[0] in (410, 422)


async def test_an_older_attempt_can_neither_publish_nor_write(target: Target) -> None:
    deployment = await target.run("echo waiting; sleep 600", "older")
    await target.daemon.until_said(deployment, "waiting")
    target.daemon.kill_supervisor(deployment)
    await target.daemon.eventually(lambda: is_attempt(target.daemon, deployment, 2))
    await target.daemon.eventually(lambda: says_twice(target.daemon, deployment, "waiting"))
    old, new = (token_of(target.daemon, deployment, attempt) for attempt in (1, 2))
    before = await target.daemon.lines(deployment)
    line = {"seq": 99, "lines": [[0, "out", "build", "from the past"]]}
    for path, body in (("finish", finish("0" * 64)), ("lines", line), ("heartbeat", {}), ("blobs", {"digests": []})):
        assert (await target.daemon.build_call(old, path, body))[0] == 410, path
    assert (await target.daemon.build_call(old, "claim", {"nonce": "n"}))[0] == 410
    assert (await target.daemon.build_call(new, "claim", {"nonce": "another"}))[0] == 409
    assert (await target.daemon.build_call(new[:-3] + "abc", "heartbeat", {}))[0] == 401
    assert (await target.daemon.build_call(new, "heartbeat", {}))[0] == 409
    assert await target.daemon.lines(deployment) == before
    assert (await target.daemon.get(deployment))["state"] == "building"
    await target.daemon.call("POST", f"/deployments/{deployment}/cancel")
    assert (await target.daemon.build_call(new, "finish", finish("0" * 64)))[0] == 410


def token_of(daemon: RunningDaemon, deployment: str, attempt: int) -> str:
    """The token of a build, as if it had been stolen."""
    key = (daemon.data / "key").read_bytes()
    return str(BuildTokens(key, lifetime_s=3600).make(DeploymentId(deployment), attempt))


def nonce_of(daemon: RunningDaemon, deployment: str) -> str:
    """The nonce that the build's claim was made with, which nobody but its builder and the daemon knows."""
    with closing(sqlite3.connect(daemon.data / "scalemesh.db")) as database:
        row = database.execute("SELECT nonce FROM deployment WHERE id = ?", (deployment,)).fetchone()
    return str(row[0])


def finish(digest: str) -> dict[str, Any]:
    files = [["index.html", digest, 15]]
    return {"ok": True, "files": files, "framework": "static", "output_directory": ".", "warnings": []}


async def is_attempt(daemon: RunningDaemon, deployment: str, attempt: int) -> bool:
    found = await daemon.get(deployment)
    return bool(found["attempt"] == attempt and found["state"] == "building")


async def says_twice(daemon: RunningDaemon, deployment: str, text: str) -> bool:
    return [line["text"] for line in await daemon.lines(deployment)].count(text) == 2


def host_of(found: dict[str, Any]) -> str:
    return str(found["permalink"]).partition("://")[2].partition(":")[0]
