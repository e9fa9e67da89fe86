"""The cookbook of docs/queries, asked of a small lake: each query answers, and its answer is the right one."""

import datetime as dt
import re
from pathlib import Path

import pytest

from lake import Lake
from market.times import HOUR, MINUTE, text
from tests.support import asked_lake
from tests.support.market_rows import T0

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "queries"
NAMES = sorted(path.stem for path in FOLDER.glob("*.sql"))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    held = asked_lake.build(tmp_path_factory.mktemp("queries") / "lake")
    with Lake(held.root) as opened:
        yield opened
    held.close()


def rows(lake, name):
    return lake.sql((FOLDER / f"{name}.sql").read_text(encoding="utf-8")).to_pylist()


def when(time):
    return dt.datetime.fromtimestamp(time / 1e6, dt.UTC)


@pytest.mark.parametrize("name", NAMES)
def test_a_query_says_what_it_asks_and_is_answered(lake, name):
    text = (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    assert re.match(r"-- Question: .+\?\n-- Shows: .+\n", text), "it begins with its question and what it shows"
    assert max(map(len, text.splitlines())) <= 125
    found = rows(lake, name)
    assert found, name
    page = (FOLDER.parent / "sql.md").read_text(encoding="utf-8")
    assert f"](queries/{name}.sql)" in page, "docs/sql.md lists it"
    empty = [column for column in found[0] if all(row[column] is None for row in found)]
    assert empty == [], "a column without a value shows nothing"


def test_what_is_held_and_how_complete_it_is(lake):
    held = {(row["exchange"], row["kind"]): row["rows"] for row in rows(lake, "what_is_held")}
    assert held["binance", "trade"] == len(asked_lake.trades())
    assert held["okx", "bar_1m"] == held["binance", "bar_1m"]
    assert rows(lake, "how_complete") == [
        {"symbol": "BTCUSDT", "covered_s": 86400.0, "missing_s": 120.0, "missing_ids": 8, "complete": False}
    ]
    assert [(row["state"], row["ids"]) for row in rows(lake, "gaps_by_cause")] == [("open", 8), ("repaired", None)]
    assert [row["missing"] for row in rows(lake, "certificates")] == [8]
    assert [row["url"] for row in rows(lake, "where_rows_came_from")] == ["wss://venue.test/ws"]


def test_bars_are_those_of_a_read(lake):
    asked = {"exchange": "binance", "symbol": "BTCUSDT"}
    names = ["window_start", "open", "high", "low", "close", "volume_base", "trade_count", "gap"]
    folded = lake.read("bar_15m", columns=names, **asked).to_pylist()
    assert len(folded) == 12
    shown = rows(lake, "bars_15m")
    assert shown == folded
    assert [row["close"] for row in shown].count(None) == 1
    minutes = rows(lake, "every_minute")
    assert len(minutes) == 60
    filled = lake.read("bar_1m", fill="previous", start=T0 + HOUR, end=T0 + 2 * HOUR, **asked)
    assert [row["price"] for row in minutes] == filled["close"].to_pylist()
    assert [row["gap"] for row in minutes] == filled["gap"].to_pylist()
    assert sum(row["gap"] for row in minutes) == 2


def test_prices_of_an_hour_are_those_of_its_trades(lake):
    first = rows(lake, "vwap")[0]
    read = lake.read("trade", exchange="binance", symbol="BTCUSDT", start=T0, end=T0 + HOUR)
    price, qty = read["price"].to_pylist(), read["qty"].to_pylist()
    assert first["vwap"] == pytest.approx(sum(p * q for p, q in zip(price, qty, strict=True)) / sum(qty))
    assert (first["hour"], first["trades"]) == (when(T0), len(price))
    assert rows(lake, "volatility")[1]["minutes"] == 60 - 3, "two minutes are missing, and a return over them"


def test_trades_meet_the_quote_before_them(lake):
    places = {row["place"]: row["trades"] for row in rows(lake, "trades_at_the_quote")}
    quotes = {n: (60_000 + n % 50 - 25, 60_001 + n % 50 - 25) for n in range(1, 600)}
    wanted = {"no quote": 0, "at the ask": 0, "at the bid": 0, "inside": 0}
    for row in asked_lake.trades():
        bid, ask = quotes.get(min((row["ts_event"] - T0) // 10_000_000, 599), (None, None))
        price = float(row["price"])
        place = "no quote" if bid is None else "inside"
        place = "at the ask" if ask is not None and price >= ask else place
        wanted["at the bid" if bid is not None and price <= bid else place] += 1
    assert places == {place: count for place, count in wanted.items() if count}
    assert next(row["seq"] for row in rows(lake, "biggest_trades")) == 300
    flow = rows(lake, "order_flow")
    assert flow[-1]["delta"] == pytest.approx(sum((row["bought"] or 0) - (row["sold"] or 0) for row in flow))


def test_the_spread_is_weighted_by_time(lake):
    found = rows(lake, "spread")
    assert [row["quotes"] for row in found][:2] == [29, 30]
    assert found[0]["spread_bps"] == pytest.approx(1 / 60_000.5 * 1e4, rel=1e-3)


def test_books_are_rows_of_levels(lake):
    asks, bids = rows(lake, "book_updates")
    assert (bids["updates"], bids["levels"], bids["removed"]) == (59, 30 * 2 + 29, 29)
    assert (asks["levels"], asks["lowest"], asks["highest"]) == (59, 60001.0, 60001.0)
    assert {row["bid_share"] for row in rows(lake, "book_imbalance")} == {3.5 / 4.0}


def test_our_minutes_are_held_against_the_venues(lake):
    found = {row["window_start"]: row for row in rows(lake, "our_bars_and_the_venues")}
    bars = sorted({row["ts_event"] // MINUTE * MINUTE for row in asked_lake.trades()})
    assert sorted(found) == [when(bars[5]), when(bars[7])]
    assert found[when(bars[5])]["kline_close"] == 1234.5
    assert found[when(bars[7])]["kline_volume"] == 77.0, "the newest revision of a candle counts"


def test_rates_interest_and_premium(lake):
    found = rows(lake, "funding_and_open_interest")
    assert [(row["funding_rate"], row["open_interest"]) for row in found] == [
        (0.0001, 1005.0), (None, 1011.0), (None, 1017.0),
    ]  # fmt: skip
    assert found[0]["yearly_percent"] == 10.95
    assert [round(row["premium_bps"], 6) for row in rows(lake, "premium")] == [1.0, 1.0]
    (forced,) = rows(lake, "liquidations")
    assert (forced["outside"], forced["qty_quote"]) == (True, 116_000.0)


def test_other_venues_and_other_markets(lake):
    assert {row["difference_bps"] for row in rows(lake, "across_venues") if row["binance"]} == {0.0}
    assert [(row["symbol"], row["minutes"]) for row in rows(lake, "macro")] == [("SPY", 29)]
    assert [row["p50_ms"] for row in rows(lake, "latency")] == [4.0] * asked_lake.HOURS
    cut = f"ts >= '{text(T0)}' AND ts < '{text(T0 + 5 * MINUTE)}'"
    assert lake.sql(f"SELECT close FROM macro_minute WHERE {cut} ORDER BY ts")["close"].to_pylist() == [
        500.0, 501.0, 502.0, 503.0, 504.0,
    ]  # fmt: skip


def test_what_was_known_is_never_of_later(lake):
    found = rows(lake, "what_was_known")
    minutes = [round((row["window_start"] - when(T0)).total_seconds() / 60) for row in found]
    assert [row["momentum"] for row in found] == [None if minute < 1 else minute - 1 for minute in minutes]
    joined = lake.features.join("momentum", "bar_1m", exchange="binance", symbol="BTCUSDT")
    assert joined["momentum__x"].to_pylist() == [row["momentum"] for row in found]
