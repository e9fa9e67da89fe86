"""The merge against a plain sort in Python: order, identities, counts, and pieces of any size."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import merge, tables
from lake.windows import Extent

T0 = 1_700_000_000_000_000
DATE = "2023-11-14"


def trades(rows: Sequence[tuple]) -> pa.Table:
    """Rows (symbol, ts offset, seq, session, frame_no[, recv offset]) as a sorted table of trades."""
    full = [(*row, row[1]) if len(row) == 5 else row for row in rows]
    none_first = [(r[0], r[1], (r[2] is not None, r[2] or 0), r[3], r[4]) for r in full]
    full = [full[i] for i in sorted(range(len(full)), key=none_first.__getitem__)]
    columns = list(zip(*full, strict=True)) if full else [[]] * 6
    n = len(full)
    raw = pa.table(
        {
            "symbol": pa.array(columns[0], pa.string()),
            "ts_event": pa.array([T0 + t for t in columns[1]], pa.int64()),
            "seq": pa.array(columns[2], pa.int64()),
            "session": pa.array(columns[3], pa.string()),
            "frame_no": pa.array(columns[4], pa.int64()),
            "ts_recv": pa.array([T0 + t for t in columns[5]], pa.int64()),
            "item": pa.array([0] * n, pa.int64()),
            "date": pa.array([19675] * n, pa.int32()).cast(pa.date32()),
            "ts_estimated": pa.array([False] * n),
            "price": pa.array([float(i + 1) for i in range(n)]),
            "qty": pa.array([1.0] * n),
        }
    )
    constants = {"exchange": "x", "market_type": "spot", "source": "ws", "qty_unit": "base", "multiplier": 1.0}
    return tables.conform(raw, "trade", {**constants, "condition": "market", "side": "buy"})


def source(table: pa.Table, piece: int = 7) -> merge.Source:
    def opened(columns: Sequence[str] | None) -> Iterator[pa.Table]:
        chosen = table if columns is None else table.select(list(columns))
        for start in range(0, table.num_rows, piece):
            yield chosen.slice(start, piece)

    return opened


def keys(table: pa.Table) -> list[tuple]:
    return [
        (row["symbol"], row["ts_event"], row["seq"], row["session"], row["frame_no"])
        for row in table.select(["symbol", "ts_event", "seq", "session", "frame_no"]).to_pylist()
    ]


def bounded(part: pa.Table, piece: int) -> merge.Source:
    """With its bounds, as a file's statistics tell them."""
    symbols, seq = part.column("symbol").unique().to_pylist(), part.column("seq").to_pylist()
    if len(symbols) != 1 or None in seq:
        return source(part, piece)
    at = part.column("ts_event").cast(pa.int64()).to_pylist()
    return merge.Bounded(source(part, piece), Extent(symbols[0], len(seq), 1, (at[0], at[-1]), (min(seq), max(seq))))


def merged(parts: Sequence[pa.Table], piece: int = 7, opener=source) -> tuple[list[tuple], merge.Merged]:
    counts = merge.Merged()
    out = list(merge.merge("trade", [opener(part, piece) for part in parts], counts))
    return [key for table in out for key in keys(table)], counts


row = st.tuples(
    st.sampled_from(["A", "B", "É"]),
    st.integers(0, 20),
    st.one_of(st.none(), st.integers(0, 12)),
    st.sampled_from(["n-1-1", "n-2-1"]),
    st.integers(1, 9),
    st.integers(0, 30),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(row, max_size=25), min_size=1, max_size=4), st.integers(1, 9))
def test_a_merge_is_the_sorted_union_with_one_row_of_each_identity(parts, piece):
    everything = list(itertools.chain.from_iterable(parts))
    found, counts = merged([trades(part) for part in parts], piece)
    identities = {(r[0], r[2]) if r[2] is not None else (r[0], None, r[3], r[4]) for r in everything}
    assert {(f[0], f[2]) if f[2] is not None else (f[0], None, f[3], f[4]) for f in found} == identities
    assert len(found) == len(identities) == counts.rows_out
    assert counts.rows_in == len(everything) == counts.rows_out + counts.duplicates
    order = [(f[0].encode(), f[1], f[2] is not None, f[2] or 0, f[3], f[4]) for f in found]
    assert order == sorted(order)


@settings(max_examples=30, deadline=None)
@given(st.lists(row, max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_where_a_piece_ends_changes_nothing(rows, piece, other):
    half = len(rows) // 2
    parts = [trades(rows[:half]), trades(rows[half:])]
    assert merged(parts, piece) == merged(parts, other)


near = st.tuples(
    st.just("A"), st.integers(0, 4), st.integers(0, 4), st.sampled_from(["n-1-1", "n-2-1"]), st.integers(1, 9),
    st.integers(0, 30),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.lists(near, min_size=1, max_size=6)), min_size=1, max_size=6))
def test_known_bounds_change_how_sources_are_read_and_nothing_else(parts):
    tables_of = [trades([(r[0], r[1] + 3 * at, r[2] + 3 * at, *r[3:]) for r in rows]) for at, rows in parts]
    plain, plain_counts = merged(tables_of)
    quick, quick_counts = merged(tables_of, opener=bounded)
    assert quick == plain
    assert (quick_counts.rows_in, quick_counts.rows_out) == (plain_counts.rows_in, plain_counts.rows_out)
    assert quick_counts.duplicates == plain_counts.duplicates
    counts = merge.Merged()
    assert [key for piece in merge.small("trade", merge.joined(tables_of), counts) for key in keys(piece)] == plain
    assert counts == plain_counts


