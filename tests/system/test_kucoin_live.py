"""A daemon that collects from KuCoin's twin on three markets, with a token for every connection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from lake import Lake
from simulator.truth import Truth
from tests.support.commands import dl, dl_json
from tests.support.live import Daemon, free_port, get, simulator, wait_for, write_config

pytestmark = pytest.mark.timeout(300)

MARKETS = {"spot": ["BTC-USDT", "ETH-USDT"], "linear": ["XBTUSDTM", "ETHUSDTM"], "inverse": ["XBTUSDM", "ETHUSDM"]}
SPOT = ["trade", "quote", "book_delta", "contract"]
FUTURES = [*SPOT, "mark_price", "open_interest", "funding_rate"]
BOOKS = {"spot": "/market/level2", "linear": "/contractMarket/level2", "inverse": "/contractMarket/level2"}
SYMBOLS = [(market, symbol) for market, names in MARKETS.items() for symbol in names]


def reports(port: int) -> list[dict[str, Any]]:
    said = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]["collectors"]["report"]
    return [said[f"kucoin/{market}"] for market in MARKETS] if len(said) == len(MARKETS) else []


def in_sync(port: int) -> bool:
    """Whether every stream is producing and every book is in sync, by the daemon's own word."""
    connections = [each for report in reports(port) for each in report["connections"]]
    quiet = {name for each in connections for name in each.get("not_producing", {"none": ""})}
    return len(connections) == 3 and not quiet and all(each.get("books_out_of_sync") == [] for each in connections)


def trades_told(log: Path) -> dict[tuple[str, str], int]:
    """How many trades of each symbol the venue has had."""
    text = log.read_text()
    return {(market, symbol): text.count(f'["trade","{market}","{symbol}",') for market, symbol in SYMBOLS}


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("kucoin")
    lake, port = folder / "lake", free_port()
    with simulator(folder, "--venue", "kucoin", "--markets", ",".join(MARKETS), "--rate", "300") as exchange:
        sources = [
            exchange.source(market, names, SPOT if market == "spot" else FUTURES) for market, names in MARKETS.items()
        ]
        config = write_config(folder / "config.json", lake, sources, port)
        daemon = Daemon(config, folder / "daemon.log")
        try:
            daemon.wait_until_ready(port)
            wait_for("books in sync", lambda: in_sync(port))
            exchange.fault("drop_ids", market="linear", kind="book_delta", symbol="XBTUSDTM", count=2)
            wait_for("the loss to be known", lambda: reports(port)[1]["gaps"] >= 1)
            wait_for("books in sync again", lambda: in_sync(port))
            before = trades_told(exchange.log)
            wait_for(
                "ten more trades of each symbol",
                lambda: all(count >= before[key] + 10 for key, count in trades_told(exchange.log).items()),
            )
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
    told = [(float(e.price), float(e.qty), "sell" if e.buyer_is_maker else "buy") for e in sent[: len(stored)]]
    assert [(row["price"], row["qty"], row["side"]) for row in stored] == told
    worth = {"spot": ("base", 1.0), "linear": ("contract", 0.001), "inverse": ("contract", 1.0)}[market]
    assert {(row["qty_unit"], row["multiplier"]) for row in stored} == {worth}
    assert len(sent) - len(stored) <= 40, "what was under way when the daemon was stopped"
    assert len({row["trade_id"] for row in stored}) == len(stored)
    assert all(row["seq"] is None for row in stored)


@pytest.mark.parametrize("market,symbol", SYMBOLS)
def test_the_stored_rows_give_books_and_an_injected_loss_is_one_new_whole(
    collected: tuple[Path, Truth], market: str, symbol: str
) -> None:
    lake, truth = collected
    updates = rows(lake, "book_delta", market, symbol)
    flags = [row["flags"] for row in updates]
    faulted = (market, symbol) == ("linear", "XBTUSDTM")
    assert flags.count("snapshot") == 1 + faulted
    assert flags.count("gap_before") == faulted
    last = updates[-1]
    book = Lake(lake).book(symbol, at=last["ts_event"], exchange="kucoin", market_type=market)
    assert book.last_id == last["last_id"]
    quotes = [row for row in rows(lake, "quote", market, symbol) if row["ts_event"] <= last["ts_event"]]
    assert (float(book.bids[0][0]), float(book.asks[0][0])) == (quotes[-1]["bid"], quotes[-1]["ask"])
    told = {e.id: e for e in truth.stream(market, f"{BOOKS[market]}:{symbol}")}
    for row in updates:
        if row["flags"] in ("", "gap_before"):
            wanted = [(float(price), float(qty)) for price, qty in told[row["last_id"]].bids]
            assert [(level["price"], level["qty"]) for level in row["bids"]] == wanted


