"""A daemon that collects from OKX's twin on three markets: what was sent is stored, and what was lost is a row."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.support.venue_live import REPLAYED, Collected, Venue

pytestmark = pytest.mark.timeout(600)

MARKETS = {
    "spot": ["BTC-USDT", "ETH-USDT"],
    "linear": ["BTC-USDT-SWAP", "ETH-USDT-SWAP"],
    "inverse": ["BTC-USD-SWAP", "ETH-USD-SWAP"],
}
SPOT = ["trade", "agg_trade", "quote", "book_delta", "contract"]
FUTURES = [*SPOT, "mark_price", "liquidation", "open_interest", "funding_rate"]
SIZES = {"linear": "0.01", "inverse": "100"}
STEP = 3
"""Between the ids of two changes of a book."""
LOST = [("linear", "BTC-USDT-SWAP")]
VENUE = Venue("okx", MARKETS, SPOT, FUTURES, LOST, connections=9, silent="liquidation-orders")


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    return VENUE.collect(tmp_path_factory.mktemp("okx"), "--symbols", "BTC-USDT,ETH-USDT", "--rate", "240")


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_every_trade_that_was_sent_is_stored_once_as_it_was(collected: Collected, market: str, symbol: str) -> None:
    sent = sorted(collected.truth.sent("trade", market, symbol).values(), key=lambda event: event.id)
    stored = collected.rows("trade", market, symbol)
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


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_aggregates_name_the_trades_that_are_in_them(collected: Collected, market: str, symbol: str) -> None:
    trades = {row["seq"]: row for row in collected.rows("trade", market, symbol)}
    inside = [row for row in collected.rows("agg_trade", market, symbol) if row["first_id"] in trades]
    inside = [row for row in inside if row["last_id"] in trades]
    assert len(inside) > 5
    for row in inside:
        parts = [trades[number] for number in range(row["first_id"], row["last_id"] + 1)]
        assert row["qty"] == pytest.approx(sum(part["qty"] for part in parts))
        assert {part["price"] for part in parts} == {row["price"]}
    assert [b["first_id"] - a["last_id"] for a, b in itertools.pairwise(inside)] == [1] * (len(inside) - 1)


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_the_stored_rows_give_books_and_an_injected_loss_is_one_new_whole(
    collected: Collected, market: str, symbol: str
) -> None:
    collected.check_books(market, symbol, f"books:{symbol}", STEP)


def test_the_only_gaps_are_of_the_injected_loss_and_the_lake_proves_itself(collected: Collected) -> None:
    collected.check_gaps()


@pytest.mark.parametrize("kind", ["mark_price", "liquidation", "open_interest", "funding_rate"])
@pytest.mark.parametrize("market", ["linear", "inverse"])
def test_what_only_derivatives_tell_is_stored(collected: Collected, market: str, kind: str) -> None:
    found = collected.check_derivative(kind, market)
    if kind == "mark_price":
        assert any(row["predicted_rate"] is not None and row["next_funding"] for row in found)


def test_instruments_are_told_with_their_unified_names(collected: Collected) -> None:
    named = collected.unified()
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


@pytest.mark.parametrize("market", REPLAYED)
def test_a_replay_of_the_frames_gives_the_same_rows(collected: Collected, tmp_path: Path, market: str) -> None:
    collected.check_replay(tmp_path / "again", market, COMPARED)
