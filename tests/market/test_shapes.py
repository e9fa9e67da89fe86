"""Shapes: how they are written, and what of a message they find to be otherwise."""

import pytest

from market.shapes import MOST, Difference, differences, shape, unit_of

TRADE = shape("topic type ts:ms data[].T:ms data[].p data[].n:int data[].x?:num data[].b?:bool more?.deep.est")


def found(text, value):
    return [(one.change, one.path) for one in differences(shape(text), value)]


def test_a_message_as_written_differs_in_nothing():
    item = {"T": 1_785_701_708_000, "p": "1.5", "n": 3, "x": 2, "b": False}
    whole = {"topic": "t", "type": "x", "ts": "1785701708000", "data": [item], "more": {"deep": {"est": ""}}}
    assert differences(TRADE, whole) == []
    assert differences(TRADE, {"topic": "t", "type": "x", "ts": 0, "data": []}) == []


def test_what_is_added_missing_or_another_type_is_told_with_its_path():
    item = {"T": 1_785_701_708_000, "p": 1.5, "n": "3", "q": None}
    said = differences(TRADE, {"topic": "t", "ts": 1_785_701_708_000, "data": [item], "more": {"deep": []}})
    assert {(one.change, one.path, one.detail) for one in said} == {
        ("missing", "type", ""),
        ("type", "data[].p", "num, not text"),
        ("type", "data[].n", "text, not int"),
        ("added", "data[].q", "null"),
        ("type", "more.deep", "a list, not an object"),
    }


@pytest.mark.parametrize(
    "value, unit",
    [(1_785_701_708_000_000, "us"), ("1785701708", "s"), (1_785_701_708_000_000_000, "ns"), (-5, None), ("", None)],
)
def test_a_time_of_another_unit_is_no_other_type(value, unit):
    said = differences(TRADE, {"topic": "", "type": "", "ts": value, "data": []})
    assert said == ([Difference("unit", "ts", f"{unit} instead of ms")] if unit else [])


def test_a_time_that_is_none_at_all_is_another_type():
    assert found("ts:ms|us", {"ts": "soon"}) == [("type", "ts")]
    assert found("ts:ms|us", {"ts": 12.5}) == [("type", "ts")]
    assert found("ts:ms|us", {"ts": True}) == [("type", "ts")]
    assert found("ts:ms|null", {"ts": None}) == []
    assert found("ts:ms", {"ts": None}) == [("type", "ts")]


@pytest.mark.parametrize("number, unit", [(10**8, "s"), (10**11 - 1, "s"), (10**11, "ms"), (10**17, "ns"), (5, None)])
def test_units_are_told_by_magnitude(number, unit):
    assert unit_of(number) == unit


def test_any_key_any_value_and_lists_of_lists():
    assert found("result.*.asks[][] error:any", {"result": {"A": {"asks": [["1", "2"]]}}, "error": [1]}) == []
    assert found("result.*.asks[][] error:any", {"result": {"A": {"asks": [["1", 2]]}}, "error": {}}) == [
        ("type", "result.*.asks[][]")
    ]
    assert found("[].a", [{"a": "x"}, {"b": "x"}]) == [("added", "[].b"), ("missing", "[].a")]
    assert found("a", []) == [("type", "")]


def test_only_the_first_items_and_the_last_are_looked_at_and_each_difference_is_told_once():
    items = [{"a": "x"}] * 4 + [{"b": "x"}] * 100
    assert found("[].a", items) == [("added", "[].b"), ("missing", "[].a")]
    assert found("[].a", [*items, {"a": "x"}]) == []
    assert len(found("a?", {f"k{n}": 1 for n in range(3 * MOST)})) == MOST


def test_a_shape_of_no_known_type_is_refused():
    with pytest.raises(ValueError, match="no type decimal"):
        shape("a:decimal")
