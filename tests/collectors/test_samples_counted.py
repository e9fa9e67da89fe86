"""Every recorded file of five venues, frame by frame: each frame and answer is a row, or it is counted and said why.

One test a file, found when the tests are collected, so that a new recording is read by the same rules: frames of a
stream by a session that learns, an answer by the poll whose route it is of. What is neither is named in NO_MESSAGES and
NOT_POLLED with the reason. Skipped where the recordings are missing.
"""

import gzip
import json
import os
import pathlib
import re

import pytest

from collectors import exchanges
from collectors.exchanges.kraken import texts
from market import times
from market.kinds import Event
from market.session import Connection, Fetch, Polled, Rejected, ServerTime
from market.times import HOUR, SECOND

SAMPLES = pathlib.Path(os.environ.get("LAKE_SAMPLES", pathlib.Path(__file__).parents[2].parent / "shared" / "samples"))
VENUES = ("bybit", "okx", "kucoin", "coinbase", "kraken")
FILES = [path for venue in VENUES for path in sorted((SAMPLES / venue).glob("*"))]
FUTURES = {"bybit": "linear", "okx": "inverse", "kucoin": "linear", "coinbase": "linear", "kraken": "inverse"}
MARKET = [("inverse", "inverse"), ("linear", "linear"), ("option", "linear"), ("future", None), ("swap", "linear"),
          ("funding", None), ("ticker_linear", "linear")]  # fmt: skip
"""Part of a file's name -> the market that it is of, None for the venue's futures; else spot."""
POLLED = [
    (r"instruments|asset_pairs|_products", "contract"), (r"funding", "funding_rate"),
    (r"order_?book|product_book|http\.txt", "book_snapshot"), (r"futures_candles_trade", "kline"),
    (r"server_time", "server_time"),
]  # fmt: skip
"""Part of the name of an answer's file -> the kind that is polled so."""
NOT_POLLED = {
    r"bybit/.*klines": "candles are streamed", r"bybit/.*trades_recent": "trades are streamed",
    r"(bybit|okx)/.*instruments_option": "options are not collected",
    r"okx/.*candlesticks": "candles are streamed", r"okx/.*index_price": "the index is not collected",
    r"okx/.*mark_price": "the mark is streamed", r"okx/.*option_summary": "options are not collected",
    r"okx/.*spread": "spreads are not collected", r"okx/.*get_trades": "trades are streamed",
    r"coinbase/.*candles": "candles are streamed", r"coinbase/.*http_product\.": "spot's products come as a list",
    r"coinbase/.*http_ticker": "trades are streamed", r"kraken/.*candles_(mark|spot)": "only candles of trades are",
    r"kraken/.*futures_tickers": "tickers are asked for one by one: test_kraken_recorded",
    r"kraken/.*system_status": "the state is told on connecting", r"kraken/.*http_ticker": "quotes are streamed",
}  # fmt: skip
NO_MESSAGES = {
    r"\.csv$": "trades as another program keeps them: `dl import` reads them",
    r"nautilus_common|okx/nautilus_ws_opt_summary": "a fragment of a message",
}
REJECTED = {
    r"kraken/(cf|pks)_v1": {"Expected `object`, got `array`", "a frame of no documented shape"},
    r"kraken/nautilus_ws_book_snapshot": {"a whole book whose checksum does not hold"},
}
"""File -> why frames of it are no rows: another protocol (WebSocket v1, whose sums test_kraken_recorded proves), or an
example of the documents whose checksum is not that of its levels.
"""


def name_of(path):
    return f"{path.parent.name}/{path.name}"


def reason(table, name):
    return next((why for form, why in table.items() if re.search(form, name)), None)


def market_of(path):
    venue = path.parent.name
    found = next((market or FUTURES[venue] for part, market in MARKET if part in path.name), "spot")
    return found if found in exchanges.load(venue).OFFERS else "spot"


def read(path):
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def moment(text):
    """A little after the newest time (us) that a message says, which is when it was received."""
    found = [texts.time(one) for one in re.findall(r'"(20[12]\d-\d\d-\d\dT[\d:.]+Z)"', text)]
    found += [int(one) * 1000 for one in re.findall(r'[:"\[](1[3-9]\d{11})(?=[",}\]])', text)]
    return max((one for one in found if one), default=times.parse("2026-01-01")) + 5000


