"""New ids: a prefix that names the kind, and 100 random bits in lower-case base 32."""

import secrets
from typing import Final

ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
LENGTH: Final = 20


def new_id(prefix: str) -> str:
    """Return ``<prefix>_<20 characters>``, safe in host names, paths and URLs."""
    return f"{prefix}_" + "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
