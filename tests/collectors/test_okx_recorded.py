"""OKX's parsers on frames and answers that the venue really sent; skipped where the recordings are missing."""

import gzip
import json
import os
import pathlib
import zlib
from collections import Counter
from decimal import Decimal

import pytest

from collectors import exchanges
from collectors.redundancy import merger_maker
from market.book import Book, levels
from market.kinds import AggTrade, BookDelta, BookSnapshot, Contract, FundingRate, Kline, Quote
from market.session import Connection, Polled, Rejected
from market.times import MINUTE, SECOND

SAMPLES = pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
VENUE = exchanges.load("okx")


def held(name):
    path = SAMPLES / "okx" / name
    if not path.is_file():
        pytest.skip(f"no recording {path}; LAKE_SAMPLES names the folder")
    return gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()


def learned(frames, market="spot"):
    session = VENUE.session(Connection("okx", market, "x", "wss://x", ()), "n-1-1", learn=True)
    return session, [one for time, frame in frames for one in session.receive(frame.encode(), time)]


def recorded(name):
    """(receive time, frame) of a recording, without what was sent."""
    lines = [line for line in held(name).decode().splitlines() if line and not line.startswith("wss")]
    return [(round(float(time) * SECOND), frame) for time, _, frame in (line.partition(": ") for line in lines)]


def test_trades_of_a_recording_follow_by_one_and_come_again_on_subscribing():
    session, out = learned(recorded("cf_20220513.ws.txt.gz"))
    trades = [one for one in out if isinstance(one, AggTrade) and one.symbol == "BTC-USDT"]
    ids = [one.last_id for one in trades]
    assert sorted(set(ids)) == list(range(min(ids), min(ids) + len(set(ids))))
    assert len(set(ids)) > 50
    assert {one.side for one in trades} == {"buy", "sell"}
    assert not [one for one in out if isinstance(one, Rejected)]
    assert session.ignored == Counter(tickers=28, answer=18)


def summed(book):
    """The checksum of the 25 best levels a side, as the venue's documents of then say it."""
    bids = sorted(book.bids.items(), key=lambda level: -Decimal(level[0]))[:25]
    asks = sorted(book.asks.items(), key=lambda level: Decimal(level[0]))[:25]
    pairs = [side[place] for place in range(25) for side in (bids, asks) if place < len(side)]
    crc = zlib.crc32(":".join(f"{price}:{qty}" for price, qty in pairs).encode())
    return crc - 2**32 if crc >= 2**31 else crc


@pytest.mark.parametrize(
    "name,count,wholes", [("cf_20220513.ws.txt.gz", 290, 3), ("cf_okcoin_candle1m_20230527.ws.txt.gz", 6, 4)]
)
def test_every_checksum_of_books_without_ids_holds_and_the_rows_alone_give_the_books(name, count, wholes):
    _, out = learned(recorded(name))
    rows = [one for one in out if isinstance(one, BookDelta)]
    books, held = {}, merger_maker(VENUE, "spot")("book_delta")
    for row in rows:
        book = books.setdefault(row.symbol, Book())
        change = levels(row.bids), levels(row.asks)
        book.load(*change) if "snapshot" in row.flags else book.apply(*change)
        assert summed(book) == row.checksum
        assert not book.crossed
        assert held.merge(row)
    assert (len(rows), sum("snapshot" in row.flags for row in rows)) == (count, wholes)
    assert {flag for row in rows for flag in row.flags} == {"snapshot"}
    assert held.tick(rows[-1].ts_recv + 60 * SECOND) == []


@pytest.mark.parametrize("lost", range(60, 290, 23))
def test_a_lost_message_of_a_book_without_ids_is_noticed_by_the_checksum(lost):
    frames = recorded("cf_20220513.ws.txt.gz")
    places = [place for place, (_, frame) in enumerate(frames) if '"action":"update"' in frame]
    symbol = json.loads(frames[places[lost]][1])["arg"]["instId"]
    session, out = learned(frames[: places[lost]] + frames[places[lost] + 1 :])
    rows = [one for one in out if isinstance(one, BookDelta) and one.symbol == symbol]
    if rows[-1].flags != ("clear",):
        pytest.skip("what was lost lay behind the 25 best levels, or nothing came of the book behind it")
    assert [row.flags for row in rows].count(("clear",)) == 1
    assert not [one for one in out if isinstance(one, BookDelta) and one.symbol != symbol and one.flags == ("clear",)]
    assert symbol in session.books_out_of_sync()