def test_a_source_that_is_merged_alone_is_read_in_larger_pieces(monkeypatch):
    monkeypatch.setattr(merge, "WINDOW_ROWS", 5)
    parts = [trades([("A", k + i, k + i, "n-1-1", i) for i in range(n)]) for k, n in ((0, 9), (20, 4), (22, 7))]
    sources = [merge.Bounded(bounded(part, 2), bounded(part, 2).extent, source(part, 9)) for part in parts]
    out = list(merge.merge("trade", sources, merge.Merged()))
    assert out[0].num_rows == 9
    assert [key[2] for table in out for key in keys(table)] == [*range(9), *range(20, 29)]


def test_sources_that_follow_each_other_are_read_once_and_given_out_together():
    parts = [trades([("A", 10 * k + i, 10 * k + i, "n-1-1", 10 * k + i) for i in range(10)]) for k in range(3)]
    read: list[Sequence[str] | None] = []

    def watched(part: pa.Table, piece: int) -> merge.Source:
        known = bounded(part, piece)
        return merge.Bounded(lambda columns: (read.append(columns), known(columns))[1], known.extent)

    counts = merge.Merged()
    (out,) = merge.merge("trade", [watched(part, 4) for part in parts], counts)
    assert [key[2] for key in keys(out)] == list(range(30))
    assert read == [None] * 3


def test_rows_left_out_are_handed_over_however_their_source_was_read():
    parts = [trades([("A", k, k, "n-1-1", k) for k in range(5)]), trades([("A", k, k, "n-2-1", k) for k in (3, 4)])]
    for opener in (source, bounded):
        dropped: list[pa.Table] = []
        out = merge.merge("trade", [opener(part, 2) for part in parts], merge.Merged(), dropped.append)
        assert len([key for table in out for key in keys(table)]) == 5
        assert [(key[2], key[3]) for table in dropped for key in keys(table)] == [(3, "n-2-1"), (4, "n-2-1")]


def test_the_first_received_of_two_equal_ids_stays_even_if_its_time_sorts_later():
    early = trades([("A", 10, 5, "n-2-1", 1, 3)])
    late = trades([("A", 9, 5, "n-1-1", 1, 8)])
    found, counts = merged([late, early])
    assert [f[3] for f in found] == ["n-2-1"]
    assert counts.duplicates == 1


def test_the_same_row_stored_twice_is_one_row():
    part = trades([("A", 1, None, "n-1-1", 1), ("A", 1, 7, "n-1-1", 2), ("B", 1, None, "n-1-1", 3)])
    found, counts = merged([part, part])
    assert found == keys(part)
    assert counts.duplicates == 3


def test_a_missing_id_between_equal_ids_does_not_hide_the_second():
    part = trades([("A", 1, 5, "n-1-1", 1), ("A", 2, None, "n-1-1", 2), ("A", 3, 5, "n-1-1", 3)])
    found, counts = merged([part])
    assert [f[4] for f in found] == [1, 2]
    assert counts.duplicates == 1


def test_parts_without_overlap_are_read_once_by_identity_and_never_sorted():
    parts = [trades([("A", 10 * k + i, 10 * k + i, "n-1-1", 10 * k + i) for i in range(10)]) for k in range(3)]
    found, counts = merged(parts)
    assert [f[2] for f in found] == list(range(30))
    assert counts.duplicates == 0


def bars(rows: Sequence[tuple[str, int, int, float]]) -> pa.Table:
    n = len(rows)
    columns = list(zip(*sorted(rows), strict=True))
    raw = pa.table(
        {
            "symbol": pa.array(columns[0]),
            "ts_event": pa.array([T0 + t for t in columns[1]], pa.int64()),
            "window_start": pa.array([T0 + t for t in columns[1]], pa.int64()),
            "revision": pa.array(columns[2], pa.int64()),
            "open": pa.array(columns[3]),
            "date": pa.array([19675] * n, pa.int32()).cast(pa.date32()),
        }
    )
    zero = {"volume_base": 1.0, "volume_quote": 1.0, "taker_buy_base": 0.0, "taker_buy_quote": 0.0, "trade_count": 1}
    flags = {"partial": False, "gap": False, "late": 0, "ts_estimated": False}
    return tables.conform(raw, "bar_1s", {"exchange": "x", "market_type": "spot", "source": "derived", **zero, **flags})


def test_of_bars_of_one_window_the_highest_revision_stays_and_then_the_last_source():
    old = bars([("A", 0, 0, 1.0), ("A", 1, 1, 2.0)])
    new = bars([("A", 0, 1, 3.0), ("A", 1, 1, 4.0)])
    counts = merge.Merged()
    out = pa.concat_tables(list(merge.merge("bar_1s", [source(old), source(new)], counts)))
    assert out.column("open").to_pylist() == [3.0, 4.0]
    assert counts.duplicates == 2


def test_a_table_is_cut_by_symbol_across_its_pieces():
    table = trades([("A", i, i, "n-1-1", i) for i in range(5)] + [("B", i, i, "n-1-1", i) for i in range(4)])
    for piece in (1, 2, 3, 100):
        found = [(s, sum(p.num_rows for p in pieces)) for s, pieces in merge.by_symbol(source(table, piece)(None))]
        assert found == [("A", 5), ("B", 4)]


def test_a_cut_by_time_is_half_open():
    table = trades([("A", i, i, "n-1-1", i) for i in range(6)])
    pieces = merge.cut(source(table, 4)(None), "ts_event", T0 + 2, T0 + 5)
    assert [key[2] for piece in pieces for key in keys(piece)] == [2, 3, 4]


def test_pieces_shrink_as_sources_grow_in_number():
    sizes: Callable[[int], int] = merge.piece_rows
    assert sizes(1) * 1 <= 64 * 1024
    assert 2 * sizes(60) * 60 <= 1024 * 1024
