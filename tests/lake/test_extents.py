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


def read_together(paths):
    return extents.read_together(paths, "trade", [extents.look(path, "trade", 7) for path in paths])


def test_columns_that_statistics_tell_are_those_of_the_pages(tmp_path):
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    made = [trade(T0 + n, "100.5", "0.5", n) for n in range(9)]
    made[4]["ts_publish"] = T0
    for place, path in enumerate(paths):
        write(path, "trade", table("trade", made[3 * place : 3 * place + 3]))
    whole = pa.concat_tables([parquet.read(path) for path in paths]).unify_dictionaries().combine_chunks()
    assert read_together(paths).combine_chunks().equals(whole)
    told = extents.look(paths[0], "trade", 7).told
    assert {"ts_publish": None, "symbol": "BTCUSDT", "price_text": None, "ts_estimated": False}.items() <= told.items()
    assert "ts_publish" not in extents.look(paths[1], "trade", 7).told
    assert not {"price", "qty", "multiplier", "ts_event", "seq"} & told.keys()


def test_named_columns_are_those_of_the_pages_whatever_statistics_tell(path):
    made = [trade(T0 + n, "100.5", "0.5", n) for n in range(9)]
    made[4]["ts_publish"] = T0
    write(path, "trade", table("trade", made))
    look = extents.look(path, "trade", 7)
    for columns in (["seq", "condition", "price_text", "price"], ["symbol", "seq"], ["price_text", "symbol"]):
        pieces = list(extents.iterate(path, "trade", look, 4, columns))
        assert [piece.num_rows for piece in pieces] == [4, 4, 1]
        whole = pa.concat_tables(pieces).unify_dictionaries().combine_chunks()
        assert whole.equals(parquet.read(path, columns).select(columns).unify_dictionaries().combine_chunks())


def test_only_what_several_files_tell_alike_is_not_read(tmp_path):
    paths = [tmp_path / f"{number}.parquet" for number in range(2)]
    for place, path in enumerate(paths):
        write(path, "trade", table("trade", [trade(T0 + place, "1", "1", place) | {"session": f"n-{place}-1"}]))
    assert read_together(paths).column("session").to_pylist() == ["n-0-1", "n-1-1"]


def test_of_a_file_of_several_row_groups_every_column_is_read(path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP_ROWS", 4)
    write(path, "trade", table("trade", rows(9)))
    assert extents.look(path, "trade", 7).told == {}
    assert read_together([path]).equals(parquet.read(path))


def test_a_file_of_several_symbols_tells_its_other_columns_in_pieces_too(path):
    write(path, "trade", table("trade", rows(5, "A") + rows(4, "B")))
    look = extents.look(path, "trade", 7)
    assert look.extent is None
    assert look.told["exchange"] == "binance"
    assert "symbol" not in look.told
    pieces = list(extents.iterate(path, "trade", look, 4))
    assert [piece.num_rows for piece in pieces] == [4, 4, 1]
    assert pa.concat_tables(pieces).to_pylist() == parquet.read(path).to_pylist()
