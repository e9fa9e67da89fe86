"""Binance's history: the documented rows as events of every market, and what is refused, with the reason."""

import msgspec
import pytest

from collectors.exchanges import load
from market.errors import Malformed
from market.history import Absent, Offer
from market.kinds import KINDS
from market.session import Polled, Rejected
from market.times import DAY, HOUR, MINUTE, MS, SECOND
from tests.support.past import contract

BINANCE = load("binance")
AT = 1_785_672_000_000
"""ms. (The values are those of the documentation's candle.)"""
CANDLE = [
    AT, "0.01634790", "0.80000000", "0.01575800", "0.01577100", "148976.11427815", AT + 59_999, "2434.19055334", 308,
    "1756.87402397", "28.46694368", "0",
]  # fmt: skip
LATER = 400 * DAY


def session(market, kind, symbol="BTCUSDT", start=AT * MS, width=HOUR):
    asked = Polled(kind, (symbol,), span=(start, start + width))
    return BINANCE.poller(market, "n-1-1", asked, BINANCE.ENDPOINTS[market])


def rows_of(made, *bodies):
    """The events of a session that is given these answers in turn."""
    found, tasks = [], list(made.start(0))
    for body in bodies:
        (fetch,) = tasks
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        found += made.respond(fetch.tag, 200, {}, data, AT * MS + LATER)
        tasks = list(made.tick(AT * MS + LATER))
    return found, tasks


def test_candles_of_spot_and_linear_say_base_and_quote():
    for market in ("spot", "linear"):
        (one,), _ = rows_of(session(market, "kline"), [CANDLE], [CANDLE])
        assert (one.open_time, one.ts_event) == (AT * MS, AT * MS + MINUTE - MS)
        assert (one.open, one.high, one.low, one.close) == ("0.01634790", "0.80000000", "0.01575800", "0.01577100")
        assert (one.volume_base, one.volume_quote, one.trade_count) == ("148976.11427815", "2434.19055334", 308)
        assert (one.taker_buy_base, one.taker_buy_quote) == ("1756.87402397", "28.46694368")
        assert (one.source, one.interval, one.session) == ("rest", "1m", "n-1-1")


def test_candles_of_inverse_count_contracts_and_base():
    body = [AT, "100.0", "100.0", "100.0", "100.0", "30", AT + 59_999, "30.5", 4, "10", "10.25", "0"]
    (one,), _ = rows_of(session("inverse", "kline", "BTCUSD_PERP"), [body], [body])
    assert (one.volume_base, one.volume_quote) == ("30.5", "3000")
    assert (one.taker_buy_base, one.taker_buy_quote) == ("10.25", "1000")


@pytest.mark.parametrize(
    "symbol,listed,size", [("BTCUSD_PERP", "1", "1"), ("NEWUSD_PERP", "1", "1"), ("BTCUSD_200925", None, "100")]
)
def test_what_an_inverse_contract_is_worth_its_listing_says_and_the_rule_of_one_that_is_over(symbol, listed, size):
    told = () if listed is None else (contract(symbol, listed),)
    body = [AT, "100.0", "100.0", "100.0", "100.0", "30", AT + 59_999, "30.5", 4, "10", "10.25", "0"]
    fill = {"a": 5, "p": "1", "q": "2", "f": 1, "l": 2, "T": AT, "m": True}
    for kind, rows in (("kline", [body]), ("agg_trade", [fill])):
        asked = Polled(kind, (symbol,), span=(AT * MS, AT * MS + HOUR), known=told)
        made = BINANCE.poller("inverse", "n-1-1", asked, BINANCE.ENDPOINTS["inverse"])
        (one,), _ = rows_of(made, rows, rows)
        found = one.volume_quote if kind == "kline" else one.multiplier
        assert found == (size if kind == "agg_trade" else str(30 * int(size)))
        with pytest.raises(Malformed, match="what one is worth"):
            session("inverse", kind, "BTCUSDT")


