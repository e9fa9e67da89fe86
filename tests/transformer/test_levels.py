"""Book levels of a segment: all at once, exact, and a bad row named without its neighbours."""

import json
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import tables
from transformer.levels import NO_NUMBER, NO_TEXT, Levels


def levels(*rows):
    return Levels(pl.Series([row if isinstance(row, str) else json.dumps(row) for row in rows], dtype=pl.String))


def test_levels_become_lists_of_prices_and_quantities():
    made = levels([["1.50", "2"], ["1.4", "0"]], [], [["7", "8.25"]])
    numbers, texts = made.columns()
    assert made.wrong == [None] * 3
    assert numbers.type == tables.LEVELS
    assert numbers.to_pylist() == [
        [{"price": 1.5, "qty": 2.0}, {"price": 1.4, "qty": 0.0}], [], [{"price": 7.0, "qty": 8.25}],
    ]  # fmt: skip
    assert texts.to_pylist() == [None, None, None]


def test_texts_stay_in_the_rows_that_a_float_cannot_say():
    exact = "65000.123456789012345678"
    _, texts = levels([["1", "2"]], [["1", "2"], [exact, "3"]], []).columns()
    assert texts.type == tables.LEVELS_TEXT
    assert texts.to_pylist() == [None, [{"price": None, "qty": None}, {"price": exact, "qty": None}], None]


def test_what_a_venue_adds_to_a_level_is_left_out():
    numbers, _ = levels([["1", "2", []]], [["3", "4", "0", "1"]]).columns()
    assert numbers.to_pylist() == [[{"price": 1.0, "qty": 2.0}], [{"price": 3.0, "qty": 4.0}]]


@pytest.mark.parametrize(
    "bad,reason",
    [([["1"]], NO_TEXT), ([[1, "2"]], NO_TEXT), ([["NaN", "2"]], NO_NUMBER), ([["1", "-2"]], NO_NUMBER),
     ([["1e5", "2"]], NO_NUMBER), ({}, "Expected `array`"), ("5", "Expected `array`"),
     ([["1", "2"], None], "Expected")],
)  # fmt: skip
def test_a_row_that_is_no_levels_is_named_and_its_neighbours_go_on(bad, reason):
    made = levels([["1", "2"]], bad, [["3", "4"]])
    assert made.wrong[0] is None
    assert made.wrong[2] is None
    assert (made.wrong[1] or "").startswith(reason)
    made.keep(pl.Series([True, False, True]))
    numbers, _ = made.columns()
    assert [row[0]["price"] for row in numbers.to_pylist()] == [1.0, 3.0]


NUMBER = st.from_regex(r"(?:0|[1-9][0-9]{0,20})(?:\.[0-9]{1,20})?", fullmatch=True)


@given(st.lists(st.lists(st.tuples(NUMBER, NUMBER), max_size=4), max_size=6))
def test_every_level_can_be_read_back_as_the_venue_wrote_it(rows):
    numbers, texts = levels(*rows).columns()
    assert len(numbers) == len(texts) == len(rows)
    for row, held, spelt in zip(rows, numbers.to_pylist(), texts.to_pylist(), strict=True):
        assert [(float(p), float(q)) for p, q in row] == [(v["price"], v["qty"]) for v in held]
        assert spelt is None or len(spelt) == len(row)
        for pair, value, text in zip(row, held, spelt or [{}] * len(row), strict=True):
            for name, said in zip(("price", "qty"), pair, strict=True):
                kept = text.get(name)
                assert kept == said if kept is not None else Decimal(repr(value[name])) == Decimal(said)
