"""OKX's history: the documented rows as events of every market.

What pages them is proven by tests/conformance/test_history.py.
"""

from functools import partial

import msgspec
import pytest

from collectors.exchanges import load
from market.errors import Malformed
from market.kinds import Contract
from market.session import Polled, Rejected
from market.times import DAY, HOUR, MINUTE, MS
from tests.support.pages import told_back

OKX = load("okx")
AT = 1_785_672_000_000
LATER = AT * MS + 10 * DAY
NAME = "BTC-USD-SWAP"
CONTRACT = Contract(
    NAME, "", None, None, 0, "n-1-1", 0, 0, "rest", NAME, None, None, None, None, None, None, "100", None, "live", None,
    None, None, None, None, 0, None,
)  # fmt: skip
CANDLE = [str(AT), "3.721", "3.743", "3.677", "3.708", "8422410", "22698348.04", "12698348.04", "1"]


def session(market, kind, symbol=NAME):
    asked = Polled(kind, (symbol,), known=(CONTRACT,), span=(AT * MS, AT * MS + HOUR))
    return OKX.poller(market, "n-1-1", asked, OKX.ENDPOINTS[market])


def body(rows, code="0"):
    return msgspec.json.encode({"code": code, "msg": "", "data": rows})


def begun(made):
    (asked,) = made.start(0)
    if asked.tag == "probe":
        made.respond(asked.tag, 200, {}, body([["1600000000000", *CANDLE[1:]]]), LATER)
        (asked,) = made.tick(LATER)
    return asked


told = partial(told_back, LATER)


def test_candles_say_base_and_quote_by_market():
    wanted = {"spot": ("8422410", "22698348.04"), "linear": ("22698348.04", "12698348.04")}
    for market in ("spot", "linear", "inverse"):
        made = session(market, "kline")
        before = [str(AT - 60_000), *CANDLE[1:]]
        asked = begun(made)
        assert f"&before={AT - 60_001}&after=" in asked.url
        (one,) = made.respond(asked.tag, 200, {}, body([CANDLE, before]), LATER)
        assert (one.open_time, one.open, one.high, one.low, one.close) == (AT * MS, "3.721", "3.743", "3.677", "3.708")
        assert (one.volume_base, one.volume_quote) == wanted.get(market, wanted["linear"])
    made = session("spot", "kline")
    (said,) = made.respond(begun(made).tag, 200, {}, body([[*CANDLE[:8], "0"]]), LATER)
    assert "still forms" in said.reason


def fill(number, at, **more):
    return {"instId": NAME, "side": "sell", "sz": "3", "px": "50000.1", "source": "0", "tradeId": str(number),
            "ts": str(at)} | more  # fmt: skip


def test_trades_lie_between_the_last_one_before_and_the_last_one_of_the_period():
    fills = [fill(number, AT - 1000 + number * 500) for number in range(9)]
    made = session("inverse", "trade")
    (asked,) = made.start(0)
    told = []
    while not made.done:
        told.append(asked.url.partition("&")[2])
        rows = fills[::-1] if "type=1" in asked.url else [one for one in fills if int(one["ts"]) < AT][::-1]
        rows = fills[::-1] if f"after={AT + 3_600_000}" in asked.url else rows
        found = made.respond(asked.tag, 200, {}, body(rows[:1] if "limit=1" in told[-1][-7:] else rows), LATER)
        (asked,) = made.tick(LATER) or (None,)
    assert told == [
        f"type=2&limit=1&after={AT + 3_600_000}",
        f"type=2&limit=1&after={AT}",
        "type=1&after=100&limit=100",
    ]
    assert [one.seq for one in found] == list(range(2, 9))
    assert {(one.side, one.qty_unit, one.multiplier, one.condition) for one in found} == {
        ("sell", "contract", "100", "market")
    }


def test_settled_rates_are_the_realized_ones_and_open_interest_counts_contracts():
    made = session("linear", "funding_rate")
    row = {"instId": NAME, "fundingRate": "0.5", "realizedRate": "-0.0001", "fundingTime": str(AT)}
    (one,) = told(made, begun(made), body([row]), body([row]))
    assert (one.ts_event, one.rate) == (AT * MS, "-0.0001")
    for market, money in (("linear", None), ("inverse", "1754632.5")):
        made = session(market, "open_interest")
        data = body([[str(AT), "731377.6", "73.1", "1754632.5"]])
        (one,) = told(made, begun(made), data, data)
        assert (one.oi, one.oi_unit, one.sides, one.oi_base, one.oi_quote) == ("731377.6", "contract", 1, "73.1", money)
        assert one.period == "5m"
    with pytest.raises(Malformed, match="dated"):
        session("linear", "funding_rate", "BTC-USDT-261225")


@pytest.mark.parametrize("bad", [{"px": "-1"}, {"side": "x"}, {"source": "7"}, {"instId": "Y"}, {"tradeId": "x"}])
def test_a_fill_that_breaks_the_rules_refuses_its_page(bad):
    made = session("linear", "trade")
    (asked,) = made.start(0)
    (said,) = made.respond(asked.tag, 200, {}, body([fill(1, AT) | bad]), LATER)
    assert isinstance(said, Rejected)


def test_too_many_requests_inside_status_200_are_waited_out_and_an_unknown_instrument_is_given_up():
    made = session("linear", "kline")
    (asked,) = made.start(0)
    for _ in range(30):
        made.respond(asked.tag, 200, {}, body([], "50011"), LATER)
        assert not made.failed
        (asked,) = made.tick(made.next_deadline())
    made.respond(asked.tag, 200, {}, body([], "51001"), LATER)
    assert made.refused
    assert made.done


def test_a_trade_without_one_before_it_is_found_by_halving():
    """An instrument that began inside the period: nothing lies before it."""
    fills = [fill(number, AT + MINUTE // MS + number * 500) for number in range(1, 9)]
    made = session("inverse", "trade")
    (asked,) = made.start(0)
    requests, found = 0, []
    while not made.done:
        after = int(asked.url.partition("after=")[2].partition("&")[0])
        by_time = "type=2" in asked.url
        rows = [one for one in fills if int(one["ts" if by_time else "tradeId"]) < after][::-1]
        found += made.respond(asked.tag, 200, {}, body(rows[:1] if by_time else rows[:100]), LATER)
        (asked,) = made.tick(LATER) or (None,)
        requests += 1
    assert [one.seq for one in found] == list(range(1, 9))
    assert requests < 30


def test_fills_against_orders_of_retail_price_improvement_say_so():
    fills = [fill(number, AT - 1000 + number * 500, source=str(number % 2)) for number in range(9)]
    made = session("inverse", "trade")
    tasks, found = list(made.start(0)), []
    while not made.done:
        (fetch,) = tasks
        query = dict(part.split("=") for part in fetch.url.partition("?")[2].split("&"))
        mine = [one for one in fills if int(one["tradeId" if query["type"] == "1" else "ts"]) < int(query["after"])]
        found += made.respond(fetch.tag, 200, {}, body(mine[::-1][: int(query["limit"])]), LATER)
        tasks = list(made.tick(LATER))
    assert {one.condition for one in found if one.seq % 2} == {"rpi"}
    assert {one.condition for one in found if not one.seq % 2} == {"market"}
