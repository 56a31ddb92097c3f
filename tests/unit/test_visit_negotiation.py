"""Accept-Encoding: the visitor's likes first, the fewest bytes second."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.edge.negotiation import preferred
from scalemesh.values import Blob, Digest

OFFERED = {
    "br": Blob(sha256=Digest("b" * 64), size_bytes=300),
    "zstd": Blob(sha256=Digest("c" * 64), size_bytes=310),
    "gzip": Blob(sha256=Digest("d" * 64), size_bytes=350),
}


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        ("", None),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, deflate, zstd", "zstd"),
        ("gzip, deflate", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", None),
        ("identity", None),
        ("*", "br"),
        ("*;q=0", None),
        ("br;q=0, *", "zstd"),
        ("gzip;q=1.0, br;q=0.9", "gzip"),
        ("gzip;q=0.5, br;q=0.001, zstd;q=0.2", "gzip"),
        ("br;q=0,gzip;q=0,zstd;q=0", None),
        ("identity, br;q=0.5", None),
        ("identity;q=0.5, br;q=0.5", "br"),
        ("identity;q=0, deflate", None),
        ("identity;q=0.2, *;q=0.1", None),
        ("br ; q=0.8 , gzip\t;q=0.7", "br"),
        ("br;q=1.5, gzip", "gzip"),
        ("br;q=, gzip", "gzip"),
        ("br;q=0.1234, gzip", "gzip"),
        ("br;x=1, gzip", "gzip"),
        (",,br,,", "br"),
        ("x," * 40 + "br", None),
    ],
)
def test_the_coding_is_the_one_that_the_visitor_likes_best(header: str | None, coding: str | None) -> None:
    assert preferred(header, OFFERED) == coding


def test_a_file_without_variants_goes_out_as_it_is() -> None:
    assert preferred("br", {}) is None


@given(st.text("gzipbrstd*;q=01. ,\t", max_size=60) | st.text(max_size=60))
def test_whatever_is_sent_the_coding_is_one_of_those_at_hand(header: str) -> None:
    assert preferred(header, OFFERED) in (None, *OFFERED)
