"""lake.scaled against Python's own integers and decimals."""

from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import scaled
from market import numbers
from market.errors import Malformed

digits = st.text("0123456789", min_size=1, max_size=30)
wholes = st.one_of(st.just("0"), digits.filter(lambda t: t[0] != "0"))
texts = st.builds(
    lambda sign, whole, fraction: sign + whole + (f".{fraction}" if fraction else ""),
    st.sampled_from(["", "-"]), wholes, st.one_of(st.just(""), digits),
)  # fmt: skip
small = st.builds(numbers.unscale, st.integers(-(10**15), 10**15), st.integers(0, 12))


def series(values):
    return pl.Series(values, dtype=pl.String)


@pytest.mark.parametrize(
    "text", ["NaN", "inf", "-inf", "1_000", "1e5", "٣", "1e400", "", ".5", "5.", "+1", " 1", "1\n"]
)
def test_what_is_no_number_is_refused(text):
    assert not scaled.valid(series([text]))[0]
    assert not numbers.is_decimal(text)
    with pytest.raises(Malformed):
        scaled.scale(series([text]))


@pytest.mark.parametrize("text", ["01", "1" * 31, "0." + "1" * 31])
def test_what_a_venue_may_not_write_is_not_valid(text):
    assert not scaled.valid(series([text]))[0]
    assert not numbers.is_decimal(text)


def test_a_null_is_not_a_valid_decimal_and_survives_scaling():
    assert scaled.valid(series(["1", None])).to_list() == [True, False]
    assert scaled.scale(series(["1.5", None])).values.to_list() == [15, None]


@settings(max_examples=60)
@given(st.lists(texts, min_size=1, max_size=8))
def test_plain_text_and_decimals_are_those_of_the_scalar_twin(values):
    assert scaled.plain(series(values)).to_list() == [numbers.plain(v) for v in values]
    assert scaled.decimals(series(values)).to_list() == [numbers.decimals(v) for v in values]


@settings(max_examples=60)
@given(st.lists(texts, min_size=1, max_size=8))
def test_scaling_is_exact_or_says_overflow(values):
    try:
        column = scaled.scale(series(values))
    except scaled.Overflow:
        exponent = max(numbers.decimals(v) for v in values)
        assert any(abs(numbers.scale(v, exponent)) >= 10**38 for v in values)
        return
    assert column.values.to_list() == [numbers.scale(v, column.exponent) for v in values]
    assert scaled.unscale(column).to_list() == [numbers.plain(v) for v in values]


@settings(max_examples=60)
@given(st.lists(texts, min_size=1, max_size=8))
def test_a_split_column_holds_the_nearest_float_and_the_text_only_where_that_is_another_number(values):
    floats, kept = scaled.split(series(values))
    for value, number, text in zip(values, floats, kept, strict=True):
        assert number == float(value)
        assert (text is not None) == (Decimal(repr(number)) != Decimal(value))
    assert scaled.texts_of(floats, kept).to_list() == [numbers.plain(v) for v in values]


@settings(max_examples=60)
@given(st.lists(st.one_of(small, texts), min_size=1, max_size=8))
def test_a_table_pair_comes_back_as_the_exact_numbers(values):
    pair = scaled.split(series(values))
    try:
        column = scaled.from_table(*pair)
    except scaled.Overflow:
        return
    assert [Fraction(v, 10**column.exponent) for v in column.values] == [Fraction(v) for v in values]


@pytest.mark.parametrize(
    "number, text",
    [
        (1e-7, "0.0000001"),
        (1e21, "1000000000000000000000"),
        (0.0001, "0.0001"),
        (-0.0, "0"),
        (3.0, "3"),
        (5e15, "5000000000000000"),
        (1.2345678901234568e17, "123456789012345680"),
    ],
)
def test_a_floats_text_is_its_shortest_one_written_plainly(number, text):
    assert scaled.float_texts(pl.Series([number, None]))[0] == text


@given(st.floats(1e-3, 1e15, exclude_max=True), st.sampled_from([None, -0.0, 1e-7]))
def test_a_floats_text_is_the_same_whatever_lies_beside_it(number, other):
    plain = format(Decimal(repr(number)), "f").removesuffix(".0")
    assert scaled.float_texts(pl.Series([number, other]))[0] == scaled.float_texts(pl.Series([number]))[0] == plain


