"""Bybit's history: the documented rows as events of every market.

What pages them is proven by tests/conformance/test_history.py.
"""

from functools import partial

import msgspec
import pytest

from collectors.exchanges import load
from market.session import Polled, Rejected
from market.times import DAY, HOUR, MINUTE, MS
from tests.support.pages import told_back

BYBIT = load("bybit")
AT = 1_670_608_800_000
"""ms. (The candle is the documentation's.)"""
CANDLE = [str(AT), "17071", "17073", "17027", "17055.5", "268611", "15.74462667"]
LATER = AT * MS + 400 * DAY


def session(market, kind, start=AT * MS, width=HOUR):
    asked = Polled(kind, ("BTCUSD",), span=(start, start + width))
    return BYBIT.poller(market, "n-1-1", asked, BYBIT.ENDPOINTS[market])


def body(rows, **more):
    said = {"retCode": 0, "retMsg": "OK", "result": {"symbol": "BTCUSD", "list": rows} | more, "time": AT}
    return msgspec.json.encode(said)


def begun(made):
    """The session, told that all began long ago; its first question."""
    (probe,) = made.start(0)
    assert "interval=M" in probe.url
    made.respond(probe.tag, 200, {}, body([["1600000000000", *CANDLE[1:]]]), LATER)
    (asked,) = made.tick(LATER)
    return asked


told = partial(told_back, LATER)


def test_volume_and_turnover_change_places_on_inverse():
    found = {}
    for market in ("spot", "linear", "inverse"):
        made = session(market, "kline")
        asked = begun(made)
        assert f"category={market}&symbol=BTCUSD&interval=1&start={AT - 60_000}&" in asked.url
        before = [str(AT - 60_000), *CANDLE[1:]]
        found[market] = made.respond(asked.tag, 200, {}, body([CANDLE, before]), LATER)
    for market, (one,) in found.items():
        assert (one.open_time, one.ts_event) == (AT * MS, AT * MS + MINUTE - MS)
        assert (one.open, one.high, one.low, one.close) == ("17071", "17073", "17027", "17055.5")
        said = (one.volume_base, one.volume_quote)
        assert said == (("15.74462667", "268611") if market == "inverse" else ("268611", "15.74462667"))
        assert (one.trade_count, one.source, one.interval) == (None, "rest", "1m")


def test_settled_rates_and_open_interest():
    made = session("inverse", "funding_rate")
    asked = begun(made)
    assert "startTime=" in asked.url
    assert "endTime=" in asked.url
    row = {"symbol": "BTCUSD", "fundingRate": "0.0001", "fundingRateTimestamp": str(AT)}
    (one,) = told(made, asked, body([row]), body([row]))
    assert (one.ts_event, one.rate, one.rate_kind, one.known_at) == (AT * MS, "0.0001", "ratio", AT * MS)
    for market, unit in (("linear", "base"), ("inverse", "contract")):
        made = session(market, "open_interest")
        row = {"openInterest": "63910691.00000000", "singleOpenInterest": "31955346", "timestamp": str(AT)}
        (one,) = told(made, begun(made), body([row]), body([row]))
        assert (one.oi, one.oi_unit, one.sides, one.period) == ("63910691.00000000", unit, 2, "5m")


@pytest.mark.parametrize(
    "bad",
    [
        [[str(AT), *CANDLE[1:4], "NaN", *CANDLE[5:]]], [CANDLE[:6]], [[str(AT + 1), *CANDLE[1:]]], [["", *CANDLE[1:]]],
        [CANDLE, CANDLE], [[None] * 7], {},
    ],
)  # fmt: skip
def test_a_row_that_breaks_the_rules_refuses_its_page(bad):
    made = session("linear", "kline")
    (said,) = made.respond(begun(made).tag, 200, {}, body(bad), LATER)
    assert isinstance(said, Rejected)
    assert made.venue_time == AT * MS


def test_another_symbols_rows_are_no_answer_and_a_limit_is_waited_out():
    made = session("linear", "kline")
    asked = begun(made)
    (said,) = made.respond(asked.tag, 200, {}, body([CANDLE], symbol="ETHUSD"), LATER)
    assert "another symbol" in said.reason
    (asked,) = made.tick(made.next_deadline())
    for status, text in ((200, b'{"retCode":10006,"retMsg":"Too many visits!"}'), (403, b"access too frequent")):
        made.respond(asked.tag, status, {}, text, LATER)
        assert not made.failed
        pause = made.next_deadline() - LATER
        (asked,) = made.tick(made.next_deadline())
    assert pause >= 10 * MINUTE
