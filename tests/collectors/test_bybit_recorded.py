"""Bybit's parsers on frames and answers that the venue really sent; skipped where the recordings are missing."""

import gzip
import json
import os
import pathlib
from collections import Counter
from decimal import Decimal

import pytest

from collectors import exchanges
from collectors.redundancy import merger_maker
from market.book import Book, levels
from market.kinds import BookDelta, BookSnapshot, Contract, FundingRate, Kline, Quote, Trade
from market.session import Connection, Polled, Rejected
from market.times import SECOND

SAMPLES = pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
VENUE = exchanges.load("bybit")


def lines(name):
    path = SAMPLES / "bybit" / name
    if not path.is_file():
        pytest.skip(f"no recording {path}; LAKE_SAMPLES names the folder")
    return gzip.decompress(path.read_bytes()).decode().splitlines() if name.endswith(".gz") else [path.read_text()]


def learned(market, frames):
    session = VENUE.session(Connection("bybit", market, "x", "wss://x", ()), "n-1-1", learn=True)
    out = [one for time, frame in frames for one in session.receive(frame.encode(), time)]
    assert not [one for one in out if isinstance(one, Rejected)]
    return session, out


def spot():
    held = [json.loads(line) for line in lines("cf_v5_spot_20260809.jsonl.gz")]
    return [(round(one["ts"] * SECOND), one["data"]) for one in held if one["t"] == "recv"]


def test_books_of_a_recording_chain_from_their_whole_on_and_never_cross():
    _, out = learned("spot", spot())
    rows = [one for one in out if isinstance(one, BookDelta)]
    books, flags = {}, Counter(flag for row in rows for flag in row.flags)
    for row in rows:
        book = books.setdefault(row.symbol, Book())
        change = levels(row.bids), levels(row.asks)
        book.load(*change) if "snapshot" in row.flags else book.apply(*change)
        assert not book.crossed
        assert len(book.bids) == len(book.asks) == 200, "levels that leave the depth are told"
    assert (len(rows), flags) == (550, Counter(snapshot=2))
    held = merger_maker(VENUE, "spot")("book_delta")
    assert all(held.merge(row) for row in rows)
    assert held.tick(rows[-1].ts_recv + 60 * SECOND) == []


def test_trades_and_closing_candles_of_a_recording():
    session, out = learned("spot", spot())
    trades = [one for one in out if isinstance(one, Trade)]
    assert len({(one.symbol, one.trade_id) for one in trades}) == len(trades) > 18
    assert {one.side for one in trades} == {"buy", "sell"}
    candles = [one for one in out if isinstance(one, Kline)]
    assert {(one.interval, one.ts_event % (60 * SECOND)) for one in candles} == {("1m", 60 * SECOND - 1000)}
    assert session.ignored["tickers"] == 81


@pytest.mark.parametrize("market", ["spot", "linear"])
def test_best_prices_of_a_recording(market):
    held = [line for line in lines(f"cf_v5_{market}_ob1_20250613.ws.txt.gz") if not line.startswith("wss")]
    frames = [(round(float(time) * SECOND), frame) for time, _, frame in (line.partition(": ") for line in held)]
    session, out = learned(market, frames)
    quotes = [one for one in out if isinstance(one, Quote)]
    assert len(quotes) > 20
    assert all(float(one.bid) < float(one.ask) for one in quotes)
    assert len(quotes) + session.ignored.total() == len(frames)
    assert session.ignored["orderbook.1 repeated"] > 0


@pytest.mark.parametrize(
    "market,unified", [("spot", ["BTC/USDT", "ETH/USDT"]), ("linear", ["BTC/USDT:USDT", "ETH/USDT:USDT"]),
                       ("inverse", ["BTC/USD:BTC"])],
)  # fmt: skip
def test_instruments_of_an_answer(market, unified):
    out = answered(market, "contract", "instruments-info", f"nautilus_http_get_instruments_{market}.json")
    assert [one.unified for one in out if isinstance(one, Contract)] == unified


def test_settled_rates_and_a_book_of_answers():
    out = answered("linear", "funding_rate", "funding/history BTCUSDT", "nautilus_http_get_funding_history.json")
    assert [one.rate for one in out if isinstance(one, FundingRate)] == ["0.00015", "0.0001"]
    (row,) = answered("linear", "book_snapshot", "orderbook 25 BTCUSDT", "nautilus_http_get_orderbook.json")
    assert isinstance(row, BookSnapshot)
    assert (row.last_id, row.depth) == (1234567, 25)


def answered(market, kind, tag, name):
    body = "".join(lines(name))
    symbols = () if kind == "contract" else ("BTCUSDT",)
    session = VENUE.poller(market, "n-1-1", Polled(kind, symbols), VENUE.ENDPOINTS[market])
    at = json.loads(body)["time"] * 1000 + 1000
    return session.respond(tag, 200, {"content-type": "application/json"}, body.encode(), at)


def test_each_forming_candle_is_what_the_trades_add_up_to_when_it_was_pushed():
    """A Bybit candle opens at the close before it, which counts for high and low too; volume and close are trades'."""
    frames = spot()
    _, out = learned("spot", frames)
    trades = [one for one in out if isinstance(one, Trade)]
    compared = 0
    for _, frame in frames:
        told = json.loads(frame)
        if not told.get("topic", "").startswith("kline.1."):
            continue
        for candle in told["data"]:
            start = candle["start"] * 1000
            if start <= frames[0][0]:
                continue  # begun before the recording
            symbol = told["topic"].rpartition(".")[2]
            mine = [one for one in trades if one.symbol == symbol and start <= one.ts_event <= told["ts"] * 1000]
            assert sum(Decimal(one.qty) for one in mine) == Decimal(candle["volume"])
            assert not mine or Decimal(mine[-1].price) == Decimal(candle["close"])
            prices = [Decimal(candle["open"]), *(Decimal(one.price) for one in mine)]
            assert (max(prices), min(prices)) == (Decimal(candle["high"]), Decimal(candle["low"]))
            compared += bool(mine)
    assert compared == 16
