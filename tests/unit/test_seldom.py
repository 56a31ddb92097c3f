"""A crowd writes no log."""

from scalemesh.services.seldom import Seldom


def test_so_many_lines_are_let_through_and_the_others_counted() -> None:
    now = 100.0
    seldom = Seldom(2, 10.0, lambda: now)
    assert [seldom.others() for _ in range(5)] == [0, 0, None, None, None]
    now += 9.9
    assert seldom.others() is None
    now += 0.2
    assert [seldom.others() for _ in range(3)] == [4, 0, None]
