"""The law of rows: every line of a transformed segment that is still in raw/ is a row, a copy of one, or set aside.

Lines and rows are told by their provenance. Both sides are counted and summed by symbol and hour, which needs hardly
any memory; only what does not agree is read again, and then each line that is in no table is named.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from lake import identity, parquet, tables
from lake.finding import LOST, Finding
from lake.merge import plain_frame
from lake.rows import FILES, FileRow, SegmentRow
from market import kinds
from market.times import DAY, HOUR, date_of, day_start

PIECE = 8 * 1024 * 1024
"""Bytes of lines that are looked at together."""
LOOKED_AT = 1_000_000
"""Lines of one stream that are held against rows one by one, at most."""
SHOWN = 5
COLLAPSE = 64
DERIVED, FLAGS = "derived", "flags"
_LOW = 0xFFFF_FFFF
HASH, HOUR_OF = "#hash", "#hour"
_STRINGS = (pl.String, pl.Categorical)


class _Line(msgspec.Struct, gc=False):
    """What of a line says which event it is, and when."""

    symbol: str
    ts_event: int | None
    ts_recv: int
    session: str
    frame_no: int
    item: int
    source: str
    skew_us: int | None = None
    flags: tuple[str, ...] = ()


@functools.cache
def _columns(kind: str) -> dict[str, Any]:
    """Names and types of the columns that identify an event, its id included."""
    types = {column.name: column.type for column in tables.columns(kind)}
    declared = kinds.kind(kind)
    names = dict.fromkeys((*declared.key, *([declared.seq] if declared.seq else [])))
    return {
        name: pl.Int64 if types[name] in ("int", "time") else pl.String
        for name in names
        if name not in ("symbol", "ts_event", "source")
    }


@functools.cache
def _decoder(kind: str) -> msgspec.json.Decoder[Any]:
    struct = kinds.kind(kind).struct
    # what a line leaves out has its declared value: a candle that never changed is revision 0
    left_out = {one.name: one.default for one in msgspec.structs.fields(struct) if not one.required} if struct else {}
    fields: list[Any] = [(name, int | str | None, left_out.get(name)) for name in _columns(kind)]
    return msgspec.json.Decoder(msgspec.defstruct(f"_{kind}", fields, bases=(_Line,), gc=False))


def lines(path: Path, kind: str) -> Iterator[tuple[pl.DataFrame, int]]:
    """A segment's lines in pieces: a frame of those that are events, and how many are none. Raises OSError."""
    with path.open("rb") as file:
        rest = b""
        while data := file.read(PIECE):
            data = rest + data
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            if cut:
                yield _frame(data[:cut], kind)
        if rest:
            yield _frame(rest, kind)


