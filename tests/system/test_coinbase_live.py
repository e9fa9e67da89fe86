"""A daemon that collects from Coinbase's twin: what was sent is stored, and what was lost is a row."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lake import Lake
from simulator.truth import Truth
from tests.support.commands import dl, dl_json
from tests.support.live import Daemon, free_port, get, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(300)

PRODUCTS = ["BTC-USDT", "ETH-USDT"]
FUTURES = ["contract", "open_interest", "funding_rate", "trade", "book_delta"]
KINDS = ["trade", "quote", "book_delta", "kline", "contract"]


def report(port: int) -> dict[str, Any]:
    services = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]
    found: dict[str, Any] = services["collectors"]["report"].get("coinbase/spot", {})
    return found


def in_sync(port: int) -> bool:
    """Whether every stream but those of candles is producing and every book is in sync, by the daemon's own word."""
    connections = report(port).get("connections", [])
    quiet = {name for each in connections for name in each.get("not_producing", {"none": ""})}
    talking = all(name.startswith("candles:") for name in quiet)
    return len(connections) == 1 and talking and all(each.get("books_out_of_sync") == [] for each in connections)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("coinbase")
    lake, port = folder / "lake", free_port()
    markets = (
        "--venue",
        "coinbase",
        "--markets",
        "spot,linear",
        "--symbols",
        ",".join(PRODUCTS),
        "--rate",
        "200",
    )
    with simulator(folder, *markets) as exchange:
        source = exchange.source("spot", PRODUCTS, KINDS)
        futures = exchange.source("linear", PRODUCTS, FUTURES)
        config = write_config(folder / "config.json", lake, [source, futures], port)
        daemon = Daemon(config, folder / "daemon.log")
        try:
            daemon.wait_until_ready(port)
            wait_for("books in sync", lambda: in_sync(port))
            exchange.fault("drop_ids", market="spot", kind="book_delta", symbol="BTC-USDT", count=1)
            wait_for("the loss to be known", lambda: report(port)["gaps"] >= 1)
            state = f"{exchange.address['control']}/state"
            wait_for("the connection to be made again", lambda: json.loads(get(state)[1])["opened"] >= 2)
            time.sleep(1.0)  # status is that of the last second
            wait_for("books in sync again", lambda: in_sync(port))
            time.sleep(2.0)  # what is asked of futures comes one by one
        finally:
            code = daemon.stop()
        assert code == 0, daemon.log.read_text()[-4000:]
        truth = exchange.stop()
    dl("transform", "--config", config)
    return lake, truth


def rows(lake: Path, kind: str, symbol: str) -> list[dict[str, Any]]:
    table = Lake(lake).read(kind, market_type="spot", symbol=symbol)
    return pl.DataFrame(pl.from_arrow(table)).sort("session", "frame_no", "item").to_dicts()


@pytest.mark.parametrize("symbol", PRODUCTS)
def test_every_trade_is_stored_once_with_the_takers_side_and_what_lies_before_is_history(
    collected: tuple[Path, Truth], symbol: str
) -> None:
    lake, truth = collected
    sent = truth.sent("trade", "spot", symbol)
    stored = {row["seq"]: row for row in rows(lake, "trade", symbol)}
    ids = sorted(stored)
    assert ids == list(range(ids[0], ids[-1] + 1)), "what was sent while nobody was connected came as history"
    assert len(ids) > 10
    told = {number: sent[number] for number in ids if number in sent}
    assert {
        number: (float(e.price), float(e.qty), "sell" if e.buyer_is_maker else "buy") for number, e in told.items()
    } == {number: (stored[number]["price"], stored[number]["qty"], stored[number]["side"]) for number in told}
    conditions = [stored[number]["condition"] for number in ids]
    assert conditions == ["history"] * conditions.count("history") + ["market"] * conditions.count("market")
    assert conditions.count("market") > 10


@pytest.mark.parametrize("symbol", PRODUCTS)
def test_the_stored_rows_give_books_and_a_loss_is_one_new_whole_of_each(
    collected: tuple[Path, Truth], symbol: str
) -> None:
    lake, truth = collected
    updates = rows(lake, "book_delta", symbol)
    flags = Counter(row["flags"] for row in updates)
    assert flags["snapshot"] == 2, "the connection was left, and made again"
    last = updates[-1]
    book = Lake(lake).book(symbol, at=last["ts_event"], exchange="coinbase", market_type="spot")
    assert book.last_id == last["last_id"]
    changes = truth.stream("spot", f"level2:{symbol}")
    newest = next(e for e in changes if e.ts_event == last["last_id"])
    tops = truth.of("quote", "spot", symbol).values()
    then = max((top for top in tops if top.id <= newest.id), key=lambda top: top.id)
    assert tuple(float(side[0][0]) for side in (book.bids, book.asks)) == (float(then.bid), float(then.ask))
    told = Counter(str([(float(price), float(qty)) for price, qty in e.bids]) for e in changes)
    got = Counter(
        str([(level["price"], level["qty"]) for level in row["bids"]]) for row in updates if row["flags"] != "snapshot"
    )
    assert got <= told


