"""Exact decimals in columns: check the text, scale it to integers, sum, and come back to text and float once.

The vectorised twin of `market.numbers`. A table holds a decimal as float64 beside `<name>_text`, which is filled only
where the float's shortest text is not the venue's number (`inexact`). Everything that is summed or compared is first
scaled by text to Int64 or Int128 with one exponent a column; nothing here multiplies, adds or rounds floats.
`Overflow` says that a result could leave Int128: the caller then works symbol by symbol, or with Python integers.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import polars as pl

from market import numbers
from market.errors import Malformed

STRICT = f"^(?:{numbers.DECIMAL_PATTERN})$"
_DECIMAL = r"^-?[0-9]+(?:\.[0-9]+)?$"
"""What our own sums look like: digits without a limit."""
_FLOAT_DIGITS = 15
"""Decimals of up to 15 significant digits survive the way to float64 and back."""
_FLOAT_LIMIT = 10**_FLOAT_DIGITS
FLOAT_INTEGERS = 2**53
"""Floats hold every integer up to this one, and so do their sums that stay below it."""
_POWER_DIGITS = 22
"""Powers of ten up to this one are floats exactly."""
_ROUNDING = 1.5 * 2**52
"""Added and taken away again it rounds a float below 2^51 to an integer: several times faster than to round it."""
_SPELT_LOW, _SPELT_HIGH = 1e-3, 1e15
"""Between them no float's text has an exponent, or the sign of a zero."""
_INT64_LIMIT = 2**63 - 1
_INT128_LIMIT = 2**127 - 1
_SAMPLE = 16
"""Values whose decimals are looked at one by one: most columns have no more in use further down."""
_MAX_DIGITS = 38
"""Digits that always fit Int128."""


def _int(value: Any) -> int:
    """An aggregate of an integer column; polars types it as any column value. Null is 0."""
    return int(value) if value is not None else 0


class Overflow(Exception):
    """An exact result might not fit Int128."""


class Scaled(NamedTuple):
    """A column as integers: value = `values` / 10^`exponent`. `values` is Int64 or Int128, nulls kept."""

    values: pl.Series
    exponent: int

    @property
    def bound(self) -> int:
        """The largest magnitude in the column, 0 where it is empty."""
        if self.values.len() == self.values.null_count():
            return 0
        # in Python integers: the magnitude of a type's smallest integer has no place in that type
        return max(abs(_int(self.values.min())), abs(_int(self.values.max())))

    def wide(self) -> pl.Series:
        return self.values.cast(pl.Int128)


def valid(texts: pl.Series) -> pl.Series:
    """Which of `texts` are strict decimals (`market.numbers.DECIMAL_PATTERN`); a null is not."""
    return texts.str.contains(STRICT).fill_null(value=False)


def plain(texts: pl.Series) -> pl.Series:
    """Canonical texts of valid decimals: no trailing zeros, no bare point, no negative zero."""
    frame = texts.to_frame("t").select(_plain(pl.col("t")))
    return frame.to_series().alias(texts.name)


def _plain(text: pl.Expr) -> pl.Expr:
    short = pl.when(text.str.contains(".", literal=True)).then(text.str.strip_chars_end("0").str.strip_chars_end("."))
    return short.otherwise(text).replace({"-0": "0", "": "0"})


def decimals(texts: pl.Series) -> pl.Series:
    """Digits after the point that matter, a UInt32 for each text."""
    short = plain(texts)
    point = short.str.find(".", literal=True)
    frame = pl.DataFrame({"n": short.str.len_bytes(), "p": point})
    return frame.select((pl.col("n") - pl.col("p") - 1).fill_null(0).cast(pl.UInt32)).to_series()


def exponent_of(texts: pl.Series) -> int:
    """Decimals in use in the whole column (0 where it is empty)."""
    return _int(decimals(texts).max())


def scale(texts: pl.Series, exponent: int | None = None) -> Scaled:
    """Texts as integers x 10^exponent (default: decimals in use). By text alone, so exact.

    Raises Malformed for a text that is no plain number or has more decimals than `exponent`, Overflow beyond Int128.
    It takes any number of digits, since sums have more than a venue's number: what comes in is checked by `valid`.
    """
    exponent, joined = _joined(texts, exponent)
    digits = _int(joined.str.strip_prefix("-").str.strip_chars_start("0").str.len_bytes().max())
    if digits > _MAX_DIGITS:
        raise Overflow(f"{digits} digits")
    return narrow(Scaled(joined.cast(pl.Int128), exponent))


def _joined(texts: pl.Series, exponent: int | None) -> tuple[int, pl.Series]:
    """(exponent, texts of the integers)."""
    bad = texts.filter(~texts.str.contains(_DECIMAL))
    if bad.len():
        raise Malformed("decimal", bad[0])
    used = exponent_of(texts)
    if exponent is None:
        exponent = used
    if used > exponent:
        raise Malformed(f"decimal (more than {exponent} decimals)", texts.filter(decimals(texts) > exponent)[0])
    parts = plain(texts).str.split_exact(".", 1).struct.unnest()
    fraction = pl.col("field_1").fill_null("").str.pad_end(exponent, "0")
    return exponent, parts.select(pl.col("field_0") + fraction).to_series()


