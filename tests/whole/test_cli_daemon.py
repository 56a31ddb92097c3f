"""The command as a process of its own against the daemon as a process of its own: signals, restarts, pipes."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process

from tests.whole.daemon import RunningDaemon, repository
from tests.whole.sites import built_by

TICKS = 12
SLOW = (
    '{"name": "slow", "version": "1.0.0", "scripts": {"build": "mkdir -p dist && echo hi > dist/index.html'
    f' && for i in $(seq {TICKS}); do echo tick $i; sleep 0.3; done"}}}}'
)


async def begin(daemon: RunningDaemon, *arguments: str) -> Process:
    command = [sys.executable, "-m", "scalemesh", "--socket", str(daemon.socket), *arguments]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, limit=1 << 20)


async def until_line(command: Process, text: str) -> list[str]:
    """Read standard error up to the line that holds *text*."""
    assert command.stderr is not None
    seen: list[str] = []
    while not seen or text not in seen[-1]:
        line = await command.stderr.readline()
        assert line, seen
        seen.append(line.decode())
    return seen


async def test_a_followed_deployment_survives_a_restart_of_the_daemon(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "slow", {"package.json": SLOW})
    async with asyncio.timeout(60):
        command = await begin(daemon, "deploy", url)
        seen = await until_line(command, "tick 2")
        await daemon.stop()
        await daemon.start()
        out, err = await command.communicate()
    lines = "".join(seen).splitlines() + err.decode().splitlines()
    assert command.returncode == 0, lines
    assert out == f"http://slow.localhost:{daemon.port}/\n".encode()
    ticks = [line for line in lines if " tick " in line and "seq" not in line]
    assert ticks == [f"build    tick {number}" for number in range(1, TICKS + 1)]
    assert sum("trying again" in line for line in lines) == 1


async def test_ctrl_c_leaves_the_build_running_and_says_how_to_stop_it(daemon: RunningDaemon) -> None:
    url = repository(daemon.home, "endless", built_by("echo begun; sleep 600"))
    async with asyncio.timeout(60):
        command = await begin(daemon, "deploy", url)
        await until_line(command, "build    begun")
        command.send_signal(signal.SIGINT)
        out, err = await command.communicate()
        deployment = (await daemon.call("GET", "/deployments"))["deployments"][0]
        assert (command.returncode, out) == (130, b"")
        assert f"`scalemesh cancel {deployment['id']}` stops it" in err.decode()
        assert deployment["state"] == "building"
        canceled = await begin(daemon, "cancel", deployment["id"])
        assert await canceled.wait() == 0
        await canceled.communicate()
    await daemon.until(deployment["id"], "canceled")


async def test_a_reader_that_closes_the_pipe_ends_the_command_quietly(daemon: RunningDaemon) -> None:
    files = {f"{number}.html": f"<h1>{number}</h1>".encode() for number in range(3)}
    deployment = await daemon.upload("shop", "prebuilt", files)
    await daemon.until(deployment)
    reading, writing = os.pipe()
    os.close(reading)
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scalemesh", "--socket", str(daemon.socket), "logs", "shop", stdout=writing, stderr=PIPE
    )
    os.close(writing)
    async with asyncio.timeout(60):
        _, err = await command.communicate()
    assert (command.returncode, err) == (1, b"")
