"""Files written as a stream, read in pieces, and verified: nothing that was changed on disk passes."""

import io
import random
import weakref

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import parquet, row_groups, tables
from lake.errors import CorruptFile, LakeError, VerifyFailed
from tests.support import book_rows
from tests.support.market_rows import T0, table, trade


def rows(n, symbol="BTCUSDT", start=0):
    return [trade(T0 + i * 1000, f"{100 + i % 9}.{i % 10}", "0.5", i, symbol=symbol) for i in range(start, start + n)]


def footer(stats, **changed):
    held = {
        "kind": "trade", "schema_version": 1, "lake_id": "l", "exchange": "x", "market_type": "spot", "symbol": None,
        "date": "2024-07-19", "hour": 0, "level": "part", "revision": 0, "rows": stats.rows, "ts_min": stats.ts_min,
        "ts_max": stats.ts_max, "seq_min": stats.seq_min, "seq_max": stats.seq_max,
    }  # fmt: skip
    return tables.Footer(**(held | changed))


def write(path, *pieces, **changed):
    with path.open("wb") as sink:
        return parquet.write(sink, "trade", pieces, lambda stats: footer(stats, **changed))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.parquet"


def test_stats_say_what_went_in(path):
    inexact = trade(T0 + 999_000, "65000.123456789012345678", "0.25", 7)
    stats = write(path, table("trade", rows(5)), table("trade", [inexact]))
    assert (stats.rows, stats.ts_min, stats.ts_max) == (6, T0, T0 + 999_000)
    assert (stats.seq_min, stats.seq_max, stats.symbols) == (0, 7, {"BTCUSDT"})
    assert stats.inexact == {"price": 1}
    assert stats.decimals == {"price": 18, "qty": 2, "multiplier": 0}
    assert parquet.verify(path).rows == 6


