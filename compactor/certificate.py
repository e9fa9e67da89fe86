"""The quality certificate of a daily file: what is measured while its rows go by, and the reconciliation of its gaps.

Pure. A gap whose ids are all stored was repaired by late events; ids that are neither stored nor in any gap row are a
hole that nobody had noticed: it gets its row here, so that last - first + 1 = stored + void + missing. Only a day with
more than MAX_NEW_HOLES such holes gets none: its ids do not follow each other, and `dl verify` says so.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from compactor.book_gaps import Fills
from lake import checks, heard, tables
from lake.books import KIND, is_carried
from lake.checks import REPARSED
from lake.law_ids import RESET
from lake.merge import plain_series
from lake.rows import CertificateRow, FileRow
from market import kinds, times
from market.session import Coverage, Gap, GapState
from market.times import Interval

MISSING: tuple[GapState, ...] = ("open", "unrepairable")
MAX_NEW_HOLES = 5_000
"""More unexplained holes than this in one day of one symbol are no losses: such ids do not follow each other."""
LATENESS = 5 * times.SECOND
Parsers = Callable[[str, str, str, str], str]
"""(exchange, market_type, kind, date) -> which parsers read that day's frames, "" where they never changed."""


class Measure:
    """Counts over the rows of one daily file, given in order and in pieces; `gaps` are those of its symbol and day."""

    def __init__(self, kind: str, gaps: Iterable[Gap] = ()) -> None:
        self.kind = kinds.kind(kind)
        self.fills = Fills(gaps if kind == KIND else ())
        self.rows = 0
        self.late = 0
        self.estimated = 0
        self.checks = checks.Checks(kind)
        self.ids = checks.Ids()
        self._latency = _Tally()
        self._skew = _Tally()

    @property
    def contiguous(self) -> bool:
        """Whether the kind's ids follow each other by one."""
        return any(isinstance(check, kinds.Contiguous) for check in self.kind.checks)

    def add(self, table: pa.Table) -> None:
        """One more piece of the file; what it opens with of our own is no row of it."""
        if self.kind.name == KIND:
            table = table.filter(pc.invert(is_carried(table)))
            self.fills.add(table)
        self.rows += table.num_rows
        self.checks.add(table)
        event, recv = (plain_series(table.column(name)).cast(pl.Int64) for name in ("ts_event", "ts_recv"))
        estimated = plain_series(table.column("ts_estimated"))
        if self.contiguous and self.kind.seq is not None:
            self.ids.add(plain_series(table.column(self.kind.seq)), event)
        self.estimated += int(estimated.sum())
        live = heard.live(table)
        if live is None:
            self._time(event, recv, estimated)
        elif live.any():
            self._time(event.filter(live), recv.filter(live), estimated.filter(live))

    def _time(self, event: pl.Series, recv: pl.Series, estimated: pl.Series) -> None:
        """Rows that were received live: what they say of the way to us."""
        way = recv - event
        if estimated.any():
            self._skew.add(way.filter(estimated))
            event, way = event.filter(~estimated), way.filter(~estimated)
        self._latency.add(way)
        longest = way.max()
        if isinstance(longest, int) and longest > LATENESS:
            second_end = times.SECOND - event % times.SECOND
            self.late += int((way > second_end + LATENESS).sum())

    def latency(self, share: float) -> int | None:
        """The latency (us) that `share` of the rows with a venue time did not exceed, exact to three digits."""
        return _quantile(self._latency.counts(), share)

    @property
    def skew(self) -> int | None:
        """Median of what was taken off the receive time (us) where the venue gave none."""
        return _quantile(self._skew.counts(), 0.5)


