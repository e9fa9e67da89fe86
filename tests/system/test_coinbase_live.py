"""A daemon that collects from Coinbase's twin: what was sent is stored, and what was lost is a row."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lake import Lake
from tests.support.commands import dl
from tests.support.live import collecting, free_port, get, lines, simulator, wait_for, write_config
from tests.support.venue_live import Collected, Venue, in_sync

pytestmark = pytest.mark.timeout(600)

PRODUCTS = ["BTC-USDT", "ETH-USDT"]
MARKETS = {"spot": PRODUCTS, "linear": PRODUCTS}
KINDS = ["trade", "quote", "book_delta", "kline", "contract"]
FUTURES = ["contract", "open_interest", "funding_rate", "trade", "book_delta"]
LOST = ("spot", "BTC-USDT")
VENUE = Venue("coinbase", MARKETS, KINDS, FUTURES, [LOST])


def report(port: int) -> dict[str, Any]:
    services = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]
    found: dict[str, Any] = services["collectors"]["report"].get("coinbase/spot", {})
    return found


def spot_in_sync(port: int) -> bool:
    """Whether every stream but those of candles is producing and every book is in sync, by the daemon's own word."""
    return in_sync([report(port)], 1, "candles:")


def told(lake: Path) -> bool:
    """Whether what futures are asked for, and more trades than are looked at, are there of every product."""
    found = Counter(
        (market, kind, event["symbol"]) for market, kind, event in lines(lake) if event.get("condition") != "history"
    )
    return all(
        found["linear", "open_interest", name]
        and found["linear", "funding_rate", name]
        and found["spot", "trade", name] > 10
        for name in PRODUCTS
    )


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    folder = tmp_path_factory.mktemp("coinbase")
    lake, port = folder / "lake", free_port()
    options = ("--markets", ",".join(MARKETS), "--symbols", ",".join(PRODUCTS), "--rate", "200")
    with simulator(folder, "--venue", "coinbase", *options) as exchange:
        sources = [exchange.source(market, names, VENUE.kinds(market)) for market, names in MARKETS.items()]
        config = write_config(folder / "config.json", lake, sources, port)
        with collecting(config, port):
            wait_for("books in sync", lambda: spot_in_sync(port))
            exchange.fault("drop_ids", market=LOST[0], kind="book_delta", symbol=LOST[1], count=1)
            wait_for("the loss to be known", lambda: report(port)["gaps"] >= 1)
            state = f"{exchange.address['control']}/state"
            wait_for("the connection to be made again", lambda: json.loads(get(state)[1])["opened"] >= 2)
            wait_for("books in sync again", lambda: spot_in_sync(port))
            wait_for("what is asked of futures, one by one, and enough trades", lambda: told(lake))
        truth = exchange.stop()
    dl("transform", "--config", config)
    return Collected(VENUE, lake, truth)


@pytest.mark.parametrize("symbol", PRODUCTS)
def test_every_trade_is_stored_once_with_the_takers_side_and_what_lies_before_is_history(
    collected: Collected, symbol: str
) -> None:
    sent = collected.truth.sent("trade", "spot", symbol)
    stored = {row["seq"]: row for row in collected.rows("trade", "spot", symbol)}
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
def test_the_stored_rows_give_books_and_a_loss_is_one_new_whole_of_each(collected: Collected, symbol: str) -> None:
    lake, truth = collected.lake, collected.truth
    updates = collected.rows("book_delta", "spot", symbol)
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
    collected: Collected,
) -> None:
    missing = collected.gaps()
    causes = {gap["cause"] for gap in missing}
    assert causes - {"jump"} == {"messages_missing"}
    assert all(gap["kind"] == "book_delta" for gap in missing if gap["cause"] == "jump"), "known before it was left"
    assert {gap["symbol"] for gap in missing if gap["kind"] == "book_delta"} == set(PRODUCTS)
    assert not [gap for gap in missing if gap["kind"] == "trade"], "ids prove that none is missing"
    collected.check_proof()


def test_futures_are_told_by_rest(collected: Collected) -> None:
    for kind, columns in (("open_interest", ("oi_unit", "sides")), ("funding_rate", ("rate_kind", "interval_s"))):
        told = Lake(collected.lake).read(kind, market_type="linear").to_pylist()
        assert {row["symbol"] for row in told} == set(PRODUCTS)
        wanted = {"open_interest": ("contract", 1), "funding_rate": ("ratio", 28_800)}[kind]
        assert {tuple(row[name] for name in columns) for row in told} == {wanted}


def test_products_are_told_with_their_unified_names(collected: Collected) -> None:
    told = Lake(collected.lake).read("contract", market_type="linear").to_pylist()
    assert {(row["unified"], row["multiplier"]) for row in told} == {
        ("BTC/USDT:USDT-301220", 0.01), ("ETH/USDT:USDT-301220", 0.01),
    }  # fmt: skip
    rows_of = Lake(collected.lake).read("contract", market_type="spot").to_pylist()
    assert {row["symbol"]: (row["unified"], row["status"]) for row in rows_of} == {
        "BTC-USDT": ("BTC/USDT", "online"), "ETH-USDT": ("ETH/USDT", "online"),
    }  # fmt: skip


COMPARED = {
    "trade": ["seq", "price", "qty", "side", "condition"], "quote": ["update_id", "bid", "ask"],
    "book_delta": ["prev_id", "last_id", "flags"], "contract": ["uid", "status"],
}  # fmt: skip


def test_a_replay_of_the_frames_gives_the_same_rows(collected: Collected, tmp_path: Path) -> None:
    collected.check_replay(tmp_path / "again", "spot", COMPARED)


@pytest.mark.parametrize("symbol", PRODUCTS)
def test_trades_of_futures_are_counted_in_contracts_of_their_size(collected: Collected, symbol: str) -> None:
    sent = collected.truth.sent("trade", "linear", symbol)
    stored = Lake(collected.lake).read("trade", market_type="linear", symbol=symbol).to_pylist()
    assert len(stored) > 10
    assert {(row["qty_unit"], row["multiplier"], row["seq"]) for row in stored} == {("contract", 0.01, None)}
    ids = [int(row["trade_id"]) for row in stored]
    assert len(set(ids)) == len(ids)
    told = {number: (float(sent[number].price), float(sent[number].qty)) for number in ids if number in sent}
    assert told == {int(row["trade_id"]): (row["price"], row["qty"]) for row in stored if int(row["trade_id"]) in told}
