"""Kraken's parsers on frames and answers that the venue really sent; skipped where the recordings are missing."""

import gzip
import json
import os
import pathlib

import pytest

from collectors import exchanges
from collectors.exchanges.kraken import texts
from collectors.exchanges.kraken.ladder import Ladder, digest
from collectors.redundancy import merger_maker
from market.book import Book, levels
from market.kinds import BookDelta, Contract, FundingRate, Kline, MarkPrice, OpenInterest, Quote, Trade
from market.session import Connection, Polled, Rejected
from market.times import HOUR, SECOND

SAMPLES = pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
VENUE = exchanges.load("kraken")


def sample(name):
    path = SAMPLES / "kraken" / name
    if not path.is_file():
        pytest.skip(f"no recording {path}; LAKE_SAMPLES names the folder")
    return path.read_text()


def learned(market, frames):
    session = VENUE.session(Connection("kraken", market, "x", "wss://x", ()), "n-1-1", learn=True)
    out = [one for time, frame in frames for one in session.receive(frame.encode(), time)]
    assert not [one for one in out if isinstance(one, Rejected)]
    return session, out


def recorded_book():
    held = json.loads(sample("pks_v2_book_first100.json"))
    start = texts.time(held["updates"][0]["data"][0]["timestamp"])
    changes = [(texts.time(one["data"][0]["timestamp"]) + 5000, json.dumps(one)) for one in held["updates"]]
    return [(start - SECOND, json.dumps(held["init"])), *changes]


def test_every_checksum_of_the_recording_holds_and_the_rows_alone_give_books_of_ten_levels():
    frames = recorded_book()
    session, out = learned("spot", frames)
    assert (len(frames), sum(session.ignored.values())) == (101, 0)
    held, book = merger_maker(VENUE, "spot")("book_delta"), Book()
    for row in out:
        assert isinstance(row, BookDelta)
        assert held.merge(row)
        change = levels(row.bids), levels(row.asks)
        book.load(*change) if "snapshot" in row.flags else book.apply(*change)
        assert not book.crossed
    assert (len(book.bids), len(book.asks)) == (10, 10), "a row truncated takes away what nobody tells"
    assert any("truncated" in row.flags for row in out)
    assert held.tick(frames[-1][0] + 60 * SECOND) == []
    places = [row.last_id for row in out]
    assert places == sorted(set(places))
    assert [row.prev_id for row in out[1:]] == places[:-1]


def test_the_same_messages_on_another_connection_have_the_same_places():
    frames = recorded_book()
    _, first = learned("spot", frames)
    _, second = learned("spot", frames)
    assert [(row.last_id, row.checksum) for row in first] == [(row.last_id, row.checksum) for row in second]


@pytest.mark.parametrize("lost", range(2, 60, 3))
def test_a_lost_change_of_the_recording_is_noticed_by_the_checksum(lost):
    frames = recorded_book()
    _, out = learned("spot", frames[:lost] + frames[lost + 1 :])
    flags = [row.flags for row in out]
    if ("clear",) in flags:
        assert flags[-1] == ("clear",), "nothing behind it until the next whole"
    else:
        pytest.skip("what was lost lay behind the ten best levels")


def test_the_documented_example_of_the_checksum():
    asks = """45285.2 0.00100000|45286.4 1.54571953|45286.6 1.54571109|45289.6 1.54560911|45290.2 0.15890660|45291.8
    1.54553491|45294.7 0.04454749|45296.1 0.35380000|45297.5 0.09945542|45299.5 0.18772827"""
    bids = """45283.5 0.10000000|45283.4 1.54582015|45282.1 0.10000000|45281.0 0.10000000|45280.3 1.54592586|45279.0
    0.07990000|45277.6 0.03310103|45277.5 0.30000000|45277.3 1.54602737|45276.6 0.15445238"""
    sides = [[tuple(level.split()) for level in side.split("|")] for side in (bids, asks)]
    ladder = Ladder(10)
    ladder.load(*sides)
    assert ladder.proven(3310070434)
    assert ladder.proven(3310070434, (1, 8))
    assert not ladder.proven(3310070435)
    units = [(texts.units(price), texts.units(qty)) for price, qty in (*sides[1], *sides[0])]
    assert digest(units, 1, 8) == 3310070434
    assert digest(units, 2, 8) != 3310070434


@pytest.mark.parametrize(
    "market,name,kind,count",
    [("spot", "nautilus_ws_trade_update", Trade, 2), ("spot", "nautilus_ws_ticker_snapshot", Quote, 1),
     ("spot", "nautilus_ws_ohlc_update", Kline, 0), ("linear", "nautilus_ws_futures_trade", Trade, 1),
     ("inverse", "nautilus_ws_futures_trade_snapshot", Trade, 2),
     ("inverse", "nautilus_ws_futures_ticker", MarkPrice, 1),
     ("inverse", "nautilus_ws_futures_book_snapshot", BookDelta, 1),
     ("inverse", "nautilus_ws_futures_book_snapshot_with_zero_qty", BookDelta, 1),
     ("inverse", "nautilus_ws_futures_book_delta", BookDelta, 1)],
)  # fmt: skip
def test_single_recorded_frames(market, name, kind, count):
    frame = json.loads(sample(f"{name}.json"))
    inner = (frame.get("data") or frame.get("trades") or [frame])[0]
    stamp = inner.get("timestamp") or inner.get("time") or inner.get("interval_begin")
    time = texts.time(stamp) if isinstance(stamp, str) else stamp * 1000
    _, out = learned(market, [(time + 5000, sample(f"{name}.json"))])
    beside = [Quote] if kind is MarkPrice else []
    assert [type(one) for one in out] == [kind] * count + beside