@pytest.mark.parametrize("place", [5, 9])
def test_contracts_that_are_worth_more_digits_than_a_number_may_have_refuse_their_page(place):
    good = [AT, "100.0", "100.0", "100.0", "100.0", "30", AT + 59_999, "30.5", 4, "10", "10.25", "0"]
    bad = [*good[:place], "9" * 29, *good[place + 1 :]]
    said, _ = rows_of(session("inverse", "kline", "BTCUSD_PERP"), [good], [bad])
    assert [type(one) for one in said] == [Rejected]
    assert "more than 30 digits" in said[0].reason


def test_trades_of_spot_begin_with_the_first_of_an_aggregate():
    aggregate = {"a": 26129, "p": "1", "q": "2", "f": 101, "l": 102, "T": AT, "m": True, "M": True}
    fills = [
        {"id": n, "price": "4.00000100", "qty": "12.0", "quoteQty": "48.0", "time": AT + (n - 101),
         "isBuyerMaker": n % 2 == 1}
        for n in range(100, 104)
    ]  # fmt: skip
    made = session("spot", "trade")
    found, _ = rows_of(made, [aggregate], fills)
    assert [(one.seq, one.side, one.condition) for one in found] == [
        (101, "sell", "market"), (102, "buy", "market"), (103, "sell", "market"),
    ]  # fmt: skip
    assert made.done


def test_aggregates_of_linear_come_by_id_within_their_reach():
    aggregate = {"a": 7, "p": "1.5", "q": "2", "nq": "2", "f": 10, "l": 12, "T": AT + 5, "m": False}
    before = aggregate | {"a": 6, "T": AT - 5, "f": 9, "l": 9}
    (one,), _ = rows_of(session("linear", "agg_trade"), [aggregate], [before, aggregate])
    assert (one.seq, one.first_id, one.last_id, one.side) == (7, 10, 12, "buy")
    assert BINANCE.HISTORY["linear"]["agg_trade"].reach == 2 * DAY
    assert BINANCE.HISTORY["inverse"]["agg_trade"].reach == DAY


def test_settled_rates_are_at_their_second():
    row = {"symbol": "BTCUSDT", "fundingRate": "-0.03750000", "fundingTime": AT + 3, "markPrice": "34287.5"}
    (one,), _ = rows_of(session("linear", "funding_rate"), [row], [row])
    assert (one.ts_event, one.rate, one.known_at) == (AT * MS, "-0.03750000", AT * MS + 3 * MS)


