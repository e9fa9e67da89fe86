"""Columns that say the same are encoded once: the file is the one that pyarrow makes, to the byte."""

import io
import random
import struct

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import parquet, splicing, tables
from market import kinds
from tests.support.market_rows import T0, table, trade

FLAT = [name for name in kinds.KINDS if not tables.level_columns(name)]
NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]
WORDS = ["binance", "", "ü\t", "x" * 300]


def values(kind, chance, rows):
    """Values of a column: the same in all rows, different, missing, or some of them missing."""
    made = {
        "bool": lambda: chance.random() < 0.5,
        "double": lambda: chance.choice([0.0, -0.0, 1.5, NAN, 1e300]),
        "text": lambda: chance.choice(WORDS),
    }.get(kind, lambda: chance.choice([0, 1, -1, 2**40 if kind == "long" else 2**20]))
    match chance.randrange(5):
        case 0 | 1:
            return [made()] * rows
        case 2:
            return [None] * rows
        case 3:
            return [made() for _ in range(rows)]
        case _:
            return [made() if chance.random() < 0.9 else None for _ in range(rows)]


def column(field, chance, rows):
    if pa.types.is_dictionary(field.type):
        words = values("text", chance, rows)
        if chance.random() < 0.3:  # words that no row says
            return pa.DictionaryArray.from_arrays(pa.array([None] * rows, pa.int32()), pa.array(WORDS[:1]))
        return pa.array(words, pa.string()).dictionary_encode()
    if pa.types.is_string(field.type):
        return pa.array(values("text", chance, rows), field.type)
    if pa.types.is_boolean(field.type):
        return pa.array(values("bool", chance, rows), field.type)
    if pa.types.is_floating(field.type):
        return pa.array(values("double", chance, rows), field.type)
    kind = "long" if field.type.bit_width == 64 else "short"
    whole = pa.array(values(kind, chance, rows), pa.int64() if kind == "long" else pa.int32())
    return whole.view(field.type)


def group(schema, chance, rows, before):
    """A row group in which some columns are those of the one before, cut as a merge may cut them."""
    columns = []
    for place, field in enumerate(schema):
        if before is not None and len(before) == rows and chance.random() < 0.6:
            columns.append(before.column(place))
            continue
        whole, cut = column(field, chance, rows), chance.randrange(rows + 1)
        columns.append(pa.chunked_array([whole.slice(0, cut), whole.slice(cut)], type=field.type))
    return pa.table(columns, schema=schema).unify_dictionaries()


def written(writer, schema, groups, options):
    made = io.BytesIO()
    with writer(made, schema, **options) as file:
        for one in groups:
            file.write_table(one)
        file.add_key_value_metadata({b"lake": b"{}"})
    return made.getvalue()


@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize("kind", FLAT)
def test_the_bytes_are_those_of_pyarrow(kind, lasting):
    schema, options = tables.schema(kind), tables.parquet_options(kind, lasting=lasting)
    for seed in range(12):
        chance = random.Random(f"{kind} {seed}")
        groups = []
        for _ in range(chance.randrange(1, 6)):
            rows = chance.choice([1, 70, 70, 70])
            groups.append(group(schema, chance, rows, groups[-1] if groups else None))
        assert written(splicing.Writer, schema, groups, options) == written(pq.ParquetWriter, schema, groups, options)


def test_pages_are_cut_where_pyarrow_cuts_them():
    """Twenty thousand rows a page: offsets of many pages are moved, and those behind large columns far."""
    schema, options = tables.schema("trade"), tables.parquet_options("trade")
    chance = random.Random(3)
    groups = []
    for _ in range(3):
        groups.append(group(schema, chance, 50_000, groups[-1] if groups else None))
    data = written(splicing.Writer, schema, groups, options)
    assert data == written(pq.ParquetWriter, schema, groups, options)
    read = pq.read_table(io.BytesIO(data))
    assert read.column("seq").to_pylist() == [seq for one in groups for seq in one.column("seq").to_pylist()]


