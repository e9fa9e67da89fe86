"""What of a market lasts beyond a restart: how its instruments were last said to be, and its newest settled rates.

From live files and from sealed segments that are no files yet. What cannot be read is left out: it will be asked for,
and stored, again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
import polars as pl

from lake.errors import LakeError
from lake.manifest_reads import Snapshot
from lake.reading import EVER, Wanted, check, choose, lazy
from lake.segments import BadLine, read_lines
from lake.tables import TEXT_SUFFIX
from market.kinds import COMMON, KINDS, Contract, Event
from market.times import HOUR, MINUTE, Interval

CONTRACT = "contract"


class Lasting(msgspec.Struct, frozen=True):
    """`contracts` has the last row of each uid; `times` is kind -> symbol -> time (us) of its newest row."""

    contracts: tuple[Contract, ...] = ()
    times: Mapping[str, Mapping[str, int]] = {}


def lasting(
    root: Path,
    snapshot: Snapshot,
    exchange: str,
    market_type: str,
    kinds: Iterable[str] = (),
    before: int | None = None,
) -> Lasting:
    """What is known of one market; `before` (us) asks for what was known when that was the time. `kinds` are those
    whose newest times are wanted.
    """
    newest: dict[str, Contract] = {}
    lines = _of_lines(root, snapshot, CONTRACT, exchange, market_type, before)
    for contract in (*_of_files(root, snapshot, exchange, market_type, before), *lines):
        assert isinstance(contract, Contract), "a segment of contracts holds nothing else"
        held = newest.get(contract.uid)
        if held is None or held.known_from <= contract.known_from:
            newest[contract.uid] = contract
    times = {kind: _newest(root, snapshot, kind, exchange, market_type, before) for kind in kinds}
    return Lasting(tuple(sorted(newest.values(), key=lambda one: (one.known_from, one.uid))), times)


def said_last(root: Path, snapshot: Snapshot, kind: str, exchange: str, market_type: str, before: int) -> list[Event]:
    """The last event of each symbol that was received before `before` (us), of the hour before it."""
    files = snapshot.files(kind, exchange=exchange, market_type=market_type)
    selection = choose(kind, files, [Wanted(exchange, market_type)], Interval(before - HOUR, before + MINUTE))
    newest: dict[str, Event] = {}
    try:
        check(root, selection.files)
    except LakeError:
        return []  # a damaged file is `dl verify`'s to report
    if selection.files:
        rows = lazy(root, selection, files).filter(pl.col("ts_recv").cast(pl.Int64) < before)
        rows = rows.with_columns(_plain(kind)).sort("ts_recv", "frame_no", maintain_order=True)
        last = rows.group_by("symbol").last().collect()
        newest = {row["symbol"]: _event(row, kind) for row in last.to_dicts()}
    for event in _of_lines(root, snapshot, kind, exchange, market_type, before):
        held = newest.get(event.symbol)
        if event.ts_recv >= before - HOUR and (held is None or held.ts_recv <= event.ts_recv):
            newest[event.symbol] = event
    return list(newest.values())


def _newest(
    root: Path, snapshot: Snapshot, kind: str, exchange: str, market_type: str, before: int | None
) -> dict[str, int]:
    found: dict[str, int] = {}
    rows = _rows(root, snapshot, kind, exchange, market_type, before)
    if rows is not None:
        symbol, time = pl.col("symbol").cast(pl.String), pl.col("ts_event").cast(pl.Int64)
        last = rows.group_by(symbol).agg(time.max()).collect()
        found = dict(zip(last["symbol"].to_list(), last["ts_event"].to_list(), strict=True))
    for event in _of_lines(root, snapshot, kind, exchange, market_type, before):
        if event.ts_event is not None:
            found[event.symbol] = max(event.ts_event, found.get(event.symbol, 0))
    return found


def _of_files(root: Path, snapshot: Snapshot, exchange: str, market_type: str, before: int | None) -> list[Contract]:
    """The last row of each uid in live files."""
    rows = _rows(root, snapshot, CONTRACT, exchange, market_type, before)
    if rows is None:
        return []
    last = rows.with_columns(_plain(CONTRACT)).sort("known_from", maintain_order=True).group_by("uid").last().collect()
    return [cast("Contract", _event(row, CONTRACT)) for row in last.to_dicts()]


def _rows(
    root: Path, snapshot: Snapshot, kind: str, exchange: str, market_type: str, before: int | None
) -> pl.LazyFrame | None:
    """The rows of a kind of a market; None where there are none that can be read."""
    files = snapshot.files(kind, exchange=exchange, market_type=market_type)
    selection = choose(kind, files, [Wanted(exchange, market_type)], EVER)
    try:
        check(root, selection.files)
    except LakeError:
        return None  # a damaged file is `dl verify`'s to report
    if not selection.files:
        return None
    rows = lazy(root, selection, files)
    return rows if before is None else rows.filter(pl.col("ts_recv").cast(pl.Int64) < before)


def _plain(kind: str) -> list[pl.Expr]:
    """The columns of a table that events have as plain values: times in us, names as text."""
    times, names = _named(kind, "time"), _named(kind, "dict", "text")
    return [
        *(pl.col(name).cast(pl.Int64) for name in times),
        *(pl.col(name).cast(pl.String) for name in names),
    ]


def _named(kind: str, *types: str) -> list[str]:
    """The columns of a kind that are of one of these types."""
    return [column.name for column in (*COMMON, *KINDS[kind].columns) if column.type in types]


def _event(row: Mapping[str, Any], kind: str) -> Event:
    """A table's row as the event that it was; its stream is not in the table."""
    made = KINDS[kind].struct
    assert made is not None, "of what we make ourselves there are no events"
    values = {name: row[name] for name in made.__struct_fields__ if name in row}
    values |= {name: _text(row[name], row.get(name + TEXT_SUFFIX)) for name in _named(kind, "decimal")}
    return made(**{"stream": "", **values})


def _text(value: float | None, exact: str | None) -> str | None:
    """The number's plain decimal text."""
    if exact is not None or value is None:
        return exact
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def _of_lines(
    root: Path, snapshot: Snapshot, kind: str, exchange: str, market_type: str, before: int | None
) -> Iterable[Event]:
    """The events of sealed segments that are no files yet."""
    for segment in snapshot.segments(exchange, market_type, kind, "sealed"):
        path = root / segment.path
        if segment.rows and path.is_file():
            for event in read_lines(kind, path.read_bytes()):
                if not isinstance(event, BadLine) and (before is None or event.ts_recv < before):
                    yield event