def test_bytes_follow_from_rows_and_not_from_how_they_were_cut(path, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP_ROWS", 40)
    whole = table("trade", rows(100))
    write(path, whole)
    other = tmp_path / "y.parquet"
    write(other, *(whole.slice(start, 7) for start in range(0, 100, 7)))
    assert path.read_bytes() == other.read_bytes()
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [40, 40, 20]


def test_small_tables_are_joined_and_none_is_cut():
    whole = table("trade", rows(100))
    pieces = [whole.slice(start, length) for start, length in ((0, 10), (10, 25), (35, 3), (38, 60), (98, 2))]
    made = list(row_groups.gathered(pieces, 40))
    assert [len(one) for one in made] == [38, 60, 2]
    assert pa.concat_tables(made).equals(whole)
    assert all(column.num_chunks == 1 for one in made for column in one.columns)


def test_a_file_reads_back_as_it_was_written_in_one_or_in_pieces(path):
    whole = table("trade", rows(100))
    write(path, whole)
    assert parquet.read(path).equals(whole)
    assert pa.concat_tables(parquet.iterate(path, rows=7)).equals(whole)
    assert parquet.read(path, ["seq", "price"]).column_names == ["seq", "price"]
    assert parquet.read_footer(path).rows == 100


@pytest.mark.parametrize("lasting, codec", [(True, "ZSTD"), (False, "LZ4")], ids=["day", "part"])
def test_other_engines_read_the_same_rows(path, lasting, codec):
    with path.open("wb") as sink:
        parquet.write(sink, "trade", [table("trade", rows(50))], footer, lasting=lasting)
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == codec
    frame = pl.read_parquet(path)
    assert frame.get_column("seq").to_list() == list(range(50))
    assert frame.get_column("symbol").cast(pl.String).unique().to_list() == ["BTCUSDT"]
    with duckdb.connect() as connection:
        found = connection.execute("SELECT count(*), sum(seq) FROM read_parquet(?)", [str(path)]).fetchone()
    assert found == (50, sum(range(50)))


def test_row_groups_without_a_wanted_symbol_are_not_read(path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP_ROWS", 10)
    write(path, table("trade", rows(20, "A") + rows(20, "B")))
    found = list(parquet.iterate(path, symbols=frozenset({"B"})))
    assert sum(piece.num_rows for piece in found) == 20


@pytest.mark.parametrize(
    "pieces, message",
    [
        ([rows(3)[::-1]], "not sorted"),
        ([rows(3, "B"), rows(3, "A")], "not sorted"),
        ([[*rows(3), trade(T0 + 9_000_000, "1", "1", 2)]], "identity of another row"),
    ],
    ids=["time", "symbol", "identity"],
)
def test_disorder_and_repetition_do_not_verify(path, pieces, message):
    write(path, *(table("trade", piece) for piece in pieces))
    with pytest.raises(VerifyFailed, match=message):
        parquet.verify(path)


def test_a_row_that_falls_behind_the_piece_before_it_does_not_verify(path, monkeypatch):
    monkeypatch.setattr(parquet, "_VERIFIED_ROWS", 2)
    write(path, table("trade", [rows(4)[place] for place in (0, 2, 1, 3)]))
    with pytest.raises(VerifyFailed, match="not sorted"):
        parquet.verify(path)


@pytest.mark.parametrize("changed", [{"rows": 4}, {"ts_min": 0}, {"seq_max": 99}])
def test_a_footer_that_says_something_else_does_not_verify(path, changed):
    write(path, table("trade", rows(5)), **changed)
    with pytest.raises(VerifyFailed, match="its footer says"):
        parquet.verify(path)


def test_a_null_where_there_must_be_none_is_not_written():
    broken = table("trade", [trade(T0, "1", "1", 1) | {"condition": None}])
    with pytest.raises(VerifyFailed, match="condition is required"):
        parquet.write(io.BytesIO(), "trade", [broken], footer)


def test_a_table_of_another_kind_is_not_written():
    with pytest.raises(VerifyFailed, match="schema"):
        parquet.write(io.BytesIO(), "quote", [table("trade", rows(1))], footer)


def test_every_flipped_bit_is_found(path):
    write(path, table("trade", rows(2000)))
    sha256 = parquet.file_sha256(path)
    good = path.read_bytes()
    chance = random.Random(1)
    for _ in range(40):
        place = chance.randrange(len(good))
        bad = bytearray(good)
        bad[place] ^= 1 << chance.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(CorruptFile):
            parquet.check_sha256(path, sha256)


def test_a_flipped_bit_in_a_page_is_found_by_its_checksum_alone(path):
    write(path, table("trade", rows(2000)))
    good = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(tables.schema("trade").get_field_index("ts_recv"))
    middle = column.data_page_offset + column.total_compressed_size // 2
    bad = bytearray(good)
    bad[middle] ^= 1
    path.write_bytes(bad)
    with pytest.raises(CorruptFile):
        parquet.verify(path)


def test_pieces_that_are_verified_are_not_held_beside_the_next(path, monkeypatch):
    monkeypatch.setattr(parquet, "_VERIFIED_ROWS", 10)
    write(path, table("trade", rows(35)))
    seen: list[weakref.ref] = []

    def look(piece):
        assert [one for one in seen if one() is not None] == []
        seen.append(weakref.ref(piece))

    assert parquet.verify(path, look).rows == 35
    assert len(seen) == 4


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1 and more PAR1", b"\0" * 100])
def test_what_is_no_parquet_is_a_corrupt_file(path, data):
    path.write_bytes(data)
    with pytest.raises(CorruptFile):
        parquet.read(path)
    with pytest.raises(LakeError):
        parquet.verify(path)


def test_a_cut_or_missing_file_is_a_corrupt_file(path):
    with pytest.raises(CorruptFile, match="missing"):
        parquet.read(path)
    write(path, table("trade", rows(100)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CorruptFile):
        list(parquet.iterate(path))


def test_row_groups_of_books_end_before_they_hold_too_many_levels(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP_LEVELS", 20)
    sizes = [1, 5, 5, 9, 30, 1, 1, 0, 18, 2]
    rows = [book_rows.delta(T0 + n, 10 + n, bids=[("1", "2")] * size) for n, size in enumerate(sizes)]
    made = book_rows.table(rows)
    wanted = [4, 1, 4, 1]
    for step in (1, 3, len(sizes)):
        pieces = [made.slice(start, step) for start in range(0, len(sizes), step)]
        assert [group.num_rows for group in row_groups.regroup(pieces, 100, 20)] == wanted
        path = tmp_path / f"{step}.parquet"
        with path.open("wb") as sink:
            parquet.write(sink, "book_delta", pieces, lambda _: None)
        held = pq.ParquetFile(path)
        assert [held.metadata.row_group(n).num_rows for n in range(held.num_row_groups)] == wanted
        assert parquet.read(path).equals(made)
    assert [group.num_rows for group in row_groups.regroup([made], 3, 20)] == [3, 1, 1, 3, 2]


def test_files_of_many_levels_are_read_in_smaller_pieces(tmp_path):
    made = book_rows.table(
        [book_rows.delta(T0 + n, 10 + n, bids=[("1", "2")] * 40, asks=[("3", "2")] * 40) for n in range(64)]
    )
    path = tmp_path / "book.parquet"
    with path.open("wb") as sink:
        parquet.write(sink, "book_delta", [made], lambda _: None)
    assert {piece.num_rows for piece in parquet.iterate(path, rows=40)} == {2}
    assert {piece.num_rows for piece in parquet.iterate(path, ["symbol", "bids"], rows=40)} == {2}
    assert [piece.num_rows for piece in parquet.iterate(path, ["symbol", "last_id"], rows=40)] == [40, 24]
    assert pa.concat_tables(parquet.iterate(path, rows=40)).equals(made)


def test_a_name_of_a_column_that_is_no_text_any_more_is_a_corrupt_file_by_its_name(path):
    """A flipped bit of the footer: pyarrow raises UnicodeDecodeError, which is no word about the manifest."""
    write(path, table("trade", rows(20)))
    good = path.read_bytes()
    at, said = good.find(b"ts_event"), []
    while at >= 0:
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x80]) + good[at + 1 :])
        for look in (parquet.read_footer, parquet.read, parquet.verify, lambda path: list(parquet.iterate(path))):
            try:
                look(path)
            except LakeError as error:
                said.append(error.message)
        at = good.find(b"ts_event", at + 1)
    assert [text for text in said if "utf-8" in text and path.name in text], "no bit made a name unreadable"
