"""Long lists of rows, piece by piece: the same JSON as in one piece, and others get their turn meanwhile."""

import asyncio
import json
from collections.abc import Awaitable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.services import long_lists
from scalemesh.services.listings import OutputFile, encoded
from scalemesh.services.long_lists import ROWS
from scalemesh.values import Digest
from scalemesh.web.bodies import check_files

T = TypeVar("T")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(['],["', '"],["', '\\"],["'])


@given(st.lists(st.tuples(TEXTS, st.integers(0, 9)), max_size=20), st.integers(1, 200), st.booleans())
def test_rows_are_written_as_in_one_piece_and_read_back(
    some: list[tuple[str, int]], times: int, is_ascii: bool
) -> None:
    rows = [[text, number] for text, number in some * times]
    written = long_lists.written(rows, ensure_ascii=is_ascii)
    assert written == json.dumps(rows, separators=(",", ":"), ensure_ascii=is_ascii)
    assert long_lists.parsed(written.encode()) == rows


@pytest.mark.parametrize("count", [0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS])
def test_a_list_of_any_length_is_read_back(count: int) -> None:
    rows = [[f'a "],[" \\ {number}', number, -1, 0.5, True, None] for number in range(count)]
    assert long_lists.parsed(long_lists.written(rows).encode()) == rows


async def test_others_get_their_turn_while_a_long_list_is_looked_through() -> None:
    rows = [[f"{number}.webp", "ab" * 32, number, False] for number in range(50_000)]
    files, turns = await _beside(check_files(rows))
    assert files[-1] == OutputFile(path="49999.webp", sha256=Digest("ab" * 32), size_bytes=49_999)
    assert turns > 5
    data, turns = await _beside(asyncio.to_thread(encoded, files))
    assert turns > 5
    read, turns = await _beside(asyncio.to_thread(long_lists.parsed, data))
    assert len(read) == len(rows)
    assert turns > 5


async def _beside(work: Awaitable[T]) -> tuple[T, int]:
    """What *work* gives, and how often the loop came round meanwhile."""
    task, turns = asyncio.ensure_future(work), 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    return task.result(), turns
