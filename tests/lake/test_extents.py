"""What statistics tell of a file, and what they are not taken for."""

import pyarrow as pa
import pytest

from lake import extents, parquet, tables
from lake.windows import Extent
from tests.support import book_rows
from tests.support.market_rows import T0, table, trade


def rows(n, symbol="BTCUSDT"):
    return [trade(T0 + i * 1000, "100.5", "0.5", i, symbol=symbol) for i in range(n)]


def write(path, kind, made):
    with path.open("wb") as sink:
        parquet.write(sink, kind, [made], lambda _: None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.parquet"


def test_the_bounds_of_a_file_are_told_by_its_statistics(path, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP_ROWS", 40)
    write(path, "trade", table("trade", rows(100)))
    last = int(parquet.read(path).column("ts_event").cast(pa.int64())[-1].as_py())
    assert extents.extent(path, "trade", 7) == Extent("BTCUSDT", 100, 7, (T0, last), (0, 99))
    assert extents.symbols(path) == {"BTCUSDT"}
    book = tmp_path / "book.parquet"
    made = book_rows.table([book_rows.delta(T0 + n, 10 + n, bids=[("1", "2")], asks=[]) for n in range(3)])
    with book.open("wb") as sink:
        parquet.write(sink, "book_delta", [made], lambda _: None)
    (symbol,) = extents.symbols(book)
    assert extents.extent(book, "book_delta", 7) == Extent(symbol, 3, 7, (T0, T0 + 2), (10, 12))


def test_of_several_symbols_or_rows_without_an_id_no_bounds_are_told(path):
    write(path, "trade", table("trade", rows(2, "A") + rows(2, "B")))
    assert extents.extent(path, "trade", 7) is None
    assert extents.symbols(path) == {"A", "B"}
    write(path, "trade", table("trade", [trade(T0, "1", "1", None) | {"trade_id": "x"}, trade(T0 + 1, "1", "1", 5)]))
    assert extents.extent(path, "trade", 7) is None
    write(path, "trade", table("trade", []))
    assert extents.extent(path, "trade", 7) is None
