"""Many small daily files read as one: the same rows, and polars reads what is not understood."""

import itertools

import polars as pl
import pytest

from lake import Lake, joined, reading
from lake.errors import CorruptFile
from market.times import DAY, HOUR, MINUTE
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, quote, trade

DAYS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six closed days of bars (one with a gap, one with inexact values) and quotes of two symbols."""
    lake = TestLake(tmp_path_factory.mktemp("joined") / "lake")
    for day, symbol in itertools.product(range(DAYS), ("AUSDT", "BUSDT")):
        at = T0 + day * DAY
        price = "0.1234567890123456789" if day == 3 else "10.5"
        trades = [trade(at + n * HOUR, price, "2", day * 100 + n + 1, symbol=symbol) for n in range(8)]
        holes = {"gaps": {symbol: [reading.Interval(at, at + MINUTE)]}} if day == 4 else {}
        lake.day("bar_1m", bar_table(trades, **holes), symbol=symbol)
        rows = [quote(at + n * MINUTE, "1", "2", day * 1000 + n, symbol=symbol) for n in range(5)]
        lake.day("quote", rows, symbol=symbol)
    lake.close()
    return lake.root


@pytest.fixture
def asked(monkeypatch):
    """What was read as one file, question by question."""
    said = []
    plain = joined.read

    def read(kind, paths, columns):
        found = plain(kind, paths, columns)
        said.append((kind, len(paths)))
        return found

    monkeypatch.setattr(joined, "read", read)
    return said


def paths_of(root, kind, symbol):
    with Lake(root) as lake:
        return [str(root / one.file.path) for one in lake.files(kind=kind, symbol=symbol)]


@pytest.mark.parametrize("kind", ["bar_1m", "quote"])
def test_rows_and_types_are_those_that_polars_reads_of_the_files(made, kind):
    paths = paths_of(made, kind, "AUSDT")
    plain = pl.scan_parquet(paths, hive_partitioning=False, glob=False).collect()
    assert len(paths) == DAYS
    for columns in (plain.columns, plain.columns[::-3], ["symbol", "gap"] if kind == "bar_1m" else ["ts_event"]):
        for _ in range(2):
            found = joined.read(kind, paths, columns)
            assert found.equals(plain.select(columns))
            assert found.schema == plain.select(columns).schema
    held = joined._heads[tuple(paths), tuple(plain.columns)]
    assert held.false == ({"ts_estimated", "partial"} if kind == "bar_1m" else {"ts_estimated"}) & held.false
    assert "gap" not in held.false


def test_any_part_of_the_days_is_that_part_of_the_rows(made, asked):
    with Lake(made) as lake:
        for kind, time in (("bar_1m", "window_start"), ("quote", "ts_event")):
            whole = pl.from_arrow(lake.read(kind))
            for symbol, low, high in itertools.product(
                ("AUSDT", "BUSDT", None), (None, T0 + 7 * MINUTE), (None, T0 + 4 * DAY + HOUR)
            ):
                at = pl.col(time).cast(pl.Int64)
                wanted = whole.filter(at >= (low or 0), at < (high or 2**62))
                wanted = wanted if symbol is None else wanted.filter(pl.col("symbol") == symbol)
                for columns in (None, ["symbol", "ts_recv"] if kind == "quote" else ["close", "symbol"]):
                    found = lake.read(kind, symbol=symbol, start=low, end=high, columns=columns)
                    assert pl.from_arrow(found).equals(wanted.select(columns or whole.columns))
    assert {kind for kind, _ in asked} >= {"bar_1m"}
    assert max(count for _, count in asked) == 2 * DAYS


def test_what_is_not_understood_is_read_by_polars(made, monkeypatch):
    paths = paths_of(made, "bar_1m", "AUSDT")
    with pytest.raises(joined.Unjoined):
        joined.read("book_delta", paths, ["bids"])
    with pytest.raises(joined.Unjoined):
        joined.read("quote", paths, ["bid_qty", "update_id"])
    with Lake(made) as lake:
        before = lake.read("bar_1m", symbol="AUSDT")
        monkeypatch.setattr(joined, "_CODECS", {})
        monkeypatch.setattr(joined, "_heads", {})
        assert lake.read("bar_1m", symbol="AUSDT").equals(before)


def test_a_file_that_changed_is_hashed_before_it_is_read_again(tmp_path):
    lake = TestLake(tmp_path / "lake")
    rows = [lake.day("quote", [quote(T0 + day * DAY, "1", "2", day)]) for day in range(5)]
    lake.close()
    with Lake(lake.root) as held:
        assert held.read("quote").num_rows == 5
        path = lake.root / rows[2].path
        data = bytearray(path.read_bytes())
        data[40] ^= 1
        path.unlink()
        path.write_bytes(data)
        with pytest.raises(CorruptFile, match="SHA-256"):
            held.read("quote")
        path.write_bytes(data[:60])
        with pytest.raises(joined.Unjoined):
            joined.read("quote", [str(lake.root / row.path) for row in rows], ["bid"])
