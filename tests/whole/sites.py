"""Sites to deploy: the fixtures, and folders whose build is a few lines of shell."""

import json
from pathlib import Path
from typing import Final

from tests.whole.daemon import folder

FIXTURES: Final = Path(__file__).parents[1] / "fixtures" / "sites"
HELLO: Final = "mkdir -p out && echo '<h1>hello</h1>' >out/index.html"
#: A build that has to be alive for as long as the test needs that, and for no longer: see ``let_go_on``.
PAUSE: Final = "while [ ! -e go ]; do sleep 0.05; done"


def fixture(name: str) -> dict[str, bytes]:
    """The files of one fixture."""
    return folder(FIXTURES / name)


def let_go_on(jobs: Path, deployment: str) -> None:
    """End the PAUSE of a build in the local executor, whose folders of jobs lie in *jobs*."""
    (jobs / deployment / "work" / "src" / "go").touch()


def built_by(script: str, output: str = "out", **files: str) -> dict[str, bytes]:
    """A source whose build is *script* (for sh), and whose output is the folder *output*."""
    vercel = {"buildCommand": "sh ./build.sh", "outputDirectory": output}
    return {"vercel.json": json.dumps(vercel).encode(), "build.sh": script.encode()} | {
        name: text.encode() for name, text in files.items()
    }
