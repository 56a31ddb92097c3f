"""Prebuilt answers: bounded in weight, and never longer than their route."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scalemesh.edge.quick import ASKED_ONCE, Form, Forms, Key, Ready, Tally
from scalemesh.values import HostKind, ProjectId, Route

ROUTE = Route(
    host="a", kind=HostKind.PRODUCTION, project=ProjectId("p"), project_name="p", deployment=None, manifest=None
)
CAPACITY = 20_000
KEYS = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from([b"", b"br"]),
    st.sampled_from([b"/", b"/a", b"/b", b"/" + b"c" * 3000]),
)


def form(size: int, headers: int = 0) -> Form:
    return Form(ROUTE, Ready(200, b"h" * headers, b"b" * size), b"")


class Weighing(RuleBasedStateMachine):
    """Keeps, drops and uses answers in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.forms = Forms(CAPACITY)
        self.kept: dict[Any, int] = {}

    @rule(key=KEYS, size=st.sampled_from([0, 1, 3000, 9000, CAPACITY]), headers=st.sampled_from([0, 300, 5000]))
    def keep(self, key: Key, size: int, headers: int) -> None:
        self.forms.keep(key, form(size, headers))
        self.kept[key] = size + 2 * headers + sum(map(len, key))

    @rule(key=KEYS)
    def drop(self, key: Key) -> None:
        self.forms.drop(key)
        assert self.forms.get(key) is None

    @rule(key=KEYS)
    def use(self, key: Key) -> None:
        if (form := self.forms.get(key)) is not None:
            self.forms.used(key)
            form.not_modified = form.head

    @invariant()
    def weighs_what_is_there(self) -> None:
        there = sum(size for key, size in self.kept.items() if self.forms.get(key) is not None)
        assert there <= self.forms.weight_bytes <= CAPACITY

    def teardown(self) -> None:
        for key in self.kept:
            self.forms.drop(key)
        assert self.forms.weight_bytes == 0


TestWeighing = Weighing.TestCase
TestWeighing.settings = settings(max_examples=50, deadline=None)


def test_the_answer_that_was_not_used_for_longest_goes_first() -> None:
    forms = Forms(CAPACITY)
    keys: list[Key] = [("a", b"", b"/%d" % number) for number in range(3)]
    for key in keys[:2]:
        forms.keep(key, form(8000))
    forms.used(keys[0])
    forms.keep(keys[2], form(8000))
    assert [forms.get(key) is not None for key in keys] == [True, False, True]


def test_a_flood_of_targets_that_are_asked_for_once_keeps_nothing_and_forgets_itself() -> None:
    forms = Forms(CAPACITY)
    target = b"/" + b"a" * 4000
    for number in range(3 * ASKED_ONCE):
        assert not forms.is_wanted(("a", b"", target + b"%d" % number))
    assert len(forms._asked) <= ASKED_ONCE
    assert all(isinstance(asked, int) for asked in forms._asked)  # not the 4000 bytes of each
    assert forms.is_wanted(("a", b"", target + b"%d" % (3 * ASKED_ONCE - 1)))


def test_answers_are_counted_by_status_and_told_once() -> None:
    told: list[tuple[int, int, int]] = []
    tally = Tally()
    tally.statuses[200], tally.statuses[404], tally.body_bytes = 3, 1, 99
    tally.drain(lambda *counts: told.append(counts))
    tally.drain(lambda *counts: told.append(counts))
    assert told == [(200, 3, 99), (404, 1, 0)]
