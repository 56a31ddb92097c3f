"""Puts a contender under load by wrk, and looks at single answers before."""

import asyncio
import json
import re
import shutil
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.measure import PeerError
from tests.bench.serving import sites
from tests.bench.serving.asked import Ask, Work
from tests.bench.serving.cores import Cores
from tests.bench.serving.peers import HERE, Programs

CONNECTIONS: Final = 64
PATIENCE_S: Final = 10
RESULT: Final = re.compile(r"^RESULT (\{.*\})$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer, whole."""

    status: int
    headers: Mapping[str, str]  #: names in lower case
    body: bytes
    raw: bytes

    def fault(self, ask: Ask, content: bytes | None) -> str | None:
        """Why this is no answer to *ask* of a site whose file has *content*; None if it is one."""
        found = self.headers.get("content-encoding")
        if self.status != ask.status:
            return f"status {self.status} instead of {ask.status}"
        if found != ask.encoding:
            return f"encoding {found} instead of {ask.encoding}"
        if ask.location is not None and not self.headers.get("location", "").endswith(ask.location):
            return f"Location {self.headers.get('location')} instead of {ask.location}"
        body = sites.decoded(self.body) if found == "br" else self.body
        return "another body" if content is not None and body != content else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one run of wrk saw."""

    per_s: float
    answer_bytes: float  #: on the wire, head and body, of one answer
    p99_ms: float
    cpu_us: float = 0.0  #: time on a processor that the server spent for one answer
    failed: int  #: connections and requests that came to nothing; statuses do not count


async def visit(port: int, request: bytes) -> Answered:
    """Send *request* over a connection of its own and read the whole answer.

    Raises:
        PeerError: there is none, or none with a length.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                return await _answer(reader, request.startswith(b"HEAD "))
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, EOFError, TimeoutError, ValueError) as error:
        raise PeerError(f"port {port} does not answer {request[:60]!r}: {error!r}") from error


async def _answer(reader: asyncio.StreamReader, is_head: bool) -> Answered:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    status = int(first.split()[1])
    has_body = not is_head and status not in (204, 304)
    body = await reader.readexactly(int(headers.get("content-length", "0"))) if has_body else b""
    return Answered(status=status, headers=headers, body=body, raw=head + body)


def write_plan(folder: Path, work: Work) -> None:
    """Lay out *work* in *folder* as load.lua reads it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    heads, tails = (
        ", ".join(json.dumps(text) for text in texts)  # of ASCII, which Lua reads alike
        for texts in ([ask.head for ask in work.asks], [ask.tail for ask in work.asks])
    )
    keep = str(work.made_ahead).lower()
    (folder / "plan.lua").write_text(f"return {{ heads = {{ {heads} }}, tails = {{ {tails} }}, keep = {keep} }}\n")
    hosts = [work.asks[0].host(host, work.tags.get(host)) for host in work.hosts]
    (folder / "hosts").write_bytes("\0".join(hosts).encode())
    (folder / "draws").write_bytes(array("I", work.draws).tobytes())


async def run(programs: Programs, cores: Cores, port: int, plan: Path, seconds: int) -> Rate:
    """Let wrk carry out *plan* for *seconds*.

    Raises:
        PeerError: wrk fails.
    """
    command = [
        str(programs.wrk), "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s",
        "--timeout", f"{PATIENCE_S}s", "--script", str(HERE / "load.lua"), f"http://127.0.0.1:{port}", "--", str(plan),
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *cores.asking(), *command, env=programs.environ,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return read_result(said.decode(errors="replace"))


def read_result(said: str) -> Rate:
    """What wrk printed, as load.lua has it printed.

    Raises:
        PeerError: wrk came to no result.
    """
    found = RESULT.search(said)
    if found is None:
        raise PeerError(f"wrk came to no result:\n{said[-2000:]}")
    result: dict[str, int] = json.loads(found[1])
    requests = result["requests"]
    return Rate(
        per_s=requests / (result["duration_us"] / 1e6),
        answer_bytes=result["bytes"] / requests if requests else 0.0,
        p99_ms=result["p99_us"] / 1000,
        failed=sum(result[name] for name in ("connect", "read", "write", "timeout")),
    )
