"""In what form and zone the times of a file are. Pure.

The form is told by the texts, the zone by them too, or by the dialect, or by the file's user: nothing else.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence

import msgspec

from collectors.files import texts
from collectors.files.dialects import CLOCK, DATE, TIME
from collectors.files.reading import Form, Options, Refused, Sample, Stamp, Unclear, plain

_UNITS: dict[int, Form] = {9: "s", 10: "s", 12: "ms", 13: "ms", 15: "us", 16: "us", 18: "ns", 19: "ns"}
"""By the digits of a count since 1970: every time from 1973 to 2286 has so many."""
_COUNT = re.compile(r"(\d+)(\.\d+)?")
_SLASHED = re.compile(r"(\d{1,2})[-./](\d{1,2})[-./]\d{4}\b")
_NEAR = 0.9


class Found(msgspec.Struct, kw_only=True):
    """What is known of a file before its times are looked at. `fields` holds fields of files as well as of kinds."""

    dialect: str
    kind: str
    fields: dict[str, int]
    zone: str | None = None
    interval: str | None = None
    label: str | None = None
    scale: int | None = None
    symbol: str | None = None
    base: str = ""


def times_of(
    sample: Sample, names: Sequence[str], found: Found, options: Options, fields: dict[str, int]
) -> dict[str, Stamp]:
    """The stamps of the row's own time and of others; their fields are taken out of `fields`."""
    if TIME in fields:
        columns: tuple[int, ...] = (fields.pop(TIME),)
    else:
        columns = (fields.pop(DATE), fields.pop(CLOCK))
    name = "open_time" if found.kind == "kline" else "ts_event"
    made = {name: _stamp(sample, names, columns, found, options)}
    if "next_funding" in fields:
        place = fields.pop("next_funding")
        if sample.column(place):
            made["next_funding"] = _stamp(sample, names, (place,), found, options)
    return made


def _stamp(sample: Sample, names: Sequence[str], columns: tuple[int, ...], found: Found, options: Options) -> Stamp:
    numbered = (f"column {place + 1}" if names[place] in ("", str(place + 1)) else names[place] for place in columns)
    named = " and ".join(numbered)
    title = f"{sample.name}: {named}"
    if len(columns) > 1:
        held = [" ".join(row[place].strip() for place in columns) for row in sample.rows if len(row) > max(columns)]
    else:
        held = sample.column(columns[0])
    if not held:
        raise Refused(f"{title} is empty", "say with --map which column holds the time")
    form: Form = "of_day" if found.base else _form(title, held, options)
    if form in ("s", "ms", "us", "ns"):
        return Stamp(columns=columns, form=form)
    own = [bool(re.search(r"(Z|UTC|GMT|[+-]\d{2}:?\d{2})\s*$", text[8:])) for text in held]
    if form != "of_day" and all(own):
        return Stamp(columns=columns, form=form)
    zone = options.timezone or found.zone or (texts.UTC if re.search("gmt|utc", plain(named)) else None)
    if zone is None:
        raise Unclear(
            f"{title} ({held[0]!r}) does not say in which zone it is", "--timezone",
            hint="UTC, an offset as +02:00, or a name as America/New_York",
        )  # fmt: skip
    return Stamp(columns=columns, form=form, zone=check_zone(zone), base=found.base)


def check_zone(zone: str) -> str:
    """An IANA name of the zone; whole hours of an offset have one. Raises Refused."""
    hours = re.fullmatch(r"([+-])(\d{1,2})(?::?00)?", zone)
    if hours is not None:
        count = int(hours[2])
        return texts.UTC if not count else f"Etc/GMT{'-' if hours[1] == '+' else '+'}{count}"
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise Refused(f"no time zone {zone!r} is known", "e.g. UTC, +02:00, America/New_York") from None
    return zone


def _form(title: str, held: Sequence[str], options: Options) -> Form:
    counts = [found for text in held if (found := _COUNT.fullmatch(text))]
    if len(counts) > _NEAR * len(held):
        digits = {len(count[1]) for count in counts}
        if digits == {8}:
            return "compact"
        units = {_UNITS.get(count) for count in digits}
        unit = units.pop()
        if unit is None or units:
            raise Refused(
                f"{title} holds {held[0]!r}, which is no count of s, ms, us or ns since 1970 from 1973 on"
                if not units else f"{title} holds times of several units",
                "say with --map which column holds the time",
            )  # fmt: skip
        return unit
    for form in ("ymd", "compact"):
        if _mostly(texts.PATTERNS[form], held):
            return form
    if not _mostly(texts.PATTERNS["dmy"], held):
        raise Refused(f"{title} holds {held[0]!r}, which is no time that is known", "e.g. 2024-01-31 09:05:00")
    return _order(title, held, options)


def _mostly(pattern: str, held: Sequence[str]) -> bool:
    """Whether the texts are of this form: a few may be damaged, they are set aside one by one."""
    return sum(re.search(pattern, text) is not None for text in held) > _NEAR * len(held)


def _order(title: str, held: Sequence[str], options: Options) -> Form:
    """Day or month first: the file says it where one of them is above twelve."""
    parts = [found for text in held if (found := _SLASHED.match(text))]
    first, second = (any(int(found[place]) > 12 for found in parts) for place in (1, 2))
    if first and second:
        raise Refused(f"{title} holds days before and behind the month", "make them equal")
    if not first and not second:
        if options.dates is None:
            raise Unclear(f"{title} ({held[0]!r}) may begin with the day or the month", "--dates", ("dmy", "mdy"))
        return options.dates
    form: Form = "dmy" if first else "mdy"
    if options.dates not in (None, form):
        raise Refused(f"{title} has a month above twelve if it is {options.dates}", f"it is {form}: leave out --dates")
    return form
