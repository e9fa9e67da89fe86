"""Numbers stay the venue's digits: what is no strict decimal is refused, what is scaled is exact."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import numbers
from market.errors import Malformed

DECIMALS = st.decimals(min_value=-(10**20), max_value=10**20, places=12, allow_nan=False).map(lambda d: format(d, "f"))


@given(DECIMALS)
def test_plain_keeps_the_value_and_drops_what_does_not_matter(text: str) -> None:
    plain = numbers.plain(text)
    assert Decimal(plain) == Decimal(text)
    assert not (("." in plain) and plain.endswith(("0", ".")))
    assert plain != "-0"


@given(DECIMALS, st.integers(12, 20))
def test_scaling_is_exact_and_reversible(text: str, exponent: int) -> None:
    scaled = numbers.scale(text, exponent)
    assert scaled == Fraction(text) * 10**exponent
    assert numbers.unscale(scaled, exponent) == numbers.plain(text)


@pytest.mark.parametrize(
    "text", ["NaN", "inf", "1_000", "1e5", "+1", "01", ".5", "5.", "", " 1", "١٢", "1,5", "0x1", "--1", "1" * 31]
)
def test_what_python_would_take_but_no_venue_means_is_refused(text: str) -> None:
    assert not numbers.is_decimal(text)
    with pytest.raises(Malformed):
        numbers.plain(text)


def test_scaling_refuses_to_lose_digits() -> None:
    with pytest.raises(Malformed, match="more than 2 decimals"):
        numbers.scale("0.125", 2)
    assert numbers.decimals("0.2500") == 2


@given(st.decimals(0, 10**15, places=15).map(str), st.decimals(0, 10**14, places=14).map(str))
def test_products_are_exact(left: str, right: str) -> None:
    left, right = (format(Decimal(each), "f") for each in (left, right))
    found = numbers.product(left, right)
    assert found is not None
    assert Fraction(found) == Fraction(left) * Fraction(right)


@pytest.mark.parametrize(
    "left,right,found",
    [
        ("9" * 30, "1", "9" * 30), ("9" * 30, "10", None), ("9" * 30, "0.1", "9" * 29 + ".9"), ("1", "1.50", "1.5"),
        ("0." + "1" * 30, "10", "1." + "1" * 29), ("0." + "1" * 30, "0.1", None),
        ("0." + "1" * 29 + "0", "0.1", "0.0" + "1" * 29),
        ("9" * 30 + "." + "9" * 30, "0.001", None),
    ],
)  # fmt: skip
def test_a_product_of_more_digits_than_a_number_may_have_is_none(left: str, right: str, found: str | None) -> None:
    assert numbers.product(left, right) == numbers.product(right, left) == found
