"""Texts of a file as values: numbers as plain decimals, times as us, all rows of a column at once. Pure.

What is no number stays the text that it was, and what is no time becomes null: the rules of the kind refuse both.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import polars as pl

from collectors.files.reading import INTERVALS, Stamp
from lake import scaled

_ODD = r"[eE]|^[+.]|\.$"
"""Numbers that are spelt otherwise than ours: exponents, a plus, no digit before or behind the point."""
_CLOCK = (
    r"(?:[T ]\s*(?P<H>\d{1,2}):?(?P<M>\d{2})(?::?(?P<S>\d{2})(?:[.,]?(?P<f>\d{1,9}))?)?\s*(?P<p>[AaPp][Mm])?)?"
    r"\s*(?P<z>Z|UTC|GMT|[+-]\d{2}:?\d{2})?$"
)
DATES = {
    "ymd": r"^(?P<y>\d{4})[-./](?P<m>\d{1,2})[-./](?P<d>\d{1,2})",
    "compact": r"^(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})",
    "dmy": r"^(?P<d>\d{1,2})[-./](?P<m>\d{1,2})[-./](?P<y>\d{4})",
    "mdy": r"^(?P<m>\d{1,2})[-./](?P<d>\d{1,2})[-./](?P<y>\d{4})",
}
PATTERNS = {form: date + _CLOCK for form, date in DATES.items()}
UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_COUNTS = {"s": "^[0-9]{1,12}$", "ms": "^[0-9]{1,15}$", "us": "^[0-9]{1,18}$"}
"""Whole numbers of a unit that are below _MOST us."""
_MOST = 10**18
_DAY_MS = 86_400_000
UTC = "UTC"


def numbers(texts: pl.Series, *, comma: bool = False, scale: int = 0) -> pl.Series:
    """Numbers as plain decimal texts, divided by 10^`scale`; empty texts as null, others as they are."""
    if not (comma or scale) and texts.str.contains(scaled.STRICT).all():
        return texts
    made = texts.str.strip_chars()
    made = made.set(made.is_in(["", "null", "NULL", "None"]), None)
    if comma:
        made = made.str.replace(",", ".", literal=True)
    odd = made.filter(made.str.contains(_ODD)).unique()
    if odd.len():
        made = made.replace(odd.to_list(), [_plain(text) for text in odd.to_list()])
    if scale:
        good = scaled.valid(made)
        shifted = scaled.unscale(_shifted(scaled.scale(made.filter(good)), scale))
        places = pl.int_range(made.len(), eager=True).filter(good)
        made = made.scatter(places, shifted)
    return made


def unguarded(values: pl.Series) -> pl.Series:
    """Texts without the apostrophe that keeps a spreadsheet from taking them for formulas."""
    return values.str.replace(r"^'([=+\-@\t\r])", "$1")


def _shifted(column: scaled.Scaled, scale: int) -> scaled.Scaled:
    return scaled.Scaled(column.values, column.exponent + scale)


def _plain(text: str) -> str:
    """An exact decimal for a number that is spelt otherwise; the text itself where it is none."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return text
    return format(value, "f") if value.is_finite() else text


