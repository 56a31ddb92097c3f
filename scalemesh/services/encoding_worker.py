"""Compresses one file after another, as a process of its own and of the lowest priority.

Run as a script; imports nothing of ours, so that it starts in no time and needs no path. It reads frames from standard
input (a length of 8 bytes, big-endian, then that many bytes) and answers each with three frames, one for each of br,
zstd and gzip; an empty frame says that this one is not worth keeping. It ends where its input does.
"""

import os
import struct
import sys
import zlib
from collections.abc import Callable
from typing import BinaryIO, Final

import brotli
import zstandard

NICE: Final = 19
GAIN: Final = 0.95  #: a variant is kept only below this share of the file
LENGTH: Final = struct.Struct(">Q")
MIB: Final = 1024 * 1024


def br(data: bytes) -> bytes:
    """Best up to 1 MiB (about 2 s there); above it the effort falls, so that no file takes much longer."""
    size = len(data)
    return bytes(brotli.compress(data, quality=11 if size <= MIB else 9 if size <= 8 * MIB else 6))


def zstd(data: bytes) -> bytes:
    """Level 19 looks back 8 MiB at most, as far as browsers do (RFC 9659)."""
    level = 19 if len(data) <= 4 * MIB else 9
    return zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True).compress(data)


def gzip(data: bytes) -> bytes:
    """Zlib writes the time 0 into the head, so that the same file always makes the same bytes."""
    return zlib.compress(data, 9, wbits=31)


WAYS: Final[tuple[Callable[[bytes], bytes], ...]] = (br, zstd, gzip)


def variants(data: bytes) -> list[bytes]:
    """What each of the ways makes of *data*; empty where it saves less than a twentieth."""
    made = (way(data) for way in WAYS)
    return [variant if len(variant) < len(data) * GAIN else b"" for variant in made]


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer frames until *source* ends."""
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        data = source.read(length)
        if len(data) < length:
            return
        for variant in variants(data):
            target.write(LENGTH.pack(len(variant)))
            target.write(variant)
        target.flush()


def main() -> None:
    os.nice(NICE)
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(0)  # nobody waits for the rest


if __name__ == "__main__":
    main()
