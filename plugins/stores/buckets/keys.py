"""What is named how inside the bucket."""

import re
from typing import Final

from scalemesh.errors import InvalidError
from scalemesh.values import DeploymentId, Digest

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_DEPLOYMENT: Final = re.compile(r"dpl_[a-z0-9]+")


class Keys:
    """``blobs/ab/<sha256>``, and below ``staging/`` and ``adopted/`` ``<deployment>/<attempt>/<sha256>``."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self.blobs = f"{self.prefix}blobs/"
        self.staging = f"{self.prefix}staging/"
        self.adopted = f"{self.prefix}adopted/"
        self.marker = f"{self.prefix}scalemesh.json"

    def blob(self, sha256: Digest) -> str:
        """Raises InvalidError for what is no digest."""
        if not _DIGEST.fullmatch(sha256):
            raise InvalidError(f"{sha256!r} is no SHA-256 in 64 lower-case hex digits")
        return f"{self.blobs}{sha256[:2]}/{sha256}"

    def after(self, sha256: Digest) -> str:
        """What sorts as that digest does, also where it is only the beginning of one."""
        return f"{self.blobs}{sha256[:2]}/{sha256}" if sha256 else ""

    def uploads(self, deployment: DeploymentId) -> str:
        """Where those of all attempts lie. Raises InvalidError for what is no deployment."""
        if not _DEPLOYMENT.fullmatch(deployment):
            raise InvalidError(f"{deployment!r}: no deployment has such a name")
        return f"{self.staging}{deployment}/"

    def room(self, deployment: DeploymentId, attempt: int) -> str:
        """Where those of one attempt lie."""
        if attempt < 0:
            raise InvalidError(f"{deployment!r}, attempt {attempt}: no deployment has such a name")
        return f"{self.uploads(deployment)}{attempt}/"

    def adoption(self, room: str, name: str) -> str:
        """The list of that *name* of uploads in *room*."""
        return f"{self.adopted}{room.removeprefix(self.staging)}{name}"

    def room_of(self, adoption: str) -> str:
        """Where the uploads lie that the list of that key names."""
        return f"{self.staging}{adoption.removeprefix(self.adopted).rpartition('/')[0]}/"

    def deployment_of_room(self, room: str) -> str:
        """Whose it is."""
        return room.removeprefix(self.staging).partition("/")[0]


def digest_of(key: str) -> Digest | None:
    """The digest that *key* ends in, if it does."""
    name = key.rpartition("/")[2]
    return Digest(name) if _DIGEST.fullmatch(name) else None


def deployment_of(name: str) -> DeploymentId | None:
    """The deployment of that *name*, if it can be one."""
    return DeploymentId(name) if _DEPLOYMENT.fullmatch(name) else None
