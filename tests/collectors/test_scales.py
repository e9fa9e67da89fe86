"""Prices and quantities on another scale than before: the rule of `collectors.scales`."""

import pytest

from collectors.scales import KEPT, PRICES, UNFIT, WIDE, Scale, Scales, fits
from market.kinds import Contract, Quote, Trade


def trades(price, qty, count, condition="market"):
    base = ("BTCUSDT", "trade", 1, None, 1, "n-1-1", 1, 0, "ws")
    return [Trade(*base, price, qty, "buy", number, condition) for number in range(count)]


def quotes(bid, count):
    return [Quote("BTCUSDT", "q", 1, None, 1, "n-1-1", 1, 0, "ws", bid, "1", bid, "1", None) for _ in range(count)]


def contract(tick, lot):
    base = ("BTCUSDT", "c", 1, None, 1, "n-1-1", 1, 0, "rest")
    return {"BTCUSDT": Contract(
        *base, uid="x", unified="BTC/USDT", base="BTC", quote="USDT", settle=None, tick=tick, lot=lot, multiplier=None,
        contract_size=None, status="TRADING", listed=None, expiry=None, funding_interval_s=None, valid_from=None,
        valid_to=None, known_from=1, known_to=None,
    )}  # fmt: skip


@pytest.mark.parametrize("price, told", [("63000000", "1000 times"), ("0.63", "1e-05 times")])
def test_a_price_far_from_those_before_is_told_when_it_stays_there(price, told):
    scales = Scales()
    assert scales.look(trades("63000.1", "1", KEPT), {}) == []
    assert scales.look(trades(price, "1", PRICES - 1), {}) == []
    said = scales.look(trades(price, "1", 1), {})
    assert [(one.change, one.path) for one in said] == [("unit", "price")]
    assert told in said[0].detail


def test_one_odd_price_and_a_market_that_falls_by_nine_tenths_are_none():
    scales = Scales()
    scales.look(trades("63000.1", "1", KEPT), {})
    for _ in range(3 * PRICES):
        assert scales.look([*trades("630", "1", 1), *trades("63000", "1", 1)], {}) == []
    assert scales.look(trades("6300", "1", 2 * KEPT), {}) == []


def test_quantities_are_held_against_many_before():
    scale, found = Scale(), []
    for number in range(KEPT):
        assert scale.look("1", str(0.001 * (number + 1)), None, None) == []
    for number in range(KEPT):
        found += scale.look("1", str(WIDE * 2 * 0.001 * (number + 1)), None, None)
    assert [(one.change, one.path, one.detail) for one in found] == [("unit", "qty", "2000 times what it was")]


def test_quantities_in_base_units_are_no_multiple_of_a_lot_of_one_contract():
    scales, held = Scales(), contract("0.1", "1")
    assert scales.look(trades("63000.1", "3", 4 * UNFIT), held) == []
    assert scales.look(trades("63000.1", "0.003", 4 * UNFIT, "block"), held) == [], "its steps are its own"
    said = scales.look(trades("63000.1", "0.003", UNFIT), held)
    assert [(one.path, one.detail) for one in said] == [("qty", "no multiple of 1, as 0.003")]


def test_quotes_follow_the_tick_and_prices_of_trades_may_lie_between():
    scales, held = Scales(), contract("0.1", "0.001")
    assert scales.look(trades("63000.15", "1", 4 * UNFIT), held) == []
    said = scales.look(quotes("63000.15", UNFIT), held)
    assert [(one.path, one.detail) for one in said] == [("price", "no multiple of 0.1, as 63000.15")]


@pytest.mark.parametrize(
    "text, step, good",
    [("1.5", "0.5", True), ("1.6", "0.5", False), ("1", "0", True), ("x", "1", True), ("0.30000", "0.1", True)],
)
def test_multiples_are_exact(text, step, good):
    assert fits(text, step) is good
