"""Rows made again from frames held against the rows that the lake has, a stream and day at a time.

Equal content digests settle most of it. What differs is looked at hour by hour and row by row: a row made of frames
may be missing where a gap row says that it was lost or where its segment still waits; every other difference is named
with its session and frame. Copies are left out of both sides as readers and the day's close do.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import identity, merge, parquet, tables
from lake.digest import SPECS, ContentDigest, canonical_lines
from lake.law_ids import MISSING
from lake.law_rows import DERIVED
from lake.manifest_reads import Snapshot
from lake.reading import check, deduplicated
from lake.resume import ASIDE, REST
from lake.row_groups import regroup
from lake.rows import FRAMES, CertificateRow, FileRow
from market import kinds
from market.session import EVERY_SYMBOL, Gap
from market.times import DAY, HOUR, MINUTE, Interval, day_start, parse, text, to_datetime, union

SHOWN = 10
"""Rows of one stream and day that are shown of each difference."""
OURS = "snapshot|carried"
"""Rows of a book that say when we asked: they are no content (see `lake.digest`)."""
LEVELS = tables.ROW_GROUP_LEVELS // 4
"""Levels of books that are held at once for a digest, which is the same however rows are cut."""
ALONE = frozenset({"trade", "agg_trade"})
"""Kinds of which each row is made of its own frame. Others need what was told before: the whole of which changes are
told, a candle that has not closed.
"""
BOOK_ROWS = 4096
"""Rows of a kind with levels that are looked at together: each may be a whole book."""
LINE, ROW, HASH = "#line", "#row", identity.HASH


class Different(msgspec.Struct, frozen=True):
    """One row that is not the same: what is wrong, and the frame that it came from."""

    what: str
    symbol: str
    ts_event: int
    session: str
    frame_no: int
    item: int
    id: int | None = None

    @property
    def place(self) -> str:
        name = f"id {self.id}, " if self.id is not None else ""
        return f"{self.symbol} {text(self.ts_event)} ({name}{self.session} frame {self.frame_no} item {self.item})"


CRASH = "crash"
INVENTED, ABSENT, CHANGED = "not made of any frame", "made of a frame, not in the lake", "made otherwise of its frame"


class DayResult(msgspec.Struct, kw_only=True):
    """One stream and day: law rows = same + unreachable + different, and what frames give beyond them.

    `lost` are rows in gaps by the gap's cause, `waiting` those of segments that are no rows yet. `unreachable` rows
    came while no frames were kept, or of no frames, or are otherwise behind some that were given up. `files` is daily
    file -> whether its digest was made again (None: not all of it can be).
    """

    exchange: str
    market_type: str
    kind: str
    date: str
    rows: int = 0
    derived: int = 0
    lost: dict[str, int] = {}
    waiting: int = 0
    unreachable: int = 0
    different: int = 0
    files: dict[str, bool | None] = {}
    examples: list[Different] = []


class Taken(msgspec.Struct, frozen=True):
    """Frames of a session that were read: `first` to `last`, but for those in `skipped`."""

    first: int
    last: int
    skipped: tuple[tuple[int, int], ...] = ()


class Reach(msgspec.Struct, frozen=True):
    """Receive times whose frames were read, and sessions whose frames could not be understood.

    Where `taken` says which frames of which session were, only what came of these is meant. `behind` is the first frame
    of a session that is in no file.
    """

    spans: tuple[Interval, ...]
    unreadable: frozenset[str] = frozenset()
    taken: Mapping[str, Taken] | None = None
    behind: Mapping[str, int] = {}

    def holds(self) -> pl.Expr:
        """Which rows have their frames there."""
        at = pl.col("ts_recv")
        inside = [(at >= span.start) & (at < span.end) for span in self.spans]
        read = pl.any_horizontal(inside or [pl.lit(value=False)]) & ~pl.col("session").is_in(list(self.unreadable))
        return read if self.taken is None else (read & self._taken(self.taken)).fill_null(value=False)

    def unsure(self, kind: str) -> pl.Expr:
        """Which rows may be made otherwise for want of a frame before theirs."""
        found = pl.lit(value=False)
        for name, first in self.behind.items() if kind not in ALONE else ():
            found |= (pl.col("session") == name) & (pl.col("frame_no") >= first)
        return found

    def _taken(self, taken: Mapping[str, Taken]) -> pl.Expr:
        session, number = pl.col("session"), pl.col("frame_no")

        def of(values: Mapping[str, int]) -> pl.Expr:
            return session.replace_strict(values, default=None, return_dtype=pl.Int64)

        read = number.is_between(
            of({name: one.first for name, one in taken.items()}), of({name: one.last for name, one in taken.items()})
        )
        for name, one in taken.items():
            for start, stop in one.skipped:
                read &= ~((session == name) & (number >= start) & (number < stop))
        return read


class Comparison:
    """What the lake has of a stream and day, beside `parts` ((Parquet file of rows made of its frames, its hour))."""

    def __init__(
        self,
        root: Path,
        snapshot: Snapshot,
        stream: tuple[str, str, str],
        date: str,
        parts: Sequence[tuple[Path, int]],
        reach: Reach,
    ) -> None:
        exchange, market_type, kind = stream
        self.root = root
        self.stream = stream
        self.kind = kind
        self.parts = parts
        self.reach = reach
        self.start = day_start(to_datetime(parse(date)).date())
        self.split = kinds.kind(kind).grain == "symbol"
        files = snapshot.files(kind, exchange=exchange, market_type=market_type, date_from=date, date_to=date)
        self.days = {row.symbol: row for row in files if row.level == "day"}
        self.hot = [row for row in files if row.level != "day"]
        certificates = snapshot.certificates(
            exchange=exchange, market_type=market_type, kind=kind, date_from=date, date_to=date
        )
        self.told: dict[str, CertificateRow] = {row.path: row for row in certificates}
        # what was lost and came again by another way is another row where the way is part of what a row is
        told = (*MISSING, "repaired") if "source" in kinds.kind(kind).key else MISSING
        # one of no ids may still end with a whole book (`lost_in`)
        self.gaps = [
            gap for gap in snapshot.gaps(*stream) if gap.state in told or (gap.state == "empty" and gap.missing == 0)
        ]
        # what a session asked for beside its streams has no gap: a crash took what came last, with theirs
        rows = snapshot.sessions(exchange, market_type) if kind == ASIDE else []
        self.crashed = {
            row.session: row.closed_at - MINUTE
            for row in rows
            if row.close_cause == CRASH and row.closed_at is not None
        }
        waiting = [row for row in snapshot.segments(*stream) if row.state in ("open", "sealed") and row.kind != FRAMES]
        self.waits = min((row.period_start for row in waiting), default=None)
        self.result = DayResult(exchange=exchange, market_type=market_type, kind=kind, date=date)
        self.lost: Counter[str] = Counter()
        self.wholes: frozenset[int] = frozenset()
        """Up to which numbers the lake's whole books of the hour at hand tell."""

    def run(self, only: str | None) -> DayResult:
        """The rows held against the lake's, of one symbol if `only` says so; a kind of which a file holds all symbols
        is compared whole. Raises CorruptFile.
        """
        made = self.digests([path for path, _ in self.parts])
        hot = self.digests([self.root / row.path for row in self.hot])
        for symbol in sorted({*made, *hot, *self.days}, key=lambda name: name or ""):
            if self.split and only not in (None, symbol):
                continue
            day = self.days.get(symbol)
            digests, rows = made.get(symbol, ([], 0))
            self.result.derived += rows
            if day is not None and symbol not in hot:
                certificate = self.told.get(day.path)
                self.result.rows += certificate.rows if certificate is not None else day.rows
                same = certificate is not None and certificate.content_digest in digests
            else:
                here = hot.get(symbol, ([], 0))
                self.result.rows += here[1] + (day.rows if day is not None else 0)
                same = day is None and here == (digests, rows)
            found = _Verdict() if same else self._look(symbol, day)
            self.result.unreachable += found.unreachable
            self.result.different += found.different
            if day is not None:
                whole = None if found.unreachable else True
                self.result.files[day.path] = False if found.different else whole
        self.result.lost = dict(+self.lost)
        return self.result

    def digests(self, paths: Sequence[Path]) -> dict[str | None, tuple[list[str], int]]:
        """Symbol -> content digests by every version of the rules, and rows, of some hot files without copies."""
        if not paths:
            return {}
        most = BOOK_ROWS if tables.level_columns(self.kind) else tables.ROW_GROUP_ROWS // 2
        rows = min(merge.piece_rows(len(paths)), most)
        pieces = merge.merge(self.kind, [functools.partial(_open, path, rows) for path in paths], merge.Merged())
        groups: Iterable[tuple[str | None, Iterator[pa.Table]]]
        groups = merge.by_symbol(pieces) if self.split else [(None, pieces)]
        found: dict[str | None, tuple[list[str], int]] = {}
        for symbol, group in groups:
            specs = range(1, SPECS.get(self.kind, 1) + 1)
            digests = [ContentDigest(self.stream[0], self.stream[1], self.kind, spec) for spec in specs]
            count = 0
            for piece in regroup(group, most, LEVELS):
                count += piece.num_rows
                for digest in digests:
                    digest.update(piece)
            found[symbol] = ([digest.hexdigest() for digest in digests], count)
        return found

    def _look(self, symbol: str | None, day: FileRow | None) -> _Verdict:
        """Row by row, an hour at a time."""
        found = _Verdict()
        held = [self.root / row.path for row in (*([day] if day is not None else []), *self.hot)]
        for hour in range(DAY // HOUR):
            low = self.start + hour * HOUR
            span = Interval(low, low + HOUR)
            mine = self.keyed(self.observed([path for path, at in self.parts if at == hour], symbol, span))
            there = self.observed(held, symbol, span)
            lake, self.wholes = self.keyed(there), wholes(there)
            mine = identity.matched(self.kind, lake, mine)
            if mine.height or lake.height:
                self._rows(lake, mine, found)
        return found

    def observed(self, paths: Sequence[Path], symbol: str | None, span: Interval) -> pa.Table:
        """The observed rows of some files in a span of time."""
        names = frozenset([symbol]) if symbol is not None else None
        pieces = [tables.empty(self.kind)]
        for path in paths:
            pieces += parquet.iterate(path, symbols=names, between=(span.start, span.end - 1))
        table = pa.concat_tables(pieces).unify_dictionaries().combine_chunks()
        at = table.column("ts_event").cast(pa.int64())
        wanted = pc.and_(pc.greater_equal(at, span.start), pc.less(at, span.end))
        wanted = pc.and_(wanted, pc.invert(made_later(table)))
        if symbol is not None:
            wanted = pc.and_(wanted, pc.equal(table.column("symbol").cast(pa.string()), symbol))
        return table.filter(wanted)

    def keyed(self, table: pa.Table) -> pl.DataFrame:
        """Rows of `observed` that are content, without copies: number, provenance, identity and canonical line."""
        place = pl.int_range(table.num_rows, eager=True, dtype=pl.UInt32)
        if "flags" in table.column_names:
            content = pc.invert(ours(table))
            place = place.filter(pl.Series(pl.from_arrow(content)))
            table = table.filter(content)
        seq = kinds.kind(self.kind).seq
        columns = dict.fromkeys(
            ("exchange", "market_type", *identity.columns(self.kind), "ts_event", "ts_recv", *([seq] if seq else []))
        )
        frame = merge.plain_frame(table.select(list(columns))).with_columns(place.alias(ROW))
        lines = canonical_lines(table, self.kind) if table.num_rows else pl.Series([], dtype=pl.String)
        frame = frame.with_columns(lines.alias(LINE))
        times = [pl.col(name).to_physical().cast(pl.Int64) for name in ("ts_event", "ts_recv")]
        told = deduplicated(frame.lazy(), self.kind).collect().with_columns(identity.hashed(self.kind))
        return told.with_columns(times)

    def _rows(self, lake: pl.DataFrame, made: pl.DataFrame, found: _Verdict) -> None:
        gone = lake.filter(~self.reach.holds())
        found.unreachable += gone.height
        lake = lake.filter(self.reach.holds())
        self._differ(lake.join(made, on=HASH, how="anti"), INVENTED, found)
        both = lake.join(made.select(HASH, pl.col(LINE).alias("#made")), on=HASH)
        self._differ(both.filter(pl.col(LINE) != pl.col("#made")), CHANGED, found)
        extra = made.join(gone, on=HASH, how="anti").join(lake, on=HASH, how="anti").filter(self.reach.holds())
        if self.waits is not None:
            self.result.waiting += extra.filter(pl.col("ts_recv") >= self.waits).height
            extra = extra.filter(pl.col("ts_recv") < self.waits)
        for session, since in self.crashed.items() if extra.height else ():
            asked = pl.col("source").cast(pl.String) == REST
            inside = extra.select(asked & (pl.col("session") == session) & (pl.col("ts_recv") >= since)).to_series()
            self.lost[CRASH] += int(inside.sum())
            extra = extra.filter(~inside)
        for gap in self.gaps if extra.height else ():
            inside = extra.select(self.lost_in(gap)).to_series()
            self.lost[gap.cause] += int(inside.sum())
            extra = extra.filter(~inside)
        self._differ(extra, ABSENT, found)

    def lost_in(self, gap: Gap) -> pl.Expr:
        """Which rows a gap says are lost."""
        mine = pl.lit(value=True) if gap.symbol == EVERY_SYMBOL else pl.col("symbol") == gap.symbol
        seq = kinds.kind(self.kind).seq
        at = pl.col("ts_event")
        if gap.id_from is not None and gap.id_to is not None and seq is not None:
            inside = pl.col(seq).is_between(gap.id_from, gap.id_to - 1)
            at_once = at < (gap.ts_to or 0)
            if gap.id_to - 1 in self.wholes:
                # a whole book that stands before its time has what the update of that time told
                inside |= (pl.col(seq) == gap.id_to) & at_once
            elif gap.id_to in self.wholes:
                # gaps of before decision 0033 end before the number of the whole
                inside |= (pl.col(seq) == gap.id_to) | ((pl.col(seq) == gap.id_to + 1) & at_once)
            return (mine & inside).fill_null(value=False)
        later = pl.lit(value=True) if gap.ts_to is None else at <= gap.ts_to
        return mine & (at >= gap.ts_from) & later

    def _differ(self, rows: pl.DataFrame, what: str, found: _Verdict) -> None:
        sure = rows.filter(~self.reach.unsure(self.kind))
        found.unreachable += rows.height - sure.height if what != ABSENT else 0
        rows = sure
        found.different += rows.height
        seq = kinds.kind(self.kind).seq
        for row in rows.sort("ts_event", "frame_no").head(SHOWN).iter_rows(named=True):
            if sum(one.what == what for one in self.result.examples) < SHOWN:
                number = row[seq] if seq is not None else None
                self.result.examples.append(
                    Different(
                        what, row["symbol"], row["ts_event"], row["session"], row["frame_no"], row["item"], number
                    )
                )  # fmt: skip


def made_later(table: pa.Table) -> pa.ChunkedArray:
    """Which rows were never lines: derived ones, but for those at the borders of a recording's book."""
    derived = pc.equal(table.column("source").cast(pa.string()), DERIVED)
    if "flags" not in table.column_names:
        return derived
    return pc.and_(derived, pc.match_substring(table.column("flags").cast(pa.string()), "carried"))


def ours(table: pa.Table) -> pa.ChunkedArray:
    """Which rows of a book are no content."""
    return pc.match_substring_regex(table.column("flags").cast(pa.string()), OURS)


def wholes(table: pa.Table) -> frozenset[int]:
    """Up to which numbers the whole books among some rows tell."""
    if "flags" not in table.column_names:
        return frozenset()
    found = pc.match_substring(table.column("flags").cast(pa.string()), "snapshot")
    return frozenset(table.filter(found).column("last_id").drop_null().to_pylist())


class _Verdict(msgspec.Struct):
    unreachable: int = 0
    different: int = 0


def _open(path: Path, rows: int, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    return parquet.iterate(path, columns, rows)


def last_received(root: Path, rows: Iterable[FileRow]) -> int:
    """The newest receive time (us) of these files' rows, from their statistics; 0 where there are none."""
    return max((last for _, last in _received(root, rows)), default=0)


def first_received(root: Path, rows: Iterable[FileRow]) -> int | None:
    """The oldest receive time (us) of these files' rows, from their statistics; None where there are none."""
    return min((first for first, _ in _received(root, rows)), default=None)


def _received(root: Path, rows: Iterable[FileRow]) -> Iterator[tuple[int, int]]:
    """The first and last receive time (us) of each row group that says them."""
    for row in rows:
        check(root, [row])
        with parquet.open_file(root / row.path) as file:
            place = file.schema_arrow.get_field_index("ts_recv")
            for group in range(file.metadata.num_row_groups):
                told = file.metadata.row_group(group).column(place).statistics
                if told is not None and told.has_min_max and told.max is not None:
                    yield _us(told.min), _us(told.max)


def _us(time: Any) -> int:
    return time if isinstance(time, int) else parse(time)


def spans_of(periods: Iterable[tuple[int, int]]) -> tuple[Interval, ...]:
    """Receive times as intervals."""
    return tuple(union(Interval(start, end) for start, end in periods))
