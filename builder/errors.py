"""The two ways a build ends badly: it failed and the daemon is told, or nobody wants it any more."""

from collections.abc import Mapping

from builder.protocol import EXIT_GIVEN_UP


class BuildFailed(Exception):  # noqa: N818  (a verdict about the user's build, not a fault of ours)
    """The deployment fails with *reason*, one of protocol.REASONS, and one sentence for people.

    ``peak`` carries what was measured where a limit was hit, by name with its unit (``output_bytes``).
    """

    def __init__(self, reason: str, message: str, peak: Mapping[str, float] | None = None) -> None:
        super().__init__(message)
        self.reason, self.message, self.peak = reason, message, dict(peak or {})


class GivenUp(Exception):  # noqa: N818
    """The daemon does not want this attempt any more, or cannot be reached: stop, and tell nobody."""

    def __init__(self, message: str, exit_code: int = EXIT_GIVEN_UP) -> None:
        super().__init__(message)
        self.message, self.exit_code = message, exit_code
