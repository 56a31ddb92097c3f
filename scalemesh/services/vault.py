"""Seals secrets at rest by a key file of its own, and signs the tokens of builds."""

import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from itsdangerous import BadSignature, URLSafeTimedSerializer

from scalemesh.errors import ConfigError, UnauthorizedError
from scalemesh.values import DeploymentId, Secret

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class Vault:
    """AES-GCM; whatever names the secret is its associated data, so a sealed value fits one place only."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(_derived(key, b"seal"))

    def seal(self, text: str, *names: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), "\0".join(names).encode())

    def unseal(self, sealed: bytes, *names: str) -> Secret:
        """Return the text.

        Raises:
            ConfigError: it was sealed by another key, or for another place.
        """
        try:
            text = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], "\0".join(names).encode())
        except InvalidTag as error:
            raise ConfigError(
                f"the value of {names[-1]} cannot be read",
                why="the key file is another one than when it was set",
                fix="put the old key file back, or set the value again",
            ) from error
        return Secret(text.decode())


class BuildTokens:
    """What a builder shows: good for one attempt of one deployment, for a limited time."""

    def __init__(self, key: bytes, *, lifetime_s: int) -> None:
        self._signer = URLSafeTimedSerializer(_derived(key, b"build"), salt="build")
        self._lifetime_s = lifetime_s

    def make(self, deployment: DeploymentId, attempt: int) -> Secret:
        return Secret(self._signer.dumps([deployment, attempt]))

    def read(self, token: str) -> tuple[DeploymentId, int]:
        """Return whose it is.

        Raises:
            UnauthorizedError: it is no token of ours, or too old.
        """
        try:
            deployment, attempt = self._signer.loads(token, max_age=self._lifetime_s)
        except (BadSignature, ValueError, TypeError) as error:
            raise UnauthorizedError("that is no token of a build here, or it has expired") from error
        return DeploymentId(deployment), int(attempt)


def hashed(secret: str) -> str:
    """What is kept of a random secret of ours (sessions, tokens, codes): enough bits to need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()  # headers may hold any byte


def owner_of(key: bytes) -> str:
    """Names this installation where several share an engine or a cluster: 12 hex digits, of its key."""
    return _derived(key, b"owner").hex()[:12]


def load_key(path: Path) -> bytes:
    """Read the key file; the first time, make it, readable by its owner alone.

    Raises:
        ConfigError: it is there but cannot be read, or is no key.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)
    with os.fdopen(descriptor, "wb") as file:
        key = secrets.token_bytes(KEY_BYTES)
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key


def _read_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the key file cannot be read", why=str(error)) from error
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"{path}: the key file is damaged",
            why=f"it has {len(key)} bytes, not {KEY_BYTES}",
            fix="put it back from a backup; an empty one of a first start may be deleted",
        )
    return key


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(purpose, key=key, digest_size=32).digest()
