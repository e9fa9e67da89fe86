"""Books of a running daemon: snapshots under the budget, in sync on three markets, and rebuilt from what is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from collectors.exchanges.binance.sync import BookSync, Ids, rule
from lake import Lake
from market.book import Book
from tests.support.commands import dl
from tests.support.live import Daemon, free_port, get, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(300)

MARKETS = {"spot": ["BTCUSDT", "ETHUSDT"], "linear": ["BTCUSDT", "ETHUSDT"], "inverse": ["BTCUSD_PERP", "ETHUSD_PERP"]}


def reports(port: int) -> list[dict[str, Any]]:
    """What the daemon says of each market, in the order of MARKETS; empty while it says nothing of one."""
    said = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]["collectors"]["report"]
    return [said[f"binance/{market}"] for market in MARKETS] if len(said) == len(MARKETS) else []


def in_sync(port: int) -> bool:
    """Whether every book of every market is in sync, by the daemon's own word."""
    connections = [each for report in reports(port) for each in report["connections"]]
    return len(connections) == len(MARKETS) and all(each.get("books_out_of_sync") == [] for each in connections)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("books")
    lake, port = folder / "lake", free_port()
    with simulator(folder, "--markets", ",".join(MARKETS), "--rate", "300") as exchange:
        sources = [exchange.source(market, names, ["quote", "book_delta"]) for market, names in MARKETS.items()]
        config = write_config(folder / "config.json", lake, sources, port)
        daemon = Daemon(config, folder / "daemon.log")
        try:
            daemon.wait_until_ready(port)
            wait_for("books in sync", lambda: in_sync(port))
            exchange.fault("drop_ids", market="linear", kind="book_delta", symbol="BTCUSDT", count=2)
            wait_for("the loss to be known", lambda: reports(port)[1]["gaps"] == 1)
            wait_for("books in sync again", lambda: in_sync(port))
        finally:
            code = daemon.stop()
        assert code == 0, daemon.log.read_text()[-4000:]
        exchange.stop()
    dl("transform", "--config", config)
    return lake


def rows(lake: Path, kind: str, market: str, symbol: str) -> list[dict[str, Any]]:
    table = Lake(lake).read(kind, market_type=market, symbol=symbol)
    return pl.DataFrame(pl.from_arrow(table)).sort("frame_no").to_dicts()


def text(levels: list[dict[str, float]]) -> list[tuple[str, str]]:
    return [(repr(level["price"]), "0" if not level["qty"] else repr(level["qty"])) for level in levels]


@pytest.mark.parametrize("market,symbol", [(market, symbol) for market, names in MARKETS.items() for symbol in names])
def test_the_stored_rows_give_the_books_whose_best_prices_are_the_tickers(
    collected: Path, market: str, symbol: str
) -> None:
    quotes = {
        row["update_id"]: tuple(row[name] for name in ("bid", "bid_qty", "ask", "ask_qty"))
        for row in rows(collected, "quote", market, symbol)
    }
    updates = rows(collected, "book_delta", market, symbol)
    faulted = (market, symbol) == ("linear", "BTCUSDT")
    assert [row["flags"] for row in updates].count("snapshot") == 1 + faulted
    assert [row["flags"] for row in updates].count("gap_before") == faulted
    sync, equal = BookSync(rule(market), Book(), held=100_000), 0
    assert sync.book is not None
    for row in updates:
        if row["flags"] == "snapshot":
            assert row["source"] == "rest"
            assert sync.snapshot(row["last_id"], text(row["bids"]), text(row["asks"]), 1000)
            continue
        sync.update(Ids(row["first_id"], row["last_id"], row["prev_id"]), text(row["bids"]), text(row["asks"]))
        said = quotes.get(sync.last)
        if said is not None:
            bid, ask = sync.book.best_bid(), sync.book.best_ask()
            assert bid is not None
            assert ask is not None
            assert tuple(map(float, (*bid, *ask))) == said
            assert not sync.book.crossed
            equal += 1
    assert sync.in_sync
    assert sync.broken == faulted
    assert equal > 0
    snapshots = rows(collected, "book_snapshot", market, symbol)
    assert {(row["source"], row["depth"]) for row in snapshots} == {("rest", 1000)}
