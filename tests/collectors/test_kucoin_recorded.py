"""KuCoin's parsers on frames and answers that the venue really sent; skipped where the recordings are missing."""

import gzip
import json
import os
import pathlib
import re
from collections import Counter
from decimal import Decimal

import pytest

from collectors import exchanges
from collectors.redundancy import merger_maker
from market.book import Book, levels
from market.kinds import BookDelta, BookSnapshot, Kline, Quote, Trade
from market.session import Connection, Polled, Rejected
from market.times import SECOND

SAMPLES = pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
VENUE = exchanges.load("kucoin")


def lines(name):
    path = SAMPLES / "kucoin" / name
    if not path.is_file():
        pytest.skip(f"no recording {path}; LAKE_SAMPLES names the folder")
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def learned(name):
    session = VENUE.session(Connection("kucoin", "spot", "x", "wss://x", ()), "n-1-1", learn=True)
    out, received = [], 0
    for line in lines(name):
        found = re.match(r"([0-9.]+): (\{.*)", line)
        if found is not None:
            received += 1
            out += session.receive(found[2].encode(), round(float(found[1]) * SECOND))
    assert [one for one in out if isinstance(one, Rejected)] == []
    return session, out, received


def test_updates_of_a_recording_cover_every_number():
    session, out, received = learned("cf_20210425_first1000.ws.txt.gz")
    rows = [one for one in out if isinstance(one, BookDelta)]
    assert len(rows) > 300
    assert Counter(flag for row in rows for flag in row.flags) == Counter()
    held = merger_maker(VENUE, "spot")("book_delta")
    assert all(held.merge(row) for row in rows)
    assert held.tick(rows[-1].ts_recv + 60 * SECOND) == []
    assert received == len(out) + sum(session.ignored.values())


def test_trades_quotes_and_candles_of_a_recording():
    _, out, _ = learned("cf_20210423_ticker_match.ws.txt.gz")
    trades = [one for one in out if isinstance(one, Trade)]
    assert len({(one.symbol, one.trade_id) for one in trades}) == len(trades) > 10
    assert {one.side for one in trades} == {"buy", "sell"}
    assert sum(isinstance(one, Quote) for one in out) > 100
    _, out, _ = learned("cf_20210425_first1000.ws.txt.gz")
    (candle,) = [one for one in out if isinstance(one, Kline)]
    assert (candle.symbol, candle.interval, candle.open_time) == ("DAPPT-BTC", "1m", 1_619_378_220 * SECOND)


def test_snapshots_of_a_recording_are_books():
    found = 0
    for line in lines("cf_20210425.http.txt.gz"):
        asked = re.match(r"\S+level2\?symbol=(\S+) -> ([0-9.]+): (\{.*)", line)
        if asked is None:
            continue
        symbol, now = asked[1], round(float(asked[2]) * SECOND)
        poll = VENUE.poller("spot", "n-1-1", Polled("book_snapshot", (symbol,)), VENUE.ENDPOINTS["spot"])
        (row,) = poll.respond(f"level2 100 {symbol}", 200, {}, asked[3].encode(), now)
        assert isinstance(row, BookSnapshot)
        assert json.loads(bytes(row.bids))
        found += 1
    assert found > 5


def test_the_forming_candle_is_what_the_trades_add_up_to_when_it_was_pushed():
    name = "cf_20210425_first1000.ws.txt.gz"
    _, out, _ = learned(name)
    trades, compared = [one for one in out if isinstance(one, Trade)], 0
    for line in lines(name):
        if '"subject":"trade.candles' not in line:
            continue
        data = json.loads(line.partition(": ")[2])["data"]
        start, first, close, high, low, volume, turnover = data["candles"]
        opened = int(start) * SECOND
        until = min(data["time"] // 1000, opened + 60 * SECOND - 1)
        mine = [one for one in trades if one.symbol == data["symbol"] and opened <= one.ts_event <= until]
        assert sum(Decimal(one.qty) for one in mine) == Decimal(volume)
        assert sum(Decimal(one.qty) * Decimal(one.price) for one in mine) == Decimal(turnover)
        if mine:
            prices = [one.price for one in mine]
            assert (prices[0], prices[-1], max(prices), min(prices)) == (first, close, high, low)
            compared += 1
        else:
            assert first == close == high == low
    assert compared == 1


def test_recorded_snapshots_join_the_recorded_updates_and_the_books_never_cross():
    told = []
    for line in lines("cf_20210425_first1000.ws.txt.gz"):
        if (found := re.match(r"([0-9.]+): (\{.*)", line)) is not None:
            told.append((round(float(found[1]) * SECOND), "", found[2]))
    for line in filter(None, lines("cf_20210425.http.txt.gz")):
        found = re.match(r"\S+level2\?symbol=(\S+) -> ([0-9.]+): (\{.*)", line)
        told.append((round(float(found[2]) * SECOND), found[1], found[3]))
    session = VENUE.session(Connection("kucoin", "spot", "x", "wss://x", ()), "n-1-1", learn=True)
    books, since, held, joined = {}, {}, merger_maker(VENUE, "spot")("book_delta"), 0
    for time, symbol, text in sorted(told):
        tag = f"level2 100 /market/level2:{symbol}"
        out = session.respond(tag, 200, {}, text.encode(), time) if symbol else session.receive(text.encode(), time)
        for row in (one for one in out if isinstance(one, BookDelta)):
            assert held.merge(row)
            change = levels(row.bids), levels(row.asks)
            if "snapshot" in row.flags:
                books[row.symbol], since[row.symbol] = Book(), row.last_id
                books[row.symbol].load(*change)
            elif row.last_id > since.get(row.symbol, row.last_id):
                books[row.symbol].apply(*change)
                joined += 1
            assert row.symbol not in books or not books[row.symbol].crossed
    assert (len(books), session.books_out_of_sync()) == (9, [])
    assert joined > 400
    assert held.tick(max(told)[0] + 60 * SECOND) == []
