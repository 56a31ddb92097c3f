"""The errors a person can act on, as one tree.

ScaleMeshError              error           500
├── InvalidError            invalid         400   what was sent cannot be understood or is out of bounds
│   └── ConfigError         config          400   the config file has mistakes
├── UnauthorizedError       unauthorized    401   nobody is signed in
├── ForbiddenError          forbidden       403   somebody is, but may not
├── NotFoundError           not_found       404
├── ConflictError           conflict        409   the state of things does not allow it now
├── GoneError               gone            410   it was allowed once: an older attempt, a used code
├── TooLargeError           too_large       413   over a size or count limit
├── TooManyError            too_many        429   over a rate or queue limit
├── RefusedError            refused         422   understood, and no: retrying will not help
├── UnreachableError        unreachable     503   something we depend on does not answer: retry
│   └── DamagedError        damaged         503   it answers with bytes that are not what they should be
└── NoRoomError             no_room         507   the disk is at its last reserve

Anything else that escapes is a bug: logged with its stack, answered with a bare 500.
"""

from typing import ClassVar


class ScaleMeshError(Exception):
    """Says what happened, why, and how to fix it. Subclasses set code (programs) and status (HTTP)."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.fix = what, why, fix

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.why, self.fix) if part)


class InvalidError(ScaleMeshError):
    code = "invalid"
    status = 400


class ConfigError(InvalidError):
    code = "config"


class UnauthorizedError(ScaleMeshError):
    code = "unauthorized"
    status = 401


class ForbiddenError(ScaleMeshError):
    code = "forbidden"
    status = 403


class NotFoundError(ScaleMeshError):
    code = "not_found"
    status = 404


class ConflictError(ScaleMeshError):
    code = "conflict"
    status = 409


class GoneError(ScaleMeshError):
    code = "gone"
    status = 410


class TooLargeError(ScaleMeshError):
    code = "too_large"
    status = 413


class TooManyError(ScaleMeshError):
    code = "too_many"
    status = 429


class RefusedError(ScaleMeshError):
    code = "refused"
    status = 422


class UnreachableError(ScaleMeshError):
    code = "unreachable"
    status = 503


class DamagedError(UnreachableError):
    code = "damaged"


class NoRoomError(ScaleMeshError):
    code = "no_room"
    status = 507