def test_only_what_changes_is_encoded(monkeypatch):
    asked = []
    plain = splicing.Writer._encoded
    monkeypatch.setattr(
        splicing.Writer, "_encoded", lambda self, part: asked.append(part.column_names) or plain(self, part)
    )
    schema = pa.schema({"a": pa.int64(), "b": tables.DICT, "c": pa.float64(), "d": pa.string()})

    def of(a, b, c, rows=3):
        words = pa.array([b] * rows).dictionary_encode()
        return pa.table([a, words, [c] * rows, pa.array([None] * rows, pa.string())], schema=schema)

    groups = [
        of([1, 2, 3], "x", 0.0), of([4, 5, 6], "x", 0.0), of([7, 7, 7], "y", 0.0), of([7, 7, 7], "y", -0.0),
        of([7, 7, 7], "y", -0.0), of([7, 7], "y", -0.0, 2),
    ]  # fmt: skip
    data = written(splicing.Writer, schema, groups, {"write_page_index": True})
    assert asked == [["a", "b", "c", "d"], ["a"], ["a", "b"], ["c"], ["d"], ["a", "b", "c", "d"]]
    assert pq.read_table(io.BytesIO(data)).to_pylist() == [row for one in groups for row in one.to_pylist()]


@pytest.mark.parametrize(
    "one, other",
    [
        (pa.array([7, 7, 7]), pa.array([7, None, 7])),
        (pa.array([7, None, 7]), pa.array([7, 7, 7])),
        (pa.array(["x", None, "x"]).dictionary_encode(), pa.array([None, "x", "x"]).dictionary_encode()),
        (pa.array([False, None, False]), pa.array([False, False, False])),
        (pa.nulls(3, pa.int64()), pa.array([0, 0, 0])),
    ],
)
def test_what_is_missing_in_some_rows_is_no_column_that_says_one_thing(one, other):
    groups = [pa.table({"a": column, "b": [1, 2, 3]}) for column in (one, other)]
    options = {"write_page_index": True}
    written_by = [written(by, groups[0].schema, groups, options) for by in (splicing.Writer, pq.ParquetWriter)]
    assert written_by[0] == written_by[1]


def test_pages_that_are_written_are_not_held():
    groups = [pa.table({"a": [n, n + 1], "b": [1, 1]}) for n in range(3)]
    with splicing.Writer(io.BytesIO(), groups[0].schema, write_page_index=True) as file:
        for one in groups:
            file.write_table(one)
        assert not any(chunk.pages for chunk in file._chunks)


def rows_of(count):
    return table("trade", [trade(T0 + n * 1000, f"{100 + n % 9}.{n % 10}", "0.5", n) for n in range(count)])


@pytest.mark.parametrize("count, spliced", [(99, False), (100, True), (101, True), (1000, True)])
def test_a_file_of_several_row_groups_is_written_this_way(tmp_path, monkeypatch, count, spliced):
    monkeypatch.setattr(tables, "ROW_GROUP_ROWS", 100)
    used = []
    plain = splicing.Writer.close
    monkeypatch.setattr(splicing.Writer, "close", lambda self: used.append(True) or plain(self))
    path = tmp_path / "x.parquet"
    with path.open("wb") as sink:
        parquet.write(sink, "trade", [rows_of(count)], lambda _: None)
    assert bool(used) == spliced
    monkeypatch.setattr(splicing, "Writer", pq.ParquetWriter)
    by_pyarrow = tmp_path / "y.parquet"
    with by_pyarrow.open("wb") as sink:
        parquet.write(sink, "trade", [rows_of(count)], lambda _: None)
    assert path.read_bytes() == by_pyarrow.read_bytes()
    assert pl.read_parquet(path).height == count
    with duckdb.connect() as connection:
        assert connection.execute("SELECT count(*), sum(seq) FROM read_parquet(?)", [str(path)]).fetchone() == (
            count, count * (count - 1) // 2,
        )  # fmt: skip


def test_what_fails_in_the_middle_leaves_no_file_that_can_be_read():
    made = io.BytesIO()
    group = rows_of(10)

    def fail():
        with splicing.Writer(made, group.schema, **tables.parquet_options("trade")) as file:
            file.write_table(group.unify_dictionaries())
            raise RuntimeError("made up")

    with pytest.raises(RuntimeError, match="made up"):
        fail()
    with pytest.raises(pa.ArrowInvalid):
        pq.read_table(made)
