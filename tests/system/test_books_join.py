"""Books of a running daemon: snapshots under the budget, in sync on three markets, and rebuilt from what is stored."""

from __future__ import annotations

import pytest

from collectors.exchanges.binance.sync import BookSync, Ids, rule
from market.book import Book
from tests.support.venue_live import Collected, Venue

pytestmark = pytest.mark.timeout(600)

MARKETS = {"spot": ["BTCUSDT", "ETHUSDT"], "linear": ["BTCUSDT", "ETHUSDT"], "inverse": ["BTCUSD_PERP", "ETHUSD_PERP"]}
KINDS = ["quote", "book_delta"]
VENUE = Venue("binance", MARKETS, KINDS, KINDS, [("linear", "BTCUSDT")], silent="")


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    return VENUE.collect(tmp_path_factory.mktemp("books"), "--rate", "300")


def text(levels: list[dict[str, float]]) -> list[tuple[str, str]]:
    return [(repr(level["price"]), "0" if not level["qty"] else repr(level["qty"])) for level in levels]


@pytest.mark.parametrize("market,symbol", VENUE.symbols)
def test_the_stored_rows_give_the_books_whose_best_prices_are_the_tickers(
    collected: Collected, market: str, symbol: str
) -> None:
    quotes = {
        row["update_id"]: tuple(row[name] for name in ("bid", "bid_qty", "ask", "ask_qty"))
        for row in collected.rows("quote", market, symbol)
    }
    updates = collected.rows("book_delta", market, symbol)
    faulted = (market, symbol) in VENUE.lost
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
    snapshots = collected.rows("book_snapshot", market, symbol)
    assert {(row["source"], row["depth"]) for row in snapshots} == {("rest", 1000)}
