"""What a file is understood as, and why it cannot be.

A Reading says all that is needed to make rows of a file's texts, so that it can be shown, asked about, and sent to the
process that does the work. Pure.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from lake.errors import LakeError
from market import kinds

Format = Literal["csv", "json", "parquet", "feather"]
Form = Literal["s", "ms", "us", "ns", "ymd", "compact", "dmy", "mdy", "of_day"]
PRICES = ("price", "open", "high", "low", "close", "bid", "ask", "mark", "index")
"""Fields that --scale divides."""
TIMES = ("ts_event", "open_time", "next_funding")
INTERVALS = {
    "1s": 1, "5s": 5, "10s": 10, "15s": 15, "30s": 30, "1m": 60, "3m": 180, "5m": 300, "10m": 600, "15m": 900,
    "30m": 1800, "1h": 3600, "2h": 7200, "4h": 14400, "6h": 21600, "8h": 28800, "12h": 43200, "1d": 86400,
    "1w": 604800, "1M": 2592000,
}  # fmt: skip
"""Names of intervals and their seconds; a month has those of its days."""


class Refused(LakeError):
    """A file that cannot be taken in; the message says what is wrong with it, the hint how to go on."""


class Unclear(Refused):
    """What the file does not say and an option does: `option` one of `choices` (empty: any text)."""

    exit_code = 2

    def __init__(self, question: str, option: str, choices: tuple[str, ...] = (), hint: str = "") -> None:
        said = f"say {option} " + (" or ".join(choices) if choices else hint)
        super().__init__(question, said.strip())
        self.question = question
        self.option = option
        self.choices = choices


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """A time of the file: the columns that hold it (a date and a time of day may be two), its form and zone.

    Units count from 1970 in UTC, `of_day` is milliseconds of the day `base` (YYYY-MM-DD). `zone` is that of texts
    without an offset: an IANA name; "" where each text has its own.
    """

    columns: tuple[int, ...]
    form: Form
    zone: str = ""
    base: str = ""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How the rows of one kind are made of a file. Columns are counted from 0; `names` are those of the file.

    `fields` is field of the kind -> column, `times` those that are times. `skip` lines come before the data. A price is
    its text divided by 10^`scale`. `label` says which end of a candle its time is.
    """

    dialect: str
    kind: str
    format: Format
    names: tuple[str, ...]
    fields: dict[str, int]
    times: dict[str, Stamp]
    symbol: str = ""
    delimiter: str = ","
    skip: int = 0
    encoding: str = "utf-8"
    comma: bool = False
    """Whether the decimal point is written as a comma."""
    scale: int = 0
    interval: str = ""
    label: Literal["open", "close"] = "open"
    base: int = 0
    """What ids count on from, where they are the lines of the file."""

    @property
    def how(self) -> str:
        """What decides the rows beside the bytes: the same text, the same rows."""
        times = ",".join(f"{name}:{one.form}{one.base}@{one.zone}" for name, one in sorted(self.times.items()))
        fields = ",".join(f"{name}:{place + 1}" for name, place in sorted(self.fields.items()))
        said = [self.dialect, self.symbol, times, fields, f"scale:{self.scale}" if self.scale else ""]
        said += [f"{self.interval}/{self.label}" if self.interval else "", "comma" if self.comma else ""]
        return " ".join(part for part in said if part)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of columns of which nothing is made."""
        used = {*self.fields.values(), *(place for one in self.times.values() for place in one.columns)}
        return tuple(name for place, name in enumerate(self.names) if place not in used)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What its user says of a file; None is left to the file. `columns` is column -> field, as --map gives it."""

    exchange: str
    market_type: str
    kind: str | None = None
    symbol: str | None = None
    dialect: str | None = None
    columns: dict[str, str] = {}
    timezone: str | None = None
    dates: Literal["dmy", "mdy"] | None = None
    interval: str | None = None
    label: Literal["open", "close"] | None = None
    scale: int | None = None
    raw_prices: bool = False
    delimiter: str | None = None
    decimal: Literal["point", "comma"] | None = None
    encoding: str | None = None
    member: str | None = None


class Sample(msgspec.Struct, frozen=True):
    """The head of a file as rows of texts, with what told them apart. `name` is the file's, or that of its member.

    `header` are the names that the file gives its columns, None where it gives none.
    """

    name: str
    format: Format
    header: tuple[str, ...] | None
    rows: tuple[tuple[str, ...], ...]
    delimiter: str = ","
    skip: int = 0
    encoding: str = "utf-8"
    comma: bool = False

    def column(self, place: int) -> list[str]:
        """The texts of a column that say something."""
        found = (row[place].strip() for row in self.rows if place < len(row))
        return [text for text in found if text]


def plain(name: str) -> str:
    """A column's name without what differs from program to program: case, spaces, brackets."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


IMPORTED = ("trade", "agg_trade", "quote", "kline", "liquidation", "mark_price")
"""Kinds that columns of any file can be."""
_BOOKS = ("book_delta", "book_snapshot")


def check_kind(name: str, *, own: bool = False) -> str:
    """A kind that files can be imported as; `own`: files of ours. Raises UnknownKind, Refused."""
    if kinds.kind(name).derived:
        raise Refused(
            f"{name} is made here, of {'books' if name == 'book_sample' else 'trades'}",
            "import what it is made of; candles of others are --kind kline",
        )
    if not own and name not in IMPORTED:
        whose = "dl export and books of tardis.dev" if name in _BOOKS else "dl export"
        raise Refused(
            f"{name} is imported from files of {whose} only", f"kinds that are of any file: {', '.join(IMPORTED)}"
        )
    return name
