"""Names and passwords of protected paths (RFC 7617)."""

import base64
import binascii
import hmac
from collections.abc import Sequence


def may_enter(authorization: str | None, users: Sequence[str]) -> bool:
    """Whether the header carries one of *users* (each "name:password"). Every one is compared, in constant time."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        sent = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return sum(hmac.compare_digest(sent, user.encode()) for user in users) > 0
