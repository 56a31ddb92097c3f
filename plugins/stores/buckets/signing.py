"""What a library has to give: where the bucket is, and signatures."""

import hashlib
from collections.abc import Mapping
from typing import Final, Protocol

from scalemesh.values import SignedRequest

NOTHING: Final = hashlib.sha256(b"").hexdigest()  #: what a request without a body is signed for


class Signer(Protocol):
    """Signs requests to one bucket with the credentials that hold at that moment. Blocks: call it in a thread.

    Each method raises UnreachableError where there are no credentials, or none now.
    """

    def address(self) -> str:
        """The bucket's URL, without a slash at the end."""

    def region(self) -> str:
        """The bucket's."""

    def signed(self, method: str, url: str, headers: Mapping[str, str], payload: str) -> Mapping[str, str]:
        """The headers to send, *headers* among them; *payload* is the SHA-256 of the body in hex."""

    def upload(self, key: str, headers: Mapping[str, str], payload: str, expires_s: int) -> SignedRequest:
        """A PUT that whoever has it may make, with these headers alone, and of that body if the server looks."""

    def download(self, key: str, expires_s: int) -> SignedRequest:
        """A GET that whoever has it may make."""
