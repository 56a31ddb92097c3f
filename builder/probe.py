"""Proves from inside that the sandbox is what it should be. The executor's ``check`` runs it as a tiny job.

It writes ``probe.json`` into the work directory: what worked, and the words of what did not.
"""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from builder.sandbox import InnerSandbox

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/work/home", "LANG": "C.UTF-8"}


def main() -> None:
    """Look, write down, end."""
    work = Path(os.environ["SCALEMESH_WORK"])
    inner = InnerSandbox()
    facts = {
        "python": sys.version.split()[0],
        "inner": _said(inner, ["sh", "-c", "echo $(cat /proc/self/status | grep -c CapEff:.0000000000000000)"]),
        "nested": _said(inner, ["unshare", "-U", "true"]),
        "git": _said(inner, ["git", "--version"]),
        "nodes": [
            _said(inner, [f"{folder}/node", "--version"])
            for folder in os.environ["SCALEMESH_NODES"].split(":")
            if folder
        ],
        "way_to_metadata": _has_route("169.254.169.254"),
        "way_to_private": _has_route("10.0.0.1"),
        "way_out": _has_route("1.0.0.1"),
        "proxy": "SCALEMESH_PROXY" in os.environ,
    }
    (work / "probe.json").write_text(json.dumps(facts))


def _said(inner: InnerSandbox, argv: list[str]) -> list[object]:
    """[exit code, what it printed]."""
    command = inner.command(argv, cwd="/work/src")
    try:
        done = subprocess.run(
            command,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [-1, str(error)]
    return [done.returncode, done.stdout.decode(errors="replace").strip()[-500:]]


def _has_route(address: str) -> bool:
    """Whether a packet for *address* would be sent. None is: connecting a datagram socket only asks the routes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((address, 80))
        except OSError as error:
            return error.errno not in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES}
    return True
