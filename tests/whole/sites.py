"""Sites to deploy: the fixtures, and folders whose build is a few lines of shell."""

import json
from pathlib import Path
from typing import Final

from tests.whole.daemon import folder

FIXTURES: Final = Path(__file__).parents[1] / "fixtures" / "sites"
HELLO: Final = "mkdir -p out && echo '<h1>hello</h1>' >out/index.html"


def fixture(name: str) -> dict[str, bytes]:
    """The files of one fixture."""
    return folder(FIXTURES / name)


def built_by(script: str, output: str = "out", **files: str) -> dict[str, bytes]:
    """A source whose build is *script* (for sh), and whose output is the folder *output*."""
    vercel = {"buildCommand": "sh ./build.sh", "outputDirectory": output}
    return {"vercel.json": json.dumps(vercel).encode(), "build.sh": script.encode()} | {
        name: text.encode() for name, text in files.items()
    }
