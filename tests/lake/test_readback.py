"""A file read back: pages that repeat are decoded once, and whatever is changed in any of them is noticed."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import parquet, readback, tables, thrift
from lake.errors import LakeError
from tests.lake.test_splicing import rows_of
from tests.support import book_rows


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP_ROWS", 100)
    return tmp_path / "x.parquet"


def write(path, made, kind="trade"):
    with path.open("wb") as sink:
        parquet.write(sink, kind, [made], lambda stats: footer(stats, kind))


def footer(stats, kind):
    return tables.Footer(
        kind=kind, schema_version=1, lake_id="l", exchange="x", market_type="spot", symbol=None, date="2024-07-19",
        hour=0, level="part", revision=0, rows=stats.rows, ts_min=stats.ts_min, ts_max=stats.ts_max,
        seq_min=stats.seq_min, seq_max=stats.seq_max,
    )  # fmt: skip


def pieces_of(path, rows):
    with pq.ParquetFile(path) as file:
        return list(readback.pieces(file, path, rows))


@pytest.mark.parametrize("rows", [1, 30, 50, 64, 100, 1000])
@pytest.mark.parametrize("count", [40, 100, 350])
def test_it_is_what_was_written_in_pieces(path, count, rows):
    made = rows_of(count)
    write(path, made)
    with parquet.open_file(path) as file:
        pieces = list(readback.pieces(file, path, rows))
    assert pa.concat_tables(pieces).unify_dictionaries().to_pylist() == made.to_pylist()
    assert max(map(len, pieces)) <= rows
    assert all(piece.schema.equals(made.schema) for piece in pieces)


def test_only_pages_that_differ_are_decoded(path, monkeypatch):
    write(path, rows_of(350))
    asked = []
    with parquet.open_file(path) as file:
        plain = file.iter_batches

        def noted(rows, **more):
            asked.append(len(more["columns"]))
            return plain(rows, **more)

        monkeypatch.setattr(file, "iter_batches", noted)
        whole = sum(len(piece) for piece in readback.pieces(file, path, 1000))
    assert whole == 350
    names = len(tables.schema("trade"))
    assert asked[0] == asked[3] == names, "the first group, and one of fewer rows"
    assert asked[1] < names / 2
    assert asked[2] < names / 2


def test_groups_that_are_the_same_in_all_columns_are_all_of_their_rows(tmp_path):
    path = tmp_path / "x.parquet"
    made = pa.table({"a": [1, 2, 3] * 4, "b": ["x"] * 12})
    pq.write_table(made, path, row_group_size=3)
    assert pa.concat_tables(pieces_of(path, 2)).equals(made)


def test_pages_that_differ_in_their_last_byte_are_other_pages(tmp_path):
    path = tmp_path / "x.parquet"
    made = pa.table({"a": ["x" * 90 + end for end in "aabb"]})
    pq.write_table(made, path, row_group_size=2, compression="none", write_statistics=False)
    assert pa.concat_tables(pieces_of(path, 9)).equals(made)


def test_of_another_codec_the_same_bytes_say_something_else(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [7, 7, 7, 7]}), path, row_group_size=2, compression="none", write_statistics=False)
    data = path.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    footer, _ = thrift.decode(data[-8 - size : -8])
    second = footer[4].value.values[1][1].value.values[0]
    second[3].value[4] = thrift.Field(thrift.I32, 2)  # gzip
    changed = thrift.encode(footer)
    path.write_bytes(data[: -8 - size] + changed + len(changed).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(parquet.BROKEN):
        pieces_of(path, 9)


def test_books_are_read_as_they_are(path):
    made = book_rows.table([book_rows.delta(n, n, bids=[("1", "2")], asks=[("3", "4")] * 3) for n in range(250)])
    write(path, made, "book_delta")
    with parquet.open_file(path) as file:
        assert file.metadata.num_row_groups == 3
        pieces = list(readback.pieces(file, path, 90))
    assert pa.concat_tables(pieces).unify_dictionaries().to_pylist() == made.to_pylist()


def test_what_is_noticed_where_every_page_is_decoded_is_noticed(path, monkeypatch):
    """Headers of pages have no checksum: a bit in them may mean nothing."""
    write(path, rows_of(350))
    whole = path.read_bytes()
    metadata = pq.ParquetFile(path).metadata
    last = metadata.row_group(metadata.num_row_groups - 1)
    end = max(last.column(n).data_page_offset + last.column(n).total_compressed_size for n in range(last.num_columns))
    repeated = metadata.row_group(1).column(0)
    start = repeated.dictionary_page_offset
    chance = random.Random(5)
    noticed = 0
    for place in [*range(start, start + repeated.total_compressed_size), *chance.sample(range(4, end), 250)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        said = []
        for small in (readback.SMALL, 0):
            monkeypatch.setattr(readback, "SMALL", small)
            rows = []
            try:
                parquet.verify(path, rows.append)
                said.append(pa.concat_tables(rows).unify_dictionaries().to_pylist())
            except LakeError:
                said.append("damaged")
                noticed += small == 0
        assert said[0] == said[1], place
    assert noticed > 200
