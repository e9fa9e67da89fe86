"""A daemon that collects from OKX's twin on three markets: what was sent is stored, and what was lost is a row."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lake import Lake
from simulator.truth import Truth
from tests.support.commands import dl, dl_json
from tests.support.live import Daemon, free_port, get, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(300)

MARKETS = {
    "spot": ["BTC-USDT", "ETH-USDT"],
    "linear": ["BTC-USDT-SWAP", "ETH-USDT-SWAP"],
    "inverse": ["BTC-USD-SWAP", "ETH-USD-SWAP"],
}
SPOT = ["trade", "agg_trade", "quote", "book_delta", "contract"]
SIZES = {"linear": "0.01", "inverse": "100"}
STEP = 3
"""Between the ids of two changes of a book."""
LOST = "BTC-USDT-SWAP"
FUTURES = [*SPOT, "mark_price", "liquidation", "open_interest", "funding_rate"]
SYMBOLS = [(market, symbol) for market, names in MARKETS.items() for symbol in names]


def reports(port: int) -> list[dict[str, Any]]:
    said = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]["collectors"]["report"]
    return [said[f"okx/{market}"] for market in MARKETS] if len(said) == len(MARKETS) else []


def in_sync(port: int) -> bool:
    """Whether every stream is producing and every book is in sync, by the daemon's own word."""
    connections = [each for report in reports(port) for each in report["connections"]]
    quiet = {name for each in connections for name in each.get("not_producing", {"none": ""})}
    talking = all(name.startswith("liquidation-orders") for name in quiet)
    return len(connections) == 9 and talking and all(each.get("books_out_of_sync") == [] for each in connections)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("okx")
    lake, port = folder / "lake", free_port()
    with simulator(folder, "--venue", "okx", "--markets", ",".join(MARKETS), "--rate", "1200") as exchange:
        sources = [
            exchange.source(market, names, SPOT if market == "spot" else FUTURES) for market, names in MARKETS.items()
        ]
        config = write_config(folder / "config.json", lake, sources, port)
        daemon = Daemon(config, folder / "daemon.log")
        try:
            daemon.wait_until_ready(port)
            wait_for("books in sync", lambda: in_sync(port))
            exchange.fault("drop_ids", market="linear", kind="book_delta", symbol=LOST, count=2)
            wait_for("the loss to be known", lambda: reports(port)[1]["gaps"] >= 1)
            wait_for("books in sync again", lambda: in_sync(port))
        finally:
            code = daemon.stop()
        assert code == 0, daemon.log.read_text()[-4000:]
        truth = exchange.stop()
    dl("transform", "--config", config)
    return lake, truth


def rows(lake: Path, kind: str, market: str, symbol: str) -> list[dict[str, Any]]:
    table = Lake(lake).read(kind, market_type=market, symbol=symbol)
    return pl.DataFrame(pl.from_arrow(table)).sort("session", "frame_no", "item").to_dicts()


@pytest.mark.parametrize("market,symbol", SYMBOLS)
def test_every_trade_that_was_sent_is_stored_once_as_it_was(
    collected: tuple[Path, Truth], market: str, symbol: str
) -> None:
    lake, truth = collected
    sent = sorted(truth.sent("trade", market, symbol).values(), key=lambda event: event.id)
    stored = rows(lake, "trade", market, symbol)
    assert len(stored) > 5
    first = stored[0]["seq"]
    assert [row["seq"] for row in stored] == list(range(first, first + len(stored)))
    assert {row["condition"] for row in stored[1:]} == {"market"}
    sent = [event for event in sent if event.id > first]
    told = [(e.id, float(e.price), float(e.qty), "sell" if e.buyer_is_maker else "buy") for e in sent]
    kept = [(row["seq"], row["price"], row["qty"], row["side"]) for row in stored[1:]]
    assert kept == told[: len(kept)]
    assert len(told) - len(kept) <= 40, "what was under way when the daemon was stopped"
    worth = ("contract", float(SIZES[market])) if market in SIZES else ("base", 1.0)
    assert {(row["qty_unit"], row["multiplier"]) for row in stored} == {worth}


@pytest.mark.parametrize("market,symbol", SYMBOLS)
def test_aggregates_name_the_trades_that_are_in_them(collected: tuple[Path, Truth], market: str, symbol: str) -> None:
    lake, _ = collected
    trades = {row["seq"]: row for row in rows(lake, "trade", market, symbol)}
    inside = [row for row in rows(lake, "agg_trade", market, symbol) if row["first_id"] in trades]
    inside = [row for row in inside if row["last_id"] in trades]
    assert len(inside) > 5
    for row in inside:
        parts = [trades[number] for number in range(row["first_id"], row["last_id"] + 1)]
        assert row["qty"] == pytest.approx(sum(part["qty"] for part in parts))
        assert {part["price"] for part in parts} == {row["price"]}
    assert [b["first_id"] - a["last_id"] for a, b in itertools.pairwise(inside)] == [1] * (len(inside) - 1)


