"""lake.audit_bars: a venue's candles against our bars, and each sort of difference by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.audit_bars import Compared, Known, compare, explained
from lake.audit_words import Difference
from market.times import DAY, MINUTE, SECOND, Interval
from tests.support.candles import candle, candles_of, empty, klines
from tests.support.lakes import bar_table
from tests.support.market_rows import T0, table, trade

Row = dict[str, Any]
TODAY = Interval(T0, T0 + DAY)
SEEN = [Interval(T0 - DAY, T0 + 2 * DAY)]


def rows(count: int = 30, step: int = 10 * SECOND) -> list[Row]:
    """Trades of five minutes, prices and sizes all different."""
    return [
        trade(T0 + n * step, f"{100 + n % 7}.{n}", f"0.{n + 1:03d}", 1000 + n, side="buy" if n % 3 else "sell")
        for n in range(count)
    ]


def audit(
    ours: Sequence[Row],
    theirs: Sequence[Row],
    dark: Sequence[Interval] = (),
    light: Sequence[Interval] = SEEN,
    told: Sequence[Interval] = SEEN,
    **bars: Any,
) -> tuple[Compared, list[Difference]]:
    found = compare(bar_table(list(ours), **bars), klines(theirs), TODAY, MINUTE, told)
    return found, explained(found, Known(dark, light, inverse=False), lambda _span: table("trade", list(ours)))


def names(made: Sequence[Difference]) -> list[tuple[str, int]]:
    return [(one.what, (one.at - T0) // MINUTE) for one in made]


def test_the_same_trades_are_the_same_candles_and_a_candle_of_nothing_is_no_bar() -> None:
    found, made = audit(rows(), [*candles_of(rows()), empty(T0 + 7 * MINUTE, "103.2")])
    assert (found.equal, found.empty, made, found.untold) == (5, 1, [], [])


def test_what_the_venue_does_not_tell_is_told() -> None:
    found, made = audit(rows(), candles_of(rows())[1:], told=[Interval(T0, T0 + 6 * MINUTE)])
    assert made == []
    assert found.untold[:2] == [T0, T0 + 6 * MINUTE], "a bar without a candle, and minutes nobody asked about"
    assert len(found.untold) == 1 + 24 * 60 - 6


def test_values_that_a_venue_does_not_give_are_no_difference() -> None:
    given_ = [row | dict.fromkeys(("trade_count", "volume_quote", "taker_buy_base", "taker_buy_quote"))
              for row in candles_of(rows())]  # fmt: skip
    assert audit(rows(), given_)[0].equal == 5


@pytest.mark.parametrize("order", ["by id", "by when it came"])
def test_a_print_that_the_venue_counts_in_the_next_candle_is_late(order: str) -> None:
    """The trade of 00:00:58 came, and was numbered, after the first of the next minute."""
    held = rows()
    late = trade(T0 + 58 * SECOND, "150.5", "7.5", 1006, ts_recv=T0 + MINUTE + 2 * SECOND, frame_no=9)
    for row in held[6:]:
        row["seq"] += 1
    held[6]["ts_event"], late["seq"] = T0 + 59 * SECOND + 500_000, 1007
    held[6]["ts_recv"] = held[6]["ts_event"]
    venue = [row | {"ts_event": T0 + MINUTE} if row is late else row for row in [*held, late]]
    venue.sort(key=lambda row: row["seq"])
    theirs = candles_of(venue)
    if order == "by when it came":
        for row in [*held, late]:
            row["seq"] = None
    _, made = audit([*held, late], theirs)
    assert names(made) == [("late_print", 0), ("late_print", 1)]
    assert made[0].detail.startswith("1 trades are in the candle beside it, 0 of that are in this one: high 150.5,")


def test_a_trade_that_is_in_neither_candle_is_no_late_print() -> None:
    held = rows()
    lost = [row for row in held if row is not held[5]]
    assert names(audit(held, candles_of(lost))[1]) == [("unexplained", 0)]


@pytest.mark.parametrize("condition, says", [("block", "counts block"), ("rpi", "does not count rpi")])
def test_trades_outside_of_the_book_that_count_in_one_of_the_two(condition: str, says: str) -> None:
    held = rows()
    held[8]["condition"] = condition
    venue = [row | {"condition": "market"} for row in held] if condition == "block" else held[:8] + held[9:]
    _, made = audit(held, candles_of(venue))
    assert names(made) == [("off_book", 1)]
    assert made[0].detail.startswith(f"the candle {says}: ")


def test_what_is_missing_in_a_gap_and_what_was_not_collected() -> None:
    held = rows()
    ours = [row for row in held if row["seq"] not in (1009, *range(1018, 1024))]
    hole = Interval(T0 + 80 * SECOND, T0 + 100 * SECOND)
    light = [Interval(T0 - DAY, T0 + 170 * SECOND), Interval(T0 + 4 * MINUTE, T0 + DAY)]
    _, made = audit(ours, candles_of(held), dark=[hole], light=light)
    assert names(made) == [("missing_id", 1), ("not_collected", 3)]
    assert made[1].detail == "no bar; the candle has 6 trades, volume_base 0.129"
    _, made = audit(ours, candles_of(held))
    assert names(made) == [("unexplained", 1), ("unexplained", 3)], "no gap, and collected all the time"


def test_a_gap_explains_no_more_than_what_is_lacking() -> None:
    held = rows()
    _, made = audit(held, candles_of(held[:9] + held[10:]), dark=[Interval(T0, T0 + DAY)])
    assert names(made) == [("unexplained", 1)], "we have more than the candle"


def test_a_candle_that_the_venue_changed_later() -> None:
    first = candles_of(rows())
    changed = first[2] | {"close": "1.5", "low": "1.5", "ts_recv": T0 + DAY, "source": "rest", "frame_no": 2}
    _, made = audit(rows(), [*first, changed])
    assert names(made) == [("venue_revision", 2)]
    back = first[2] | {"ts_recv": T0 + DAY + 1, "source": "archive", "frame_no": 3}
    assert audit(rows(), [*first, changed, back])[1] == [], "the newest word holds"


def test_a_rounded_sum_of_products_is_told_as_such_and_nothing_else_is() -> None:
    held = candles_of(rows())
    rounded = [row | {"volume_quote": f"{float(row['volume_quote']):.2f}"} for row in held]
    found, made = audit(rows(), rounded)
    assert {one.what for one in made} <= {"rounding"}
    assert found.equal + len(made) == 5
    assert made
    off = [row | {"volume_quote": str(float(row["volume_quote"]) + 1)} for row in rounded]
    assert {one.what for one in audit(rows(), off)[1]} == {"unexplained"}


@settings(max_examples=5, deadline=None)
@given(st.data())
def test_whatever_is_printed_late_is_explained_and_whatever_is_altered_is_not(data: st.DataObject) -> None:
    gaps = data.draw(st.lists(st.integers(1, 25), min_size=8, max_size=24))
    at, held = T0, []
    for n, gap in enumerate(gaps):
        at += gap * SECOND
        price = data.draw(st.integers(90, 110))
        held.append(
            trade(at, f"{price}.{n + 1}", f"{n + 1}.5", 100 + n, side=data.draw(st.sampled_from(["buy", "sell"])))
        )
    shift = data.draw(st.integers(0, 3)) * SECOND
    theirs = candles_of([row | {"ts_event": row["ts_event"] + shift} for row in held])
    found, made = audit(held, theirs)
    assert {one.what for one in made} <= {"late_print"}
    assert not found.untold or shift
    place = data.draw(st.integers(0, len(theirs) - 1))
    name = data.draw(st.sampled_from(["open", "volume_base", "taker_buy_base", "trade_count"]))
    worse = [dict(row) for row in candles_of(held)]
    place %= len(worse)
    worse[place][name] = worse[place][name] + 1 if name == "trade_count" else str(float(worse[place][name]) + 0.25)
    assert "unexplained" in {one.what for one in audit(held, worse)[1]}


def test_a_candle_alone_with_everything_missing_is_unexplained() -> None:
    values = dict.fromkeys(("open", "high", "low", "close"), "5") | {"volume_base": "1", "trade_count": 1}
    _, made = audit(rows(), [*candles_of(rows()), candle(T0 + 9 * MINUTE, **values)])
    assert names(made) == [("unexplained", 9)]
