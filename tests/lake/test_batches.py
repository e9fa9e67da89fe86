"""Lake.batches: the rows of `read`, in bounded memory, whatever is replaced and deleted while they are read."""

import itertools
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from lake import Lake, bar_pieces, batching, completeness, reading, wide_bars
from lake.errors import CorruptFile, WrongQuestion
from market.times import DAY, HOUR, MINUTE, SECOND, Interval
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, quote, table, trade

ROOT = Path(__file__).parents[2]
KEYS = ["exchange", "market_type", "symbol", "window_start", "ts_event", "seq", "frame_no"]


def mixed(made: TestLake) -> None:
    """Closed days of two symbols, one of them closed later, and hot parts of three with copies and late rows."""
    for day, symbol in itertools.product(range(2), ("AUSDT", "BUSDT")):
        rows = [trade(T0 + day * DAY + n * HOUR, "10", "2", day * 100 + n + 1, symbol=symbol) for n in range(8)]
        made.day("trade", rows, symbol=symbol)
    made.day("trade", [trade(T0 + 2 * DAY + n, "1", "1", 300 + n, symbol="AUSDT") for n in range(3)], symbol="AUSDT")
    for part in range(3):
        rows = [
            trade(T0 + 2 * DAY + n * (HOUR // 20 - SECOND), "11", "1", 400 + n, symbol=symbol, session=f"n-{part}-1")
            for symbol in ("AUSDT", "BUSDT", "CUSDT") for n in range(part * 20, part * 20 + 30)
        ]  # fmt: skip
        made.part("trade", rows)


def rows_of(found) -> list[dict]:
    return pl.from_arrow(found.read_all() if isinstance(found, pa.RecordBatchReader) else found).to_dicts()


@pytest.mark.parametrize("slice_rows", [10, 1_000_000])
def test_batches_hold_the_rows_of_read(made, lake, monkeypatch, slice_rows):
    monkeypatch.setattr(batching, "_SLICE_ROWS", slice_rows)
    mixed(made)
    spans = [(None, None), (T0 + HOUR, T0 + 2 * DAY + 70 * MINUTE), (T0 + 2 * DAY + 10 * MINUTE, None), (T0, T0)]
    for (start, end), symbol in itertools.product(spans, (None, "AUSDT", ["BUSDT", "CUSDT"], "nobody")):
        asked = {"symbol": symbol, "start": start, "end": end}
        whole, pieces = rows_of(lake.read("trade", **asked)), rows_of(lake.batches("trade", batch_rows=7, **asked))
        if symbol in ("AUSDT", "nobody"):
            assert pieces == whole, asked
        else:
            key = lambda row: (row["symbol"], row["ts_event"], row["seq"])  # noqa: E731
            assert sorted(pieces, key=key) == whole, asked
            days = [row["date"] for row in pieces]
            assert days == sorted(days), "day by day"


def test_a_reader_has_the_schema_of_read_and_says_how_complete_it_is(made, lake):
    mixed(made)
    found = lake.batches("trade", columns=["symbol", "qty_base", "seq"], batch_rows=5)
    assert found.schema == lake.read("trade", columns=["symbol", "qty_base", "seq"]).schema
    assert completeness.of(found) == lake.completeness("trade")
    sizes = [batch.num_rows for batch in found]
    assert max(sizes) == 5
    assert sum(sizes) == lake.read("trade").num_rows
    with pytest.raises(WrongQuestion, match="batch_rows=0"):
        lake.batches("trade", batch_rows=0)
    with pytest.raises(WrongQuestion, match="no column prise"):
        lake.batches("trade", columns=["prise"])
    assert lake.batches("quote").read_all().schema == lake.read("quote").schema


def test_copies_of_a_row_on_both_sides_of_a_slice_are_one(made, lake):
    at = T0 + HOUR
    made.part("quote", [quote(at - 5, "1", "2", 7, ts_estimated=True, ts_recv=at + 9, symbol="AUSDT")])
    made.part("quote", [quote(at + 5, "1", "2", 7, ts_estimated=True, ts_recv=at + 7, symbol="AUSDT")])
    assert lake.batches("quote").read_all().to_pylist() == lake.read("quote").to_pylist()
    assert lake.read("quote").num_rows == 1


@pytest.mark.parametrize("kind", ["bar_1m", "bar_5m", "bar_4h"])
def test_bars_come_in_batches_too(made, lake, monkeypatch, kind):
    monkeypatch.setattr(batching, "_SLICE_ROWS", 20)
    for day in range(3):
        for symbol in ("AUSDT", "BUSDT"):
            at = T0 + day * DAY
            trades = [trade(at + n * 7 * MINUTE, str(100 + n), "1", n + 1, symbol=symbol) for n in range(40)]
            made.day("bar_1m", bar_table(trades, covered=Interval(T0, T0 + 3 * DAY)), symbol=symbol)
            made.cover(T0, T0 + 3 * DAY, symbol=symbol)
    trades = [trade(T0 + 3 * DAY + n * MINUTE, "9", "1", n + 1, symbol=s) for s in ("AUSDT", "CUSDT") for n in range(9)]
    made.part("bar_1m", bar_table(trades))
    made.gap(T0 + HOUR, T0 + 2 * HOUR, symbol="AUSDT")
    for symbol in ("AUSDT", None):
        span = {"symbol": symbol, "start": T0 + 90 * MINUTE, "end": T0 + 3 * DAY + 6 * MINUTE}
        key = lambda row: (row["symbol"], row["window_start"])  # noqa: E731
        assert sorted(rows_of(lake.batches(kind, **span)), key=key) == rows_of(lake.read(kind, **span))


def stored(lake: Lake, day: int, symbol: str) -> pa.Table:
    """What a daily file of that symbol would hold."""
    rows = lake.read("trade", symbol=symbol, start=f"2024-07-{day}", end=f"2024-07-{day + 1}")
    return rows.select(table("trade", []).schema.names).replace_schema_metadata(None)


def test_what_is_replaced_and_deleted_before_its_turn_is_read_again_without_a_copy(made, lake):
    mixed(made)
    expected = lake.read("trade").num_rows
    found = lake.batches("trade", columns=["symbol", "ts_event", "seq"], batch_rows=4)
    rows = found.read_next_batch().to_pylist()
    old = lake.manifest.files("trade", date_from="2024-07-20")
    held = {(date, symbol): stored(lake, date, symbol) for date in (20, 21) for symbol in ("AUSDT", "BUSDT", "CUSDT")}
    for file in old:
        if file.level == "day" and file.date == "2024-07-20":
            made.day("trade", held[20, file.symbol], symbol=file.symbol, revision=1, remove=[file.path])
    parts = [file.path for file in old if file.level == "part"]
    made.day("trade", held[21, "BUSDT"], symbol="BUSDT", remove=parts)
    made.day("trade", held[21, "CUSDT"], symbol="CUSDT")
    for file in old:
        if file.path in parts or file.date == "2024-07-20":
            (made.root / file.path).unlink()
    rows += [row for batch in found for row in batch.to_pylist()]
    assert len(rows) == len({(row["symbol"], row["seq"]) for row in rows}) == expected


def test_a_damaged_file_ends_the_batches_with_its_name(made, lake, monkeypatch):
    monkeypatch.setattr(reading, "_checked", {})
    row = made.day("trade", [trade(T0 + n, "10", "1", seq=n + 1) for n in range(100)])
    path = made.root / row.path
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=path.name):
        lake.batches("trade").read_all()


def test_hot_bars_that_are_replaced_and_deleted_before_their_turn_are_read_again(made, lake):
    """Which symbols they hold is asked of the files when their day comes."""
    hot = []
    for day in range(2):
        at = T0 + day * DAY
        rows = [trade(at + n * MINUTE, "9", "1", n + 1, symbol=s) for s in ("AUSDT", "BUSDT") for n in (0, 1)]
        hot.append(made.part("bar_1m", bar_table(rows)))
    expected = lake.read("bar_1m").select(["symbol", "window_start"]).to_pylist()
    found = lake.batches("bar_1m", columns=["symbol", "window_start"])
    rows = found.read_next_batch().to_pylist()
    last = lake.read("bar_1m", start=T0 + DAY).to_pylist()
    for symbol in ("AUSDT", "BUSDT"):
        trades = [trade(T0 + DAY + n * MINUTE, "9", "1", n + 1, symbol=symbol) for n in (0, 1)]
        made.day("bar_1m", bar_table(trades), symbol=symbol, remove=[hot[1].path] if symbol == "AUSDT" else [])
    (made.root / hot[1].path).unlink()
    rows += [row for batch in found for row in batch.to_pylist()]
    assert len(last) == 4
    assert sorted(rows, key=lambda row: (row["symbol"], row["window_start"])) == expected


def test_bars_of_a_hot_file_whose_names_are_damaged_are_refused_and_not_left_out(made, lake, monkeypatch):
    """Polars checks no page: another name is another symbol, which nobody asked for."""
    monkeypatch.setattr(reading, "_checked", {})
    trades = [trade(T0 + n * MINUTE, "9", "1", n + 1, symbol="AUSDT") for n in range(3)]
    path = made.root / made.part("bar_1m", bar_table(trades)).path
    data = path.read_bytes()
    path.write_bytes(data.replace(b"AUSDT", b"AUSDU"))
    with pytest.raises(CorruptFile, match=path.name):
        lake.batches("bar_1m", symbol="AUSDT").read_all()


MEASURE = """
import sys
import polars, pyarrow.parquet
from lake import Lake
with Lake(sys.argv[1]) as lake:
    lake.read("quote")
    peak = lambda: int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
    before = peak()
    rows = sum(batch.num_rows for batch in lake.batches("trade"))
print(rows, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    grown = {}
    for days in (2, 6):
        made = TestLake(tmp_path / str(days))
        for day in range(days):
            rows = [trade(T0 + day * DAY + n * 800_000, "10.5", "1", seq=n + 1) for n in range(100_000)]
            data = table("trade", rows)
            made.day("trade", data) if day else made.part("trade", data)
        made.close()
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, made.root], cwd=ROOT, capture_output=True, text=True, check=True
        )
        found, grown[days] = map(int, done.stdout.split())
        assert found == days * 100_000
    assert max(grown.values()) < 250_000, f"kB: {grown}"
    assert grown[6] - grown[2] < 60_000, f"kB, of 400,000 more rows: {grown}"


def bars_of_days(made: TestLake) -> None:
    """Nine days of two symbols, one of which has a hot day behind them; one day has two bars a minute."""
    light = Interval(T0, T0 + 10 * DAY)
    for symbol in ("AUSDT", "BUSDT"):
        made.cover(light.start, light.end - DAY - HOUR, symbol=symbol)
        for day in (0, 1, 2, 4, 8):
            at = T0 + day * DAY
            trades = [
                trade(at + n * 17 * MINUTE + n % 3 * SECOND, f"{100 + n % 13}.{n % 7}", f"0.{n + 1:04d}", n + 1,
                      symbol=symbol, side="sell" if n % 3 else "buy")
                for n in range(80)
            ]  # fmt: skip
            for kind, width in (("bar_1m", MINUTE), ("bar_1s", SECOND)):
                made.day(kind, bar_table(trades, width, covered=light), symbol=symbol)
    hot = [trade(T0 + 9 * DAY + n * MINUTE, "9", "1", n + 1, symbol="AUSDT") for n in range(9)]
    for kind, width in (("bar_1m", MINUTE), ("bar_1s", SECOND)):
        made.part(kind, bar_table(hot, width, covered=light))
    made.gap(T0 + HOUR, T0 + 2 * HOUR, symbol="AUSDT")


@pytest.mark.parametrize(
    "interval, offset, most",
    [("5m", 0, 200), ("4h", "30m", 200), ("1w", "-90s", 200), ("90s", 0, 200), ("36h", 0, 1), ("200d", 0, 1)],
)
def test_bars_that_are_folded_a_piece_after_the_other_are_the_same(made, lake, monkeypatch, interval, offset, most):
    bars_of_days(made)
    spans = [{}, {"symbol": "AUSDT"}, {"start": T0 + 90 * MINUTE, "end": T0 + 8 * DAY + HOUR}]
    fills = ("none", "previous") if interval != "90s" else ("none",)
    asked = [span | {"fill": fill} for span in spans for fill in fills]
    whole = [lake.bars(interval, offset=offset, **one) for one in asked]
    most_at_once: list[int] = []
    monkeypatch.setattr(bar_pieces, "PIECE_ROWS", most)
    monkeypatch.setattr(batching, "_SLICE_ROWS", most)
    real = wide_bars.lazy

    def counted(*arguments):
        found = real(*arguments)
        most_at_once.append(found.collect().height)
        return found

    monkeypatch.setattr(wide_bars, "lazy", counted)
    for one, wanted in zip(asked, whole, strict=True):
        assert lake.bars(interval, offset=offset, **one).equals(wanted), one
    for span, wanted in zip(spans, whole[:: len(fills)], strict=True):
        found = lake.bar_batches(interval, offset=offset, **span).read_all()
        assert found.schema == wanted.schema
        key = lambda row: (row["symbol"], row["window_start"])  # noqa: E731
        assert sorted(found.to_pylist(), key=key) == wanted.to_pylist(), span
    assert 0 < max(most_at_once) <= max(most, 80), "a day of a symbol, or what is allowed"