def times(columns: list[pl.Series], stamp: Stamp) -> pl.Series:
    """Us since 1970 UTC of each row; null where the texts are no time of that form, or one that its zone has twice
    or never (when its clocks are set). Counts of a unit may be integers already.
    """
    unit = UNITS.get(stamp.form)
    if unit is not None and columns[0].dtype == pl.Int64:
        most = columns[0].max()
        if isinstance(most, int) and most < _MOST // unit:
            return columns[0] if unit == 1 else columns[0] * unit
        return pl.select(pl.when(columns[0] < _MOST // unit).then(columns[0] * unit)).to_series()
    if unit is not None and len(columns) == 1 and columns[0].str.contains(_COUNTS[stamp.form]).all():
        return columns[0].cast(pl.Int64) * unit
    text = columns[0].str.strip_chars()
    for other in columns[1:]:
        text = text + " " + other.str.strip_chars()
    if stamp.form == "of_day":
        return _of_day(text, stamp)
    if stamp.form in ("ymd", "compact", "dmy", "mdy"):
        return _of_text(text, stamp)
    frame = text.str.extract_groups(r"^(?P<w>\d{1,19})(?:\.(?P<f>\d*))?$").struct.unnest()
    whole = frame["w"].cast(pl.Int64, strict=False)
    if unit is None:
        return whole // 1000
    digits = len(str(unit)) - 1
    if not digits:
        return whole
    part = frame["f"].fill_null("").str.head(digits).str.pad_end(digits, "0").cast(pl.Int64, strict=False)
    return whole * unit + part


def _of_text(text: pl.Series, stamp: Stamp) -> pl.Series:
    found = text.str.extract_groups(PATTERNS[stamp.form]).struct.unnest()
    two = pl.col("H").fill_null("0").str.pad_start(2, "0")
    hour = two.cast(pl.Int64, strict=False)
    late = pl.col("p").str.to_lowercase()
    twelve = pl.when(late == "pm").then(hour % 12 + 12).when(late == "am").then(hour % 12).otherwise(hour)
    spelt = pl.concat_str(
        pl.col("y"), pl.lit("-"), pl.col("m").str.pad_start(2, "0"), pl.lit("-"), pl.col("d").str.pad_start(2, "0"),
        pl.lit(" "), twelve.cast(pl.String).str.pad_start(2, "0"), pl.lit(":"), pl.col("M").fill_null("00"),
        pl.lit(":"), pl.col("S").fill_null("00"),
    )  # fmt: skip
    fraction = pl.col("f").fill_null("").str.head(6).str.pad_end(6, "0").cast(pl.Int64, strict=False)
    local = spelt.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    sign = pl.when(pl.col("z").str.starts_with("-")).then(-1).otherwise(1)
    digits = pl.col("z").str.replace(":", "", literal=True)
    minutes = digits.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + digits.str.slice(3, 2).cast(
        pl.Int64, strict=False
    )
    made = found.select(local.alias("local"), fraction.alias("f"), (sign * minutes).alias("offset"), pl.col("z"))
    own = made["z"].is_not_null()
    zoned = made["local"].to_physical() - made["offset"].fill_null(0) * 60_000_000
    if not own.all():
        here = to_utc(made["local"], stamp.zone) if stamp.zone else pl.Series([None], dtype=pl.Int64)
        zoned = pl.select(pl.when(own).then(zoned).otherwise(here)).to_series()
    return zoned + made["f"]


def _of_day(text: pl.Series, stamp: Stamp) -> pl.Series:
    count = text.cast(pl.Int64, strict=False)
    count = count.set((count < 0) | (count >= _DAY_MS), None)
    start = pl.Series([stamp.base]).str.to_datetime("%Y-%m-%d", time_unit="us").to_physical()[0]
    return to_utc((count * 1000 + start).cast(pl.Datetime("us")), stamp.zone)


def to_utc(local: pl.Series, zone: str) -> pl.Series:
    """Us UTC of times of a zone's clocks; null where these show a time twice, or never."""
    if zone == UTC:
        return local.to_physical()
    return local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").to_physical()


def shifted(utc: pl.Series, interval: str, zone: str, *, back: bool = False) -> pl.Series:
    """Times (us UTC) one interval on, or back: days, weeks and months are those of the zone's calendar."""
    step = interval.replace("M", "mo")
    if INTERVALS[interval] < INTERVALS["1d"] or (zone in ("", UTC) and interval != "1M"):
        seconds = INTERVALS[interval] * 1_000_000
        return utc - seconds if back else utc + seconds
    local = utc.cast(pl.Datetime("us")).dt.replace_time_zone(UTC).dt.convert_time_zone(zone or UTC)
    moved = local.dt.replace_time_zone(None).dt.offset_by(f"-{step}" if back else step)
    return to_utc(moved, zone or UTC)


def month_of(utc: pl.Series, zone: str) -> pl.Series:
    """The beginning (us UTC) of the zone's month that holds each time."""
    local = utc.cast(pl.Datetime("us")).dt.replace_time_zone(UTC).dt.convert_time_zone(zone or UTC)
    return to_utc(local.dt.replace_time_zone(None).dt.truncate("1mo"), zone or UTC)