def _frame(data: bytes, kind: str) -> tuple[pl.DataFrame, int]:
    decoder, bad = _decoder(kind), 0
    try:
        found = decoder.decode_lines(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = []
        for line in data.splitlines():
            try:
                found.append(decoder.decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                bad += 1
    times = [e.ts_event if e.ts_event is not None else e.ts_recv - (e.skew_us or 0) for e in found]
    columns: dict[str, pl.Series] = {
        "symbol": pl.Series([e.symbol for e in found], dtype=pl.String),
        "ts_event": pl.Series(times, dtype=pl.Int64),
        "session": pl.Series([e.session for e in found], dtype=pl.String),
        "frame_no": pl.Series([e.frame_no for e in found], dtype=pl.Int64),
        "item": pl.Series([e.item for e in found], dtype=pl.Int64),
        "source": pl.Series([e.source for e in found], dtype=pl.String),
    }
    if kinds.kind(kind).renumbered:
        columns[identity.TIME] = pl.Series([e.ts_event for e in found], dtype=pl.Int64)
    if identity.has_wholes(kind):
        columns[identity.WHOLE] = pl.Series([identity.SNAPSHOT in e.flags for e in found], dtype=pl.Int64)
    for name, kept in _columns(kind).items():
        columns[name] = pl.Series([getattr(e, name) for e in found], dtype=kept, strict=False)
    return _told(pl.DataFrame(columns)), bad


def rows(path: Path, kind: str, symbols: frozenset[str] | None = None) -> Iterator[pl.DataFrame]:
    """A live file's observed rows in pieces, as `lines` has them. Raises CorruptFile."""
    flags = [FLAGS] if identity.has_wholes(kind) else []
    estimated = ["ts_estimated"] if kinds.kind(kind).renumbered else []
    wanted = ["symbol", "ts_event", *estimated, *kinds.PROVENANCE, "source", *flags, *_columns(kind)]
    for table in parquet.iterate(path, wanted, symbols=symbols):
        yield rows_of(table, kind)


def ours(frame: pl.DataFrame, taken_in: frozenset[str]) -> pl.DataFrame:
    """The rows that were lines in raw/: not those of files, nor of sessions that took in a file of ours."""
    if not taken_in:
        return frame.filter(~pl.col("source").is_in(FILES))
    return frame.filter(~pl.col("source").is_in(FILES) & ~pl.col("session").cast(pl.String).is_in(taken_in))


def rows_of(table: pa.Table, kind: str) -> pl.DataFrame:
    """Rows of a table that were lines, with the columns that `rows` reads. Of a book's derived rows those were, but for
    what a day opens with.
    """
    frame = plain_frame(table).with_columns(identity.beside(kind)).drop("ts_estimated", strict=False)
    plain = [pl.col(n).to_physical().cast(pl.Int64) for n, t in frame.schema.items() if t not in _STRINGS]
    made = pl.col("source") == DERIVED
    made = made & pl.col(FLAGS).str.contains("carried") if FLAGS in frame.columns else made
    return _told(frame.with_columns(plain).filter(~made).drop(FLAGS, strict=False))


def _told(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        pl.struct(*kinds.PROVENANCE).hash().alias(HASH), (pl.col("ts_event") // HOUR).alias(HOUR_OF)
    )


class Tally:
    """Rows and a sum of their provenance by symbol and hour: equal for equal rows, whatever their order."""

    def __init__(self) -> None:
        self._parts: list[pl.DataFrame] = []

    def add(self, frame: pl.DataFrame) -> None:
        low = pl.col(HASH) & pl.lit(_LOW, dtype=pl.UInt64)
        self._parts.append(
            frame.group_by("symbol", HOUR_OF).agg(pl.len().cast(pl.Int64).alias("n"), low.sum().alias("s"))
        )
        if len(self._parts) >= COLLAPSE:
            self._parts = [self.cells()]

    def cells(self) -> pl.DataFrame:
        """One row a symbol and hour: `n` rows, with the sum `s`."""
        empty = pl.DataFrame(schema={"symbol": pl.String, HOUR_OF: pl.Int64, "n": pl.Int64, "s": pl.UInt64})
        return pl.concat([empty, *self._parts]).group_by("symbol", HOUR_OF).agg(pl.col("n").sum(), pl.col("s").sum())


def dates(segments: Iterable[SegmentRow]) -> set[str]:
    """Dates that rows of these segments may have."""
    found = set()
    for row in segments:
        times = [t for t in (row.event_min, row.event_max, row.recv_min, row.recv_max) if t is not None]
        for start in range(min(times) // DAY, max(times) // DAY + 1) if times else ():
            found.add(date_of(start * DAY).isoformat())
    return found


class RowLaw:
    """Lines against rows of one stream. `files` and `segments` are whole; `set_aside` is path -> lines of it that are.

    `partly` are dates of which some segments are not there any more: rows without a line are no wonder then. `anew` are
    (symbol or None for all, date) of files whose rows were made again of frames: lines tell nothing of these.
    """

    def __init__(
        self,
        root: Path,
        kind: str,
        segments: Sequence[SegmentRow],
        files: Sequence[FileRow],
        set_aside: Mapping[str, int],
        partly: set[str],
        anew: frozenset[tuple[str | None, str]] = frozenset(),
        taken_in: frozenset[str] = frozenset(),
    ) -> None:
        self.root = root
        self.kind = kind
        self.segments = segments
        self.dates = dates(segments)
        self.files = [row for row in files if row.date in self.dates]
        self.set_aside = set_aside
        self.partly = partly
        self.anew = anew
        self.taken_in = taken_in
        self.missing = 0
        self.findings: list[Finding] = []

    def judge(self, stored: Tally) -> None:
        """Hold lines against `stored`, the tally of the rows of all files of these dates."""
        said = Tally()
        for row in self.segments:
            for frame, _ in lines(self.root / row.path, self.kind):
                said.add(frame)
        both = said.cells().join(stored.cells(), on=["symbol", HOUR_OF], how="full", coalesce=True, suffix="_rows")
        both = self._told_by_lines(both.fill_null(0))
        day = pl.col(HOUR_OF) // (DAY // HOUR)
        gone = [int(pl.Series([date]).str.to_date().cast(pl.Int64)[0]) for date in self.partly]
        odd = both.filter((pl.col("n") != pl.col("n_rows")) | (pl.col("s") != pl.col("s_rows")))
        odd = odd.filter(~(day.is_in(gone) & (pl.col("n") == 0))).sort(HOUR_OF, "symbol")
        if odd.is_empty():
            return
        near = odd.filter(pl.max_horizontal("n", "n_rows").cum_sum() <= LOOKED_AT)
        if near.is_empty():
            near = odd.head(1)
        self._look(near.select("symbol", HOUR_OF), set(gone))
        for symbol, hour, n, _, n_rows, _ in odd.slice(near.height).head(SHOWN).rows():
            at = date_of(hour * HOUR).isoformat()
            problem = f"{symbol} {at} {hour % 24:02d}h: {n:,} lines in raw/, {n_rows:,} rows (not looked at one by one)"
            self._say(self.kind, problem)

    def _told_by_lines(self, cells: pl.DataFrame) -> pl.DataFrame:
        """Without those whose rows were made again of frames."""
        day = (pl.col(HOUR_OF) // (DAY // HOUR)).alias("#day")
        days = [(symbol, day_start(dt.date.fromisoformat(date)) // DAY) for symbol, date in self.anew]
        every = [at for symbol, at in days if symbol is None]
        named = pl.DataFrame(
            [one for one in days if one[0] is not None], {"symbol": pl.String, "#day": pl.Int64}, orient="row"
        )
        cells = cells.with_columns(day).join(named, on=["symbol", "#day"], how="anti")
        return cells.filter(~pl.col("#day").is_in(every)).drop("#day")

    def _look(self, cells: pl.DataFrame, gone: set[int]) -> None:
        """Read the odd cells of both sides again and name what is on one side only."""
        frames = []
        symbols = frozenset(cells.get_column("symbol").to_list())
        for place, row in enumerate(self.segments):
            for frame, _ in lines(self.root / row.path, self.kind):
                frames.append(
                    frame.join(cells, on=["symbol", HOUR_OF], how="semi").with_columns(pl.lit(place).alias("#of"))
                )
        left = pl.concat(frames)
        held = [
            frame.join(cells, on=["symbol", HOUR_OF], how="semi").with_columns(pl.lit(place).alias("#of"))
            for place, row in enumerate(self.files)
            for every in rows(self.root / row.path, self.kind, symbols)
            for frame in [ours(every, self.taken_in)]
        ]
        right = pl.concat(held) if held else left.clear()
        self._missing(left.join(right, on=HASH, how="anti"), right)
        self._twice(right)
        extra = right.join(left, on=HASH, how="anti")
        extra = extra.filter(~(pl.col("ts_event") // DAY).is_in(list(gone)))
        for (place,), part in extra.group_by("#of", maintain_order=True):
            assert isinstance(place, int)
            for symbol, shown in _by_symbol(part, self.kind):
                self._say(self.files[place].path, f"{symbol}: {shown} of it are rows that no line in raw/ tells", LOST)

    def _missing(self, missing: pl.DataFrame, stored: pl.DataFrame) -> None:
        """Lines without a row: copies of another row, set aside, or lost."""
        if missing.is_empty():
            return
        missing = _not_copies(missing, stored, self.kind)
        for (place,), part in missing.group_by("#of", maintain_order=True):
            assert isinstance(place, int)
            path = self.segments[place].path
            if part.height <= self.set_aside.get(path, 0):
                continue
            self.missing += part.height
            for symbol, shown in _by_symbol(part, self.kind):
                self._say(path, f"{symbol}: {shown} of it are in no table", "dl trace shows the frames they came from")

    def _twice(self, stored: pl.DataFrame) -> None:
        """Of hot rows readers and the next merge leave copies out; among daily files there are none."""
        days = [place for place, row in enumerate(self.files) if row.level == "day"]
        twice = stored.filter(pl.col("#of").is_in(days)).filter(~pl.col(HASH).is_first_distinct())
        for (place,), part in twice.group_by("#of", maintain_order=True):
            assert isinstance(place, int)
            for symbol, shown in _by_symbol(part, self.kind):
                self._say(self.files[place].path, f"{symbol}: {shown} of it are stored twice", "run: dl compact")

    def _say(self, path: str, problem: str, hint: str = "") -> None:
        self.findings.append(Finding("error", path, problem, hint))


def _not_copies(missing: pl.DataFrame, stored: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Those that have no row of the same identity; without an id a row is its own identity."""
    copies = missing.join(stored, on=identity.key(kind), how="semi", nulls_equal=True)
    return missing.join(copies.filter(~identity.anonymous(kind)), on=HASH, how="anti")


def _by_symbol(frame: pl.DataFrame, kind: str) -> Iterator[tuple[str, str]]:
    """Symbol and how many, with the first by id or by frame."""
    seq = kinds.kind(kind).seq
    for (symbol,), part in frame.sort("ts_event", "frame_no", "item").group_by("symbol", maintain_order=True):
        some = part.head(SHOWN)
        if seq is not None and not some.get_column(seq).has_nulls():
            what = f"id{'s' if part.height > 1 else ''} " + ", ".join(map(str, some.get_column(seq).to_list()))
        else:
            what = ", ".join(f"{s} frame {n} item {i}" for s, n, i in some.select(kinds.PROVENANCE).rows())
        more = ", …" if part.height > SHOWN else ""
        yield str(symbol), f"{part.height:,} ({what}{more})"


def readable(root: Path, rows: Iterable[SegmentRow], broken: set[str]) -> list[SegmentRow]:
    """Transformed segments with lines that are there and whole."""
    return [
        row
        for row in rows
        if row.state == "transformed" and row.rows and row.path not in broken and (root / row.path).is_file()
    ]


def set_aside(origins: Counter[str], rows: Iterable[SegmentRow]) -> dict[str, int]:
    """Path -> lines of it that are in quarantine."""
    return {row.path: origins[row.path] for row in rows if origins[row.path]}
