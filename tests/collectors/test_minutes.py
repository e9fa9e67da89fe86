"""Candles that are asked for over REST: from where on, how far, which are closed, and what a change of one is."""

import json
import re

import pytest

from collectors import exchanges, polling
from collectors.config import SourceConfig
from collectors.keyed import KeyedMerger
from lake.lasting import Lasting
from market.kinds import Kline
from market.session import Polled, Rejected, Resume
from market.times import HOUR, MINUTE, MS, SECOND

NOW = 1_785_701_730_000_000  # 20:15:30
NEWEST = NOW - 30 * SECOND - MINUTE  # the candle of 20:14, closed half a minute ago
VENUES = [("kraken", "linear", "PF_XBTUSD"), ("kucoin", "linear", "XBTUSDTM")]


def poller(venue, market, symbol, since=None, every=MINUTE):
    adapter = exchanges.load(venue)
    polled = Polled("kline", (symbol,), every, since={} if since is None else {symbol: since})
    made = adapter.poller(market, "n-1-1", polled, adapter.ENDPOINTS[market])
    if venue == "kucoin":
        made._worth[symbol] = "0.001"
    return made


def span(fetch):
    """From when until when (us) candles are asked for."""
    first, last = (int(one) for one in re.findall(r"(?:from|to)=(\d+)", fetch.url))
    unit = MS if "kline/query" in fetch.url else SECOND
    assert (last + 1) * unit % MINUTE == 0
    return first * unit, (last + 1) * unit - MINUTE