class _Tally:
    """How often values come, rounded towards zero to three significant digits: few buckets, whatever the day."""

    _HELD = 4 * 1024
    """Distinct values that are rounded together: they repeat, and a query costs as much for few of them."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._held: list[pl.DataFrame] = []

    def add(self, values: pl.Series) -> None:
        """More values; nulls count nothing."""
        self._held.append(values.drop_nulls().alias("v").value_counts(name="n"))
        if sum(map(len, self._held)) >= self._HELD:
            self.counts()

    def counts(self) -> Counter[int]:
        """How often each rounded value came."""
        if self._held:
            frame = pl.concat(self._held)
            self._held = []
            digits = pl.col("v").abs().cast(pl.String).str.len_bytes().cast(pl.Int64)
            unit = pl.lit(10, dtype=pl.Int64).pow((digits - 3).clip(lower_bound=0))
            bucket = (pl.col("v").sign() * (pl.col("v").abs() // unit * unit)).cast(pl.Int64)
            for value, count in frame.group_by(bucket.alias("b")).agg(pl.col("n").sum()).iter_rows():
                self._counts[value] += count
        return self._counts


def _quantile(counts: Counter[int], share: float) -> int | None:
    total = sum(counts.values())
    if not total:
        return None
    wanted = max(1, -(-total * round(share * 1000) // 1000))
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return None


def reconcile(file: FileRow, ids: checks.Ids, gaps: Sequence[Gap], coverage: Sequence[Coverage], now: int) -> list[Gap]:
    """Gap rows of the file's symbol that the stored ids change, and new ones for holes that no row explains.

    `gaps` are all rows of the symbol that touch the day. An open gap whose ids are all stored becomes repaired
    (source `late`); of one that is partly stored the rest stays open.
    """
    first, last = ids.first, ids.last
    if first is None or last is None or file.symbol is None:
        return []
    stored = ids.runs()
    holes = {hole.id_from: hole for hole in ids.holes()}
    changed: list[Gap] = []
    explained: list[Interval] = []
    for gap in gaps:
        span = id_span(gap)
        if span is None:
            continue
        left = [span]
        if gap.state in MISSING:
            left = times.subtract([span], stored)
            changed += _remainder(gap, span, left, holes, now)
        if gap.state in (*MISSING, "void"):
            explained += left
    unexplained = times.subtract([Interval(h.id_from, h.id_to) for h in holes.values()], explained)
    if any(gap.cause == RESET for gap in gaps):
        unexplained = [hole for hole in unexplained if not _between_numberings(hole, stored)]
    if len(unexplained) > MAX_NEW_HOLES:
        return changed
    return changed + [_new_gap(file, hole, list(holes.values()), coverage, now) for hole in unexplained]


def changed(measure: Measure, file: FileRow, gaps: Sequence[Gap], coverage: Sequence[Coverage], now: int) -> list[Gap]:
    """What the ids of a file make of its gaps: those that they close or narrow, and those that nobody had noticed."""
    if measure.contiguous:
        return reconcile(file, measure.ids, gaps, coverage, now)
    return measure.fills.changed(now)


def _between_numberings(hole: Interval, stored: Sequence[Interval]) -> bool:
    """Whether it parts two numberings of a day in which the venue began anew: it is longer than all there is."""
    return hole.length > sum(run.length for run in stored)


def _two_numberings(ids: checks.Ids, gaps: Sequence[Gap]) -> bool:
    """Whether the ids of a day are of two numberings, so that none is its first or last."""
    if not any(gap.cause == RESET for gap in gaps):
        return False
    stored = ids.runs()
    return any(_between_numberings(Interval(hole.id_from, hole.id_to), stored) for hole in ids.holes())


def id_span(gap: Gap) -> Interval | None:
    """The ids that a gap names, None where it names none."""
    if gap.id_from is None or gap.id_to is None or gap.id_to <= gap.id_from:
        return None
    return Interval(gap.id_from, gap.id_to)


def whole(gap_id: str) -> tuple[str, str]:
    """The name of a gap, and of the one that it may be a rest of."""
    return gap_id, gap_id.rpartition(".")[0]


def _remainder(gap: Gap, span: Interval, left: list[Interval], holes: dict[int, checks.Hole], now: int) -> list[Gap]:
    if left == [span]:
        return []
    if not left:
        return [msgspec.structs.replace(gap, state="repaired", closed_at=now, source="late")]
    made: list[Gap] = []
    for place, piece in enumerate(left):
        hole = holes.get(piece.start)
        exact = hole is not None and hole.id_to == piece.end
        made.append(
            msgspec.structs.replace(
                gap,
                gap_id=gap.gap_id if place == 0 else f"{gap.gap_id}.{piece.start}",
                id_from=piece.start,
                id_to=piece.end,
                ts_from=hole.ts_from if hole is not None and exact else gap.ts_from,
                ts_to=hole.ts_to if hole is not None and exact else gap.ts_to,
            )
        )
    return made


def _new_gap(file: FileRow, ids: Interval, holes: Sequence[checks.Hole], coverage: Sequence[Coverage], now: int) -> Gap:
    around = next(hole for hole in holes if hole.id_from <= ids.start and ids.end <= hole.id_to)
    covered = times.covers([Interval(c.ts_from, c.ts_to) for c in coverage], Interval(around.ts_from, around.ts_to))
    name = f"{file.exchange}/{file.market_type}/{file.kind}/{file.symbol}/{ids.start}-{ids.end}"
    return Gap(
        gap_id="day-" + hashlib.sha256(name.encode()).hexdigest()[:16],
        exchange=file.exchange,
        market_type=file.market_type,
        kind=file.kind,
        symbol=file.symbol or "",
        ts_from=around.ts_from,
        ts_to=around.ts_to,
        id_from=ids.start,
        id_to=ids.end,
        cause="unnoticed" if covered else "uncovered",
        proof="ids",
        state="open",
        session=None,
        detected_at=now,
        detail=f"found when {file.date} was closed",
    )


def updated(gaps: Sequence[Gap], changed: Iterable[Gap]) -> list[Gap]:
    """`gaps` with the changed rows in place of their old selves, and the new ones."""
    held = {gap.gap_id: gap for gap in gaps}
    held.update({gap.gap_id: gap for gap in changed})
    return list(held.values())


def certify(
    file: FileRow,
    measure: Measure,
    gaps: Sequence[Gap],
    coverage: Sequence[Coverage],
    inputs: Sequence[tables.Parent],
    duplicates: int,
    now: int,
) -> CertificateRow:
    """The certificate of a daily file. `gaps` (reconciled) and `coverage` are those of its symbol and day."""
    start = times.day_start(dt.date.fromisoformat(file.date))
    day = Interval(start, start + times.DAY)
    numbered = measure.contiguous and not _two_numberings(measure.ids, gaps)
    first, last = (measure.ids.first, measure.ids.last) if numbered else (None, None)
    holes = _holes(first, last, day, gaps)
    light = times.union(Interval(c.ts_from, c.ts_to).clip(day) for c in coverage)
    return CertificateRow(
        path=file.path,
        sha256=file.sha256,
        exchange=file.exchange,
        market_type=file.market_type,
        kind=file.kind,
        symbol=file.symbol,
        date=file.date,
        revision=file.revision,
        issued_at=now,
        rows=measure.rows,
        first_id=first,
        last_id=last,
        missing=holes.missing,
        void=holes.void,
        duplicates=duplicates,
        late=measure.late,
        out_of_order=measure.checks.count(checks.OUT_OF_ORDER),
        crossed=measure.checks.count(checks.CROSSED),
        estimated=measure.estimated,
        open_gaps=holes.open_gaps,
        gap_seconds=holes.gap_seconds,
        covered_seconds=sum(span.length for span in light) / times.SECOND,
        latency_p50=measure.latency(0.5),
        latency_p99=measure.latency(0.99),
        skew=measure.skew,
        inputs={parent.path: parent.sha256 for parent in sorted(inputs)},
        parser_version=tables.CODE_VERSION,
        content_digest=file.content_digest or "",
    )


class Holes(NamedTuple):
    """What a certificate says of gaps."""

    missing: int
    void: int
    open_gaps: int
    gap_seconds: float


def _holes(first: int | None, last: int | None, day: Interval, gaps: Sequence[Gap]) -> Holes:
    inside = [] if first is None or last is None else [Interval(first, last + 1)]
    lacking = [gap for gap in gaps if gap.state in MISSING]
    dark = times.union(_time(gap, day).clip(day) for gap in lacking)
    return Holes(
        _ids(lacking, inside),
        _ids([gap for gap in gaps if gap.state == "void"], inside),
        sum(gap.state == "open" for gap in lacking),
        sum(span.length for span in dark) / times.SECOND,
    )


def retold(row: CertificateRow, gaps: Sequence[Gap], now: int) -> CertificateRow | None:
    """A newer version of the certificate where its gaps were closed without a new row; None where it says the same.

    `gaps` are all rows of its symbol that touch its day.
    """
    start = times.day_start(dt.date.fromisoformat(row.date))
    holes = _holes(row.first_id, row.last_id, Interval(start, start + times.DAY), gaps)
    if holes == (row.missing, row.void, row.open_gaps, row.gap_seconds):
        return None
    numbered = row.last_id - row.first_id + 1 if row.first_id is not None and row.last_id is not None else None
    if numbered is not None and numbered != row.rows + holes.void + holes.missing:
        return None  # what came has still to become rows: that revision tells
    return msgspec.structs.replace(row, **holes._asdict(), issued_at=max(now, row.issued_at + 1))


def signed(row: CertificateRow, parsers: Parsers, *, again: bool) -> CertificateRow:
    """The certificate with the parsers that were in force that day; `again` where frames were read once more."""
    told = (row.parser_version, REPARSED if again else "", parsers(row.exchange, row.market_type, row.kind, row.date))
    return msgspec.structs.replace(row, parser_version="; ".join(filter(None, told)))


def _time(gap: Gap, day: Interval) -> Interval:
    return Interval(gap.ts_from, day.end if gap.ts_to is None else gap.ts_to)


def _ids(gaps: Sequence[Gap], inside: Sequence[Interval]) -> int:
    spans = [span for gap in gaps if (span := id_span(gap)) is not None]
    return sum(span.length for span in times.intersect(spans, inside))
