"""A daemon that collects by ccxt, the library itself, from the simulated Binance.

What was sent is stored, and a connection that ccxt lost is a gap.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from cli.app import app
from lake import Lake
from lake.frames import FrameLine, encode_frame_lines
from market import times
from simulator.truth import Truth
from tests.support.commands import dl, dl_json
from tests.support.live import collecting, free_port, get, lines, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(600)

SYMBOLS = {"BTC/USDT": "BTCUSDT", "ETH/USDT": "ETHUSDT"}
KINDS = ["trade", "quote", "book_snapshot"]
RATE = "400"


def report(port: int) -> dict[str, Any]:
    services = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]
    found: dict[str, Any] = services["collectors"]["report"].get("ccxt-binance/spot", {})
    return found


def producing(port: int, attempts: int) -> bool:
    """Whether every stream produces, by the daemon's own word, after so many attempts to connect."""
    (connection,) = report(port).get("connections") or [{"attempts": 0}]
    return connection["attempts"] >= attempts and connection.get("states") == {"producing": 6}


def sessions(lake: Path) -> int:
    """How many connections have brought, of each symbol, more than 20 trades and a book."""
    found = Counter((event["session"], kind, event["symbol"]) for _, kind, event in lines(lake))
    return sum(
        all(found[name, "trade", symbol] > 20 and found[name, "book_snapshot", symbol] for symbol in SYMBOLS)
        for name in {session for session, _, _ in found}
    )


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("ccxt")
    lake, port = folder / "lake", free_port()
    with simulator(folder, "--markets", "spot", "--symbols", ",".join(SYMBOLS.values()), "--rate", RATE) as exchange:
        source = {**exchange.source("spot", list(SYMBOLS), KINDS), "exchange": "ccxt:binance"}
        config = write_config(folder / "config.json", lake, [source], port)
        with collecting(config, port):
            wait_for("streams", lambda: producing(port, 1))
            wait_for("trades and books", lambda: sessions(lake) == 1)
            attempts = report(port)["connections"][0]["attempts"]
            exchange.fault("cut")
            wait_for("streams of a second connection", lambda: producing(port, attempts + 1))
            wait_for("trades and books of it", lambda: sessions(lake) == 2)
        truth = exchange.stop()
    dl("transform", "--config", config)
    return lake, truth


