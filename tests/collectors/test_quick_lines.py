"""Lines that a quick parser reads are exactly those of the slow one, or there is a doubt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.files import quick

NAMES = ("id", "price", "when")
WHOLE = frozenset(("id", "when"))


def test_whole_numbers_are_integers_and_all_else_texts():
    frame = quick.columns(b"1,0.10,17\n2,1e5,0\n", NAMES, WHOLE)
    assert frame is not None
    assert frame.rows() == [(1, "0.10", 17), (2, "1e5", 0)]
    frame = quick.columns(b"a;1\n", ("x", "y"), {"x", "y"}, ";")
    assert frame is not None
    assert frame.rows() == [("a", 1)]


@pytest.mark.parametrize(
    "line",
    [
        "01,1,2", "+1,1,2", "-1,1,2", " 1,1,2", "1 ,1,2", "1,1", "1,1,2,3", "", "1,1,2\r", '"1",1,2', "1,1,", "1.0,1,2",
        "1000000000000000000,1,2", "99999999999999999999,1,2", "x,1,2", "1,\xff,2", "#,1,2",
    ],
)  # fmt: skip
def test_whatever_a_parser_would_forgive_is_a_doubt(line):
    block = f"5,1,6\n{line}\n7,1,8\n".encode("latin-1")
    assert quick.columns(block, NAMES, WHOLE) is None


def test_faults_that_make_up_for_each_other_in_length_are_a_doubt():
    assert quick.columns(b"1,1,2\n01,1\n", NAMES, WHOLE) is None
    assert quick.columns(b"1,1,2\n\n001,1,2\n", NAMES, WHOLE) is None
    assert quick.columns(b"1,1,2\n1,1,2", NAMES, WHOLE) is None


CELLS = st.sampled_from(
    ["0", "1", "10", "99", "007", "-1", "+3", " 4", "5 ", "", "1.5", "a", "1e3", '"6"', "7\r", "999999999999999999"]
)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_is_read_is_what_is_there(lines):
    block = "".join(f"{','.join(cells)}\n" for cells in lines).encode()
    frame = quick.columns(block, NAMES, WHOLE)
    if frame is not None:
        assert [[str(cell) for cell in row] for row in frame.iter_rows()] == lines