def frames(path):
    """(receive time, frame) of everything received in a recording of a stream."""
    text, found = read(path), []
    if path.name.endswith(".jsonl.gz"):
        held = [json.loads(line) for line in text.splitlines()]
        return [(round(one["ts"] * SECOND), one["data"]) for one in held if one["t"] == "recv"]
    if ".txt" in path.name:
        for line in text.splitlines():
            said = re.match(r"([0-9.]+): (.+)", line)
            found += [(round(float(said[1]) * SECOND), said[2])] if said else []
        return found
    held = json.loads(text)
    if path.name.startswith("pks"):
        held = [one for part in held.values() for one in (part if isinstance(part, list) else [part])]
    many = held if isinstance(held, list) else [held]
    compact = [json.dumps(one, separators=(",", ":")) for one in many]
    return [(moment(one), one) for one in compact]


def told(path):
    """(market, kind, symbol or "", receive time, body) of the answers in a file."""
    market = market_of(path)
    kind = next((kind for part, kind in POLLED if re.search(part, path.name)), None)
    if ".http." in path.name:
        for line in filter(None, read(path).splitlines()):
            said = re.match(r"\S+symbol=(\S+) -> ([0-9.]+): (.+)", line)
            assert said, line[:100]
            yield market, kind, said[1], round(float(said[2]) * SECOND), said[3]
        return
    assert kind is not None, f"{name_of(path)}: no rule says of which route this answer is"
    body = json.dumps(json.loads(read(path)), separators=(",", ":"))
    symbol = re.search(r'"(?:symbol|instId|product_id|s)":"([^"]+)"', body)
    yield market, kind, symbol[1] if symbol else "X", moment(body), body


@pytest.mark.skipif(not FILES, reason=f"no recordings in {SAMPLES}; LAKE_SAMPLES names the folder")
def test_there_are_recordings_of_every_venue():
    assert {path.parent.name for path in FILES} == set(VENUES)
    multi = {path.name for path in (SAMPLES / "multi").iterdir()}
    assert {name.split(".")[0] for name in multi} == {"tardis_mappers"}, "read by test_tardis_agrees"


@pytest.mark.parametrize("path", [p for p in FILES if "http" not in p.name], ids=name_of)
def test_every_frame_is_a_row_or_counted(path):
    if reason(NO_MESSAGES, name_of(path)):
        return
    venue, market = path.parent.name, market_of(path)
    session = exchanges.load(venue).session(Connection(venue, market, "x", "wss://x", ()), "n-1-1", learn=True)
    allowed = reason(REJECTED, name_of(path)) or set()
    received = frames(path)
    assert received
    for number, (time, frame) in enumerate(received, 1):
        before = session.ignored.total()
        out = session.receive(frame.encode(), time)
        counted = session.ignored.total() - before
        assert (counted == 1) != bool(out), f"frame {number} of {name_of(path)}: {frame[:200]}"
        wrong = {one.reason for one in out if isinstance(one, Rejected)} - allowed
        assert not wrong, f"frame {number} of {name_of(path)}: {wrong}, {frame[:200]}"
    assert session.frame_no == len(received)


@pytest.mark.parametrize("path", [p for p in FILES if "http" in p.name], ids=name_of)
def test_every_answer_is_rows_or_it_is_said_why_nobody_asks_for_it(path):
    if reason(NO_MESSAGES, name_of(path)) or reason(NOT_POLLED, name_of(path)):
        return
    adapter = exchanges.load(path.parent.name)
    for market, kind, symbol, time, body in told(path):
        symbols = () if kind in ("contract", "server_time") else (symbol,)
        polled = Polled(kind, symbols, HOUR, 100, since={symbol: time - 10**15} if kind == "funding_rate" else {})
        poll = adapter.poller(market, "n-1-1", polled, adapter.ENDPOINTS[market])
        (asked, *_) = [one for one in poll.start(time) if isinstance(one, Fetch)]
        out = poll.respond(asked.tag, 200, {"content-type": "application/json"}, body.encode(), time)
        assert any(isinstance(one, Event | ServerTime) for one in out), (name_of(path), out, dict(poll.ignored))
        assert not [one for one in out if isinstance(one, Rejected)], name_of(path)
