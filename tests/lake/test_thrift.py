"""Thrift's compact protocol: what is read and written again is the same bytes, and what is none is refused."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.thrift import (
    BINARY,
    BOOL,
    BYTE,
    DOUBLE,
    I16,
    I32,
    I64,
    LIST,
    SET,
    STRUCT,
    Field,
    Many,
    Unreadable,
    decode,
    encode,
    list_head,
    varint,
    zigzag,
)

WHOLE = st.integers(-(2**63), 2**63 - 1)
SCALARS = {
    BOOL: st.booleans(), BYTE: st.binary(min_size=1, max_size=1), I16: WHOLE, I32: WHOLE, I64: WHOLE,
    DOUBLE: st.binary(min_size=8, max_size=8), BINARY: st.binary(max_size=200),
}  # fmt: skip


def fields(inner):
    """Structs of such values, of lists and sets of them, with ids near each other and far away."""
    kinds = {**SCALARS, STRUCT: inner}
    values = st.one_of([st.builds(Field, st.just(kind), value) for kind, value in kinds.items()])
    many = st.one_of(
        [
            st.builds(Field, st.sampled_from([LIST, SET]), st.builds(Many, st.just(kind), st.lists(value, max_size=20)))
            for kind, value in kinds.items()
        ]
    )
    return st.dictionaries(st.integers(1, 40), values | many, max_size=6).map(lambda held: dict(sorted(held.items())))


STRUCTS = st.recursive(st.just({}), fields, max_leaves=6)


@given(STRUCTS, st.binary(max_size=9))
def test_what_is_written_is_read_again_and_where_it_ends(struct, behind):
    data = encode(struct)
    assert decode(b"ab" + data + behind, 2) == (struct, 2 + len(data))


@given(STRUCTS)
def test_a_struct_that_ends_early_is_refused_wherever_that_is(struct):
    data = encode(struct)
    for end in range(len(data)):
        with pytest.raises(Unreadable):
            decode(data[:end])


@pytest.mark.parametrize(
    "struct, data",
    [
        ({}, "00"),
        ({1: Field(BOOL, True), 2: Field(BOOL, False)}, "111200"),
        ({1: Field(I32, 1), 2: Field(I32, -1), 3: Field(I64, 300)}, "1502150116d80400"),
        ({15: Field(I16, 2), 31: Field(BINARY, b"ab")}, "f404083e02616200"),
        ({16: Field(BYTE, b"\x05")}, "03200500"),
        ({1: Field(DOUBLE, bytes(7) + b"?")}, "17000000000000003f00"),
        ({1: Field(LIST, Many(BOOL, [True, False]))}, "1921010200"),
        ({1: Field(LIST, Many(I32, [3] * 14))}, "19e5" + "06" * 14 + "00"),
        ({1: Field(LIST, Many(I32, [3] * 15))}, "19f50f" + "06" * 15 + "00"),
        ({1: Field(STRUCT, {1: Field(BINARY, b"")}), 2: Field(I32, 0)}, "1c180000150000"),
    ],
)
def test_the_bytes_are_those_of_the_specification(struct, data):
    assert encode(struct).hex() == data
    assert decode(bytes.fromhex(data)) == (struct, len(data) // 2)


def test_numbers_by_the_specification():
    assert [zigzag(n).hex() for n in (0, -1, 1, -2, 2**31 - 1, -(2**31))] == [
        "00", "01", "02", "03", "feffffff0f", "ffffffff0f",
    ]  # fmt: skip
    assert [varint(n).hex() for n in (0, 127, 128, 300)] == ["00", "7f", "8001", "ac02"]
    assert [list_head(n, I32).hex() for n in (0, 14, 15, 128)] == ["05", "e5", "f50f", "f58001"]


@pytest.mark.parametrize(
    "data", ["1b00", "1d00", "1900ff", "18ff7f", "191b00"], ids=["a map", "no type", "a list", "long", "maps"]
)
def test_what_is_no_struct_is_refused(data):
    with pytest.raises(Unreadable):
        decode(bytes.fromhex(data))


def test_the_footer_of_a_file_is_the_same_again():
    made = io.BytesIO()
    table = pa.table({"a": [1, None, 3] * 50, "b": ["x", "y", None] * 50, "c": [[1.5], [], None] * 50})
    pq.write_table(table, made, row_group_size=7, write_page_index=True)
    data = made.getvalue()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    struct, end = decode(footer)
    assert end == len(footer)
    assert encode(struct) == footer
    assert struct[3] == Field(I64, 150)