@pytest.mark.parametrize("market,symbol", SYMBOLS)
def test_the_stored_rows_give_books_and_an_injected_loss_is_one_new_whole(
    collected: tuple[Path, Truth], market: str, symbol: str
) -> None:
    lake, truth = collected
    updates = rows(lake, "book_delta", market, symbol)
    flags = [row["flags"] for row in updates]
    faulted = (market, symbol) == ("linear", LOST)
    assert flags.count("snapshot") == 1 + faulted
    assert flags.count("gap_before") == faulted
    last = updates[-1]
    book = Lake(lake).book(symbol, at=last["ts_event"], exchange="okx", market_type=market)
    assert book.last_id == last["last_id"]
    quotes = [row for row in rows(lake, "quote", market, symbol) if row["ts_event"] <= last["ts_event"]]
    assert (float(book.bids[0][0]), float(book.asks[0][0])) == (quotes[-1]["bid"], quotes[-1]["ask"])
    told = {e.id: e for e in truth.stream(market, f"books:{symbol}")}
    for row in updates:
        if row["flags"] in ("", "gap_before"):
            wanted = [(float(price), float(qty)) for price, qty in told[row["last_id"] // STEP].bids]
            assert [(level["price"], level["qty"]) for level in row["bids"]] == wanted


def test_the_only_gaps_are_of_the_injected_loss_and_the_lake_proves_itself(collected: tuple[Path, Truth]) -> None:
    lake, _ = collected
    missing = [gap for gap in dl_json("gaps", "--lake", lake, expect=1) if gap["cause"] != "stopped"]
    assert {(gap["kind"], gap["symbol"], gap["cause"]) for gap in missing} == {("book_delta", LOST, "jump")}
    assert len(missing) <= 2, "what was dropped, and what came between the two subscriptions"
    assert all(gap["id_from"] < gap["id_to"] for gap in missing)
    verdict = dl_json("verify", "--lake", lake)
    assert (verdict["ok"], verdict["findings"]) == (True, [])


@pytest.mark.parametrize("kind", ["mark_price", "liquidation", "open_interest", "funding_rate"])
@pytest.mark.parametrize("market", ["linear", "inverse"])
def test_what_only_derivatives_tell_is_stored(collected: tuple[Path, Truth], market: str, kind: str) -> None:
    lake, truth = collected
    table = Lake(lake).read(kind, market_type=market)
    symbols = set(pl.DataFrame(pl.from_arrow(table)).get_column("symbol").cast(pl.String))
    if kind == "liquidation":
        told = {(e.ts_event, {"SELL": "sell", "BUY": "buy"}[e.side]) for e in truth.events if e.kind == kind}
        got = {(int(row["ts_event"].timestamp() * 1_000_000), row["side"]) for row in table.to_pylist()}
        assert got <= told
        assert got
    else:
        assert symbols == set(MARKETS[market])
    if kind == "mark_price":
        assert any(row["predicted_rate"] is not None and row["next_funding"] for row in table.to_pylist())


def test_instruments_are_told_with_their_unified_names(collected: tuple[Path, Truth]) -> None:
    rows_of = Lake(collected[0]).read("contract").to_pylist()
    named = {(row["market_type"], row["symbol"]): row["unified"] for row in rows_of}
    assert named["spot", "BTC-USDT"] == "BTC/USDT"
    assert named["linear", "BTC-USDT-SWAP"] == "BTC/USDT:USDT"
    assert named["inverse", "BTC-USD-SWAP"] == "BTC/USD:BTC"


COMPARED = {
    "trade": ["seq", "price", "qty", "side", "condition", "multiplier"],
    "agg_trade": ["trade_id", "first_id", "last_id", "multiplier"], "quote": ["update_id", "bid", "ask"],
    "book_delta": ["prev_id", "last_id", "flags"], "contract": ["uid", "status"],
    "mark_price": ["mark", "index", "predicted_rate", "next_funding"], "liquidation": ["side", "price", "qty"],
    "open_interest": ["oi", "sides"], "funding_rate": ["rate", "interval_s"],
}  # fmt: skip


@pytest.mark.parametrize("market", MARKETS)
def test_a_replay_of_the_frames_gives_the_same_rows(collected: tuple[Path, Truth], tmp_path: Path, market: str) -> None:
    lake, _ = collected
    held = (lake / "frames").rglob(f"market_type={market}/**/*.frames.jsonl*")
    frames = sorted(path for path in held if path.suffix != ".json")
    dl("replay", *frames, "--exchange", "okx", "--market-type", market, "--lake", tmp_path / "again")
    for kind in SPOT if market == "spot" else FUTURES:
        names = ["symbol", "ts_event", "session", "frame_no", "item", *COMPARED[kind]]
        live, again = (
            sorted(map(str, Lake(one).read(kind, market_type=market, columns=names).to_pylist()))
            for one in (lake, tmp_path / "again")
        )
        assert live == again, kind
