"""A daemon that collects from Kraken's twin on three markets: what was sent is stored, and what was lost is a row."""

from __future__ import annotations

import json
from decimal import Decimal
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
    "spot": ["BTC/USDT", "ETH/USDT"],
    "linear": ["PF_XBTUSD", "PF_ETHUSD"],
    "inverse": ["PI_XBTUSD", "PI_ETHUSD"],
}
SPOT = ["trade", "quote", "book_delta", "contract"]
FUTURES = ["trade", "book_delta", "contract", "mark_price", "liquidation", "open_interest", "funding_rate"]
SYMBOLS = [(market, symbol) for market, names in MARKETS.items() for symbol in names]
BOOKS = {"spot": "book.25", "linear": "book", "inverse": "book"}
FAULTED = {("spot", "BTC/USDT"), ("linear", "PF_XBTUSD")}


def reports(port: int) -> list[dict[str, Any]]:
    said = json.loads(get(f"http://127.0.0.1:{port}/status")[1])["services"]["collectors"]["report"]
    return [said[f"kraken/{market}"] for market in MARKETS] if len(said) == len(MARKETS) else []


def in_sync(port: int) -> bool:
    """Whether every stream is producing and every book is in sync, by the daemon's own word."""
    connections = [each for report in reports(port) for each in report["connections"]]
    quiet = {name for each in connections for name in each.get("not_producing", {"none": ""})}
    talking = all("liquidation" in name or name == "instrument" for name in quiet)
    return len(connections) == 3 and talking and all(each.get("books_out_of_sync") == [] for each in connections)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("kraken")
    lake, port = folder / "lake", free_port()
    with simulator(
        folder, "--venue", "kraken", "--markets", ",".join(MARKETS), "--rate", "300", "--symbols", "BTCUSDT,ETHUSDT"
    ) as exchange:
        sources = [
            exchange.source(market, names, SPOT if market == "spot" else FUTURES) for market, names in MARKETS.items()
        ]
        sources[0]["channels"] = {"book_delta": BOOKS["spot"]}
        config = write_config(folder / "config.json", lake, sources, port)
        daemon = Daemon(config, folder / "daemon.log")
        try:
            daemon.wait_until_ready(port)
            wait_for("books in sync", lambda: in_sync(port))
            for market, symbol in sorted(FAULTED):
                exchange.fault("drop_ids", market=market, kind="book_delta", symbol=symbol, count=2)
            wait_for("the losses to be known", lambda: all(one["gaps"] >= 1 for one in reports(port)[:2]))
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
    stored = [row for row in rows(lake, "trade", market, symbol) if row["condition"] != "history"]
    stored = [row for row in stored if market == "spot" or int(row["trade_id"][:8], 16) >= sent[0].id]
    assert len(stored) > 5
    told = [(float(e.price), float(e.qty), "sell" if e.buyer_is_maker else "buy") for e in sent[: len(stored)]]
    assert [(row["price"], row["qty"], row["side"]) for row in stored] == told
    assert len(sent) - len(stored) <= 40, "what was under way when the daemon was stopped"
    if market == "spot":
        assert [row["seq"] for row in stored] == [event.id for event in sent[: len(stored)]]
    else:
        assert all(row["seq"] is None for row in stored)
        assert len({row["trade_id"] for row in stored}) == len(stored)


@pytest.mark.parametrize("market,symbol", SYMBOLS)
def test_what_was_traded_before_the_subscription_is_marked_and_joins_what_came_live(
    collected: tuple[Path, Truth], market: str, symbol: str
) -> None:
    lake, truth = collected
    found = rows(lake, "trade", market, symbol)
    past = [row for row in found if row["condition"] == "history"]
    live = min(event.id for event in truth.sent("trade", market, symbol).values())
    ids = [row["seq"] if market == "spot" else int(row["trade_id"][:8], 16) for row in found]
    assert all(one < live for one, row in zip(ids, found, strict=True) if row["condition"] == "history")
    assert sorted(ids) == list(range(min(ids), min(ids) + len(ids)))
    assert past or min(ids) == live


@pytest.mark.parametrize("market,symbol", SYMBOLS)
def test_the_stored_rows_give_books_and_an_injected_loss_is_one_new_whole(
    collected: tuple[Path, Truth], market: str, symbol: str
) -> None:
    lake, truth = collected
    updates = rows(lake, "book_delta", market, symbol)
    flags = [row["flags"] for row in updates]
    faulted = (market, symbol) in FAULTED
    assert flags.count("snapshot") == 1 + faulted
    assert flags.count("gap_before") == (faulted and market == "linear")
    assert flags.count("clear") == (faulted and market == "spot")
    assert ("truncated" in flags) == (market == "spot")
    last = updates[-1]
    book = Lake(lake).book(symbol, at=last["ts_event"], exchange="kraken", market_type=market)
    assert book.last_id == last["last_id"]
    assert Decimal(book.bids[0][0]) < Decimal(book.asks[0][0])
    told = truth.stream(market, f"{BOOKS[market]}.{symbol}")
    wanted = {(e.ts_event, tuple((float(p), float(q)) for p, q in (*e.bids, *e.asks))) for e in told}
    for row in (row for row in updates if row["flags"] in ("", "gap_before")):
        levels = tuple((level["price"], level["qty"]) for level in (*row["bids"], *row["asks"]))
        assert (int(row["ts_event"].timestamp() * 1_000_000), levels) in wanted


