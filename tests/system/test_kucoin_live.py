"""A daemon that collects from KuCoin's twin on three markets, with a token for every connection."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from tests.support.live import Simulator, wait_for
from tests.support.venue_live import REPLAYED, Collected, Venue

pytestmark = pytest.mark.timeout(600)

MARKETS = {"spot": ["BTC-USDT", "ETH-USDT"], "linear": ["XBTUSDTM", "ETHUSDTM"], "inverse": ["XBTUSDM", "ETHUSDM"]}
SPOT = ["trade", "quote", "book_delta", "contract"]
FUTURES = [*SPOT, "mark_price", "open_interest", "funding_rate"]
BOOKS = {"spot": "/market/level2", "linear": "/contractMarket/level2", "inverse": "/contractMarket/level2"}
VENUE = Venue("kucoin", MARKETS, SPOT, FUTURES, [("linear", "XBTUSDTM")])


def trades_told(log: Path) -> dict[tuple[str, str], int]:
    """How many trades of each symbol the venue has had."""
    text = log.read_text()
    return {(market, symbol): text.count(f'["trade","{market}","{symbol}",') for market, symbol in VENUE.symbols}


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    def trading(exchange: Simulator, _: int) -> None:
        before = trades_told(exchange.log)
        wait_for(
            "ten more trades of each symbol",
            lambda: all(count >= before[key] + 10 for key, count in trades_told(exchange.log).items()),
        )

    return VENUE.collect(
        tmp_path_factory.mktemp("kucoin"), "--symbols", "BTC-USDT,ETH-USDT", "--rate", "80", then=trading
    )


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_every_trade_that_was_sent_is_stored_once_as_it_was(collected: Collected, market: str, symbol: str) -> None:
    stored = collected.rows("trade", market, symbol)
    collected.check_trades(market, symbol, stored)
    worth = {"spot": ("base", 1.0), "linear": ("contract", 0.001), "inverse": ("contract", 1.0)}[market]
    assert {(row["qty_unit"], row["multiplier"]) for row in stored} == {worth}
    assert len({row["trade_id"] for row in stored}) == len(stored)
    assert all(row["seq"] is None for row in stored)


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_the_stored_rows_give_books_and_an_injected_loss_is_one_new_whole(
    collected: Collected, market: str, symbol: str
) -> None:
    collected.check_books(market, symbol, f"{BOOKS[market]}:{symbol}")


def test_the_only_gaps_are_of_the_injected_loss_and_the_lake_proves_itself(collected: Collected) -> None:
    collected.check_gaps()


@pytest.mark.parametrize("kind", ["mark_price", "open_interest", "funding_rate"])
@pytest.mark.parametrize("market", ["linear", "inverse"])
def test_what_only_derivatives_tell_is_stored(collected: Collected, market: str, kind: str) -> None:
    collected.check_derivative(kind, market)


def test_instruments_are_told_with_their_unified_names(collected: Collected) -> None:
    named = collected.unified()
    assert named["spot", "BTC-USDT"] == "BTC/USDT"
    assert named["linear", "XBTUSDTM"] == "BTC/USDT:USDT"
    assert named["inverse", "XBTUSDM"] == "BTC/USD:BTC"


COMPARED = {
    "trade": ["trade_id", "price", "qty", "side", "multiplier"], "quote": ["update_id", "bid", "ask"],
    "book_delta": ["first_id", "last_id", "flags"], "contract": ["uid", "status"],
    "mark_price": ["mark", "index", "predicted_rate"],
    "open_interest": ["oi", "sides"], "funding_rate": ["rate", "interval_s"],
}  # fmt: skip


@pytest.mark.parametrize("market", REPLAYED)
def test_a_replay_of_the_frames_gives_the_same_rows(collected: Collected, tmp_path: Path, market: str) -> None:
    collected.check_replay(tmp_path / "again", market, COMPARED)


def _unpacked(path: Path) -> bytes:
    with zstandard.open(path) as file:
        return bytes(file.read())


def test_every_connection_has_asked_for_a_token_that_is_not_written_down(collected: Collected) -> None:
    asked = [one for one in collected.truth.requests if one.target.endswith("/bullet-public")]
    assert len(asked) == len(collected.truth.links) >= 3
    files = [path for path in collected.lake.rglob("*") if path.is_file()]
    held = [_unpacked(path) if path.suffix == ".zst" else path.read_bytes() for path in files]
    assert any(b"/market/match" in text for text in held)
    assert all(b"token=" not in text for text in held)
