"""A daemon that collects from Kraken's twin on three markets: what was sent is stored, and what was lost is a row."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from lake import Lake
from tests.support.venue_live import REPLAYED, Collected, Venue

pytestmark = pytest.mark.timeout(600)

MARKETS = {
    "spot": ["BTC/USDT", "ETH/USDT"],
    "linear": ["PF_XBTUSD", "PF_ETHUSD"],
    "inverse": ["PI_XBTUSD", "PI_ETHUSD"],
}
SPOT = ["trade", "quote", "book_delta", "contract"]
FUTURES = ["trade", "book_delta", "contract", "mark_price", "liquidation", "open_interest", "funding_rate"]
BOOKS = {"spot": "book.25", "linear": "book", "inverse": "book"}
LOST = [("linear", "PF_XBTUSD"), ("spot", "BTC/USDT")]
VENUE = Venue(
    "kraken", MARKETS, SPOT, FUTURES, LOST, updates=30, silent=".*liquidation|instrument$",
    more={"spot": {"channels": {"book_delta": BOOKS["spot"]}}},
)  # fmt: skip


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    return VENUE.collect(tmp_path_factory.mktemp("kraken"), "--rate", "300", "--symbols", "BTCUSDT,ETHUSDT")


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_every_trade_that_was_sent_is_stored_once_as_it_was(collected: Collected, market: str, symbol: str) -> None:
    sent = sorted(collected.truth.sent("trade", market, symbol))
    stored = [row for row in collected.rows("trade", market, symbol) if row["condition"] != "history"]
    stored = [row for row in stored if market == "spot" or int(row["trade_id"][:8], 16) >= sent[0]]
    collected.check_trades(market, symbol, stored)
    if market == "spot":
        assert [row["seq"] for row in stored] == sent[: len(stored)]
    else:
        assert all(row["seq"] is None for row in stored)
        assert len({row["trade_id"] for row in stored}) == len(stored)


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_what_was_traded_before_the_subscription_is_marked_and_joins_what_came_live(
    collected: Collected, market: str, symbol: str
) -> None:
    found = collected.rows("trade", market, symbol)
    past = [row for row in found if row["condition"] == "history"]
    live = min(event.id for event in collected.truth.sent("trade", market, symbol).values())
    ids = [row["seq"] if market == "spot" else int(row["trade_id"][:8], 16) for row in found]
    assert all(one < live for one, row in zip(ids, found, strict=True) if row["condition"] == "history")
    assert sorted(ids) == list(range(min(ids), min(ids) + len(ids)))
    assert past or min(ids) == live


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_the_stored_rows_give_books_and_an_injected_loss_is_one_new_whole(
    collected: Collected, market: str, symbol: str
) -> None:
    updates = collected.rows("book_delta", market, symbol)
    flags = [row["flags"] for row in updates]
    faulted = (market, symbol) in LOST
    assert flags.count("snapshot") == 1 + faulted
    assert flags.count("gap_before") == (faulted and market == "linear")
    assert flags.count("clear") == (faulted and market == "spot")
    assert ("truncated" in flags) == (market == "spot")
    last = updates[-1]
    book = Lake(collected.lake).book(symbol, at=last["ts_event"], exchange="kraken", market_type=market)
    assert book.last_id == last["last_id"]
    assert Decimal(book.bids[0][0]) < Decimal(book.asks[0][0])
    told = collected.truth.stream(market, f"{BOOKS[market]}.{symbol}")
    wanted = {(e.ts_event, tuple((float(p), float(q)) for p, q in (*e.bids, *e.asks))) for e in told}
    for row in (row for row in updates if row["flags"] in ("", "gap_before")):
        levels = tuple((level["price"], level["qty"]) for level in (*row["bids"], *row["asks"]))
        assert (int(row["ts_event"].timestamp() * 1_000_000), levels) in wanted


def test_a_spot_book_of_limited_depth_has_never_more_levels(collected: Collected) -> None:
    updates = [row for row in collected.rows("book_delta", "spot", "ETH/USDT") if row["flags"] != "clear"]
    sides: dict[str, set[float]] = {"bids": set(), "asks": set()}
    for place, row in enumerate(updates):
        for name, held in sides.items():
            held.clear() if row["flags"] == "snapshot" else None
            for level in row[name]:
                (held.add if level["qty"] else held.discard)(level["price"])
        if place + 1 == len(updates) or updates[place + 1]["flags"] != "truncated":
            assert max(map(len, sides.values())) <= 25


def test_the_only_gaps_are_of_the_injected_losses_and_the_lake_proves_itself(collected: Collected) -> None:
    missing = collected.gaps()
    assert {(gap["kind"], gap["symbol"], gap["cause"]) for gap in missing} == {
        ("book_delta", "BTC/USDT", "checksum"),
        ("book_delta", "PF_XBTUSD", "jump"),
    }
    summed = [gap for gap in missing if gap["cause"] == "checksum"]
    assert len(summed) == 1
    assert summed[0]["ts_from"] < summed[0]["ts_to"]
    collected.check_proof()


@pytest.mark.parametrize("kind", ["mark_price", "liquidation", "open_interest", "funding_rate"])
@pytest.mark.parametrize("market", ["linear", "inverse"])
def test_what_only_derivatives_tell_is_stored(collected: Collected, market: str, kind: str) -> None:
    if kind == "liquidation":
        table, trades = (
            Lake(collected.lake).read(one, market_type=market).to_pylist() for one in ("liquidation", "trade")
        )
        forced = [row for row in trades if row["condition"] == "liquidation"]
        assert {(r["symbol"], r["ts_event"], r["side"], r["price"]) for r in table} <= {
            (r["symbol"], r["ts_event"], r["side"], r["price"]) for r in forced
        }
        assert table
    else:
        collected.check_derivative(kind, market)


def test_instruments_are_told_with_their_unified_names(collected: Collected) -> None:
    named = collected.unified()
    assert named["spot", "BTC/USDT"] == "BTC/USDT"
    assert named["linear", "PF_XBTUSD"] == "BTC/USD:USD"
    assert named["inverse", "PI_XBTUSD"] == "BTC/USD:BTC"
    assert Lake(collected.lake).read("contract").num_rows == len(named), "stream and list say the same of a pair"


COMPARED = {
    "trade": ["seq", "trade_id", "price", "qty", "side", "condition"], "quote": ["update_id", "bid", "ask"],
    "book_delta": ["prev_id", "last_id", "checksum", "flags"], "contract": ["uid", "status"],
    "mark_price": ["mark", "index", "predicted_rate", "next_funding"], "liquidation": ["side", "price", "qty"],
    "open_interest": ["oi", "sides"], "funding_rate": ["rate", "interval_s"],
}  # fmt: skip


@pytest.mark.parametrize("market", REPLAYED)
def test_a_replay_of_the_frames_gives_the_same_rows(collected: Collected, tmp_path: Path, market: str) -> None:
    collected.check_replay(tmp_path / "again", market, COMPARED)
