"""Numbers that a parser makes of lines are what the texts say by the strictest rule, or there is a doubt."""

from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.files import proven
from lake import scaled

NAMES = ("id", "price", "what", "when")
WANTED = {"id": pl.Int64, "price": pl.Float64, "when": pl.Int64}
STRICT = re.compile(scaled.STRICT)


def read(block):
    return proven.columns(block, NAMES, WANTED)


def test_numbers_are_made_and_other_columns_left_out():
    frame = read(b"1,0.10,True,17\n2,15,False,0\n")
    assert frame is not None
    assert frame.rows() == [(1, 0.1, 17), (2, 15.0, 0)]
    frame = proven.columns(b"a;1.5\n", ("x", "y"), {"x": pl.String, "y": pl.Float64}, ";")
    assert frame is not None
    assert frame.rows() == [("a", 1.5)]


@pytest.mark.parametrize(
    "line",
    [
        "01,1,a,2", "+1,1,a,2", "-1,1,a,2", " 1,1,a,2", "1 ,1,a,2", "1,1,a", "1,1,a,2,3", "", "1,1,a,2\r", '1,"1",a,2',
        "1,1,a,", ",1,a,2", "1.0,1,a,2", "1000000000000000000,1,a,2", "x,1,a,2", "1,+1,a,2", "1,.5,a,2", "1,5.,a,2",
        "1,1e5,a,2", "1,1E5,a,2", "1,1.5e3,a,2", "1,nan,a,2", "1,inf,a,2", "1,00.5,a,2", "1,1.2.3,a,2", "1,1..2,a,2",
        "1,1_0,a,2", "1,0.123456789,a,2", "1,10000000,a,2", "1,1,a,02", "1,1,\t,2", "1,,a,2", "1,1,a,-0", "1,-0,a,2",
    ],
)  # fmt: skip
def test_whatever_a_parser_would_forgive_is_a_doubt(line):
    assert read(f"5,1.25,b,6\n{line}\n7,1.25,c,8\n".encode("latin-1")) is None
    assert read(f"{line}\n7,1.25,c,8\n".encode("latin-1")) is None
    assert read(f"7,1.25,c,8\n{line}\n".encode("latin-1")) is None


def test_lines_that_make_up_for_each_other_in_width_are_a_doubt():
    assert read(b"1,1,a,2\n1,1,a,2,3\n1,1,a\n") is None
    assert read(b"1,1,a,2\n1,1\n,a,2,1,1,a,2\n") is None
    assert read(b"1,1,a,2\n1,1,a,2") is None


CELLS = st.sampled_from(
    ["0", "1", "10", "99", "007", "-1", "+3", " 4", "5 ", "", "1.5", "0.00000001", "1234567.12345678", "a", "1e3",
     '"6"', "7\r", "999999999999999999", ".5", "5.", "True", "e", "1.", "00", "0.0", "1234.123456789", "1e", "1e1"]
)  # fmt: skip


@given(st.lists(st.lists(CELLS, min_size=3, max_size=5), min_size=1, max_size=4))
def test_what_is_read_is_what_is_there(lines):
    frame = read("".join(f"{','.join(cells)}\n" for cells in lines).encode())
    if frame is None:
        return
    assert all(len(cells) == 4 for cells in lines)
    assert [[str(row[0]), str(row[2])] for row in frame.iter_rows()] == [[cells[0], cells[3]] for cells in lines]
    texts = pl.Series([cells[1] for cells in lines])
    assert all(STRICT.fullmatch(text) for text in texts)
    floats, kept = scaled.split(texts)
    assert frame["price"].to_list() == floats.to_list()
    assert kept.null_count() == len(kept), "no text has to be kept"


@given(st.lists(st.tuples(st.integers(0, 10**18 - 1), st.decimals(0, 9_999_999, places=8)), min_size=1, max_size=30))
def test_what_venues_publish_is_read(rows):
    frame = read("".join(f"{whole},{number:.8f},True,{whole}\n" for whole, number in rows).encode())
    assert frame is not None
    assert frame["price"].to_list() == [float(number) for _, number in rows]
    assert frame["id"].to_list() == [whole for whole, _ in rows]