@settings(max_examples=60)
@given(st.lists(st.tuples(small, small), min_size=1, max_size=8))
def test_products_differences_and_sums_are_exact(pairs):
    left, right = (scaled.scale(series([pair[place] for pair in pairs])) for place in (0, 1))
    try:
        products = scaled.unscale(scaled.product(left, right)).to_list()
    except scaled.Overflow:
        assert left.bound * right.bound > 2**126
    else:
        assert [Fraction(v) for v in products] == [Fraction(a) * Fraction(b) for a, b in pairs]
    differences = scaled.unscale(scaled.difference(left, right)).to_list()
    assert [Fraction(v) for v in differences] == [Fraction(a) - Fraction(b) for a, b in pairs]
    assert Fraction(scaled.total(left)) == sum(Fraction(a) for a, _ in pairs)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**9)), min_size=1, max_size=8), st.integers(0, 12))
def test_quotients_round_half_to_even(pairs, exponent):
    left = scaled.Scaled(pl.Series([a for a, _ in pairs], dtype=pl.Int64), 2)
    right = scaled.Scaled(pl.Series([b for _, b in pairs], dtype=pl.Int64), 5)
    found = scaled.quotient(left, right, exponent)
    assert found.values.to_list() == [round(Fraction(a * 10**3, b) * 10**exponent) for a, b in pairs]


def test_ties_of_a_quotient_go_to_the_even_neighbour():
    column = scaled.quotient(scaled.scale(series(["1", "3", "5", "7"])), scaled.scale(series(["2", "2", "2", "2"])), 0)
    assert column.values.to_list() == [0, 2, 2, 4]


def test_what_would_leave_int128_is_refused_before_it_is_computed():
    big = scaled.scale(series(["9" * 30]))
    with pytest.raises(scaled.Overflow):
        scaled.product(big, big)
    with pytest.raises(scaled.Overflow):
        scaled.scale(series(["9" * 30 + "." + "9" * 30]))
    with pytest.raises(scaled.Overflow):
        scaled.summable(scaled.Scaled(pl.Series([2**126, 2**126, 2**126], dtype=pl.Int128), 0))
    assert scaled.total(scaled.Scaled(pl.Series([2**126, 2**126, 2**126], dtype=pl.Int128), 0)) == str(3 * 2**126)


def test_empty_and_null_columns_are_numbers_too():
    assert scaled.from_table(pl.Series([], dtype=pl.Float64)).bound == 0
    assert scaled.from_table(pl.Series([None], dtype=pl.Float64)).values.to_list() == [None]
    assert scaled.total(scaled.scale(series([]))) == "0"


def test_prices_of_few_digits_are_scaled_without_going_through_text(monkeypatch):
    prices = pl.Series([float(f"{65000 + n / 10:.1f}") for n in range(1000)])
    monkeypatch.setattr(scaled, "texts_of", None)
    assert scaled.from_table(prices).exponent == 1
    assert scaled.from_table(prices).values.to_list() == [650000 + n for n in range(1000)]


@pytest.mark.parametrize(
    "values, exponent",
    [([1.0, 2.0], 0), ([0.1, 25.25], 2), ([1e14, 3.0], 0), ([-0.001, 7.0], 3), ([5e-15], 15), ([None, 0.5], 1)],
)
def test_short_decimals_are_recognised_with_as_many_places_as_they_show(values, exponent):
    found = scaled.from_table(pl.Series(values, dtype=pl.Float64))
    assert found.exponent == exponent
    assert scaled.unscale(found).to_list() == [
        None if v is None else numbers.plain(format(Decimal(repr(v)), "f")) for v in values
    ]


@given(st.floats(allow_nan=False, allow_infinity=False) | small.map(float))
def test_a_float_shows_the_decimals_of_its_shortest_text(value):
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    assert scaled._decimals(repr(value)) == max(0, -exponent)


@pytest.mark.parametrize("value", [12.5, -12.5])
def test_whole_numbers_keep_to_the_magnitude_that_is_asked_for(value):
    assert scaled.whole_floats(pl.Series([1.0, value]), 126) is not None
    assert scaled.whole_floats(pl.Series([1.0, value]), 125) is None


@pytest.mark.parametrize("value", [1e22, 123456789012345680.0])
def test_what_has_more_digits_than_a_float_holds_goes_by_its_text(value):
    found = scaled.from_table(pl.Series([value, 0.5]))
    assert scaled.unscale(found).to_list() == [format(Decimal(repr(value)), "f"), "0.5"]


@given(
    st.lists(st.integers(-(10**18), 10**18) | st.integers(-(10**6), 10**6), min_size=1, max_size=12), st.integers(0, 24)
)
def test_integers_become_the_same_columns_as_their_texts(values, exponent):
    column = scaled.Scaled(pl.Series("x", values, dtype=pl.Int64), exponent)
    floats, texts = scaled.to_table(column)
    wanted, kept = scaled.split(scaled.unscale(column))
    assert floats.to_list() == wanted.to_list() == [float(Fraction(value, 10**exponent)) for value in values]
    assert texts.to_list() == kept.to_list()
    assert (floats.dtype, texts.dtype) == (pl.Float64, pl.String)