def test_closing_candles_of_a_recording():
    _, out = learned(recorded("cf_okcoin_candle1m_20230527.ws.txt.gz"))
    candles = [one for one in out if isinstance(one, Kline)]
    assert len(candles) == 4
    assert {(one.interval, one.ts_event - one.open_time) for one in candles} == {("1m", MINUTE - 1000)}
    pushed = [one for one in out if isinstance(one, AggTrade)]
    assert min(one.ts_recv - (one.ts_event or 0) for one in pushed) > 891 * SECOND
    assert [one.condition for one in pushed] == ["history"] * 4, "the last ones before the subscription, hours old"


@pytest.mark.parametrize("name,kind", [("bbo_tbt", Quote), ("candle", Kline)])
def test_frames_of_the_documentation(name, kind):
    frame = json.dumps(json.loads(held(f"nautilus_ws_{name}.json")), separators=(",", ":"))
    time = 1_597_026_383_085_000 + (86_400 * SECOND if kind is Kline else 0)
    (session, out) = learned([(time, frame.replace("candle1D", "candle1Dutc"))])
    assert [type(one) for one in out] == [kind]
    assert session.ignored.total() == 0


def test_a_book_of_the_documentation_chains():
    frames = [held(f"nautilus_ws_books_{name}.json").decode() for name in ("snapshot", "update")]
    texts = [json.dumps(json.loads(frame), separators=(",", ":")) for frame in frames]
    _, out = learned([(1_597_026_383_085_000, text) for text in texts])
    assert [(type(one), one.flags, one.last_id) for one in out] == [
        (BookDelta, ("snapshot",), 123456), (BookDelta, (), 123457),
    ]  # fmt: skip
    merger = merger_maker(VENUE, "spot")("book_delta")
    assert all(merger.merge(one) for one in out)
    assert merger.tick(10**18) == []


def answered(market, kind, tag, name, at):
    symbols = () if kind == "contract" else (tag.rpartition(" ")[2],)
    session = VENUE.poller(market, "n-1-1", Polled(kind, symbols), VENUE.ENDPOINTS[market])
    return session.respond(tag, 200, {"content-type": "application/json"}, held(name), at)


@pytest.mark.parametrize(
    "market,page,name,wanted",
    [
        ("spot", "", "spot", {"BTC-USD": ("BTC/USD", "1")}),
        ("linear", "", "swap", {"BTC-USDT-SWAP": ("BTC/USDT:USDT", "0.01")}),
        ("inverse", "", "swap", {"BTC-USD-SWAP": ("BTC/USD:BTC", "100")}),
        ("inverse", " FUTURES", "futures", {"BTC-USD-241220": ("BTC/USD:BTC-241220", "100")}),
    ],
)
def test_instruments_of_an_answer(market, page, name, wanted):
    file = f"nautilus_http_get_instruments_{name}.json"
    out = answered(market, "contract", f"public/instruments{page}", file, 1_785_701_708_000_000)
    assert not [one for one in out if isinstance(one, Rejected)]
    found = {one.symbol: (one.unified, one.multiplier) for one in out if isinstance(one, Contract)}
    assert wanted.items() <= found.items()
    every = [json.loads(held(file))["data"][n] for n in range(len(json.loads(held(file))["data"]))]
    mine = [row for row in every if row["ctType"] in ("", market)]
    assert len(found) == len(mine)


def test_settled_rates_and_a_book_of_answers():
    at = 1_704_067_201_000_000
    file = "nautilus_http_get_funding_rate_history.json"
    out = answered("linear", "funding_rate", "funding-rate-history BTC-USDT-SWAP", file, at)
    assert [(one.rate, one.interval_s) for one in out if isinstance(one, FundingRate)] == [
        ("-0.00002", 28800), ("0.00015", 28800),
    ]  # fmt: skip
    (row,) = answered("spot", "book_snapshot", "market/books 400 X", "nautilus_http_get_order_book.json", at)
    assert isinstance(row, BookSnapshot)
    assert (row.last_id, row.depth) == (None, 400)
