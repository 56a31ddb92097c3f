"""Runs one hostile job in the network namespace that it was started in, and prints what the job got hold of.

    python -m tests.whole.attacker <work dir> <network> <sandbox> <program>

*network* is the local executor's, or "packages" or "none": then it is what builds.network says. The daemon's proxy is
there, and takes the job for the build that it is.

*program* runs as a user command, in the inner sandbox; what it prints is the answer. Each word of the programs in
test_network_of_a_build.py that is not Python's comes from PREFACE.
"""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import builder
from plugins.executors.local import LocalConfig, LocalExecutor
from scalemesh.services.outgoing import Way
from scalemesh.values import DeploymentId, Network
from scalemesh.web.outlet import Outlet, open_outlet
from scalemesh.web.upstream import Upstreams
from tests.contracts.executor.stand_in import limits, make_entry, make_job
from tests.whole.outside_world import ALLOWED, FORBIDDEN, OWN

PREFACE: Final = """
import glob, json, os, socket, sys
def _said(host, port, request, patience_s=1.5):
    try:
        with socket.create_connection((host, port), patience_s) as server:
            server.sendall(request)
            return server.makefile("rb").read().decode(errors="replace")
    except TimeoutError:  # what is open may be slow on a busy machine
        return _said(host, port, request, 10) if patience_s < 10 else ""
    except OSError as error:
        return str(error)
def reached(host, port=80):
    "Whether the server there answers, by the network or by the proxy that we were told of."
    if "reached" in _said(host, port, b""):
        return True
    proxy = os.environ.get("http_proxy", "").rpartition(":")[2]
    name = f"[{host}]" if ":" in host else host
    asked = f"CONNECT {name}:{port} HTTP/1.1\\r\\n\\r\\n".encode()
    return bool(proxy) and "reached" in _said("127.0.0.1", int(proxy), asked)
def readable(pattern):
    "The names that match, of files or folders that can be read."
    found = []
    for name in glob.glob(pattern):
        try:
            os.listdir(name) if os.path.isdir(name) else open(name, "rb").read(1)
            found.append(name)
        except OSError:
            pass
    return found
def seen(pattern, word):
    "Whether *word* is in any of the files that match."
    for name in glob.glob(pattern):
        try:
            if word in open(name, "rb").read():
                return True
        except OSError:
            pass
    return False
"""
_BUILDER: Final = """
from contextlib import ExitStack
from builder.forwarder import open_forwarder, proxy_environment
from builder.protocol import proxy_greeting
from builder.sandbox import InnerSandbox
with ExitStack() as stack:
    env = {{"PATH": "/usr/bin:/bin", "HOME": "/work/home"}}
    if "SCALEMESH_PROXY" in os.environ:
        greeting = proxy_greeting("token", "nonce")
        env |= proxy_environment(stack.enter_context(open_forwarder(os.environ["SCALEMESH_PROXY"], greeting)))
    src = os.environ["SCALEMESH_WORK"] + "/src"
    words = InnerSandbox().command([sys.executable, "-I", "-c", {program!r}], cwd=src)
    done = subprocess.run(words, cwd=src, env=env, capture_output=True, text=True)
    print(done.stdout + done.stderr)
sys.exit(9)
"""


class Known:
    """Lets the job to its hosts, without a word."""

    def __init__(self, network: Network) -> None:
        hosts = frozenset({"good", "inside", ALLOWED, *FORBIDDEN, *OWN})
        self._way = Way(DeploymentId("dpl_one"), network, hosts, frozenset({80}))

    async def admit(self, token: str, nonce: str) -> Way:
        assert (token, nonce) == ("token", "nonce")
        return self._way

    async def tell(self, way: Way, host: str, why: str) -> None:
        pass


async def main(place: Path, network: str, sandbox: str, program: str) -> None:
    """See the module's docstring."""
    wanted = Network(network) if network in ("packages", "none") else Network.FULL
    config = LocalConfig(
        work_dir=place / "jobs", network="auto" if wanted is not Network.FULL else network, sandbox=sandbox
    )
    sockets = place / "sockets"
    sockets.mkdir(mode=0o711, exist_ok=True)
    entry = make_entry(place / "entry", Path(builder.__file__).parent)
    job = make_job(_BUILDER.format(program=PREFACE + program), sockets / "builds.sock", within=limits())
    outlet = Outlet(Known(wanted), (), Upstreams({}))
    async with open_outlet(sockets, outlet), LocalExecutor.open(config, entry=entry) as executor:
        ref = await executor.start(replace(job, network=wanted))
        end = await executor.wait(ref)
        await executor.stop(ref)
    sys.stdout.write(end.detail)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:5]))