def test_a_rate_that_is_told_just_before_the_second_it_is_of_is_asked_for_too():
    """A page that began with the period would not have it."""
    made = session("linear", "funding_rate")
    row = {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingTime": AT - 4, "markPrice": "34287.5"}
    (seek,) = made.start(0)
    made.respond(seek.tag, 200, {}, msgspec.json.encode([row]), AT * MS + LATER)
    (page,) = made.tick(AT * MS + LATER)
    asked = dict(pair.split("=") for pair in page.url.partition("?")[2].split("&"))
    assert int(asked["startTime"]) <= AT - 4
    (one,) = made.respond(page.tag, 200, {}, msgspec.json.encode([row]), AT * MS + LATER)
    assert (one.ts_event, one.known_at) == (AT * MS, AT * MS)


@pytest.mark.parametrize("kind,limit", [("funding_rate", 500), ("open_interest", 1000)])
def test_routes_with_a_limit_of_their_own_use_no_more_than_half_of_it(kind, limit):
    """No header tells of it. Of 2,400 weights a minute half is used."""
    made = session("linear", kind)
    (fetch,) = made.start(0)
    assert 5 * 2400 / 2 / fetch.weight <= limit / 2


def test_open_interest_says_units_and_worth():
    row = {
        "symbol": "BTCUSDT",
        "sumOpenInterest": "20403.6",
        "sumOpenInterestValue": "150570784.0",
        "timestamp": str(AT),
    }
    (one,), _ = rows_of(session("linear", "open_interest"), [row])
    assert (one.oi, one.oi_unit, one.sides, one.oi_base, one.oi_quote) == ("20403.6", "base", 1, None, "150570784.0")
    row = {"pair": "BTCUSD", "contractType": "PERPETUAL", "sumOpenInterest": "20403", "sumOpenInterestValue": "1.5",
           "timestamp": AT}  # fmt: skip
    (one,), _ = rows_of(session("inverse", "open_interest", "BTCUSD_PERP"), [row])
    assert (one.oi, one.oi_unit, one.oi_base, one.oi_quote, one.period) == ("20403", "contract", "1.5", None, "5m")


BAD = {
    "kline": [[AT, *["NaN"] * 5, AT + 59_999, "1", 1, "1", "1", "0"], CANDLE[:8],
              [AT, *CANDLE[1:6], AT + 1, *CANDLE[7:]],
              [None] * 12, [AT + 1, *CANDLE[1:]]],
    "agg_trade": [{"a": 7, "p": "1e5", "q": "2", "f": 1, "l": 1, "T": AT, "m": True},
                  {"a": 7, "p": "1", "q": "2", "f": 2, "l": 1, "T": AT, "m": True},
                  {"a": 7, "p": "1", "q": "2", "f": 1, "l": 1, "T": 0, "m": True}, {"a": "7"}, None],
    "funding_rate": [{"symbol": "OTHER", "fundingRate": "1", "fundingTime": AT},
                     {"symbol": "BTCUSDT", "fundingRate": "x", "fundingTime": AT}],
    "open_interest": [{"symbol": "OTHER", "sumOpenInterest": "1", "sumOpenInterestValue": "1", "timestamp": AT},
                      {"symbol": "BTCUSDT", "sumOpenInterest": "1", "sumOpenInterestValue": "1", "timestamp": "1e9"}],
}  # fmt: skip


@pytest.mark.parametrize("kind, bad", [(kind, bad) for kind, rows in BAD.items() for bad in rows])
def test_a_row_that_breaks_the_rules_refuses_its_page(kind, bad):
    made = session("linear", kind)
    (fetch,) = made.start(0)
    if kind == "agg_trade":  # behind the first id
        good = {"a": 7, "p": "1", "q": "2", "f": 1, "l": 1, "T": AT, "m": True}
        made.respond(fetch.tag, 200, {}, msgspec.json.encode([good]), AT * MS + LATER)
        (fetch,) = made.tick(AT * MS + LATER)
    said = made.respond(fetch.tag, 200, {}, msgspec.json.encode([bad]), AT * MS + LATER)
    assert [type(one) for one in said] == [Rejected]
    assert made.venue_time == AT * MS


def test_what_is_not_given_says_why():
    for market, kinds in BINANCE.HISTORY.items():
        for kind, offer in kinds.items():
            assert kind in KINDS
            if isinstance(offer, Absent):
                assert offer.why
                with pytest.raises(Malformed, match=kind):
                    session(market, kind)
            else:
                assert isinstance(offer, Offer)
                made = session(market, kind, "BTCUSD_PERP" if market == "inverse" else "BTCUSDT")
                (fetch,) = made.start(0)
                assert fetch.url.startswith(BINANCE.ENDPOINTS[market].rest)
    with pytest.raises(Malformed, match="perpetuals"):
        session("inverse", "open_interest", "BTCUSD_261225")
    with pytest.raises(Malformed, match="one symbol"):
        BINANCE.poller("spot", "n-1-1", Polled("kline", ("A", "B"), span=(0, SECOND)), BINANCE.ENDPOINTS["spot"])


def test_windows_hold_no_more_than_a_page():
    for market, symbol in (("spot", "BTCUSDT"), ("linear", "BTCUSDT"), ("inverse", "BTCUSD_PERP")):
        made = session(market, "kline", symbol, width=30 * DAY)
        route = made._route
        assert route.window // MINUTE + 1 == route.limit
        assert route.limit * MINUTE < 200 * DAY


@pytest.mark.parametrize("kind,every,limit", [("funding_rate", HOUR, 1000), ("open_interest", 5 * MINUTE, 500)])
@pytest.mark.parametrize("market,symbol", [("linear", "BTCUSDT"), ("inverse", "BTCUSD_PERP")])
def test_windows_of_rates_and_interest_have_room_for_what_comes_most_often(market, symbol, kind, every, limit):
    """No page says which rows of a longer one are told."""
    route = session(market, kind, symbol, width=30 * DAY)._route
    assert route.limit == limit
    assert (route.window + route.lead) // every + 1 <= limit