def body(venue, *candles):
    if venue == "kraken":
        told = [
            {"time": at // MS, "open": "1", "high": "3", "low": "1", "close": "2", "volume": qty} for at, qty in candles
        ]
        return json.dumps({"candles": told, "more_candles": False}).encode()
    return json.dumps({"code": "200000", "data": [[at // MS, 1, 3, 1, 2, int(qty)] for at, qty in candles]}).encode()


@pytest.mark.parametrize("venue,market,symbol", VENUES)
def test_the_first_request_goes_back_an_hour_and_the_next_ones_ask_for_the_last_two_once_more(venue, market, symbol):
    made = poller(venue, market, symbol)
    (asked,) = made.start(NOW)
    assert span(asked) == (NEWEST - HOUR, NEWEST)
    out = made.respond(asked.tag, 200, {}, body(venue, (NEWEST, "5"), (NEWEST + MINUTE, "1")), NOW)
    assert [(type(one), one.open_time) for one in out] == [(Kline, NEWEST)], "the other one is forming"
    (asked,) = made.tick(made.next_deadline())
    assert span(asked) == (NEWEST - MINUTE, NEWEST + MINUTE)


@pytest.mark.parametrize("venue,market,symbol", VENUES)
def test_what_is_stored_is_not_asked_for_and_an_outage_is_caught_up_page_by_page(venue, market, symbol):
    stored = NEWEST - 500 * MINUTE
    made = poller(venue, market, symbol, since=stored + MINUTE - MS)
    (asked,) = made.start(NOW)
    assert span(asked) == (stored + MINUTE, stored + 401 * MINUTE)
    made.respond(asked.tag, 200, {}, body(venue, (stored + MINUTE, "5")), NOW)
    (asked,) = made.tick(NOW)
    assert span(asked) == (stored + 400 * MINUTE, NEWEST), "at once"
    made.respond(asked.tag, 200, {}, body(venue), NOW)
    assert made.next_deadline() > NOW
    made = poller(venue, market, symbol, since=NEWEST + MINUTE - MS)
    (asked,) = made.start(NOW)
    assert span(asked) == (NEWEST, NEWEST), "nothing new is closed yet"


@pytest.mark.parametrize("venue,market,symbol", VENUES)
def test_an_answer_that_is_none_is_asked_for_again_from_the_same_candle_on(venue, market, symbol):
    made = poller(venue, market, symbol)
    (asked,) = made.start(NOW)
    (rejected,) = made.respond(asked.tag, 503, {}, b"", NOW)
    assert isinstance(rejected, Rejected)
    (again,) = made.tick(made.next_deadline())
    assert span(again)[0] == span(asked)[0]


@pytest.mark.parametrize("venue,market,symbol", VENUES)
def test_a_candle_that_is_told_again_is_no_row_and_a_changed_one_a_revision(venue, market, symbol):
    made, held = poller(venue, market, symbol, every=0), KeyedMerger(venue, market, "kline")
    kept = []
    for qty in ("5", "5", "6"):
        (row,) = made.respond(f"{made.route} {symbol}", 200, {}, body(venue, (NEWEST, qty)), NOW)
        kept += [row] if held.merge(row) else []
    assert [(row.revision, row.volume_base) for row in kept] == [
        (0, "5" if venue == "kraken" else "0.005"), (1, "6" if venue == "kraken" else "0.006"),
    ]  # fmt: skip


@pytest.mark.parametrize("lots", ["9" * 30 + "." + "9" * 30, "0." + "1" * 28])
def test_a_candle_whose_lots_are_worth_more_digits_than_a_number_may_have_is_rejected_and_the_others_are_rows(lots):
    made = poller("kucoin", "linear", "XBTUSDTM")
    (asked,) = made.start(NOW)
    told = body("kucoin", (NEWEST - MINUTE, "5"), (NEWEST, "777")).replace(b"777", lots.encode())
    row, rejected = made.respond(asked.tag, 200, {}, told, NOW)
    assert (row.open_time, row.volume_base) == (NEWEST - MINUTE, "0.005")
    assert rejected == Rejected(
        "kline/query: a volume with more than 30 digits before or behind the point, times what a contract is worth", 1,
        "kline/query XBTUSDTM",
    )  # fmt: skip


def test_lots_of_unknown_worth_are_no_volume():
    adapter = exchanges.load("kucoin")
    made = adapter.poller("linear", "n-1-1", Polled("kline", ("XBTUSDTM",), MINUTE), adapter.ENDPOINTS["linear"])
    (asked,) = made.start(NOW)
    (rejected,) = made.respond(asked.tag, 200, {}, body("kucoin", (NEWEST, "5")), NOW)
    assert rejected.reason == "kline/query: what a contract is worth is not known"
    assert made.next_deadline() > NOW


@pytest.mark.parametrize("venue,market,symbol", VENUES)
def test_a_source_that_names_candles_is_asked_for_them_and_a_restart_goes_on_where_it_stopped(venue, market, symbol):
    adapter = exchanges.load(venue)
    source = SourceConfig(exchange=venue, market_type=market, symbols=[symbol], kinds=["kline"])
    polling.check(adapter, source)
    known = Lasting(times={"kline": {symbol: NEWEST}})
    (candles,) = [one for one in polling.polls(adapter, source, [symbol], [], known) if one.kind == "kline"]
    assert (candles.every, candles.since) == (MINUTE, {symbol: NEWEST})
    stops = {symbol: Resume(NEWEST - HOUR, None, "n-1-1", "crash")}
    assert polling.stopped(adapter, source, "kline", stops, [symbol], NOW) == {}, (
        "no gap: it is asked for from there on"
    )
    other = SourceConfig(exchange=venue, market_type=market, symbols=[symbol], kinds=["trade"])
    assert "kline" not in polling.kinds(adapter, other)
    spot = SourceConfig(exchange=venue, market_type="spot", symbols=[symbol], kinds=["kline"])
    assert "kline" not in polling.kinds(adapter, spot), "a stream tells them"
    assert polling.stopped(adapter, spot, "kline", stops, [symbol], NOW) == stops


def test_what_is_polled_is_not_late_within_a_few_intervals_and_may_be_where_the_clock_was_set_back():
    adapter = exchanges.load("binance")
    polls = {"open_interest_seconds": 60}
    source = SourceConfig(
        exchange="binance", market_type="linear", symbols=["BTCUSDT"], kinds=["open_interest"], polls=polls
    )
    for ago, late in ((179, False), (-179, False), (180, True), (-180, True)):
        stops = {"BTCUSDT": Resume(NEWEST, None, "n-1-1", "stopped")}
        found = polling.stopped(adapter, source, "open_interest", stops, ["BTCUSDT"], NEWEST + ago * SECOND)
        assert found == (stops if late else {}), ago


def test_whole_books_that_are_asked_for_beside_the_updates_are_known_again_and_never_missing():
    adapter = exchanges.load("kucoin")
    stops = {"XBTUSDTM": Resume(NEWEST, 7, "n-1-1", "stopped")}
    for kind, cause in (("book_delta", ""), ("book_snapshot", "stopped")):
        source = SourceConfig(exchange="kucoin", market_type="linear", symbols=["XBTUSDTM"], kinds=[kind])
        found = polling.stopped(adapter, source, "book_snapshot", stops, ["XBTUSDTM"], NEWEST + SECOND)
        assert found == {"XBTUSDTM": Resume(NEWEST, 7, "n-1-1", cause)}
