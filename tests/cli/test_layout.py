"""Tables on a screen of any width: every cell is there, whole, and every line says which row it is of."""

from hypothesis import given
from hypothesis import strategies as st

from cli.layout import blocks

COLUMNS = ("exchange", "kind", "rows", "bytes", "state")
ROWS = (
    ("binance", "trade", "1,494", "54.2 kB", "certified"),
    ("binance", "quote", "12", "103.1 kB", "-"),
)
WORDS = st.text("abc 漢", max_size=12)


def test_a_table_that_fits_is_one_with_numbers_and_sizes_to_the_right() -> None:
    assert list(blocks(COLUMNS, ROWS, 80)) == [
        [
            "exchange  kind    rows     bytes  state",
            "binance   trade  1,494   54.2 kB  certified",
            "binance   quote     12  103.1 kB  -",
        ]
    ]


def test_what_does_not_fit_stands_below_behind_what_names_the_row() -> None:
    assert list(blocks(COLUMNS, ROWS, 31)) == [
        ["exchange  kind    rows", "binance   trade  1,494", "binance   quote     12"],
        ["exchange  kind      bytes", "binance   trade   54.2 kB", "binance   quote  103.1 kB"],
        ["exchange  kind   state", "binance   trade  certified", "binance   quote  -"],
    ]


def test_a_row_that_needs_no_name_has_none() -> None:
    assert list(blocks(COLUMNS, ROWS[:1], 24)) == [
        ["exchange  kind    rows", "binance   trade  1,494"],
        ["  bytes  state", "54.2 kB  certified"],
    ]


def test_a_table_without_rows_is_its_heads() -> None:
    assert list(blocks(("a", "b"), [], 80)) == [["a  b"]]


def test_what_is_no_character_is_spelt_out() -> None:
    assert list(blocks(("said",), [("two\nlines \x1b[31m, ü",)], 80)) == [["said", "two\\nlines \\x1b[31m, ü"]]


@given(st.integers(1, 60), st.integers(1, 6).flatmap(lambda n: st.lists(st.tuples(*[WORDS] * n), min_size=1)))
def test_no_cell_is_cut_or_left_out(width: int, rows: list[tuple[str, ...]]) -> None:
    marked = [[f"<{number}.{at}.{text}>" for at, text in enumerate(row)] for number, row in enumerate(rows)]
    shown = list(blocks([f"c{at}" for at in range(len(rows[0]))], marked, width))
    for number, row in enumerate(marked):
        mine = [lines[number + 1] for lines in shown]
        assert all(any(cell in line for line in mine) for cell in row)
        assert all(line.startswith(f"<{number}.") for line in mine)
