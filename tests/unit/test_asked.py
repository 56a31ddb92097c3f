"""What rules may ask of a visit: cookies and fields, the first of each name."""

from collections.abc import Callable

from scalemesh.edge.answers import Visit
from scalemesh.edge.rules.asked import Asked
from scalemesh.edge.targets import Target


def test_the_first_cookie_and_the_first_field_of_a_name_count() -> None:
    asked = Asked(Visit(method="GET", target="/", headers={"cookie": 'a=1; a=2;b="x";c'}), Target("", "f=1&f=2&g"))
    assert [asked.cookie(name) for name in "abcd"] == ["1", "x", None, None]
    assert [asked.field(name) for name in "fgh"] == ["1", "", None]


def test_whoever_asks_for_a_cookie_or_a_language_asks_for_more_than_the_target() -> None:
    asks: tuple[Callable[[Asked], object], ...] = (
        lambda asked: asked.cookie("a"),
        lambda asked: asked.language,
        lambda asked: asked.header("x"),
    )
    for ask in asks:
        asked = Asked(Visit(method="GET", target="/"), Target("", ""))
        assert not asked.needs_more
        ask(asked)
        assert asked.needs_more
