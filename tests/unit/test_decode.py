"""decode(): strict, complete, and kind to whoever reads its words."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from scalemesh.decode import decode
from scalemesh.errors import InvalidError
from scalemesh.values import Environment, Secret


@dataclass(frozen=True, kw_only=True)
class Inner:
    size_mib: int = 1

    def __post_init__(self) -> None:
        if self.size_mib < 1:
            raise ValueError(f"size_mib = {self.size_mib}: must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    ratio: float = 0.5
    is_open: bool = False
    path: Path | None = None
    secret: Secret = field(default_factory=Secret)
    words: tuple[str, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    environment: Environment = Environment.PREVIEW
    mode: Literal["a", "b"] = "a"
    count: Literal["auto"] | int = 1


def mistakes(data: object, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidError) as caught:
        decode(Outer, data, environ=environ)
    return caught.value.what.splitlines()


def test_everything_of_the_right_shape_arrives() -> None:
    data = {
        "name": "x", "inner": {"size_mib": 3}, "ratio": 2, "is_open": True, "path": "/a", "words": ["p", "q"],
        "table": {"k": 1}, "environment": "production", "mode": "b",
    }  # fmt: skip
    assert decode(Outer, data) == Outer(
        name="x", inner=Inner(size_mib=3), ratio=2.0, is_open=True, path=Path("/a"), words=("p", "q"),
        table={"k": 1}, environment=Environment.PRODUCTION, mode="b",
    )  # fmt: skip


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes(
        {"inner": {"size_mib": "3"}, "words": [1], "is_open": 1, "mode": "c", "environment": "prod"} | {"count": "many"}
    )
    assert sorted(found) == sorted(
        [
            "name: missing",
            "inner.size_mib = '3': must be an integer",
            "is_open = 1: must be true or false",
            "words[0] = 1: must be a string",
            "environment = 'prod': must be one of production, preview",
            "mode = 'c': must be one of a, b",
            "count = 'many': must be \"auto\" or an integer",
        ]
    )


def test_a_misspelt_name_gets_the_nearest_right_one() -> None:
    assert mistakes({"nmae": "x", "name": "y"}) == ['nmae: unknown name; did you mean "name"?']


def test_true_is_no_integer_and_an_integer_is_a_number() -> None:
    assert mistakes({"name": "x", "table": {"k": True}}) == ["table.k = True: must be an integer"]
    assert decode(Outer, {"name": "x", "ratio": 1}).ratio == 1.0


def test_a_range_is_checked_where_it_stands() -> None:
    assert mistakes({"name": "x", "inner": {"size_mib": 0}}) == ["inner: size_mib = 0: must be 1 or more"]


def test_variables_are_filled_only_where_an_environment_is_given() -> None:
    assert decode(Outer, {"name": "a${B}c"}, environ={"B": "-"}).name == "a-c"
    assert decode(Outer, {"name": "a${B}c"}).name == "a${B}c"
    assert mistakes({"name": "${NONE}"}, {}) == ["name: the environment has no variable NONE"]


def test_a_secret_does_not_show_itself() -> None:
    value = decode(Outer, {"name": "x", "secret": "hunter22"})
    assert "hunter22" not in repr(value)
    assert value.secret == "hunter22"


@pytest.mark.parametrize("data", [None, [], "x", 1])
def test_what_is_no_table_is_told_so(data: object) -> None:
    assert mistakes(data) == [f"the whole = {data!r}: must be a table"]


def test_long_values_are_cut_in_the_words() -> None:
    assert len(mistakes({"name": ["x" * 1000]})[0]) < 120


def test_a_flood_of_mistakes_is_cut() -> None:
    """Each unknown name is compared with all that are known: who sends thousands must not hold up everybody else."""
    assert len(mistakes({"name": "x", **{f"nam{number}": 0 for number in range(20_000)}})) == 50
    words = mistakes({"name": "x", "words": [0] * 10_000})
    assert (len(words), words[-1]) == (51, "and 9950 more")


def test_a_long_unknown_name_is_cut_in_the_words() -> None:
    assert len(mistakes({"name": "x", "y" * 10_000: 0})[0]) < 200
