"""Kraken's history: the documented rows as events, what is refused, and its twins' past into a lake, all of it once."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import pytest

from collectors.exchanges import load
from collectors.exchanges.kraken import history
from market.errors import Malformed
from market.history import Absent
from market.session import Polled, Refused, Rejected
from market.times import DAY, HOUR, MINUTE, SECOND
from tests.support.past import BEGAN, END, Killed, past

KRAKEN = load("kraken")
AT = 1_762_777_200
"""s."""
LATER = (AT + 400 * 86_400) * SECOND
SYMBOLS = {"spot": "BTC/USD", "linear": "PF_XBTUSD", "inverse": "PI_XBTUSD"}
SPAN = (BEGAN + 10 * MINUTE, END - 10 * MINUTE)


def session(market, kind, start=AT * SECOND, width=HOUR, symbol=None):
    asked = Polled(kind, (symbol or SYMBOLS[market],), span=(start, start + width))
    return KRAKEN.poller(market, "n-1-1", asked, KRAKEN.ENDPOINTS[market])


def rows_of(made, *bodies):
    """The events of a session that is given these answers in turn."""
    found, tasks = [], list(made.start(0))
    for body in bodies:
        (fetch,) = tasks
        found += made.respond(fetch.tag, 200, {}, body if isinstance(body, bytes) else msgspec.json.encode(body), LATER)
        tasks = list(made.tick(LATER))
    return found, tasks


def spot(rows):
    return {"error": [], "result": {"XXBTZUSD": rows, "last": "1762795433971744500"}}


FILL = b'["105433.60000","0.00027625",1762777300.9717445,"b","l","",10218208]'
NEXT = b'["105433.70000","0.5",1762777301.1,"s","m","",10218209]'


def fills(*rows):
    return b'{"error":[],"result":{"XXBTZUSD":[' + b",".join(rows) + b'],"last":"1762777301100000000"}}'


def test_trades_of_spot_go_on_from_their_border_and_end_where_nothing_but_it_comes():
    made = session("spot", "trade")
    found, (fetch,) = rows_of(made, fills(FILL), fills(FILL, NEXT))
    assert [(one.seq, one.ts_event, one.price, one.qty, one.side, one.condition) for one in found] == [
        (10218208, 1_762_777_300_971_744, "105433.60000", "0.00027625", "buy", "market"),
        (10218209, 1_762_777_301_100_000, "105433.70000", "0.5", "sell", "market"),
    ]
    assert fetch.url.endswith("/0/public/Trades?pair=XBTUSD&since=1762777301099999999&count=1000")
    made.respond(fetch.tag, 200, {}, fills(NEXT), LATER)
    assert (made.done, made.failed, made.venue_time) == (True, "", made.end_at)


def test_candles_of_spot_are_those_of_the_period_and_count_their_trades():
    rows = [[AT + 60 * n, "1.0", "3.0", "0.5", "2.0", "1.5", "7.25", n + 1] for n in range(-1, 3)]
    found, _ = rows_of(session("spot", "kline", width=2 * MINUTE), spot(rows))
    assert [(one.open_time, one.close, one.volume_base, one.trade_count) for one in found] == [
        (AT * SECOND, "2.0", "7.25", 1), ((AT + 60) * SECOND, "2.0", "7.25", 2),
    ]  # fmt: skip


def test_what_the_newest_candles_do_not_reach_is_not_taken_for_empty():
    rows = [[AT + 60 * (n + 5), "1.0", "3.0", "0.5", "2.0", "1.5", "7.25", n] for n in range(720)]
    said, _ = rows_of(session("spot", "kline", width=2 * MINUTE), spot(rows))
    assert [type(one) for one in said] == [Rejected]
    assert "newest 720" in said[0].reason


@pytest.mark.parametrize("market, volumes", [("linear", ("10824", None)), ("inverse", (None, "10824"))])
def test_candles_of_futures_count_base_or_dollars(market, volumes):
    bar = {"time": AT * 1000, "high": "3.0", "low": "0.5", "open": "1.0", "close": "2.00000000000", "volume": 10824}
    body = {"candles": [bar], "more_candles": True}
    (one,), _ = rows_of(session(market, "kline"), body, body)
    assert (one.open_time, one.close, one.volume_base, one.volume_quote) == (AT * SECOND, "2.00000000000", *volumes)


def test_a_chart_of_which_the_venue_has_more_goes_on_from_its_last_candle_and_ends_where_nothing_new_comes():
    bars = [{"time": (AT + 60 * n) * 1000, "high": "3", "low": "1", "open": "1", "close": "2", "volume": 1}
            for n in range(4)]  # fmt: skip
    made = session("linear", "kline", width=10 * MINUTE)
    first, (fetch,) = rows_of(made, {"candles": bars[:1]}, {"candles": bars[:2], "more_candles": True})
    assert f"from={AT + 60}&" in fetch.url
    second = made.respond(fetch.tag, 200, {}, msgspec.json.encode({"candles": bars[1:], "more_candles": True}), LATER)
    assert [one.open_time for one in (*first, *second)] == [bar["time"] * 1000 for bar in bars]
    (fetch,) = made.tick(LATER)
    made.respond(fetch.tag, 200, {}, msgspec.json.encode({"candles": bars[3:], "more_candles": True}), LATER)
    assert (made.done, made.failed) == (True, "")


@pytest.mark.parametrize("rates", [[], [{"timestamp": "2026-09-01T00:00:00Z", "relativeFundingRate": 1e-05}]])
def test_years_before_the_rates_that_are_told_are_not_taken_for_empty(rates):
    answer = {"result": "success", "rates": rates}
    said, _ = rows_of(session("linear", "funding_rate", start=LATER - 365 * DAY, width=360 * DAY), answer)
    assert [(type(one), "do not reach back so far" in one.reason) for one in said] == [(Rejected, True)]
    made = session("linear", "funding_rate", start=LATER - 363 * DAY, width=360 * DAY)
    found, _ = rows_of(made, answer)
    assert len(found) == len(rates)
    assert made.done
    assert KRAKEN.HISTORY["linear"]["funding_rate"].reach == 364 * DAY


def test_rates_come_in_whatever_order_and_hold_an_hour():
    rates = [{"timestamp": f"2025-11-10T{12 + n}:00:00.000Z", "relativeFundingRate": 1e-05, "fundingRate": 0.5}
             for n in (1, 0, 2)]  # fmt: skip
    found, _ = rows_of(session("linear", "funding_rate", width=2 * HOUR), {"result": "success", "rates": rates})
    assert [(one.ts_event, one.rate, one.interval_s) for one in found] == [
        ((AT - 1200) * SECOND + n * HOUR + HOUR, "0.00001", 3600) for n in (0, 1)
    ]


def executed(number, second, **more):
    return {
        "time": f"2025-11-10T12:20:{second:02d}.000Z", "trade_id": number, "price": 2.5, "size": 1, "side": "buy",
        "type": "fill", "uid": f"u-{number}",
    } | more  # fmt: skip


def test_trades_of_futures_go_back_to_the_row_before_the_period():
    made = session("linear", "trade", width=MINUTE)
    found, (fetch,) = rows_of(made, {"result": "success", "history": [executed(7, 9), executed(6, 5)]})
    assert found == []
    assert fetch.url.endswith("history?symbol=PF_XBTUSD&lastTime=2025-11-10T12%3A20%3A05.001000Z")
    before = executed(4, 59) | {"time": "2025-11-10T12:19:59Z"}
    page = [executed(6, 5), executed(5, 1, type="liquidation"), before]
    found = made.respond(fetch.tag, 200, {}, msgspec.json.encode({"result": "success", "history": page}), LATER)
    assert [(one.trade_id, one.seq, one.condition) for one in found] == [
        ("u-5", None, "liquidation"), ("u-6", None, "market"), ("u-7", None, "market"),
    ]  # fmt: skip
    assert made.done


def test_trades_that_are_told_back_to_a_time_only_are_refused():
    made = session("linear", "trade", width=MINUTE)
    page = {"result": "success", "history": [executed(7, 9)]}
    rows_of(made, page, page)
    assert (made.refused, made.venue_time) == (True, made.start_at)
    assert "back to the beginning" in made.failed


NO_DATA = [
    ("spot", "trade", b"<html>busy</html>"), ("spot", "trade", b'{"error":["EService:Busy"]}'),
    ("spot", "trade", b'{"error":[]}'), ("spot", "trade", fills(FILL)[:-20]), ("spot", "trade", fills(NEXT, FILL)),
    ("spot", "trade", fills(b'["NaN","1",1762777300.9,"b","l","",1]')),
    ("spot", "trade", fills(b'["1","1",1762777300.9,"x","l","",1]')), ("spot", "trade", fills(b"null")),
    ("spot", "trade", fills(b'["1","1",1e9,"b","l","",1]')), ("spot", "kline", b'{"error":[],"result":{}}'),
    ("linear", "kline", b'{"result":"error","error":"Unavailable"}'), ("linear", "kline", b"{}"),
    ("linear", "kline", b'{"candles":[[null,null,null,null,null,null]]}'),
    ("linear", "funding_rate", b'{"result":"success","rates":[{"timestamp":"x","relativeFundingRate":1}]}'),
    ("linear", "trade", b'{"result":"success","history":[{"time":"2025-11-10T12:20:00Z"}]}'),
]  # fmt: skip


@pytest.mark.parametrize("market, kind, body", NO_DATA)
def test_what_is_no_data_is_asked_for_again_and_never_a_row(market, kind, body):
    made = session(market, kind)
    said, _ = rows_of(made, body)
    assert [type(one) for one in said] == [Rejected]
    assert (made.failed, made.venue_time) == ("", made.start_at)
    assert made.next_deadline() is not None


def test_errors_of_the_request_are_for_good_and_limits_are_waited_out():
    made = session("spot", "trade", symbol="NO/PE")
    rows_of(made, {"error": ["EQuery:Unknown asset pair"]})
    assert (made.refused, "Unknown asset pair" in made.failed) == (True, True)
    made = session("spot", "trade")
    rows_of(made, {"error": [f"EService: Throttled: [{LATER // SECOND + 90}]"]})
    assert (made.failed, made.next_deadline()) == ("", LATER + 90 * SECOND)
    made = session("linear", "funding_rate", symbol="NOPE")
    rows_of(made, {"result": "error", "error": "notFound"})
    assert made.refused


@pytest.mark.parametrize(
    "status, message, refused",
    [(400, "Argument invalid: symbol", True), (404, "404 NOT_FOUND", True), (500, "Argument invalid: symbol", False),
     (400, "busy", False), (429, "Argument invalid: symbol", False)],
)  # fmt: skip
def test_an_error_in_a_list_is_said_and_refuses_what_it_is_about(status, message, refused):
    """The other of the two ways in which futures tell one, as recorded: with a status of its own."""
    body = msgspec.json.encode({"result": "error", "errors": [{"code": 11, "message": message}]})
    history = session("linear", "trade", symbol="NOPE")
    (fetch,) = history.start(LATER)
    (said,) = history.respond(fetch.tag, status, {}, body, LATER)
    assert (history.refused, message in said.reason) == (refused, True)
    poll = KRAKEN.poller("linear", "n-1-1", Polled("open_interest", ("NOPE",), MINUTE), KRAKEN.ENDPOINTS["linear"])
    (fetch,) = poll.start(LATER)
    (said,) = poll.respond(fetch.tag, status, {}, body, LATER)
    assert (isinstance(said, Refused), message in said.reason) == (refused, True)


def test_what_is_not_given_says_why():
    for market, kinds in KRAKEN.HISTORY.items():
        for kind, offer in kinds.items():
            if isinstance(offer, Absent):
                with pytest.raises(Malformed, match=kind):
                    session(market, kind)
            else:
                (fetch,) = session(market, kind).start(0)
                assert fetch.url.startswith(KRAKEN.ENDPOINTS[market].rest)


def told(venue, kind, book):
    """What the lake has of a symbol, as the twin would say it."""
    if kind == "kline":
        return sorted({one.open_time for one in venue.events(kind, book.symbol)})
    rows = {(one.ts_event, one.seq or one.trade_id): one for one in venue.events(kind, book.symbol)}
    return [(at, float(one.price), float(one.qty), one.side) for (at, _), one in sorted(rows.items())]


def had(kind, book):
    """What the twin had of the period."""
    if kind == "kline":
        return [one.open_time for one in book.candles.read("1m") if SPAN[0] <= one.open_time < SPAN[1]]
    rows = sorted((one.ts, one.id, one) for one in book.trades if SPAN[0] <= one.ts < SPAN[1])
    return [(at, float(one.price), float(one.qty), "sell" if one.maker else "buy") for at, _, one in rows]


@pytest.mark.parametrize(
    "market, kinds",
    [
        ("linear", ["trade", "kline"]),
        pytest.param("inverse", ["trade", "kline"], marks=pytest.mark.slow),
        pytest.param("spot", ["trade", "kline"], marks=pytest.mark.slow),
    ],
)
async def test_the_twins_past_comes_once_over_kills_and_bad_answers(tmp_path: Path, monkeypatch, market, kinds):
    random, kills = Random(market), 0
    monkeypatch.setattr(history, "PAGE", 100)
    async with past(tmp_path, market, "1", venue="kraken") as venue:
        for fault in ({"fault": "html_200"}, {"fault": "short_body"}, {"fault": "http_status", "status": 503},
                      {"fault": "http_status", "status": 429, "retry_after": 40}):  # fmt: skip
            await venue.fault(**fault)
        for _ in range(30):
            venue.kill_after = random.choice([3, 5]) if kills < 2 else None
            try:
                done = await venue.bring(market, kinds, SPAN)
                break
            except Killed:
                kills += 1
        assert (done.failed, kills) == ([], 2)
        (book,) = venue.books(market)
        for kind in kinds:
            assert told(venue, kind, book) == had(kind, book)
        assert (await venue.bring(market, kinds, SPAN)).requests == 0
        if market != "spot":
            await venue.bring(market, ["funding_rate"], (END - DAY, END))
            rates = [one.ts_event for one in venue.events("funding_rate", book.symbol)]
            assert rates == list(range(END - DAY, END, HOUR))
        silence = next(one for one in venue.asked if one.status == 429)
        assert not [one for one in venue.asked if silence.came < one.left < silence.came + 38 * SECOND]