def integers(texts: pl.Series, exponent: int | None = None) -> tuple[list[int], int]:
    """(texts x 10^exponent as Python's integers of any size, exponent), for what leaves Int128. No nulls."""
    exponent, joined = _joined(texts, exponent)
    return [int(text) for text in joined], exponent


def narrow(column: Scaled) -> Scaled:
    """The same numbers as Int64 where they fit: five times faster to sum."""
    if column.values.dtype == pl.Int64 or column.bound > _INT64_LIMIT:
        return column
    return Scaled(column.values.cast(pl.Int64), column.exponent)


def unscale(column: Scaled) -> pl.Series:
    """Plain decimal texts of the numbers."""
    text = column.values.cast(pl.String)
    if column.exponent == 0:
        return text
    negative = text.str.starts_with("-")
    digits = text.str.strip_prefix("-").str.pad_start(column.exponent + 1, "0")
    frame = pl.DataFrame({"n": negative, "d": digits}).select(
        _plain(
            pl.when("n").then(pl.lit("-")).otherwise(pl.lit(""))
            + pl.col("d").str.head(-column.exponent)
            + pl.lit(".")
            + pl.col("d").str.tail(column.exponent)
        )
    )
    return frame.to_series()


def float_texts(values: pl.Series) -> pl.Series:
    """The shortest text of each float as a plain decimal: `0.00001`, never `1e-5`; null for null."""
    texts = values.cast(pl.String).str.strip_suffix(".0")
    low, high = values.min(), values.max()
    if isinstance(low, float) and isinstance(high, float) and _SPELT_LOW <= low <= high < _SPELT_HIGH:
        return texts
    texts = texts.replace({"-0": "0"})
    odd = texts.str.contains("e", literal=True).fill_null(value=False)
    if not odd.any():
        return texts
    spelt = {text: format(Decimal(text), "f") for text in texts.filter(odd).unique()}
    return plain(texts.replace(spelt))


