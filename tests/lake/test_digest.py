"""The content digest: its golden vector, and what it does and does not depend on."""

import hashlib
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import digest as content
from lake import tables
from lake.digest import ContentDigest, canonical_lines, content_digest
from tests.support import book_rows
from tests.support.market_rows import T0, quote, table, trade

GOLDEN = table(
    "trade",
    [
        trade(T0, "65000.10", "0.001", 1),
        trade(T0 + 1, "65000.123456789012345678", "0.00000001", 2, side="sell"),
        trade(T0 + 2, "0.00001", "1000000", 3, side=None, condition="void"),
    ],
)


def digest(rows: pa.Table, kind: str = "trade") -> str:
    return content_digest(rows, "binance", "linear", kind)


def test_the_golden_vector_of_the_specification():
    assert canonical_lines(GOLDEN, "trade").to_list() == [
        "BTCUSDT\t1721347200000000\t\t1\t65000.1\t0.001\tbase\t1\tbuy\tmarket\n",
        "BTCUSDT\t1721347200000001\t\t2\t65000.123456789012345678\t0.00000001\tbase\t1\tsell\tmarket\n",
        "BTCUSDT\t1721347200000002\t\t3\t0.00001\t1000000\tbase\t1\t\tvoid\n",
    ]
    assert digest(GOLDEN) == "7f0eb7afa14e77e17a52116f06db055e2d753e9d2567c87a49b9755ed7efbf56"


@given(st.lists(st.integers(0, 3), max_size=3))
def test_where_tables_are_cut_changes_nothing(cuts):
    made = ContentDigest("binance", "linear", "trade")
    start = 0
    for cut in [*sorted(cuts), 3]:
        made.update(GOLDEN.slice(start, cut - start))
        start = cut
    assert made.hexdigest() == digest(GOLDEN)
    assert made.rows == 3


TRADES = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["A", "B\tC", "Ä\n"]),
        "side": st.sampled_from(["buy", "sell", None]),
        "price": st.sampled_from(["1", "0.00001", "65000.123456789012345678"]),
        "multiplier": st.sampled_from(["1", "0.1", None]),
        "qty_unit": st.sampled_from(["base", None]),
        "trade_id": st.sampled_from(["", "x\\y", None]),
        "seq": st.sampled_from([7, None]),
    }
)


@given(st.lists(TRADES, min_size=1, max_size=4))
def test_the_digest_is_the_hash_of_the_lines(rows):
    rows = table("trade", [trade(T0 + place, "1", "2", 1) | row for place, row in enumerate(rows)])
    lines = "".join(canonical_lines(rows, "trade").to_list())
    assert digest(rows) == hashlib.sha256(f"lake-content 1\tbinance\tlinear\ttrade\n{lines}".encode()).hexdigest()


def test_lines_are_hashed_in_the_order_of_the_rows_however_many_are_written_at_once():
    rows = table("trade", [trade(T0 + place, str(place), "2", place) for place in range(500)])
    lines = "".join(canonical_lines(rows, "trade").to_list())
    with patch.object(content, "_WRITTEN_AT_ONCE", 7):
        made = digest(rows)
    assert made == hashlib.sha256(f"lake-content 1\tbinance\tlinear\ttrade\n{lines}".encode()).hexdigest()


@given(st.lists(st.binary(max_size=6), max_size=6), st.integers(0, 5))
def test_all_but_the_end_is_hashed_however_it_is_written(pieces, behind):
    whole, made = b"".join(pieces), hashlib.sha256()
    lines = content._Hashed(made.update, behind)
    assert [lines.write(piece) for piece in pieces] == [len(piece) for piece in pieces]
    assert made.digest() == hashlib.sha256(whole[: max(0, len(whole) - behind)]).digest()


FLOATS = st.sampled_from([None, 0.0, -0.0, 1.0, 1.5, 2.5, 1e-7, float("nan")])


