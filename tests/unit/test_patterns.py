"""Patterns of strangers: bounded in time and memory, and otherwise what everybody takes them for."""

import re
import time
from contextlib import suppress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scalemesh.errors import InvalidError
from scalemesh.patterns import LIMIT_S, MAX_PATTERN, STRIKES, Budget, Pattern, Spent, check, literal_prefix

LONG_S = 1.0  #: of a slow core; what is meant is milliseconds

LETTERS = st.sampled_from(["a", "b", "/", "-", "ab", "x"])
ATOMS = st.one_of(LETTERS, st.sampled_from([".", "[ab]", "[^/]", "[a-z]", r"\.", r"\/", "^", "$", ""]))


def _repeated(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    marks = st.sampled_from(["", "*", "+", "?", "*?", "+?", "{0,2}", "{2}"])
    grouped = st.tuples(st.sampled_from(["(?:", "(", "(?P<n>"]), inner, st.just(")"), marks).map("".join)
    return st.one_of(
        grouped,
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join),
    )


PLAIN = st.recursive(ATOMS, _repeated, max_leaves=8)
ANY = st.one_of(PLAIN, st.text(alphabet="ab/.*+?()[]{}|^$\\-:=!<P>i1d,0", max_size=24))
SUBJECTS = st.text(alphabet="abx/-", max_size=12)


@pytest.mark.parametrize(
    "text",
    [
        *(
            r"(?=a)(a+)+",
            r"(?!b)(a*)*c",
            r"(a+)+\1",
            r"(?=(a+)+!)a.*",
            r"(?<=^)(?:a|a)*b",
            r"(.*)*(?=x)y",
            r"(?:a|aa)+(?!a)",
        ),
        "/blog/(?=x)(?:x+x+)+y",
    ],
)
def test_a_pattern_that_blows_up_is_refused_or_stops_in_time(text: str) -> None:
    began = time.thread_time()
    try:
        check(text)
    except InvalidError:
        assert time.thread_time() - began < LONG_S
        return
    pattern = Pattern(text)
    for subject in ("a" * 8000, "a" * 4000 + "!", "/blog/" + "x" * 4000):
        began = time.thread_time()
        with suppress(Spent):
            pattern.match(subject)
        assert time.thread_time() - began < 20 * LIMIT_S


@pytest.mark.parametrize(
    "text",
    [
        *("(?:(a*)(a*)(a*)(a*)(a*)(a*)){60}b", "(" + "(a*)" * 300 + ")*b", "(?:x*?a*?y*?){300}(.)(.)", "(a?b?c?){300}"),
        *("(?:a?){900}", "(?:.{1,100}a){8}", r"(\p{L}{1,60})+", "(?:[a-z]{1,30}/?){30}"),
    ],
)
def test_a_large_pattern_takes_no_longer_because_its_engine_is_linear(text: str) -> None:
    """RE2's time grows with text times pattern: of a large one that is most of a second."""
    try:
        check(text)
    except InvalidError:
        return
    pattern = Pattern(text)
    for subject in ("a" * 8000, "a" * 8000 + "b", "ab" * 4000 + "!"):
        began = time.thread_time()
        with suppress(Spent):
            pattern.match(subject)
        assert time.thread_time() - began < 20 * LIMIT_S


SLOW = r"(?=a)(?:a|b|ab)*[cd]"


def test_a_pattern_that_is_too_slow_again_and_again_gets_less_time_and_still_matches(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pattern = Pattern(SLOW)
    for _ in range(STRIKES):
        with pytest.raises(Spent):
            pattern.match("ab" * 4000 + "!", Budget(60))
    spent_s = []
    for _ in range(10):  # the machine itself may be busy for a moment
        budget = Budget(60)
        with pytest.raises(Spent):
            pattern.match("ab" * 4000 + "!", budget)
        spent_s.append(60 - budget.left_s)
    assert min(spent_s) < LIMIT_S
    assert len(caplog.records) == STRIKES
    assert pattern.match("abc") == {}


def test_all_patterns_of_one_visit_share_its_budget() -> None:
    """The visit then ends: what follows could be what keeps strangers out."""
    pattern, budget = Pattern("(?:a|b|ab)*[cd]"), Budget()
    began = time.thread_time()
    with pytest.raises(Spent):
        for _ in range(100_000):
            pattern.match("ab" * 4000 + "!", budget)
    assert time.thread_time() - began < LONG_S
    assert Pattern(".*").match("x", Budget()) == {}


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_a_check_ends_soon_whatever_the_pattern(text: str) -> None:
    began = time.thread_time()
    with suppress(InvalidError):
        check(text)
    assert time.thread_time() - began < LONG_S


@settings(max_examples=500, deadline=None)
@given(PLAIN, SUBJECTS)
def test_a_pattern_matches_what_pythons_own_engine_matches(text: str, subject: str) -> None:
    try:
        expected = re.fullmatch(text, subject)
        check(text)
    except (re.error, InvalidError):
        assume(False)
        return
    found = Pattern(text).match(subject)
    assert (found is None) == (expected is None), (text, subject)


@settings(max_examples=500, deadline=None)
@given(ANY, SUBJECTS, st.booleans())
def test_the_cheap_look_before_a_pattern_refuses_nothing_that_it_matches(
    text: str, subject: str, is_prefixed: bool
) -> None:
    try:
        check(text)
    except InvalidError:
        assume(False)
    pattern, careful = Pattern(text), Pattern(text)
    careful._prefix = ""
    if is_prefixed:
        subject = literal_prefix(text) + subject
    assert pattern.match(subject) == careful.match(subject), (text, subject)


@pytest.mark.parametrize("text", [r"a(?i)(?=b)b", r"ab(?i)", r"a(?i)b", r"a b(?x)(?=)"])
def test_flags_that_hold_for_what_stands_before_them_are_not_overlooked(text: str) -> None:
    pattern = Pattern(text)
    careful = Pattern(text)
    careful._prefix = ""
    for subject in ("AB", "ab", "Ab", "aB"):
        assert pattern.match(subject) == careful.match(subject)


@pytest.mark.parametrize("text", ["a.*", "(?=a)(.*)", "(.*)"])
def test_bytes_that_are_no_utf8_match_as_any_other_letter(text: str) -> None:
    """Header values may hold them; no engine takes them."""
    found = Pattern(text).match("a\udcff")
    assert found is not None
    assert "\udcff" not in "".join(found.values())


@pytest.mark.parametrize("text", ["(", "[", "a{2,1}", "*", "\ud800", "a" * (MAX_PATTERN + 1), "(?<=a*)b\\"])
def test_what_is_no_pattern_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check(text)
    assert caught.value.why
