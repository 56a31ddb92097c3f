"""States move by one table."""

import itertools

import pytest

from scalemesh.errors import ConflictError
from scalemesh.values import FINAL, MOVES, State, moved

ALLOWED = {(old, new) for old, news in MOVES.items() for new in news}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(State, State)))
def test_only_the_moves_of_the_table_are_allowed(old: State, new: State) -> None:
    if (old, new) in ALLOWED:
        assert moved(old, new) is new
        return
    with pytest.raises(ConflictError, match=f"a {old} deployment cannot become {new}"):
        moved(old, new)


def test_nothing_leaves_a_final_state() -> None:
    assert all(not MOVES.get(state) for state in FINAL)
    assert set(State) - FINAL == set(MOVES)