@given(st.lists(st.lists(FLOATS, min_size=1, max_size=6), min_size=1, max_size=5), st.integers(0, 4))
def test_texts_that_are_remembered_are_those_that_would_be_made(pieces, remembered):
    made, lines = ContentDigest("binance", "linear", "trade"), ""
    with patch.object(content, "_REMEMBERED", remembered):
        for piece in pieces:
            rows = table("trade", [trade(T0, "1", "2", 1)] * len(piece))
            place = rows.schema.get_field_index("price")
            rows = rows.set_column(place, rows.schema.field(place), pa.array(piece, pa.float64()))
            made.update(rows)
            lines += "".join(canonical_lines(rows, "trade").to_list())
    head = "lake-content 1\tbinance\tlinear\ttrade\n"
    assert made.hexdigest() == hashlib.sha256((head + lines).encode()).hexdigest()


@pytest.mark.parametrize("column", ["ts_recv", "ts_publish", "session", "frame_no", "item", "source", "date"])
def test_how_a_row_came_to_us_is_no_content(column):
    place = GOLDEN.schema.get_field_index(column)
    changed = GOLDEN.set_column(place, GOLDEN.schema.field(place), pa.nulls(3, GOLDEN.schema.field(place).type))
    assert digest(changed) == digest(GOLDEN)


@pytest.mark.parametrize("change", [{"price": "65000.2"}, {"qty": "0.0010001"}, {"side": "sell"}, {"seq": 9}])
def test_what_a_row_says_is_content(change):
    one = table("trade", [trade(T0, "65000.1", "0.001", 1)])
    other = table("trade", [trade(T0, "65000.1", "0.001", 1) | change])
    assert digest(one) != digest(other)


def test_trailing_zeros_and_the_way_a_number_is_held_are_no_content():
    exact = table("trade", [trade(T0, "1.5", "2", 1)])
    spelt = tables.conform(
        exact.set_column(exact.schema.get_field_index("price_text"), "price_text", [["1.500"]]), "trade"
    )
    assert digest(spelt) == digest(exact)


def test_estimated_times_are_left_out():
    one = table("quote", [quote(T0, "1", "2", 7, ts_estimated=True)])
    other = table("quote", [quote(T0 + 55, "1", "2", 7, ts_estimated=True)])
    timed = table("quote", [quote(T0, "1", "2", 7)])
    assert digest(one, "quote") == digest(other, "quote") != digest(timed, "quote")


def test_no_text_can_forge_a_field_or_a_line():
    one = table("trade", [trade(T0, "1", "1", 1, symbol="A\tB\nC\\")])
    (line,) = canonical_lines(one, "trade").to_list()
    assert line.startswith("A\\tB\\nC\\\\\t")
    assert line.count("\n") == 1


def test_levels_are_spelt_best_first_with_the_venues_digits_where_floats_fail():
    levels = [[{"price": 1.5, "qty": 2.0}, {"price": 1.25, "qty": 0.00001}], [], None]
    texts = [[{"price": None, "qty": None}, {"price": "1.2500000000000000001", "qty": None}], None, None]
    raw = pa.table(
        {
            "symbol": ["A"] * 3,
            "ts_estimated": [False] * 3,
            "bids": pa.array(levels, tables.LEVELS),
            "bids_text": pa.array(texts, tables.LEVELS_TEXT),
            "flags": ["", "snapshot", "snapshot,carried"],
        }
    )
    book = tables.conform(raw, "book_delta")
    lines = canonical_lines(book, "book_delta").to_list()
    assert lines[0].split("\t")[2] == "1.5:2;1.2500000000000000001:0.00001"
    assert lines[1].split("\t")[2] == ""
    carried = ContentDigest("x", "spot", "book_delta")
    carried.update(book)
    assert carried.rows == 1


def test_snapshots_of_a_book_are_no_content_and_an_earlier_version_can_still_be_computed():
    plain = book_rows.table([book_rows.delta(T0, 1, [("1.50", "2")])])
    more = book_rows.table([book_rows.whole(T0, 1, [("1.5", "2")], []), book_rows.delta(T0, 1, [("1.50", "2")])])

    def made(rows, spec=None):
        digest = ContentDigest("binance", "linear", "book_delta", spec)
        digest.update(rows)
        return digest.hexdigest()

    assert made(plain) == made(more) == "6c17a7e17c46c4278a5cc2710f629fdb5f422d614f078e26bb6ab610d4502016"
    assert made(plain, 1) not in (made(more, 1), made(plain))
