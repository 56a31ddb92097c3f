"""A builder that does what its token says: the token is a Python program. Tests alone use it."""

import textwrap
from pathlib import Path

from scalemesh.values import BuildJob, DeploymentId, Limits, Secret

_MAIN = """
import os, subprocess, sys, time
program = os.read(int(os.environ["SCALEMESH_TOKEN_FD"]), 65536).decode()
exec(compile(program, "job", "exec"))
"""
MIB = 1 << 20
#: Runs until a test lets it go, then ends with 4: however long the test takes to look, it looks at a job that lives.
TOLD = """
    while not os.path.exists("/work/src/go"):
        time.sleep(0.02)
    print("whole", flush=True)
    sys.exit(4)
"""


def make_entry(folder: Path, builder: Path) -> Path:
    """A folder that Python can run, with the real package ``builder`` to import from."""
    folder.mkdir(mode=0o755)
    (folder / "__main__.py").write_text(_MAIN)
    (folder / "builder").mkdir()
    for path in builder.glob("*.py"):
        (folder / "builder" / path.name).write_bytes(path.read_bytes())
    return folder


def limits(
    *, memory_mib: int = 256, pids: int = 64, time_s: int = 60, disk_mib: int = 256, cpu_weight: int = 100
) -> Limits:
    return Limits(
        memory_bytes=memory_mib * MIB,
        pids=pids,
        cpu_weight=cpu_weight,
        time_s=time_s,
        disk_bytes=disk_mib * MIB,
        output_bytes=MIB,
        output_files=100,
        log_bytes=MIB,
    )


def make_job(
    program: str, socket: Path, *, deployment: str = "dpl_one", attempt: int = 1, within: Limits | None = None
) -> BuildJob:
    """A job that runs *program* in the place of the builder."""
    return BuildJob(
        deployment=DeploymentId(deployment),
        attempt=attempt,
        socket=str(socket),
        url=None,
        token=Secret(textwrap.dedent(program)),
        limits=within or limits(),
    )


#: The same for images, as the word after ``python3 -I -c``: the token comes as a variable or a file.
IN_IMAGE = """
import os, subprocess, sys, time
src = os.path.join(os.environ.get("SCALEMESH_WORK", "/work"), "src")
os.makedirs(src, exist_ok=True)
os.chdir(src)
token = os.environ.get("SCALEMESH_TOKEN") or open(os.environ["SCALEMESH_TOKEN_FILE"]).read()
exec(compile(token, "job", "exec"))
"""
