"""Images for tests, made here: nothing is pulled. Each is made once and found again by its name."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import builder
from builder.packing import fingerprint, write_zipapp
from tests.contracts.executor.stand_in import IN_IMAGE

_RIGS = Path(__file__).parent
_TRUE_BUILDER = """
import runpy, sys
if sys.argv[1:]:
    runpy.run_path("/opt/scalemesh/builder.pyz", run_name="__main__")
    sys.exit(0)
"""
_DOCKERFILE = """
FROM {base}
RUN printf 'builder:x:1000:1000::/work/home:/bin/sh\\ncommands:x:1001:1001::/work/home:/bin/sh\\n' >> /etc/passwd \\
 && printf 'builder:x:1000:\\ncommands:x:1001:\\n' >> /etc/group && chown 1000:1000 /work
COPY . /opt/scalemesh
ENV PATH=/opt/node24/bin:/usr/local/bin:/usr/bin:/bin SCALEMESH_NODES=/opt/node24/bin
LABEL scalemesh.builder={fingerprint}
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["python3", "-I", "/opt/scalemesh/stand_in.py"]
"""


def base_image() -> str:
    """A root file system with git, Python and Node; takes half a minute the first time."""
    words = ["bash", str(_RIGS / "base_image.sh"), sys.executable]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def stand_in_image() -> str:
    """An image whose builder runs its token as a Python program; the true builder lies beside it.

    With the argument ``proof`` it does what the true one does.
    """
    base = base_image()
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        stamp = write_zipapp(Path(builder.__file__).parent, context / "builder.pyz")
        (context / "stand_in.py").write_text(_TRUE_BUILDER + IN_IMAGE)
        recipe = _DOCKERFILE.format(base=base, fingerprint=stamp)
        (context / "Dockerfile").write_text(recipe)
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(context.iterdir()))).hexdigest()[:12]
        tag = f"scalemesh-stand-in:{digest}"
        known = subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False)
        if known.returncode != 0:
            words = ["docker", "build", "--quiet", "--tag", tag, "."]
            subprocess.run(words, cwd=context, env=_classic(), check=True, capture_output=True)
    assert stamp == fingerprint()
    return tag


def _classic() -> dict[str, str]:
    """An environment for the builder that needs no plug-in of the docker program."""
    return {**os.environ, "DOCKER_BUILDKIT": "0"}
