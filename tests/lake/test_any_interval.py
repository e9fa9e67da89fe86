"""Bars of any interval and offset: equal to a fold of the trades by hand, whole at every border, and exact."""

import datetime as dt
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import Lake
from lake.asking import bar_of
from lake.errors import WrongQuestion
from market.times import DAY, HOUR, MINUTE, SECOND, Interval
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, trade

WHOLE = Interval(T0 - DAY, T0 + 3 * DAY)
INTERVALS = ("1s", "7s", "90s", "1m", "7m", "15m", "45m", "4h", "1d", "36h", "1w")
OFFSETS = (0, "3s", "90s", "-8h", "30m")


def by_hand(trades: list[dict], width: int, origin: int) -> dict[int, tuple]:
    """Window start -> open, high, low, close, volumes, count and first and last id, by the definition of a bar."""
    held = defaultdict(list)
    for row in sorted(trades, key=lambda row: (row["ts_event"], row["seq"])):
        start = (row["ts_event"] - origin) // width * width + origin
        held[start].append((Decimal(row["price"]), Decimal(row["qty"]), row["seq"]))
    made = {}
    for start, rows in held.items():
        prices = [price for price, _, _ in rows]
        base, quote = sum(qty for _, qty, _ in rows), sum(price * qty for price, qty, _ in rows)
        made[start] = (
            *(float(p) for p in (prices[0], max(prices), min(prices), prices[-1])),
            float(base), float(quote), float(quote) / float(base), len(rows), rows[0][2], rows[-1][2],
        )  # fmt: skip
    return made


COLUMNS = (
    "window_start", "open", "high", "low", "close", "volume_base", "volume_quote", "vwap", "trade_count", "first_seq",
    "last_seq",
)  # fmt: skip


def shown(lake: Lake, interval, **more) -> dict[int, tuple]:
    table = lake.bars(interval, columns=COLUMNS, **more).to_pylist()
    start = lambda row: int(row.pop("window_start").timestamp()) * SECOND  # noqa: E731
    return {start(row): tuple(row.values()) for row in table}


def stored(folder: str, trades: list[dict]) -> None:
    """Both stored widths: the first day closed, the rest hot."""
    made = TestLake(Path(folder))
    for kind, width in (("bar_1s", SECOND), ("bar_1m", MINUTE)):
        for day in range(3):
            rows = [row for row in trades if T0 + day * DAY <= row["ts_event"] < T0 + (day + 1) * DAY]
            if rows:
                table = bar_table(rows, width, WHOLE)
                made.day(kind, table) if day == 0 else made.part(kind, table, level="hour")
    made.cover(WHOLE.start, WHOLE.end)
    made.close()


@settings(max_examples=4, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.integers(0, 3 * DAY - 1), st.sampled_from([0, MINUTE - 1, MINUTE, HOUR, DAY - 1, DAY, 2 * DAY - 1])
            ),
            st.integers(1, 10**7),
            st.integers(1, 10**9),
        ),
        min_size=1,
        max_size=40,
    ),
    st.lists(
        st.tuples(
            st.sampled_from(INTERVALS),
            st.sampled_from(OFFSETS),
            st.integers(T0 - 2 * HOUR, T0 + DAY),
            st.integers(0, 3 * DAY),
        ),
        min_size=6,
        max_size=12,
    ),
)
def test_any_interval_is_a_fold_of_the_trades(found, questions):
    times = sorted(at for at, _, _ in found)
    trades = [
        trade(T0 + at, f"{price / 1000}", f"{qty / 10**5:f}", seq=n)
        for n, (at, (_, price, qty)) in enumerate(zip(times, found, strict=True), 1)
    ]
    with TemporaryDirectory() as folder:
        stored(folder, trades)
        with Lake(folder) as lake:
            for interval, offset, start, length in questions:
                bar = bar_of(interval, offset)
                expected = by_hand(trades, bar.width, bar.origin)
                assert shown(lake, interval, offset=offset) == expected
                inside = {at: bar for at, bar in expected.items() if start <= at < start + length}
                found_inside = shown(lake, interval, offset=offset, start=start, end=start + length)
                assert found_inside == inside, "each window whole, or not there"


def test_windows_begin_where_they_are_said_to():
    assert bar_of("1w").floor(T0) == T0 - 4 * DAY, "2024-07-19 is a Friday"
    assert bar_of("1d", "8h").floor(T0) == T0 - 16 * HOUR
    assert bar_of("1d", "-16h") == bar_of(dt.timedelta(days=1), 8 * HOUR)
    assert bar_of("90s").stored == bar_of("1m", "30s").stored == "bar_1s"
    assert bar_of("7m").floor(T0 + 1) == T0 // (7 * MINUTE) * (7 * MINUTE)
    for interval, offset in (("0s", 0), ("1y", 0), (SECOND // 2, 0), ("367d", 0), ("1m", "soon"), (True, 0), ("1m", 5)):
        with pytest.raises(WrongQuestion):
            bar_of(interval, offset)


def test_a_window_that_was_not_covered_whole_is_partial_and_one_over_a_gap_null(tmp_path):
    made = TestLake(tmp_path)
    trades = [trade(T0 + n * 10 * MINUTE, str(100 + n), "1", seq=n + 1) for n in range(12)]
    made.day("bar_1m", bar_table(trades, covered=Interval(T0, T0 + 100 * MINUTE)))
    made.cover(T0, T0 + 100 * MINUTE)
    made.gap(T0 + 35 * MINUTE, T0 + 36 * MINUTE)
    made.gap(T0 + 70 * MINUTE, T0 + 71 * MINUTE, symbol="*")
    made.close()
    with Lake(tmp_path) as lake:
        rows = lake.bars("30m").to_pylist()
        assert [row["close"] for row in rows] == [102.0, None, None, 111.0], "one gap of his, one of the whole market"
        assert [row["gap"] for row in rows] == [False, True, True, False]
        assert [row["partial"] for row in rows] == [False, False, False, True]
        shifted = lake.bars("30m", offset="10m", fill="previous", start=T0 - 30 * MINUTE, end=T0 + 2 * HOUR).to_pylist()
        assert [row["close"] for row in shifted] == [100.0, None, 106.0, None, 111.0]
        assert [row["partial"] for row in shifted] == [True, False, False, False, True]
        assert lake.bars("15m", symbol="nobody").num_rows == 0