def ask(*arguments: str | Path, expect: int = 0) -> str:
    """What `dl` says, in this process."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == expect, done.output
    return done.stdout


def rows(lake: Path, kind: str, symbol: str) -> list[dict[str, Any]]:
    table = Lake(lake).read(kind, exchange="ccxt-binance", market_type="spot", symbol=symbol)
    return pl.DataFrame(pl.from_arrow(table)).sort("session", "frame_no", "item").to_dicts()


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_trade_of_a_connection_is_stored_once_as_it_was_sent(collected: tuple[Path, Truth], symbol: str) -> None:
    lake, truth = collected
    sent = truth.sent("trade", "spot", SYMBOLS[symbol])
    stored = rows(lake, "trade", symbol)
    sessions: dict[str, list[int]] = {}
    for row in stored:
        assert row["seq"] is None, "ids are names here"
        sessions.setdefault(row["session"], []).append(int(row["trade_id"]))
        told = sent[int(row["trade_id"])]
        side = "sell" if told.buyer_is_maker else "buy"
        assert (row["price"], row["qty"], row["side"]) == (float(told.price), float(told.qty), side)
    assert len(sessions) >= 2
    assert sum(len(ids) > 20 for ids in sessions.values()) >= 2
    for ids in sessions.values():
        assert ids == list(range(ids[0], ids[-1] + 1)), "between the looks of ccxt's reader nothing is lost"


def test_the_connection_that_was_lost_is_a_gap_of_time_of_every_stream(collected: tuple[Path, Truth]) -> None:
    lake, _ = collected
    gaps = [gap for gap in json.loads(ask("gaps", "--lake", lake, "--json", expect=1)) if gap["cause"] == "disconnect"]
    assert {(gap["kind"], gap["symbol"]) for gap in gaps} == {(kind, symbol) for kind in KINDS for symbol in SYMBOLS}
    assert {(gap["exchange"], gap["proof"], gap["id_from"]) for gap in gaps} == {("ccxt-binance", "interval", None)}


def test_quotes_and_books_keep_the_venues_digits(collected: tuple[Path, Truth]) -> None:
    lake, truth = collected
    raw = "".join(path.read_text() for path in (lake / "raw").rglob("*.jsonl"))
    tops = [json.loads(line) for line in raw.splitlines() if '"watchBidsAsks:BTC/USDT"' in line]
    tops.sort(key=lambda top: (top["session"], top["frame_no"], top["item"]))
    told = [
        (top.bid, top.bid_qty, top.ask, top.ask_qty) for _, top in sorted(truth.of("quote", "spot", "BTCUSDT").items())
    ]
    for session in {top["session"] for top in tops}:
        mine = [(t["bid"], t["bid_qty"], t["ask"], t["ask_qty"]) for t in tops if t["session"] == session]
        assert any(told[place : place + len(mine)] == mine for place in range(len(told))), (
            "all of a connection, in order"
        )
    books = rows(lake, "book_snapshot", "BTC/USDT")
    assert len(books) >= 2
    for book in books:
        bids, asks = ([level["price"] for level in book[side]] for side in ("bids", "asks"))
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert bids[0] < asks[0]


def test_the_lake_proves_itself_and_its_frames_make_the_same_rows_again(collected: tuple[Path, Truth]) -> None:
    lake, _ = collected
    (market,) = dl_json("verify", "--frames", "--lake", lake)["markets"]
    assert market["events"] > 200
    for day in market["days"]:
        assert (day["lost"], day["waiting"], day["unreachable"], day["different"]) == ({}, 0, 0, 0), day["kind"]
        assert day["derived"] == day["rows"]
    listed = json.loads(ask("ls", "--lake", lake, "--exchange", "ccxt-binance", "--json"))
    assert {one["file"]["kind"] for one in listed} - {"bar_1s", "bar_1m"} == {*KINDS, "contract"}
    assert "exchange=ccxt-binance" in listed[0]["file"]["path"]


@pytest.mark.slow
def test_a_closed_day_of_replayed_frames_says_that_its_guarantees_are_weaker(tmp_path: Path) -> None:
    start = times.parse("2026-01-02T10:00:00Z")
    asked = json.dumps({"watch": "watchTrades", "symbol": "BTC/USD"})
    lines = [
        FrameLine(ts_recv=start, conn="node-1-1", dir="open", n=0, url="ccxt://kraken/spot"),
        FrameLine(ts_recv=start, conn="node-1-1", dir="send", n=0, frame=asked),
    ]
    for number in range(1, 11):
        at = start + number * times.SECOND
        parsed = {"id": f"T{number}", "timestamp": at // 1000, "side": "buy", "price": "9.50", "amount": "0.1"}
        told = {"channel": "watchTrades", "symbol": "BTC/USD", "rows": [{"parsed": parsed, "info": {"x": number}}]}
        lines.append(FrameLine(ts_recv=at, conn="node-1-1", dir="recv", n=number, frame=json.dumps(told)))
    path = tmp_path / "kraken.frames.jsonl"
    path.write_bytes(encode_frame_lines(lines))
    lake = tmp_path / "lake"
    dl("replay", path, "--exchange", "ccxt:kraken", "--market-type", "spot", "--lake", lake)
    listed = json.loads(ask("ls", "--lake", lake, "--exchange", "ccxt-kraken", "--kind", "trade", "--json"))
    assert [one["certificate"]["guarantees"] for one in listed] == ["weaker (ccxt)"]
    assert listed[0]["certificate"]["rows"] == 10
    assert "certified, weaker (ccxt)" in ask("ls", "--lake", lake)
    shown = ask("trace", "trade", "--lake", lake, "--session", "node-1-1", "--frame", "3")
    assert '"info": {"x": 3}' in shown.replace("\\", ""), "the venue's own words"
