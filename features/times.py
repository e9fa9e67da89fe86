"""A column of times, however it is written, as `timestamp[us, UTC]`. Pure.

Timestamps of any unit (without a zone they are UTC), dates, ISO 8601 text, and whole numbers of seconds, milliseconds,
microseconds or nanoseconds: a number of this century fits one of the four only. What is finer than a microsecond is
rounded up, so that nothing is known before its time.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import WrongQuestion
from lake.feature_files import TIME
from market.times import DAY, MS, SECOND

YEAR_1970 = 0
YEAR_2000 = 946_684_800 * SECOND
YEAR_2100 = 4_102_444_800 * SECOND
UNITS = {"s": SECOND, "ms": MS, "us": 1}
_ISO = (
    r"^(?P<day>\d{4}-\d{2}-\d{2})(?:[T ](?P<clock>\d{2}:\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?)?"
    r"(?P<zone>Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?$"
)
FORMS = "ISO 8601 (2026-11-20T13:45:00Z), or whole seconds, milliseconds, microseconds or nanoseconds since 1970"


def as_times(column: pa.Array, name: str, first_row: int) -> pa.Array:
    """Raises WrongQuestion naming the first row (counted from `first_row`) that is no time."""
    kind = column.type
    if column.null_count:
        row = first_row + pc.index(pc.is_null(column), value=True).as_py()
        raise WrongQuestion(f"column {name}, row {row}: there is no time", "leave such rows out")
    if pa.types.is_timestamp(kind):
        made = _rounded_up(column.cast(pa.int64()), {"s": SECOND, "ms": MS, "us": 1}.get(kind.unit, 0))
    elif pa.types.is_date(kind):
        made = _of_days(column)
    elif pa.types.is_integer(kind):
        made = _of_numbers(_whole(column, name, first_row), name, first_row)
    elif pa.types.is_string(kind):
        made = _of_texts(column, name, first_row)
    else:
        raise WrongQuestion(f"column {name} is {kind}, which is no time", f"write {FORMS}")
    outside = pc.or_(pc.less(made, YEAR_1970), pc.greater_equal(made, YEAR_2100))
    _refuse(outside, column, name, first_row, "is not between 1970 and 2100")
    return made.cast(TIME)


def _of_days(column: pa.Array) -> pa.Array:
    """Dates, which hold the milliseconds of their day where they are counted in those."""
    if pa.types.is_date64(column.type):
        return _rounded_up(column.cast(pa.int64()), MS)
    return _rounded_up(column.cast(pa.int32()).cast(pa.int64()), DAY)


def _whole(numbers: pa.Array, name: str, first_row: int) -> pa.Array:
    """As 64 bits. Raises WrongQuestion for what is beyond them."""
    try:
        return numbers.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise WrongQuestion(f"column {name}, from row {first_row}: {error}", f"write {FORMS}") from error


def _rounded_up(values: pa.Array, factor: int) -> pa.Array:
    """Whole numbers of `factor` us each, 0 for nanoseconds, as us; what is too far away for those stays too far."""
    if factor:
        edge = YEAR_2100 // factor
        return pc.multiply(pc.max_element_wise(pc.min_element_wise(values, edge), -edge), factor)
    return pc.add(pc.divide(values, 1_000), pc.if_else(pc.greater(_remainder(values), 0), 1, 0))


def _remainder(values: pa.Array) -> pa.Array:
    return pc.subtract(values, pc.multiply(pc.divide(values, 1_000), 1_000))


def _of_numbers(values: pa.Array, name: str, first_row: int) -> pa.Array:
    if not len(values):
        return values
    first = values[0].as_py()
    for factor in UNITS.values():
        if YEAR_2000 <= first * factor < YEAR_2100:
            fits = pc.and_(pc.greater_equal(values, YEAR_2000 // factor), pc.less(values, YEAR_2100 // factor))
            _refuse(pc.invert(fits), values, name, first_row, "is no time in the unit of the first row")
            return pc.multiply(values, factor)
    if YEAR_2000 <= first // 1_000 < YEAR_2100:
        fits = pc.and_(pc.greater_equal(values, YEAR_2000 * 1_000), pc.less(values, YEAR_2100 * 1_000))
        _refuse(pc.invert(fits), values, name, first_row, "is no time in the unit of the first row")
        return _rounded_up(values, 0)
    raise WrongQuestion(
        f"column {name}, row {first_row}: {first} is no time between 2000 and 2100 in s, ms, us or ns", f"write {FORMS}"
    )


def _of_texts(texts: pa.Array, name: str, first_row: int) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(texts)
    if len(trimmed) and pc.all(pc.match_substring_regex(trimmed, r"^\d{9,19}$")).as_py():
        return _of_numbers(_whole(trimmed, name, first_row), name, first_row)
    parts = pc.extract_regex(trimmed, _ISO)
    _refuse(pc.is_null(parts), texts, name, first_row, "is no time")
    day, clock, second, fraction, zone = (parts.field(place) for place in range(5))
    clock = pc.if_else(pc.equal(clock, ""), "00:00", clock)
    second = pc.if_else(pc.equal(second, ""), "00", second)
    said = pc.binary_join_element_wise(day, pc.binary_join_element_wise(clock, second, ":"), " ")
    try:
        whole = said.cast(pa.timestamp("s")).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise WrongQuestion(f"column {name}, from row {first_row}: {error}", f"write {FORMS}") from error
    nanos = pc.utf8_rpad(fraction, 9, "0").cast(pa.int64())
    return pc.subtract(pc.add(pc.multiply(whole, SECOND), _rounded_up(nanos, 0)), _offsets(zone))


def _offsets(zones: pa.Array) -> pa.Array:
    """How far each zone is ahead of UTC, us."""
    plain = pc.if_else(pc.or_(pc.equal(zones, ""), pc.equal(zones, "Z")), "+0000", pc.replace_substring(zones, ":", ""))
    hours = pc.utf8_slice_codeunits(plain, 1, 3).cast(pa.int64())
    minutes = pc.utf8_slice_codeunits(plain, 3, 5).cast(pa.int64())
    sign = pc.if_else(pc.equal(pc.utf8_slice_codeunits(plain, 0, 1), "-"), -1, 1)
    return pc.multiply(pc.multiply(sign, pc.add(pc.multiply(hours, 60), minutes)), 60 * SECOND)


def _refuse(wrong: pa.Array, values: pa.Array, name: str, first_row: int, why: str) -> None:
    place = pc.index(wrong, value=True).as_py()
    if place >= 0:
        said = _said(values[place])[:80]
        raise WrongQuestion(f"column {name}, row {first_row + place}: {said!r} {why}", f"write {FORMS}")


def _said(value: pa.Scalar) -> str:
    try:
        return str(value.as_py())
    except (OverflowError, ValueError, pa.ArrowException):  # a time that no calendar has, or of an unknown zone
        return str(value.value)
