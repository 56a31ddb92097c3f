"""``scalemesh`` and ``python -m scalemesh``."""

import sys

from scalemesh.cli.main import run


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
