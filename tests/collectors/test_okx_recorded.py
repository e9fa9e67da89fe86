"""OKX's parsers on frames and answers that the venue really sent; skipped where the recordings are missing."""

import gzip
import json
import os
import pathlib
from collections import Counter

import pytest

from collectors import exchanges
from collectors.routes import merger_maker
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
    reasons = Counter(one.reason for one in out if isinstance(one, Rejected))
    assert set(reasons) == {"Object missing required field `seqId` - at `$.data[0]`"}, "books had no ids in 2022"
    assert session.ignored["tickers"] > 0


def test_closing_candles_of_a_recording():
    _, out = learned(recorded("cf_okcoin_candle1m_20230527.ws.txt.gz"))
    candles = [one for one in out if isinstance(one, Kline)]
    assert len(candles) == 4
    assert {(one.interval, one.ts_event - one.open_time) for one in candles} == {("1m", MINUTE - 1000)}
    assert [one.condition for one in out if isinstance(one, AggTrade)] == ["market"] * 4


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