def answered(market, kind, name, symbol, now="2025-11-17T00:35:00.000Z", **more):
    session = VENUE.poller(market, "n-1-1", Polled(kind, (symbol,) if symbol else (), **more), VENUE.ENDPOINTS[market])
    session.start(texts.time(now))
    tag = {"contract": VENUE.POLLS[market][kind].route}.get(kind, f"{VENUE.POLLS[market][kind].route} {symbol}")
    return list(session.respond(tag, 200, {}, sample(name).encode(), texts.time(now)))


def test_recorded_answers_of_rest():
    spot = answered("spot", "contract", "nautilus_http_asset_pairs.json", "")
    assert {(row.symbol, row.unified, row.tick, row.lot) for row in spot} == {
        ("BTC/USDT", "BTC/USDT", "0.1", "0.00000001")
    }
    linear = answered("linear", "contract", "nautilus_http_futures_instruments.json", "")
    assert all(isinstance(row, Contract) for row in linear)
    assert [(row.symbol, row.unified, row.tick, row.lot) for row in linear] == [
        ("PF_ETHUSD", "ETH/USD:USD", "0.1", "0.001"),
        ("PF_PEPEUSD", "PEPE/USD:USD", "0.0000000001", "1000"),
        ("PF_AAPLxUSD", "AAPLx/USD:USD", "0.01", "0.01"),
    ]
    (inverse,) = answered("inverse", "contract", "nautilus_http_futures_instruments.json", "")
    assert (inverse.unified, inverse.settle, inverse.contract_size) == ("BTC/USD:BTC", "BTC", "1")
    rates = answered(
        "linear", "funding_rate", "nautilus_http_futures_historical_funding_rates.json", "PF_X",
        since={"PF_X": texts.time("2025-07-10T16:00:00.000Z")},
    )  # fmt: skip
    assert all(isinstance(row, FundingRate) for row in rates)
    assert [(row.rate, row.ts_event % (8 * HOUR)) for row in rates] == [("-0.00005", 0), ("0.0001", 0)]


def test_one_recorded_ticker_as_rest_gives_it_of_one_symbol():
    held = json.loads(sample("nautilus_http_futures_tickers.json"))
    body = {"result": "success", "serverTime": held["serverTime"], "ticker": held["tickers"][0]}
    session = VENUE.poller("inverse", "n-1-1", Polled("open_interest", ("PI_XBTUSD",)), VENUE.ENDPOINTS["inverse"])
    now = texts.time(held["serverTime"])
    session.start(now)
    (row,) = session.respond("tickers PI_XBTUSD", 200, {}, json.dumps(body).encode(), now)
    assert isinstance(row, OpenInterest)
    assert (row.oi, row.oi_unit, row.sides, row.ts_event) == ("21279580.0", "contract", 1, now)


def first_protocol():
    """(name of the recording, depth, its books' messages in order) of WebSocket v1, which is not collected."""
    packed = SAMPLES / "kraken" / "pks_v1_book.json.gz"
    lined = SAMPLES / "kraken" / "cf_v1_20210417.ws50.txt.gz"
    for path in (packed, lined):
        if not path.is_file():
            pytest.skip(f"no recording {path}; LAKE_SAMPLES names the folder")
    held = json.loads(gzip.decompress(packed.read_bytes()))
    lines = gzip.decompress(lined.read_bytes()).decode().splitlines()
    yield packed.name, 10, [one for part in held.values() for one in part if isinstance(one, list)]
    parts = [line.partition(": ")[2] for line in lines if line and not line.startswith("wss")]
    yield lined.name, 1000, [one for one in map(json.loads, parts) if isinstance(one, list)]


def test_every_checksum_of_the_first_protocol_holds_with_the_sums_of_the_second():
    """Our book and sum are fed the messages of WebSocket v1, whose sums are made in the same way."""
    for name, depth, messages in first_protocol():
        ladders, proven = {}, 0
        for _, *parts, channel, pair in messages:
            assert channel == f"book-{depth}"
            said = {key: value for part in parts for key, value in part.items()}
            if "as" in said:
                ladders[pair] = Ladder(depth)
                ladders[pair].load(*([level[:2] for level in said[side]] for side in ("bs", "as")))
                continue
            bids, asks = ([level[:2] for level in said.get(side, ())] for side in ("b", "a"))
            ladders[pair].apply(bids, asks)
            assert ladders[pair].proven(int(said["c"])), (name, pair, proven)
            proven += 1
        assert proven > 90, name
