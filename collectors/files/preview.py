"""What a file was understood as, for a person to look at before it is written: its first rows, and how far it goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from collectors.files.blocks import Block, blocks
from collectors.files.importing import Request
from collectors.files.rows import batches
from lake import tables
from lake.typed import BAD, LINE
from market import times

SHOWN = 3
_ALWAYS = ("frame_no", "symbol")


class Preview(msgspec.Struct, kw_only=True):
    """`columns` is column of the file -> what it becomes, "" for nothing; times of `rows` are ISO texts.

    `ts_first` and `ts_last` (us) are of its first and last good rows: files are in order, or from their end.
    """

    path: str
    kind: str
    dialect: str
    format: str
    delimiter: str
    encoding: str
    columns: dict[str, str]
    times: dict[str, str]
    symbol: str
    scale: int
    interval: str
    label: str
    rows: list[dict[str, Any]]
    ts_first: int | None
    ts_last: int | None


def preview(request: Request, report: Callable[[int, int, str], None]) -> Preview:
    """Reads the file once, and makes rows of its ends only. Raises Refused."""
    reading, path = request.reading, Path(request.path)
    first: Block | None = None
    last: Block | None = None
    size = path.stat().st_size
    for block, done in blocks(path, reading, request.member):
        first = first or block
        last = block
        report(done, size, "looking")
    head = _rows(request, first) if first is not None else pl.DataFrame()
    tail = head if last is first or last is None else _rows(request, last)
    good = [frame.filter(pl.col(BAD).is_null()) for frame in (head, tail) if frame.height]
    begin = "open_time" if reading.kind == "kline" else "ts_event"
    stamps = [value for frame in good for value in (frame[begin].min(), frame["ts_event"].max())]
    ends = [value for value in stamps if isinstance(value, int)]
    return Preview(
        path=request.path, kind=reading.kind, dialect=reading.dialect, format=reading.format,
        delimiter=reading.delimiter, encoding=reading.encoding, columns=_columns(request), times=_times(request),
        symbol=reading.symbol, scale=10**reading.scale, interval=reading.interval, label=reading.label,
        rows=[_shown(reading.kind, row) for row in head.head(SHOWN).iter_rows(named=True)],
        ts_first=min(ends, default=None), ts_last=max(ends, default=None),
    )  # fmt: skip


def _rows(request: Request, block: Block) -> pl.DataFrame:
    made = list(batches(Path(request.path), request.reading, block, verbatim=True))
    return pl.concat(made) if made else pl.DataFrame()


def _columns(request: Request) -> dict[str, str]:
    reading = request.reading
    names = _distinct(reading.names)
    found = dict.fromkeys(names, "")
    found |= {names[place]: field for field, place in reading.fields.items()}
    for field, stamp in reading.times.items():
        found |= {names[place]: field for place in stamp.columns}
    return found


def _distinct(names: tuple[str, ...]) -> list[str]:
    """Names to show: the empty ones and those that come twice with their number."""
    return [name if name and names.count(name) == 1 else f"{name}#{place}" for place, name in enumerate(names, 1)]


def _times(request: Request) -> dict[str, str]:
    forms = {
        "ymd": "year-month-day", "compact": "yyyymmdd", "dmy": "day-month-year", "mdy": "month-day-year",
        "of_day": "milliseconds of",
    }  # fmt: skip
    found = {}
    for field, stamp in request.reading.times.items():
        form = forms.get(stamp.form, f"{stamp.form} since 1970")
        zone = stamp.zone or ("UTC" if stamp.form in ("s", "ms", "us", "ns") else "each with its own zone")
        found[field] = " ".join(part for part in (form, stamp.base, zone) if part)
    return found


def _shown(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    types = {column.name: column.type for column in tables.columns(kind)}
    made = {
        name: times.text(value) if types.get(name) == "time" and value is not None else value
        for name, value in row.items()
        if not name.startswith("#")
    }
    if row[BAD] is not None:
        made["set aside"] = f"{row[BAD]} ({row[LINE]})"
    return {name: made.pop(name) for name in _ALWAYS if name in made} | made