def split(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A column of valid decimal texts as a table holds it: (float64 rounded once, text where the float is inexact).

    A text is dropped where the float's shortest text is the same number, trailing zeros apart.
    """
    floats = texts.cast(pl.Float64)
    wrong = inexact(texts, floats) if _int(texts.str.len_bytes().max()) > _FLOAT_DIGITS else None
    if wrong is None or not wrong.any():
        return floats, pl.Series(texts.name, [None], dtype=pl.String).new_from_index(0, texts.len())
    frame = pl.DataFrame({"t": texts, "w": wrong})
    return floats, frame.select(pl.when("w").then("t").otherwise(None)).to_series().alias(texts.name)


def to_table(column: Scaled) -> tuple[pl.Series, pl.Series]:
    """The numbers as `split` gives their texts: (float64 rounded once, text where the float is inexact)."""
    if column.bound >= _FLOAT_LIMIT or column.exponent > _POWER_DIGITS:
        return split(unscale(column))
    # both are floats exactly, so that their quotient is rounded once; and 15 digits survive in a float
    floats = column.values.cast(pl.Float64) / _powers(column.exponent, column.values.len())
    return floats, pl.Series(column.values.name, [None], dtype=pl.String).new_from_index(0, floats.len())


def inexact(texts: pl.Series, floats: pl.Series) -> pl.Series:
    """Which floats do not say their text's number."""
    suspects = (texts.str.len_bytes() > _FLOAT_DIGITS).fill_null(value=False)
    if not suspects.any():
        return pl.repeat(value=False, n=texts.len(), eager=True, dtype=pl.Boolean)
    frame = pl.DataFrame({"s": suspects, "t": texts, "f": floats}).with_row_index("i")
    some = frame.filter("s")
    wrong = some.select("i").filter(plain(some["t"]) != float_texts(some["f"]))
    return frame["i"].is_in(wrong["i"].implode())


def texts_of(floats: pl.Series, texts: pl.Series | None) -> pl.Series:
    """The exact numbers of a table's column pair as plain texts."""
    shortest = float_texts(floats)
    if texts is None or texts.null_count() == texts.len():
        return shortest
    frame = pl.DataFrame({"t": plain(texts), "f": shortest})
    return frame.select(pl.coalesce("t", "f")).to_series()


def from_table(floats: pl.Series, texts: pl.Series | None = None) -> Scaled:
    """A table's column pair as exact integers. Raises Overflow beyond Int128.

    Where no text is filled every number is its float's shortest text. One of up to 15 digits is recognised without
    going through text: if x = d / 10^e (correctly rounded) for an integer d below 10^15, then d / 10^e is that text.
    """
    if texts is None or texts.null_count() == texts.len():
        quick = _short_decimals(floats)
        if quick is not None:
            return quick
    return scale(texts_of(floats, texts))


def single(floats: pl.Series) -> bool:
    """Whether all floats are the same, of which one tells all there is to tell of them."""
    same = len(floats) > 0 and floats[0] == floats[-1] and not floats.has_nulls()
    return bool(same and (floats == floats[0]).all())


def _short_decimals(floats: pl.Series) -> Scaled | None:
    column = whole_floats(floats)
    return None if column is None else Scaled(column.values.cast(pl.Int64), column.exponent)


def whole_floats(floats: pl.Series, most: int = _FLOAT_LIMIT) -> Scaled | None:
    """A table's floats of up to 15 digits as integers of no larger magnitude than `most`, still held in floats, which
    hold them exactly; else None.
    """
    if floats.len() == floats.null_count():
        return Scaled(floats, 0)
    for exponent in range(_decimals_shown(floats.head(_SAMPLE)), _FLOAT_DIGITS + 1):
        scaled = floats * float(10**exponent)
        low, high = _int(scaled.min()), _int(scaled.max())
        if max(-low, high) >= min(most, _FLOAT_LIMIT):  # of what is rounded to an integer yet
            return None  # and with more decimals it is larger still
        whole = (scaled + _ROUNDING) - _ROUNDING
        if (whole / _powers(exponent, whole.len()) == floats).all():
            return Scaled(whole, exponent)
    return None


def _decimals_shown(sample: pl.Series) -> int:
    """The most decimals of the shortest texts: with fewer no integer is any of these floats."""
    return max((_decimals(repr(x)) for x in sample.to_list() if x is not None), default=0)


def _decimals(text: str) -> int:
    """Of a float's shortest text, that of 1e-07 too."""
    digits, _, power = text.partition("e")
    fraction = digits.partition(".")[2]
    return max(0, (len(fraction) if fraction != "0" else 0) - int(power or 0))


def _powers(exponent: int, count: int) -> pl.Series:
    """10^`exponent` in every row: a scalar divisor becomes a multiplication by its reciprocal, which rounds twice."""
    return pl.Series([float(10**exponent)]).new_from_index(0, count)


def align(left: Scaled, right: Scaled) -> tuple[Scaled, Scaled]:
    """Both columns with the larger of their exponents. Raises Overflow."""
    exponent = max(left.exponent, right.exponent)
    return _raise_to(left, exponent), _raise_to(right, exponent)


def _raise_to(column: Scaled, exponent: int) -> Scaled:
    power = 10 ** (exponent - column.exponent)
    if power == 1:
        return column
    if column.bound * power > _INT128_LIMIT:
        raise Overflow("aligning exponents")
    return narrow(Scaled(column.wide() * pl.Series([power], dtype=pl.Int128), exponent))


def difference(left: Scaled, right: Scaled) -> Scaled:
    """Left - right, exactly. Raises Overflow."""
    left, right = align(left, right)
    if left.bound + right.bound > _INT128_LIMIT:
        raise Overflow("difference")
    return Scaled(left.wide() - right.wide(), left.exponent)


def product(left: Scaled, right: Scaled) -> Scaled:
    """Left x right, exactly; Int64 where its own bound allows. Raises Overflow."""
    bound = left.bound * right.bound
    if bound > _INT128_LIMIT:
        raise Overflow("product")
    exponent = left.exponent + right.exponent
    if bound <= _INT64_LIMIT:
        return Scaled(left.values.cast(pl.Int64) * right.values.cast(pl.Int64), exponent)
    return Scaled(left.wide() * right.wide(), exponent)


def quotient(left: Scaled, right: Scaled, exponent: int) -> Scaled:
    """Left / right rounded half-even to `exponent` decimals; `right` above zero, `left` not below. Raises Overflow."""
    shift = exponent + right.exponent - left.exponent
    up, down = 10 ** max(shift, 0), 10 ** max(-shift, 0)
    if left.bound * up > _INT128_LIMIT // 2 or right.bound * down > _INT128_LIMIT // 2:
        raise Overflow("quotient")
    frame = pl.DataFrame(
        {
            "n": left.wide() * pl.Series([up], dtype=pl.Int128),
            "d": right.wide() * pl.Series([down], dtype=pl.Int128),
        }
    )
    twice, one = pl.lit(2, dtype=pl.Int128), pl.lit(1, dtype=pl.Int128)
    whole, rest = pl.col("n") // pl.col("d"), pl.col("n") % pl.col("d")
    half = rest * twice - pl.col("d")
    up_one = (half > 0) | ((half == 0) & (whole % twice == one))
    return narrow(Scaled(frame.select(whole + up_one.cast(pl.Int128)).to_series(), exponent))


def summable(column: Scaled) -> Scaled:
    """The column in a type whose sum over any of its rows is exact. Raises Overflow."""
    total = column.bound * max(column.values.len(), 1)
    if total > _INT128_LIMIT:
        raise Overflow("sum")
    return Scaled(column.values.cast(pl.Int64) if total <= _INT64_LIMIT else column.wide(), column.exponent)


def total(column: Scaled) -> str:
    """The exact sum of the column as plain text; exact beyond Int128 too. Nulls count nothing."""
    try:
        value = _int(summable(column).values.sum())
    except Overflow:
        value = sum(int(v) for v in column.values.drop_nulls())
    return numbers.unscale(value, column.exponent)