def test_the_only_gaps_are_of_the_injected_loss_and_the_lake_proves_itself(collected: tuple[Path, Truth]) -> None:
    lake, _ = collected
    missing = [gap for gap in dl_json("gaps", "--lake", lake, expect=1) if gap["cause"] != "stopped"]
    assert {(gap["kind"], gap["symbol"], gap["cause"]) for gap in missing} == {("book_delta", "XBTUSDTM", "jump")}
    assert len(missing) <= 2, "what was dropped, and what came between the two subscriptions"
    assert all(gap["id_from"] < gap["id_to"] for gap in missing)
    verdict = dl_json("verify", "--lake", lake)
    assert (verdict["ok"], verdict["findings"]) == (True, [])


@pytest.mark.parametrize("kind", ["mark_price", "open_interest", "funding_rate"])
@pytest.mark.parametrize("market", ["linear", "inverse"])
def test_what_only_derivatives_tell_is_stored(collected: tuple[Path, Truth], market: str, kind: str) -> None:
    table = Lake(collected[0]).read(kind, market_type=market)
    assert set(pl.DataFrame(pl.from_arrow(table)).get_column("symbol").cast(pl.String)) == set(MARKETS[market])


def test_instruments_are_told_with_their_unified_names(collected: tuple[Path, Truth]) -> None:
    rows_of = Lake(collected[0]).read("contract").to_pylist()
    named = {(row["market_type"], row["symbol"]): row["unified"] for row in rows_of}
    assert named["spot", "BTC-USDT"] == "BTC/USDT"
    assert named["linear", "XBTUSDTM"] == "BTC/USDT:USDT"
    assert named["inverse", "XBTUSDM"] == "BTC/USD:BTC"


COMPARED = {
    "trade": ["trade_id", "price", "qty", "side", "multiplier"], "quote": ["update_id", "bid", "ask"],
    "book_delta": ["first_id", "last_id", "flags"], "contract": ["uid", "status"],
    "mark_price": ["mark", "index", "predicted_rate"],
    "open_interest": ["oi", "sides"], "funding_rate": ["rate", "interval_s"],
}  # fmt: skip


@pytest.mark.parametrize("market", MARKETS)
def test_a_replay_of_the_frames_gives_the_same_rows(collected: tuple[Path, Truth], tmp_path: Path, market: str) -> None:
    lake, _ = collected
    held = (lake / "frames").rglob(f"market_type={market}/**/*.frames.jsonl*")
    frames = sorted(path for path in held if path.suffix != ".json")
    dl("replay", *frames, "--exchange", "kucoin", "--market-type", market, "--lake", tmp_path / "again")
    for kind in SPOT if market == "spot" else FUTURES:
        names = ["symbol", "ts_event", "session", "frame_no", "item", *COMPARED[kind]]
        live, again = (
            sorted(map(str, Lake(one).read(kind, market_type=market, columns=names).to_pylist()))
            for one in (lake, tmp_path / "again")
        )
        assert live == again, kind


def _unpacked(path: Path) -> bytes:
    with zstandard.open(path) as file:
        return bytes(file.read())


def test_every_connection_has_asked_for_a_token_that_is_not_written_down(collected: tuple[Path, Truth]) -> None:
    lake, truth = collected
    asked = [one for one in truth.requests if one.target.endswith("/bullet-public")]
    assert len(asked) == len(truth.links) >= 3
    files = [path for path in lake.rglob("*") if path.is_file()]
    held = [_unpacked(path) if path.suffix == ".zst" else path.read_bytes() for path in files]
    assert any(b"/market/match" in text for text in held)
    assert all(b"token=" not in text for text in held)
