"""What the feature store takes and what it refuses: by name, with the row, the limit and the fix."""

from __future__ import annotations

import gzip
import io
import math
import struct
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from features import Put
from features.requests import Limits
from features.store import rehearse
from lake.errors import WrongQuestion
from lake.manifest import Manifest
from market.times import MINUTE, text
from tests.support.market_rows import T0

NOW = T0 + MINUTE
OF = {"exchange": "binance", "market_type": "linear", "symbol": "BTCUSDT", "feature_set": "momentum"}
LIMITS = Limits(rows=6, columns=4, sorted_rows=3, line_bytes=400, note=10)
T = [text(T0 + n * MINUTE) for n in range(8)]


def misnamed() -> bytes:
    """A Parquet file with a bit of a column's name that is another one."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"time": T[:1], "value": [1.0]}), sink, store_schema=False)
    whole = sink.getvalue()
    at = whole.index(b"\x18\x05value") + 2
    return whole[:at] + bytes([whole[at] | 0x80]) + whole[at + 1 :]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    root = tmp_path_factory.mktemp("lake")
    Manifest.create_or_open(root, now=NOW).close()
    held = Manifest.read_only(root)
    yield held
    held.close()


def taken(manifest, given, limits=LIMITS, **asked):
    return rehearse(manifest, given, Put(**OF | asked), NOW, limits=limits).rows[0]


@pytest.fixture
def csv(tmp_path: Path):
    def make(body: str | bytes, name: str = "m.csv") -> Path:
        (tmp_path / name).write_bytes(body if isinstance(body, bytes) else body.encode())
        return tmp_path / name

    return make


REFUSED = {
    "duplicate times": (
        f"time,x\n{T[0]},1\n{T[1]},2\n{T[1]},3\n",
        "row 3 has the time of the row before it: 2024-07-19T00:01:00Z",
    ),
    "unsorted": (
        f"time,x\n{T[1]},1\n{T[0]},2\n",
        "row 2 is of 2024-07-19T00:00:00Z, before the row in front of it .*--sort",
    ),
    "NaN": (
        f"time,x\n{T[0]},1\n{T[1]},nan\n{T[2]},NaN\n",
        "column x has 2 values that are none, the first in row 2: nan .*--missing null",
    ),
    "infinite": (f"time,x\n{T[0]},-Infinity\n", "column x has 1 values that are none, the first in row 1: -Infinity"),
    "beyond a float": (f"time,x\n{T[0]},1e999\n", "column x has 1 values that are none, the first in row 1: inf"),
    "words among numbers": (
        f"time,x\n{T[0]},1\n{T[1]},2\n{T[2]},abc\n",
        "column x, row 3: 'abc' where 2 other rows have numbers",
    ),
    "long numbers": (f"time,x\n{T[0]},12345678901234567890\n", "column x has 1 whole numbers of more than 18 digits"),
    "no such time": ("time,x\n2024-02-30T00:00:00Z,1\n", "column time, from row 1: .*2024-02-30"),
    "no time": (f"time,x\n{T[0]},1\nyesterday,2\n", "column time, row 2: 'yesterday' is no time"),
    "an empty time": (f"time,x\n{T[0]},1\n,2\n", "column time, row 2: there is no time"),
    "times of two units": (
        "time,x\n1721347200,1\n1721347260000,2\n",
        "column time, row 2: .1721347260000. is no time in the unit of the first row",
    ),
    "a time of no unit": ("time,x\n12345678901,1\n", "12345678901 is no time between 2000 and 2100"),
    "a time beyond 64 bits": (
        "time,x\n1721347200,1\n9999999999999999999,2\n",
        "column time, from row 1: .*9999999999999999999.* seconds, milliseconds",
    ),
    "a zone that is none": ("time,x\n2024-07-19T00:00:00+24:00,1\n", "column time, row 1: .* is no time"),
    "too many rows": ("time,x\n" + "".join(f"{one},1\n" for one in T), "m.csv has more than 6 rows"),
    "too many columns": (f"time,a,b,c,d\n{T[0]},1,1,1,1\n", "m.csv has 5 columns, 4 are the limit"),
    "a column twice": (f"time,x,X\n{T[0]},1,1\n", "m.csv has the column X twice"),
    "no value": (f"time\n{T[0]}\n", "m.csv has no column of values"),
    "no column that is a time": (
        "when,x\n1,2\n",
        "no column that is a time by its name .say which with --time; it has when, x",
    ),
    "no rows": ("time,x\n", "m.csv has no rows"),
    "rows of other lengths": (f"time,x\n{T[0]},1\n{T[1]},1,2\n", "m.csv cannot be read: .*Expected 2 columns, got 3"),
    "a line without end": ("time,x," + "y" * 500, "its first line is longer than 400 bytes"),
    "no UTF-8 in the names": (b"time,\xe9\n", "m.csv is no UTF-8 text"),
    "no UTF-8 in a cell": (b"time,x\n2024-07-19,\xe9\n", "m.csv cannot be read: .*UTF8"),
    "no text": (b"\x00\x01\x02", "m.csv has no line of column names"),
    "nothing": (b"", "m.csv is empty"),
    "a zip": (b"PK\x03\x04" + bytes(40), "m.csv is packed"),
    "half a gzip": (gzip.compress(f"time,x\n{T[0]},1\n".encode())[:-12], "m.csv cannot be read"),
    "a broken Parquet": (b"PAR1" + bytes(100), "m.csv cannot be read"),
    "no UTF-8 in the names of a Parquet": (misnamed(), "m.csv cannot be read: .*utf-8"),
    "a broken Arrow": (b"ARROW1" + bytes(100), "m.csv cannot be read"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_bad_file_is_refused_by_name(manifest, csv, what):
    body, why = REFUSED[what]
    with pytest.raises(WrongQuestion, match=why) as refused:
        taken(manifest, csv(body))
    assert refused.value.hint


@pytest.mark.parametrize(
    "asked, why",
    [
        ({"time": "when"}, r"no column when \(--time\)"),
        ({"known": "since"}, r"no column since \(--known\)"),
        ({"known": "x", "delay": 1}, "--known and --delay both"),
        ({"delay": -1}, "cannot be negative"),
        ({"feature_set": "Mo mentum"}, "cannot name a feature set"),
        ({"feature_set": "../../etc"}, "cannot name a feature set"),
        ({"feature_set": "a" * 65}, "at most 64"),
        ({"version": "1.0"}, "is no version"),
        ({"version": "latest"}, "is no version"),
        ({"version": "01.0.0"}, "is no version"),
        ({"symbol": " "}, "is of a symbol"),
        ({"note": "n" * 11}, "10 are the limit"),
        ({"as_of": NOW + 1}, "in the future"),
    ],
)
def test_a_question_that_cannot_be_answered(manifest, csv, asked, why):
    with pytest.raises(WrongQuestion, match=why):
        taken(manifest, csv(f"time,x\n{T[0]},1\n"), **asked)


def test_what_is_no_file_and_no_table(manifest, tmp_path):
    for given, why in ((tmp_path, "is a folder"), (tmp_path / "no", "is not there"), ([1], "list is no table")):
        with pytest.raises(WrongQuestion, match=why):
            taken(manifest, given)


def test_a_value_known_before_its_time(manifest):
    table = pl.DataFrame({"time": [T0, T0 + 2], "since": [T0, T0 + 1], "x": [1, 2]})
    with pytest.raises(WrongQuestion, match=r"row 2 is known at .*00\.000001Z, before its own time .*00\.000002Z"):
        taken(manifest, table, known="since")
    with pytest.raises(WrongQuestion, match="row 1 is known at"):
        taken(manifest, table.with_columns(since=pl.col("time") - 1), known="since")


def test_types_that_are_kept_and_those_that_are_not(manifest):
    day = pa.array([19_000], pa.date32())
    table = pa.table({
        "time": pa.array([T0 * 1000 + 1], pa.timestamp("ns")), "f": pa.array([1.5], pa.float16()),
        "u": pa.array([7], pa.uint8()),
        "s": pa.array(["a"]).dictionary_encode(), "d": day, "t": pa.array([None], pa.timestamp("ms")), "n": pa.nulls(1),
        "b": [True],
    })  # fmt: skip
    row = taken(manifest, table, Limits())
    assert row.columns == {"f": "float32", "u": "int", "s": "text", "d": "date", "t": "time", "n": "float", "b": "bool"}
    assert row.ts_min == T0 + 1, "a nanosecond is rounded up: nothing is known before its time"
    for column, why in (
        (pa.array([[1]]), "list.*flatten"),
        (pa.array([1], pa.decimal128(5)), "decimal.*cast"),
        (pa.array([2**63], pa.uint64()), "column x, from row 1"),
    ):
        with pytest.raises(WrongQuestion, match=why):
            taken(manifest, pa.table({"time": [T0], "x": column}))


@pytest.mark.parametrize(
    "kind, number",
    [
        (pa.timestamp("us", "UTC"), 2**62), (pa.timestamp("us", "No/Where"), -(2**62)),
        (pa.timestamp("s"), 2**62), (pa.timestamp("ms"), 2**63 - 1), (pa.date32(), 2**31 - 1),
    ],
)  # fmt: skip
def test_a_time_that_no_calendar_has_is_refused_as_the_number_that_it_is(manifest, kind, number):
    """Of seconds and days it would be another time, in microseconds of 64 bits."""
    numbers = pa.array([1, number], pa.int64() if kind.bit_width == 64 else pa.int32())
    with pytest.raises(WrongQuestion, match=f"column time, row 2: '{number}' is not between 1970 and 2100"):
        taken(manifest, pa.table({"time": numbers.view(kind), "x": [1.0, 2.0]}))


def test_dates_of_milliseconds_are_of_their_time_and_numbers_beyond_64_bits_none(manifest):
    dated = pa.array([T0 // 1000, T0 // 1000 + 5], pa.date64())
    row = taken(manifest, pa.table({"time": dated, "x": [1.0, 2.0]}))
    assert (row.ts_min, row.ts_max) == (T0, T0 + 5_000)
    with pytest.raises(WrongQuestion, match=r"column time, from row 1: .*9223372036854775813"):
        taken(manifest, pa.table({"time": pa.array([2**63 + 5], pa.uint64()), "x": [1.0]}))


def test_an_arrow_file_whose_texts_would_be_read_beyond_their_end_is_refused(manifest, tmp_path):
    """Arrow itself checks no offset: what lies behind in memory would be the value, or the process ends."""
    path = tmp_path / "m.arrow"
    feather.write_feather(pa.table({"time": T[:3], "x": ["1", "2", "3"]}), path, compression="uncompressed")
    offsets = struct.pack("<4i", 0, 1, 2, 3)
    whole = path.read_bytes()
    assert whole.count(offsets) == 1
    for last in (4_000, 2**30):
        path.write_bytes(whole.replace(offsets, struct.pack("<4i", 0, 1, 2, last)))
        with pytest.raises(WrongQuestion, match=r"m\.arrow cannot be read: .*[Oo]ffset"):
            taken(manifest, path)


def test_what_is_missing_and_what_is_out_of_order_is_taken_where_that_is_said(manifest, csv):
    row = taken(manifest, csv(f"time,x\n{T[1]},n/a\n{T[0]},inf\n{T[2]},0.5\n"), missing="null", sort=True)
    assert (row.columns, row.rows, row.ts_min) == ({"x": "float"}, 3, T0)
    table = pl.DataFrame({"time": [T0, T0 + 1], "x": [math.nan, 1.0]})
    with pytest.raises(WrongQuestion, match="column x has 1 values that are none, the first in row 1: nan"):
        taken(manifest, table)
    assert taken(manifest, table, missing="null").rows == 2
    with pytest.raises(WrongQuestion, match="more than 3 rows, or 256 MiB of values, cannot be put in order here"):
        taken(manifest, csv("time,x\n" + "".join(f"{one},1\n" for one in T[:5])), sort=True)
    tight = Limits(sorted_bytes=1 << 20)
    many = pa.table({"time": pa.array(range(T0 + 50_000, T0, -1), pa.timestamp("us")), "x": range(50_000)})
    with pytest.raises(WrongQuestion, match="or 1 MiB of values, cannot be put in order here"):
        taken(manifest, many, tight, sort=True)
    with pytest.raises(WrongQuestion, match=r"^one time comes twice: 2024"):
        taken(manifest, csv(f"time,x\n{T[0]},1\n{T[0]},1\n"), sort=True)


@pytest.mark.parametrize(
    "written",
    [
        "2024-07-19", "2024-07-19T00:00Z", "2024-07-19 00:00:00", "2024-07-19T02:00:00+02:00",
        "2024-07-18T19:00:00.000-0500",
        "2024-07-19T05:30:00+05:30", "2024-07-18T20:15-03:45",
        "2024-07-19T00:00:00.000000000Z", "1721347200", "1721347200000", "1721347200000000", "1721347200000000000",
    ],
)  # fmt: skip
def test_times_however_they_are_written(manifest, csv, written):
    assert taken(manifest, csv(f'"time";x\r\n "{written}";1\r\n'.replace(' "', '"'))).ts_min == T0


@pytest.mark.parametrize("fraction, us", [("5", 500_000), ("25", 250_000), ("000001", 1), ("0000019", 2)])
def test_fractions_of_seconds_are_exact_and_nothing_is_known_before_its_time(manifest, csv, fraction, us):
    assert taken(manifest, csv(f"time,x\n2024-07-19T00:00:00.{fraction}Z,1\n")).ts_min == T0 + us


@pytest.mark.parametrize("unit, one", [("s", 1_000_000), ("ms", 1_000), ("us", 1), ("ns", 0)])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_timestamps_of_every_unit_are_the_time_that_they_say(manifest, unit, one, zone):
    number = T0 // one + 3 if one else T0 * 1_000 + 3
    row = taken(manifest, pa.table({"time": pa.array([number], pa.timestamp(unit, zone)), "x": [1.0]}))
    assert row.ts_min == T0 + (3 * one if one else 1)


def test_rows_are_counted_through_all_pieces_of_a_table(manifest):
    def table(*pieces):
        times = pa.chunked_array([pa.array(piece, pa.int64()) for piece in pieces])
        return pa.table({"time": times, "x": pa.array(range(len(times)))})

    known = [T0 * 1_000 + n for n in range(6_000, 0, -1_000)][::-1]
    assert taken(manifest, table(known[:4], known[4:])).rows == 6, "as many as there may be"
    with pytest.raises(WrongQuestion, match="the table has more than 6 rows"):
        taken(manifest, table(known[:4], known[4:], [known[-1] + 1_000]))
    with pytest.raises(WrongQuestion, match="column time, row 5: '1721347200' is no time in the unit of the first row"):
        taken(manifest, table(known[:2], [*known[2:4], T0 // 1_000_000]))


def test_a_packed_csv_with_tabs_and_words(manifest, csv):
    body = f"ts\tlabel\tok\tdigits\n{T[0]}\tnone\ttrue\t007\n{T[1]}\tup\tFalse\t08\n"
    row = taken(manifest, csv(gzip.compress(body.encode()), "m.csv.gz"))
    assert row.columns == {"label": "text", "ok": "bool", "digits": "int"}


def test_one_type_for_a_column_however_late_its_fractions_come(manifest, csv):
    body = "time,x\n" + "".join(f"{(T0 + n) // 1},{n}\n" for n in range(3_000)) + f"{T0 + 9_000},0.5\n"
    limits = Limits(line_bytes=4_096)
    assert taken(manifest, csv(body), limits).columns == {"x": "float"}