def test_the_only_gaps_are_those_of_the_left_connection_and_the_lake_proves_itself(
    collected: tuple[Path, Truth],
) -> None:
    lake, _ = collected
    missing = [gap for gap in dl_json("gaps", "--lake", lake, expect=1) if gap["cause"] != "stopped"]
    causes = {gap["cause"] for gap in missing}
    assert causes - {"jump"} == {"messages_missing"}
    assert all(gap["kind"] == "book_delta" for gap in missing if gap["cause"] == "jump"), "known before it was left"
    assert {gap["symbol"] for gap in missing if gap["kind"] == "book_delta"} == set(PRODUCTS)
    assert not [gap for gap in missing if gap["kind"] == "trade"], "ids prove that none is missing"
    verdict = dl_json("verify", "--lake", lake)
    assert (verdict["ok"], verdict["findings"]) == (True, [])


def test_futures_are_told_by_rest(collected: tuple[Path, Truth]) -> None:
    for kind, columns in (("open_interest", ("oi_unit", "sides")), ("funding_rate", ("rate_kind", "interval_s"))):
        told = Lake(collected[0]).read(kind, market_type="linear").to_pylist()
        assert {row["symbol"] for row in told} == set(PRODUCTS)
        wanted = {"open_interest": ("contract", 1), "funding_rate": ("ratio", 28_800)}[kind]
        assert {tuple(row[name] for name in columns) for row in told} == {wanted}


def test_products_are_told_with_their_unified_names(collected: tuple[Path, Truth]) -> None:
    told = Lake(collected[0]).read("contract", market_type="linear").to_pylist()
    assert {(row["unified"], row["multiplier"]) for row in told} == {
        ("BTC/USDT:USDT-301220", 0.01), ("ETH/USDT:USDT-301220", 0.01),
    }  # fmt: skip
    rows_of = Lake(collected[0]).read("contract", market_type="spot").to_pylist()
    assert {row["symbol"]: (row["unified"], row["status"]) for row in rows_of} == {
        "BTC-USDT": ("BTC/USDT", "online"), "ETH-USDT": ("ETH/USDT", "online"),
    }  # fmt: skip


COMPARED = {
    "trade": ["seq", "price", "qty", "side", "condition"], "quote": ["update_id", "bid", "ask"],
    "book_delta": ["prev_id", "last_id", "flags"], "contract": ["uid", "status"],
}  # fmt: skip


def test_a_replay_of_the_frames_gives_the_same_rows(collected: tuple[Path, Truth], tmp_path: Path) -> None:
    lake, _ = collected
    held = (lake / "frames").rglob("market_type=spot/**/*.frames.jsonl*")
    frames = sorted(path for path in held if path.suffix != ".json")
    dl("replay", *frames, "--exchange", "coinbase", "--market-type", "spot", "--lake", tmp_path / "again")
    for kind, columns in COMPARED.items():
        names = ["symbol", "ts_event", "session", "frame_no", "item", *columns]
        live, again = (
            sorted(map(str, Lake(one).read(kind, market_type="spot", columns=names).to_pylist()))
            for one in (lake, tmp_path / "again")
        )
        assert live == again, kind


@pytest.mark.parametrize("symbol", PRODUCTS)
def test_trades_of_futures_are_counted_in_contracts_of_their_size(collected: tuple[Path, Truth], symbol: str) -> None:
    lake, truth = collected
    sent = truth.sent("trade", "linear", symbol)
    stored = Lake(lake).read("trade", market_type="linear", symbol=symbol).to_pylist()
    assert len(stored) > 10
    assert {(row["qty_unit"], row["multiplier"], row["seq"]) for row in stored} == {("contract", 0.01, None)}
    ids = [int(row["trade_id"]) for row in stored]
    assert len(set(ids)) == len(ids)
    told = {number: (float(sent[number].price), float(sent[number].qty)) for number in ids if number in sent}
    assert told == {int(row["trade_id"]): (row["price"], row["qty"]) for row in stored if int(row["trade_id"]) in told}
