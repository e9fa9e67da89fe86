"""A day of one symbol as hftbacktest 2 reads it: trades and book in one array of events, in an npz.

An event is 64 bytes (FIELDS), times are ns. It is told to the exchange at `exch_ts` and to us at `local_ts`, and each
of the two must hear of events in its own order: an event that arrived behind a later one is told twice, once to each.
Rows are handled a slice at a time. Source: the public documentation of hftbacktest's data.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from lake import durable, parquet
from lake.errors import StorageFailed

if TYPE_CHECKING:
    from lake.tardis_books import Change

DEPTH, TRADE, CLEAR, SNAPSHOT = 1, 2, 3, 4
"""What an event is: the new quantity of a level, a trade, an end of all levels, a level of a whole book."""
EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
"""Whom it is told, and its side: of the book, or of the taker."""
FIELDS = (
    ("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"), ("order_id", "<u8"),
    ("ival", "<i8"), ("fval", "<f8"),
)  # fmt: skip
KEY = "data"
SCHEMA = {"ev": pl.Int64(), "exch_ts": pl.Int64(), "local_ts": pl.Int64(), "px": pl.Float64(), "qty": pl.Float64()}
WINDOW = 60 * 1_000_000_000
"""How much later (ns) than what follows it an event may arrive and still stand in its place for the exchange."""
_NS = 1_000
_PIECE = 50_000
_NEVER = -(2**62)
_COPY = 1 << 20


def trades(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Events of rows of tardis.dev's `trades`; a trade of an unknown side has none."""
    bought = pl.when(pl.col("side") == "buy").then(pl.lit(BUY, pl.Int64))
    side = bought.when(pl.col("side") == "sell").then(pl.lit(SELL, pl.Int64)).otherwise(pl.lit(0, pl.Int64))
    for rows in frames:
        yield rows.select(
            (side + TRADE).alias("ev"),
            (pl.col("timestamp") * _NS).alias("exch_ts"),
            (pl.col("local_timestamp") * _NS).alias("local_ts"),
            pl.col("price").cast(pl.Float64).alias("px"),
            pl.col("amount").cast(pl.Float64).alias("qty"),
        )


def book(changes: Iterable[Change]) -> Iterator[pl.DataFrame]:
    """Events of a book's changes: a whole book takes the place of all that was known."""
    held: list[tuple[int, int, int, float, float]] = []
    for change in changes:
        at = change.timestamp * _NS, change.local * _NS
        if change.snapshot:
            held.append((CLEAR, *at, 0.0, 0.0))
        what = SNAPSHOT if change.snapshot else DEPTH
        held += [(what | BUY, *at, float(price), float(qty)) for price, qty in change.bids]
        held += [(what | SELL, *at, float(price), float(qty)) for price, qty in change.asks]
        if len(held) >= _PIECE:
            yield pl.DataFrame(held, schema=SCHEMA, orient="row")
            held = []
    yield pl.DataFrame(held, schema=SCHEMA, orient="row")


