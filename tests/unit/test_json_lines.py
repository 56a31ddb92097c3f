"""The lines of a JSON file, where its author finds a rule again."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalemesh.services.rules.json_lines import MOST_ITEMS, read_document
from scalemesh.services.rules.notes import RulesError

TEXT = """{
  "a": true, "b": [
    {"x": [1, {"}": "]"}]},

    2, "three\\n\\"]",
    [
      4
    ]
  ],
  "c":
    {"d": [5]}, "a": [
  6]
}
"""


def test_each_setting_and_each_item_has_its_line() -> None:
    found = read_document("f.json", TEXT)
    assert found.lines == {"a": 11, "b": 2, "c": 10}
    assert found.items == {"b": [3, 5, 5, 6], "a": [12]}
    assert str(found.place("c")) == "f.json:10"
    assert (str(found.item_place("b", 1)), found.item_place("b", 3).text) == ("f.json:5", "[4]")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=5), st.sampled_from([None, 0, 2]))
def test_every_item_begins_on_its_line(values: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(values, indent=indent)
    found, lines = read_document("f.json", text), text.split("\n")
    assert found.values == values
    assert found.items.keys() == {key for key, value in values.items() if isinstance(value, list)}
    for key, line in found.lines.items():
        assert json.dumps(key) in lines[line - 1]
        for item, at in zip(values[key] if key in found.items else [], found.items.get(key, []), strict=True):
            assert json.dumps(item)[0] in lines[at - 1]


@pytest.mark.parametrize("text", ["[" * 900_000, '{"a":' * 100_000, '{"a":1'])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(RulesError, match="this is no JSON"):
        read_document("f.json", text)


def test_a_list_that_is_longer_than_any_of_rules_is_read_in_little_time() -> None:
    text = '{"a":[' + "1," * 900_000 + "1]}"
    began = time.process_time()
    found = read_document("f.json", text)
    assert time.process_time() - began < 2
    assert len(found.values["a"]) > MOST_ITEMS
    assert found.items == {}
