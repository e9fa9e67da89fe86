"""Coinbase's history: the documented rows as events, what is refused, and its twin's past in a lake, each row once."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from random import Random
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from collectors.exchanges import load
from collectors.exchanges.coinbase import history
from market.errors import Malformed
from market.history import Absent
from market.kinds import Contract
from market.session import Polled, Rejected
from market.times import DAY, HOUR, MINUTE, SECOND
from tests.support.past import BEGAN, END, Killed, past

COINBASE = load("coinbase")
AT = 1_712_192_400
"""s. (The documentation's candle.)"""
LATER = (AT + 400 * 86_400) * SECOND
SPAN = (BEGAN + 10 * MINUTE, END - 10 * MINUTE)


def session(kind, width=HOUR, market="spot"):
    asked = Polled(kind, ("btc-usd",), span=(AT * SECOND, AT * SECOND + width))
    return COINBASE.poller(market, "n-1-1", asked, COINBASE.ENDPOINTS[market])


def rows_of(made, *bodies):
    """The events of a session that is given these answers in turn, and what it asked for."""
    found, asked, tasks = [], [], list(made.start(0))
    for body in bodies:
        (fetch,) = tasks
        asked.append(fetch.url)
        found += made.respond(fetch.tag, 200, {}, body if isinstance(body, bytes) else msgspec.json.encode(body), LATER)
        tasks = list(made.tick(LATER))
    return found, [*asked, *(fetch.url for fetch in tasks)]


def fill(number, second, side="buy"):
    """A trade as the venue's page shows it, `second` from the period's beginning."""
    time = f"2024-04-04T01:00:{second:02d}.578544Z" if second >= 0 else "2024-04-04T00:59:59.000001Z"
    return {"time": time, "trade_id": number, "price": "10.00000000", "size": "0.01000000", "side": side}


@pytest.mark.parametrize(
    "page, queries",
    [
        (1000, ["limit=999"]),
        (3, ["limit=2", "limit=2&after=6", "limit=3&after=8"]),
        (2, ["limit=1", "limit=1&after=7", "limit=1&after=6", "limit=2&after=7", "limit=2&after=8"]),
    ],
)
def test_the_first_trade_is_searched_for_and_the_side_is_turned_round(page, queries, monkeypatch):
    monkeypatch.setattr(history, "PAGE", page)
    fills = [*(fill(number, -1) for number in range(1, 6)), fill(6, 10), fill(7, 20, "sell")]
    made, found, asked = session("trade"), [], []
    tasks = list(made.start(0))
    while tasks:
        (fetch,) = tasks
        asked.append(fetch.url)
        query = {name: int(values[0]) for name, values in parse_qs(urlsplit(fetch.url).query).items()}
        page = [one for one in fills if one["trade_id"] < query.get("after", 99)][-query["limit"] :][::-1]
        found += made.respond(fetch.tag, 200, {}, msgspec.json.encode(page), LATER)
        tasks = list(made.tick(LATER))
    assert [(one.seq, one.side, one.ts_event, one.source, one.condition) for one in found] == [
        (6, "sell", AT * SECOND + 10_578_544, "rest", "market"), (7, "buy", AT * SECOND + 20_578_544, "rest", "market"),
    ]  # fmt: skip
    base = "https://api.exchange.coinbase.com/products/BTC-USD/trades"
    assert asked == [f"{base}?{query}" for query in queries]


def test_addresses_of_a_configuration_hold_for_both_hosts():
    asked = Polled("trade", ("BTC-USD",), span=(AT * SECOND, AT * SECOND + HOUR))
    elsewhere = msgspec.structs.replace(COINBASE.ENDPOINTS["spot"], rest="http://proxy/x/")
    (fetch,) = COINBASE.poller("spot", "n-1-1", asked, elsewhere).start(0)
    assert fetch.url == "http://proxy/x/products/BTC-USD/trades?limit=999"


def test_candles_of_futures_count_contracts_of_the_size_that_their_listing_tells():
    with pytest.raises(Malformed, match="what one is worth"):
        session("kline", market="linear")
    listed = Contract(
        "BTC-USD", "products", 0, None, 0, "n-1-1", 1, 0, "rest", uid="x", unified="x", base="BTC", quote="USD",
        settle="USD", tick=None, lot=None, multiplier="0.01", contract_size="0.01", status="online", listed=None,
        expiry=None, funding_interval_s=None, valid_from=None, valid_to=None, known_from=0, known_to=None,
    )  # fmt: skip
    polled = Polled("kline", ("BTC-USD",), known=(listed,), span=(AT * SECOND, AT * SECOND + MINUTE))
    made = COINBASE.poller("linear", "n-1-1", polled, COINBASE.ENDPOINTS["linear"])
    candle = {"start": str(AT), "low": "1", "high": "3", "open": "2", "close": "2", "volume": "150"}
    (one,), _ = rows_of(made, {"candles": [candle]}, {"candles": [candle]})
    assert (one.volume_base, one.close) == ("1.5", "2")
    made = COINBASE.poller("linear", "n-1-1", polled, COINBASE.ENDPOINTS["linear"])
    (said,), _ = rows_of(made, {"candles": [candle]}, {"candles": [candle | {"volume": "0." + "1" * 29}]})
    assert isinstance(said, Rejected)
    assert "more than 30 digits" in said.reason


def test_candles_begin_where_the_days_do_and_come_newest_first():
    def candle(minute):
        return {"start": str(AT + 60 * minute), "low": "66055.14", "high": "66331.99", "open": "66312.4",
                "close": "66181.6", "volume": "355.82896243"}  # fmt: skip

    day = candle(0) | {"start": str(AT - AT % 86_400)}
    made = session("kline", width=3 * MINUTE)
    found, asked = rows_of(made, {"candles": [day]}, {"candles": [candle(2), candle(0), candle(-1)]})
    assert [(one.open_time, one.low, one.volume_base, one.volume_quote) for one in found] == [
        ((AT + 60 * n) * SECOND, "66055.14", "355.82896243", None) for n in (0, 2)
    ]
    assert f"start={AT - 60}&end={AT + 121}&limit=350" in asked[1]
    made = session("kline")
    rows_of(made, {"candles": []})
    assert (made.done, made.failed, made.requests) == (True, "", 1)


def test_no_window_holds_more_candles_than_the_venue_answers():
    """It refuses more than 350 between both bounds; and nothing lies between two windows."""
    day = {"start": str(AT - AT % 86_400), "low": "1", "high": "1", "open": "1", "close": "1", "volume": "1"}
    _, asked = rows_of(session("kline", width=2 * DAY), {"candles": [day]}, {"candles": []}, {"candles": []})
    windows = [re.search(r"start=([0-9]+)&end=([0-9]+)", url) for url in asked[1:]]
    spans = [(int(one[1]), int(one[2])) for one in windows if one is not None]
    assert all(340 < (end - start) // 60 + 1 < 350 for start, end in spans)
    assert [start - end for (_, end), (start, _) in itertools.pairwise(spans)] == [59, 59]


NO_DATA = [
    ("trade", b"<html>busy</html>"), ("trade", b'{"message":"busy"}'), ("trade", b"[null]"),
    ("trade", b'[{"trade_id":1'),
    ("trade", [fill(7, 5) | {"price": "NaN"}]), ("trade", [fill(7, 5) | {"side": "x"}]),
    ("trade", [fill(7, 5) | {"time": "1970-01-01T00:00:00Z"}]), ("kline", b"{}"),
    ("kline", b'{"candles":[[null,null]]}'),
    ("kline", {"candles": [{"start": "x", "low": "1", "high": "1", "open": "1", "close": "1", "volume": "1"}]}),
]  # fmt: skip


@pytest.mark.parametrize("kind, body", NO_DATA)
def test_what_is_no_data_is_asked_for_again_and_never_a_row(kind, body):
    made = session(kind)
    said, _ = rows_of(made, body)
    assert [type(one) for one in said] == [Rejected]
    assert (made.failed, made.venue_time) == ("", made.start_at)


@pytest.mark.parametrize(
    "kind, status, body, refused",
    [
        ("trade", 404, b'{"message":"NotFound"}', True),
        ("trade", 429, b'{"message":"Public rate limit exceeded"}', False),
        ("trade", 503, b"", False), ("kline", 404, b'{"error":"NOT_FOUND","message":"product not found"}', True),
        ("kline", 500, b'{"error":"INTERNAL","message":"x"}', False),
    ],
)  # fmt: skip
def test_an_unknown_product_is_refused_for_good_and_nothing_else_is(kind, status, body, refused):
    made = session(kind)
    (fetch,) = made.start(0)
    made.respond(fetch.tag, status, {}, body, LATER)
    assert (made.refused, bool(made.failed)) == (refused, refused)


def test_what_is_not_given_says_why():
    for market, kinds in COINBASE.HISTORY.items():
        for kind, offer in kinds.items():
            if isinstance(offer, Absent) or offer.sized:
                with pytest.raises(Malformed):
                    session(kind, market=market)
            else:
                assert len(session(kind, market=market).start(0)) == 1


async def test_the_twins_past_comes_once_over_kills_and_bad_answers(tmp_path: Path, monkeypatch):
    random, kills = Random(1), 0
    monkeypatch.setattr(history, "PAGE", 100)
    async with past(tmp_path, "spot", "1", venue="coinbase") as venue:
        for fault in ({"fault": "html_200"}, {"fault": "short_body"}, {"fault": "http_status", "status": 503},
                      {"fault": "http_status", "status": 429, "retry_after": 40}):  # fmt: skip
            await venue.fault(**fault)
        for _ in range(10):
            venue.kill_after = random.choice([6, 9]) if kills < 2 else None
            try:
                done = await venue.bring("spot", ["trade", "kline"], SPAN)
                break
            except Killed:
                kills += 1
        assert (done.failed, kills) == ([], 2)
        (book,) = venue.books("spot")
        stored = {one.seq: (one.ts_event, one.price, one.qty, one.side) for one in venue.events("trade", book.symbol)}
        assert stored == {
            one.id: (one.ts, one.price, one.qty, "sell" if one.maker else "buy")
            for one in book.trades
            if SPAN[0] <= one.ts < SPAN[1]
        }
        minutes = sorted({one.open_time for one in venue.events("kline", book.symbol)})
        assert minutes == [one.open_time for one in book.candles.read("1m") if SPAN[0] <= one.open_time < SPAN[1]]
        assert (await venue.bring("spot", ["trade", "kline"], SPAN)).requests == 0
        silence = next(one for one in venue.asked if one.status == 429)
        assert not [one for one in venue.asked if silence.came < one.left < silence.came + 38 * SECOND]
        pages = [one.body for one in venue.asked if one.route == "trades" and one.query["limit"] not in ("1", "99")]
        told = [number for body in pages for number in ids(body)]
        assert len(told) - len(set(told)) <= len(pages), "a border a page, and no more"


def ids(body):
    """Of a page of trades; none of what is none."""
    try:
        return [row["trade_id"] for row in msgspec.json.decode(body)]
    except (msgspec.DecodeError, TypeError):
        return []