def merged(first: Iterator[pl.DataFrame], second: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Both in order of arrival; where two arrive at once those of `first` stand in front.

    Trades are first: whoever sees the book shrink before the trade that did it counts it twice.
    """
    sources = [_rising(first), _rising(second)]
    held = [pl.DataFrame(schema=SCHEMA), pl.DataFrame(schema=SCHEMA)]
    open_ = [True, True]
    while any(open_):
        lasts = [int(one.get_column("local_ts")[-1]) if one.height else _NEVER for one in held]
        side = min((n for n in (0, 1) if open_[n]), key=lambda n: lasts[n])
        found = next(sources[side], None)
        if found is None:
            open_[side] = False
        else:
            held[side] = pl.concat([held[side], found])
        ends = [int(held[n].get_column("local_ts")[-1]) if held[n].height else _NEVER for n in (0, 1) if open_[n]]
        bound = min(ends, default=2**62)
        ready = [one.filter(pl.col("local_ts") < bound) for one in held]
        held = [one.filter(pl.col("local_ts") >= bound) for one in held]
        if any(one.height for one in ready):
            yield pl.concat(ready).sort("local_ts", maintain_order=True)


def _rising(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """No event arrives before its own time, nor before the one in front of it."""
    last = _NEVER
    for frame in frames:
        if frame.height:
            local = pl.max_horizontal("local_ts", "exch_ts", pl.lit(last)).cum_max().alias("local_ts")
            told = frame.with_columns(local)
            last = int(told.get_column("local_ts")[-1])
            yield told


class Ordered:
    """Events in order of arrival, told to the exchange and to us."""

    def __init__(self) -> None:
        self.behind = 0
        """Events that arrived more than WINDOW late: for the exchange they happen with what it had heard by then."""
        self._held = pl.DataFrame(schema=SCHEMA | {"late": pl.Boolean()})
        self._late = pl.DataFrame(schema=SCHEMA)
        self._top = self._told = _NEVER

    def of(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The same events with EXCH and LOCAL in `ev`, those that are told twice twice."""
        for frame in frames:
            running = pl.max_horizontal(pl.col("exch_ts").cum_max(), pl.lit(self._top))
            told = frame.with_columns((pl.col("exch_ts") < running).alias("late"))
            self._top = max(self._top, int(frame.get_column("exch_ts").max()))  # type: ignore[arg-type] # integers
            self._late = pl.concat([self._late, told.filter("late").drop("late")])
            self._held = pl.concat([self._held, told])
            cut = int(frame.get_column("local_ts")[-1]) - WINDOW
            ready = self._held.filter(pl.col("local_ts") < cut)
            self._held = self._held.filter(pl.col("local_ts") >= cut)
            yield from self._out(ready)
        yield from self._out(self._held)
        if self._late.height:
            yield self._heard(self._late).select(*SCHEMA)

    def _heard(self, late: pl.DataFrame) -> pl.DataFrame:
        """Late events as the exchange is told of them, in its order: not before what it was told."""
        self.behind += late.filter(pl.col("exch_ts") < self._told).height
        since = pl.max_horizontal("exch_ts", pl.lit(self._told)).alias("exch_ts")
        return late.with_columns(pl.col("ev") + EXCH, since).sort("exch_ts", maintain_order=True)

    def _out(self, ready: pl.DataFrame) -> Iterator[pl.DataFrame]:
        if not ready.height:
            return
        flags = pl.when("late").then(pl.lit(LOCAL, pl.Int64)).otherwise(pl.lit(LOCAL | EXCH, pl.Int64))
        rows = ready.with_row_index("place").with_columns(pl.col("ev") + flags, pl.lit(1).alias("rank"))
        straight = rows.filter(~pl.col("late"))
        parts = [rows.drop("late")]
        if straight.height:
            end = int(straight.get_column("exch_ts")[-1])
            now = self._late.filter(pl.col("exch_ts") < end)
            self._late = self._late.filter(pl.col("exch_ts") >= end)
            now = self._heard(now)
            places = straight.get_column("exch_ts").search_sorted(now.get_column("exch_ts"), side="right")
            before = straight.get_column("place").gather(places.clip(upper_bound=straight.height - 1))
            parts.append(now.with_columns(before.alias("place"), pl.lit(0).alias("rank")).select(parts[0].columns))
            self._told = end
        yield pl.concat(parts).sort("place", "rank", maintain_order=True).select(*SCHEMA)


def packed(events: pl.DataFrame) -> bytes:
    """The events as they lie in the array."""
    words = {name: events.get_column(name) for name in ("ev", "exch_ts", "local_ts")}
    words |= {name: _bits(events.get_column(name)) for name in ("px", "qty")}
    rows = pl.DataFrame(words).select(pl.concat_arr(*words, *[pl.lit(0, pl.Int64)] * (len(FIELDS) - len(words))))
    flat = rows.to_series().rechunk().to_arrow().flatten()
    return bytes(flat.buffers()[1].slice(flat.offset * 8, len(flat) * 8))


def _bits(values: pl.Series) -> pl.Series:
    """The eight bytes of each float, as an integer."""
    made = pl.from_arrow(values.rechunk().to_arrow().view(pa.int64()))
    assert isinstance(made, pl.Series)
    return made


def header(rows: int) -> bytes:
    """The head of an array file (format 1.0) of so many events."""
    said = f"{{'descr': {list(FIELDS)!r}, 'fortran_order': False, 'shape': ({rows},), }}"
    space = -(len(said) + 11) % 64
    text = f"{said}{' ' * space}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def write(file: durable.AppendFile, events: Iterable[pl.DataFrame]) -> int:
    """An npz of these events into `file`; how many there are. They lie in a file beside it until they are counted.

    Raises StorageFailed, what `events` raises.
    """
    aside = durable.temp_path(file.path.with_name(file.path.name.removeprefix(".")), "events")
    durable.unlink(aside)
    rows = 0
    try:
        with durable.AppendFile(aside) as raw:
            for frame in events:
                rows += frame.height
                raw.write(packed(frame))
        _zipped(file, aside, rows)
    finally:
        with contextlib.suppress(StorageFailed):
            durable.unlink(aside)
    return rows


def _zipped(file: durable.AppendFile, aside: Path, rows: int) -> None:
    """Without a time in it, so that equal events make equal bytes."""
    sink: Any = parquet.Buffered(file)
    named = zipfile.ZipInfo(f"{KEY}.npy", (1980, 1, 1, 0, 0, 0))
    named.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(sink, "w") as archive, archive.open(named, "w", force_zip64=True) as array:
        array.write(header(rows))
        with aside.open("rb") as raw:
            while piece := raw.read(_COPY):
                array.write(piece)
    sink.flush()
