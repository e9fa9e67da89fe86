"""A daemon that collects from Bybit's twin on three markets: what was sent is stored, and what was lost is a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.live import Simulator, wait_for
from tests.support.venue_live import REPLAYED, Collected, Venue

pytestmark = pytest.mark.timeout(600)

MARKETS = {"spot": ["BTCUSDT", "ETHUSDT"], "linear": ["BTCUSDT", "ETHUSDT"], "inverse": ["BTCUSD", "ETHUSD"]}
SPOT = ["trade", "quote", "book_delta", "contract"]
FUTURES = [*SPOT, "mark_price", "liquidation", "open_interest", "funding_rate"]
VENUE = Venue("bybit", MARKETS, SPOT, FUTURES, [("linear", "BTCUSDT")], silent="allLiquidation")


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    def forced(_: Simulator, port: int) -> None:
        futures = ("linear", "inverse")
        wait_for(
            "a liquidation on both",
            lambda: all(VENUE.reports(port)[market]["events"].get("liquidation") for market in futures),
        )

    return VENUE.collect(tmp_path_factory.mktemp("bybit"), "--symbols", "BTCUSDT,ETHUSDT", "--rate", "100", then=forced)


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_every_trade_that_was_sent_is_stored_once_as_it_was(collected: Collected, market: str, symbol: str) -> None:
    stored = collected.rows("trade", market, symbol)
    collected.check_trades(market, symbol, stored)
    assert len({row["trade_id"] for row in stored}) == len(stored)
    assert all(row["seq"] is None for row in stored)


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_the_stored_rows_give_books_and_an_injected_loss_is_one_new_whole(
    collected: Collected, market: str, symbol: str
) -> None:
    collected.check_books(market, symbol, f"orderbook.200.{symbol}")


def test_the_only_gaps_are_of_the_injected_loss_and_the_lake_proves_itself(collected: Collected) -> None:
    collected.check_gaps()


@pytest.mark.parametrize("kind", ["mark_price", "liquidation", "open_interest", "funding_rate"])
@pytest.mark.parametrize("market", ["linear", "inverse"])
def test_what_only_derivatives_tell_is_stored(collected: Collected, market: str, kind: str) -> None:
    collected.check_derivative(kind, market)


def test_instruments_are_told_with_their_unified_names(collected: Collected) -> None:
    named = collected.unified()
    assert named["spot", "BTCUSDT"] == "BTC/USDT"
    assert named["linear", "BTCUSDT"] == "BTC/USDT:USDT"
    assert named["inverse", "BTCUSD"] == "BTC/USD:BTC"


COMPARED = {
    "trade": ["trade_id", "price", "qty", "side"], "quote": ["update_id", "bid", "ask"],
    "book_delta": ["first_id", "last_id", "flags"], "contract": ["uid", "status"],
    "mark_price": ["mark", "index", "predicted_rate", "next_funding"], "liquidation": ["side", "price", "qty"],
    "open_interest": ["oi", "sides"], "funding_rate": ["rate", "interval_s"],
}  # fmt: skip


@pytest.mark.parametrize("market", REPLAYED)
def test_a_replay_of_the_frames_gives_the_same_rows(collected: Collected, tmp_path: Path, market: str) -> None:
    collected.check_replay(tmp_path / "again", market, COMPARED)
