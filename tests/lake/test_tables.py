"""Schemas, encodings and footers of every declared kind."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import tables
from lake.errors import CorruptFile, UnknownVersion, VerifyFailed
from market import kinds

ALL = sorted(kinds.KINDS)
FOOTER = tables.Footer(
    kind="trade", schema_version=1, lake_id="l", exchange="x", market_type="spot", symbol="A", date="2026-11-20",
    hour=None, level="day", revision=2, rows=3, ts_min=1, ts_max=2, decimals={"price": 2},
    parents=(tables.Parent("hot/b", "2"), tables.Parent("hot/a", "1")),
)  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
def test_every_kind_has_its_common_columns_first_and_a_text_beside_each_decimal(kind):
    names = tables.schema(kind).names
    assert names[: len(kinds.COMMON)] == [column.name for column in kinds.COMMON]
    for column in tables.columns(kind):
        if column.type in ("decimal", "levels"):
            assert names[names.index(column.name) + 1] == f"{column.name}_text"
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", ALL)
def test_every_kind_can_be_written_with_its_options_and_read_back_the_same(kind, tmp_path):
    wanted = tables.schema(kind)
    table = pa.table([pa.nulls(5, field.type) for field in wanted], schema=wanted)
    pq.write_table(table, tmp_path / "x.parquet", **tables.parquet_options(kind))
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert file.schema_arrow.equals(wanted)
    encodings = {
        column.path_in_schema: column.encodings
        for place in range(file.metadata.num_columns)
        for column in [file.metadata.row_group(0).column(place)]
    }
    assert "DELTA_BINARY_PACKED" in encodings["ts_event"]
    assert "RLE_DICTIONARY" in encodings["symbol"]
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert tables.parquet_options(kind, lasting=False) == {
        name: value for name, value in tables.parquet_options(kind).items() if name != "compression_level"
    } | {"compression": "lz4"}


@pytest.mark.parametrize("kind", ALL)
def test_rows_are_ordered_by_symbol_and_end_with_provenance(kind):
    order = tables.sort_columns(kind)
    assert order[0] == "symbol"
    assert order[-3:] == kinds.PROVENANCE
    assert set(order) <= set(tables.schema(kind).names)


def test_identities_are_ids_where_the_key_has_one():
    assert tables.identity_columns("trade") == ("seq", "trade_id")
    assert tables.identity_columns("quote") == ("update_id",)
    assert tables.identity_columns("mark_price") == ()
    assert tables.identity_columns("book_snapshot") == ("last_id",)


def test_conform_fills_casts_and_orders_columns():
    raw = pa.table({"price": ["1.5", "2"], "symbol": pa.array(["A", "B"], pa.large_string()), "ts_event": [1, 2]})
    table = tables.conform(raw, "trade", {"exchange": "x", "side": None})
    assert table.schema.equals(tables.schema("trade"))
    assert table["price"].to_pylist() == [1.5, 2.0]
    assert table["exchange"].to_pylist() == ["x", "x"]
    assert table["side"].to_pylist() == [None, None]
    assert table["ts_event"].cast(pa.int64()).to_pylist() == [1, 2]


def test_conform_refuses_what_the_kind_does_not_know_and_values_that_do_not_fit():
    with pytest.raises(VerifyFailed, match="no column bid"):
        tables.conform(pa.table({"bid": [1.0]}), "trade")
    with pytest.raises(VerifyFailed, match=r"trade\.price"):
        tables.conform(pa.table({"price": ["nonsense"]}), "trade")


def test_a_required_column_may_hold_no_null():
    table = tables.conform(pa.table({"price": [1.0, None]}), "trade", {"exchange": "x", "market_type": "spot"})
    with pytest.raises(VerifyFailed, match=r"trade\.symbol is required and null in 2 of 2 rows"):
        tables.check_required(table, "trade")


def test_a_footer_reads_back_as_it_was_written():
    assert tables.decode_footer(tables.encode_footer(FOOTER), "f") == FOOTER


def test_a_footer_of_a_newer_schema_is_refused_by_name():
    newer = {tables.FOOTER_KEY: b'{"schema_version": 99, "what": "ever"}'}
    with pytest.raises(UnknownVersion, match="f has table schema 99"):
        tables.decode_footer(newer, "f")


@pytest.mark.parametrize("metadata", [None, {}, {b"lake": b"no json"}, {b"lake": b"[]"}, {b"lake": b"{}"}])
def test_a_missing_or_broken_footer_is_a_corrupt_file(metadata):
    with pytest.raises(CorruptFile, match="lake footer"):
        tables.decode_footer(metadata, "f")


def test_the_root_hash_does_not_depend_on_the_order_of_parents():
    one, other = FOOTER.parents
    assert tables.root_hash([one, other]) == tables.root_hash([other, one]) != tables.root_hash([one])
    assert tables.root_hash([]) == ""


def test_levels_lie_flat_with_the_texts_of_the_rows_that_have_some():
    def level(price, qty):
        return {"price": price, "qty": qty}

    exact = "1.123456789012345678"
    table = pa.table(
        {
            "bids": pa.array([[level(1.0, 2.0)], [], [level(3.0, 4.0), level(1.12, 5.0)]], tables.LEVELS),
            "bids_text": pa.array([None, None, [level(None, None), level(exact, None)]], tables.LEVELS_TEXT),
            "asks": pa.array([[], None, [level(9.0, 8.0)]], tables.LEVELS),
            "asks_text": pa.array([None] * 3, tables.LEVELS_TEXT),
        }
    )  # fmt: skip
    for cut in (
        table,
        pa.concat_tables([table.slice(0, 1), table.slice(1)]),
        pa.concat_tables([table, table]).slice(3),
    ):
        flat = {name: (f.to_pylist(), t.to_pylist()) for name, f, t in tables.flat_levels(cut, "book_delta")}
        assert flat == {
            "bids.price": ([1.0, 3.0, 1.12], [None, None, exact]), "bids.qty": ([2.0, 4.0, 5.0], [None] * 3),
            "asks.price": ([9.0], [None]), "asks.qty": ([8.0], [None]),
        }  # fmt: skip
