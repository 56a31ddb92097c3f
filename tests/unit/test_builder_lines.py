"""Lines: hostile output made harmless, secrets hidden however they are cut, floods bounded."""

import base64
import json
import time
import tracemalloc
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.cleaning import clean, is_clean
from builder.lines import LINE_COST, Assembler, Line, Log, fitting
from builder.masking import MASK, Masker
from builder.protocol import MAX_LINE_BYTES

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc", "Cf"]), min_size=6)


def lines_of(chunks: list[bytes], secrets: list[str]) -> list[str]:
    assembler = Assembler(Masker(secrets))
    found = [line for chunk in chunks for line in assembler.feed(chunk)]
    return found + assembler.feed(b"", final=True)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain ünïcode 漢字\ttab", "plain ünïcode 漢字\ttab"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b[1;38;2;1;2;3mrgb\x1b[m", "\x1b[1;38;2;1;2;3mrgb\x1b[m"),
        ("a\x1b[2Kb\x1b[1Ac\x1b[?25ld", "abcd"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;ZXZpbA==\x07x", "x"),
        ("\x9b31mx\x9d0;t\x9cy", "xy"),
        ("\x1bP$q\x1b\\x\x1b_app\x1b\\y", "xy"),
        ("bell\x07\x08\x00\x7f\x85", "bell"),
        ("\x1b", ""),
        ("\x1b(B\x1bcx", "x"),
        ("10%\r50%\r100%", "100%"),
        ("100%\r\x1b[K", "100%"),
        ("windows\r", "windows"),
        ("\r\r", ""),
        ("open\x1b]never closed", "open"),
        ("a\u202eb\u2066c\u2028d", "abcd"),
        ("\ud800", "\ufffd"),
    ],
)
def test_control_sequences_are_removed_and_colours_kept(line: str, shown: str) -> None:
    assert clean(line) == shown


@given(st.text(st.characters(max_codepoint=0x2FFF)))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = clean(text.replace("\n", ""))
    assert clean(once) == once
    assert not is_clean(text) or clean(text.replace("\n", "")) == text.replace("\n", "")


@given(SECRETS, st.text(max_size=50), st.text(max_size=50), st.lists(st.integers(0, 30), max_size=10))
def test_no_secret_survives_whatever_the_chunks(secret: str, before: str, after: str, sizes: list[int]) -> None:
    shown = "\n".join(lines_of(cut(f"{before}{secret}{after}".encode(), sizes), [secret]))
    assert secret not in shown


@settings(max_examples=50, deadline=None)
@given(SECRETS, st.integers(0, 20_000), st.lists(st.integers(0, 40_000), max_size=8))
def test_no_secret_survives_in_a_line_without_end(secret: str, shift: int, sizes: list[int]) -> None:
    text = "." * (60_000 + shift) + secret + "." * 70_000 + secret
    lines = lines_of(cut(text.encode(), sizes), [secret])
    assert secret not in "".join(lines)
    assert all(len(line.encode()) <= MAX_LINE_BYTES for line in lines)


@given(SECRETS, st.binary(max_size=7), st.binary(max_size=7))
def test_encoded_secrets_are_hidden_too(secret: str, before: bytes, after: bytes) -> None:
    masker, data = Masker([secret]), secret.encode()
    for coded in (base64.b64encode(before + data + after), base64.urlsafe_b64encode(before + data + after)):
        shown = masker.mask(coded.decode())
        assert MASK in shown
        assert len(shown) <= 3 + -(-len(before) * 4 // 3) + -(-len(after) * 4 // 3) + 6
    for text in (quote(secret), quote(secret, safe=""), quote(secret).lower(), json.dumps({"k": secret})):
        assert secret not in masker.mask(text) or secret.lower() != secret
        assert MASK in masker.mask(text) or secret.lower() != secret


def test_each_line_of_a_secret_is_hidden() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\r\nkqhkiG9w0BAQ\n-----END KEY-----\n"
    shown = "\n".join(lines_of([key.encode(), json.dumps(key).encode()], [key]))
    assert "MIIE" not in shown
    assert "kqhk" not in shown


def test_overlapping_secrets_leave_nothing_of_either() -> None:
    assert Masker(["abcdefgh", "efghijkl", "abcdef"]).mask("x abcdefghijkl y") == f"x {MASK} y"


def test_short_values_are_not_hidden() -> None:
    assert Masker(["12345", ""]).mask("12345") == "12345"


def test_a_secret_is_found_through_removed_control_characters() -> None:
    assert lines_of([b"sec\x1b[2Kret-", b"\x07value\n"], ["secret-value"]) == [MASK]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30_000))
def test_long_lines_are_split_between_characters(text: str) -> None:
    parts = list(fitting(text))
    assert "".join(parts) == text
    assert all(len(part.encode()) <= MAX_LINE_BYTES for part in parts)


class Kept:
    """A log that keeps its lines."""

    def __init__(self, log_bytes: int, secrets: tuple[str, ...] = ()) -> None:
        self.lines: list[Line] = []
        self.log = Log(self.lines.extend, Masker(secrets), log_bytes)

    @property
    def texts(self) -> list[str]:
        return [text for _, _, _, text in self.lines]


def test_a_flood_is_cut_in_the_middle_in_little_time_and_memory() -> None:
    kept = Kept(4_000_000, ("a-secret-value",) * 5)
    output = kept.log.output("build")
    chunk = b"".join(b"line %07d of a flood that will not end\n" % number for number in range(1500))
    tracemalloc.start()
    began = time.process_time()
    for _ in range(100_000_000 // len(chunk)):
        output.feed("out", chunk)
    output.feed("err", b"the last line of all\n")
    output.close()
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 10
    assert peak < 60_000_000
    assert sum(len(text) for text in kept.texts) <= 4_000_000
    assert kept.texts[0] == "line 0000000 of a flood that will not end"
    assert kept.texts[-1] == "the last line of all"
    notices = [text for text in kept.texts if "left out here" in text]
    assert len(notices) == 1
    assert output.tail[-1] == "the last line of all"


@pytest.mark.parametrize("data", [b"\n" * 65536, b"x" * 65536, b"\r" * 65536, b"\x1b[31m" * 13_000, b"\xff" * 65536])
def test_strange_floods_are_bounded_too(data: bytes) -> None:
    kept = Kept(1_000_000)
    output = kept.log.output("build")
    for _ in range(300):
        output.feed("out", data)
    output.close()
    assert sum(len(text.encode()) + LINE_COST for text in kept.texts) < 1_100_000


@given(st.integers(0, 3000), st.integers(1000, 5000))
@settings(max_examples=15, deadline=None)
def test_a_secret_across_the_cut_is_not_shown(shift: int, size: int) -> None:
    kept = Kept(100_000, ("correct-horse-battery",))
    output = kept.log.output("build")
    data = b"." * shift + b"correct-horse-battery" * 20_000
    for start in range(0, len(data), size):
        output.feed("out", data[start : start + size])
    output.close()
    assert not any(part in text for text in kept.texts for part in ("correct-horse", "horse-battery"))


def test_lines_of_steps_appear_whatever_the_cap() -> None:
    kept = Kept(1000)
    output = kept.log.output("install")
    output.feed("out", b"x\n" * 5000)
    output.close()
    kept.log.say("build", "Built in 1 s")
    assert kept.texts[-1] == "Built in 1 s"