def test_a_spot_book_of_limited_depth_has_never_more_levels(collected: tuple[Path, Truth]) -> None:
    lake, _ = collected
    updates = [row for row in rows(lake, "book_delta", "spot", "ETH/USDT") if row["flags"] != "clear"]
    sides: dict[str, set[float]] = {"bids": set(), "asks": set()}
    for place, row in enumerate(updates):
        for name, held in sides.items():
            held.clear() if row["flags"] == "snapshot" else None
            for level in row[name]:
                (held.add if level["qty"] else held.discard)(level["price"])
        if place + 1 == len(updates) or updates[place + 1]["flags"] != "truncated":
            assert max(map(len, sides.values())) <= 25


def test_the_only_gaps_are_of_the_injected_losses_and_the_lake_proves_itself(collected: tuple[Path, Truth]) -> None:
    lake, _ = collected
    missing = [gap for gap in dl_json("gaps", "--lake", lake, expect=1) if gap["cause"] != "stopped"]
    assert {(gap["kind"], gap["symbol"], gap["cause"]) for gap in missing} == {
        ("book_delta", "BTC/USDT", "checksum"),
        ("book_delta", "PF_XBTUSD", "jump"),
    }
    summed = [gap for gap in missing if gap["cause"] == "checksum"]
    assert len(summed) == 1
    assert summed[0]["ts_from"] < summed[0]["ts_to"]
    verdict = dl_json("verify", "--lake", lake)
    assert (verdict["ok"], verdict["findings"]) == (True, [])


@pytest.mark.parametrize("kind", ["mark_price", "liquidation", "open_interest", "funding_rate"])
@pytest.mark.parametrize("market", ["linear", "inverse"])
def test_what_only_derivatives_tell_is_stored(collected: tuple[Path, Truth], market: str, kind: str) -> None:
    lake, _ = collected
    table = Lake(lake).read(kind, market_type=market).to_pylist()
    if kind == "liquidation":
        trades = Lake(lake).read("trade", market_type=market).to_pylist()
        forced = [row for row in trades if row["condition"] == "liquidation"]
        assert {(r["symbol"], r["ts_event"], r["side"], r["price"]) for r in table} <= {
            (r["symbol"], r["ts_event"], r["side"], r["price"]) for r in forced
        }
        assert table
    else:
        assert {row["symbol"] for row in table} == set(MARKETS[market])


def test_instruments_are_told_with_their_unified_names(collected: tuple[Path, Truth]) -> None:
    rows_of = Lake(collected[0]).read("contract").to_pylist()
    named = {(row["market_type"], row["symbol"]): row["unified"] for row in rows_of}
    assert named["spot", "BTC/USDT"] == "BTC/USDT"
    assert named["linear", "PF_XBTUSD"] == "BTC/USD:USD"
    assert named["inverse", "PI_XBTUSD"] == "BTC/USD:BTC"
    assert len(rows_of) == len(named), "stream and list say the same of a pair"


COMPARED = {
    "trade": ["seq", "trade_id", "price", "qty", "side", "condition"], "quote": ["update_id", "bid", "ask"],
    "book_delta": ["prev_id", "last_id", "checksum", "flags"], "contract": ["uid", "status"],
    "mark_price": ["mark", "index", "predicted_rate", "next_funding"], "liquidation": ["side", "price", "qty"],
    "open_interest": ["oi", "sides"], "funding_rate": ["rate", "interval_s"],
}  # fmt: skip


@pytest.mark.parametrize("market", MARKETS)
def test_a_replay_of_the_frames_gives_the_same_rows(collected: tuple[Path, Truth], tmp_path: Path, market: str) -> None:
    lake, _ = collected
    held = (lake / "frames").rglob(f"market_type={market}/**/*.frames.jsonl*")
    frames = sorted(path for path in held if path.suffix != ".json")
    dl("replay", *frames, "--exchange", "kraken", "--market-type", market, "--lake", tmp_path / "again")
    for kind in SPOT if market == "spot" else FUTURES:
        names = ["symbol", "ts_event", "session", "frame_no", "item", *COMPARED[kind]]
        live, again = (
            sorted(map(str, Lake(one).read(kind, market_type=market, columns=names).to_pylist()))
            for one in (lake, tmp_path / "again")
        )
        assert live == again, kind
