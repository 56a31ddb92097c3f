"""Variants: what gets some, how they are made, and the table that names them."""

import gzip
import io

import brotli
import pytest
import zstandard

from scalemesh.errors import InvalidError
from scalemesh.services import encoding_worker, encodings
from scalemesh.services.content_types import BY_EXTENSION
from scalemesh.services.encodings import CODINGS, Encodings, decode, encode, is_compressible
from scalemesh.values import Blob, Digest, Entry

TEXT = b"".join(b"const a%d = document.querySelector('#a%d')\n" % (number, number * 7) for number in range(400))
BR = Blob(sha256=Digest("b" * 64), size_bytes=2000)
TABLE = Encodings({Digest("a" * 64): {"br": BR}, Digest("c" * 64): {}})


def entry(kind: str, size_bytes: int = 1024) -> Entry:
    return Entry(sha256=Digest("a" * 64), size_bytes=size_bytes, content_type=kind, immutable=False)


@pytest.mark.parametrize(
    ("extension", "compressible"),
    [
        *((name, True) for name in ("html", "css", "js", "json", "svg", "xml", "txt", "map", "wasm", "ttf", "ico")),
        *((name, False) for name in ("png", "jpg", "webp", "woff", "woff2", "mp4", "zip", "gz", "br", "pdf", "bin")),
    ],
)
def test_text_and_loose_binary_types_get_variants(extension: str, compressible: bool) -> None:
    assert is_compressible(entry(BY_EXTENSION[extension])) is compressible


def test_types_that_a_site_names_itself_are_judged_by_their_name() -> None:
    assert is_compressible(entry("text/x-own"))
    assert is_compressible(entry("application/ld+json"))
    assert not is_compressible(entry("application/x-own"))


def test_what_fits_into_a_packet_stays_as_it_is() -> None:
    assert not is_compressible(entry("text/html", 1023))


def test_each_variant_decodes_to_the_file() -> None:
    br, zstd, gz = encoding_worker.variants(TEXT)
    assert brotli.decompress(br) == zstandard.ZstdDecompressor().decompress(zstd) == gzip.decompress(gz) == TEXT
    assert max(len(br), len(zstd), len(gz)) < len(TEXT) / 3


def test_the_same_file_always_makes_the_same_variants() -> None:
    first = encoding_worker.variants(TEXT)
    assert encoding_worker.variants(TEXT) == first
    assert first[2][4:8] == bytes(4)  # the time in gzip's head


@pytest.mark.parametrize("size", [2 << 20, 9 << 20])
def test_no_variant_needs_more_memory_to_decode_than_browsers_give(size: int) -> None:
    data = (TEXT * (size // len(TEXT) + 1))[:size]
    variant = encoding_worker.zstd(data)
    assert zstandard.get_frame_parameters(variant).window_size <= 8 << 20
    assert zstandard.ZstdDecompressor(max_window_size=8 << 20).decompress(variant) == data


def test_what_saves_less_than_a_twentieth_is_not_kept() -> None:
    packed = gzip.compress(TEXT * 20, 9) * 3
    assert encoding_worker.variants(packed[:1500]) == [b"", b"", b""]


def test_the_worker_answers_frame_by_frame_and_ends_with_its_input() -> None:
    target = io.BytesIO()
    head = encoding_worker.LENGTH.pack(len(TEXT))
    encoding_worker.serve(io.BytesIO(head + TEXT + head + TEXT[:5]), target)
    expected = b"".join(encoding_worker.LENGTH.pack(len(each)) + each for each in encoding_worker.variants(TEXT))
    assert target.getvalue() == expected


def test_a_table_comes_back_as_it_was_and_equal_tables_are_equal_bytes() -> None:
    assert decode(encode(TABLE)) == TABLE
    assert encode(Encodings(dict(sorted(TABLE.by_digest.items(), reverse=True)))) == encode(TABLE)
    assert decode(encode(TABLE)).variants_of(Digest("a" * 64)) == {"br": BR}
    assert decode(encode(TABLE)).variants_of(Digest("d" * 64)) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"v":2,"files":{}}',
        b'{"v":1}',
        b'{"v":1,"files":[]}',
        b'{"v":1,"files":{},"more":1}',
        b'{"v":1,"files":{"xx":{}}}',
        b'{"v":1,"files":{"%s":[]}}' % (b"a" * 64),
        b'{"v":1,"files":{"%s":{"lzw":["%s",1]}}}' % (b"a" * 64, b"b" * 64),
        b'{"v":1,"files":{"%s":{"br":["%s"]}}}' % (b"a" * 64, b"b" * 64),
        b'{"v":1,"files":{"%s":{"br":["%s",-1]}}}' % (b"a" * 64, b"b" * 64),
        b'{"v":1,"files":{"%s":{"br":["%s",true]}}}' % (b"a" * 64, b"b" * 64),
        b"[" * 100_000,
    ],
)
def test_a_damaged_table_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError):
        decode(data)


def test_worker_and_table_speak_of_the_same_codings() -> None:
    assert tuple(way.__name__ for way in encoding_worker.WAYS) == CODINGS


def test_a_table_over_its_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "MAX_BYTES", 10)
    with pytest.raises(InvalidError):
        decode(encode(TABLE))
