"""The hour merge and the day close: functions that run in a worker process and hand back rows for the commit.

Every input is held against its SHA-256 before it is read. What was written is read back, once: every page is proven,
rows in = rows out + duplicates, and the exact sums of every decimal column agree; else nothing stays of it and the
inputs are untouched.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa

from compactor import carry, certificate
from compactor.jobs import DayClose, HourMerge
from lake import checks, extents, merge, parquet, tables
from lake.bars import EVERY_SYMBOL
from lake.books import KIND
from lake.checks import BOOK_CROSSED, DUPLICATE
from lake.errors import VerifyFailed
from lake.publish import Placement, discard, publish
from lake.row_groups import gathered, regroup
from lake.rows import CertificateRow, CheckRow, FileRow, SegmentRow
from lake.windows import Extent
from market import kinds
from market.session import Coverage, Gap

MODERATE_ROWS = tables.ROW_GROUP_ROWS // 4
MODERATE_LEVELS = tables.ROW_GROUP_LEVELS // 4
T = TypeVar("T", Gap, Coverage)


class Place(msgspec.Struct, frozen=True):
    """Where and when a job runs: the lake's root and id, the run that names temporary files, and the time (us)."""

    root: str
    lake_id: str
    run: str
    now: int

    @property
    def path(self) -> Path:
        return Path(self.root)


class Made(msgspec.Struct):
    """What a job made, for one commit: files to add, paths to remove, and what was found on the way."""

    add: list[FileRow] = []
    remove: list[str] = []
    certificates: list[CertificateRow] = []
    checks: list[CheckRow] = []
    gaps: list[Gap] = []


def parents_of(rows: Iterable[FileRow | SegmentRow]) -> tuple[tables.Parent, ...]:
    """Files as parents of what is made from them."""
    return tuple(sorted(tables.Parent(row.path, row.sha256) for row in rows))


def check_inputs(root: Path, rows: Iterable[FileRow]) -> None:
    """Raises CorruptFile where an input is not what the manifest says."""
    for row in rows:
        parquet.check_sha256(root / row.path, row.sha256)


class Flow:
    """The merge of some files, with what conservation needs: exact sums of what went in and of what was left out."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        self.kind = kind
        self.counts = merge.Merged()
        self.sums = checks.Sums(kind)
        self._back = checks.Sums(kind)
        self.dropped: Counter[str] = Counter()
        self._sources: list[Sequence[FileRow]] = []
        self._looks: dict[str, extents.Look] = {}

    def source(self, files: Sequence[FileRow]) -> None:
        """Files that are sorted when read one after the other."""
        self._sources.append(files)

    def pieces(self) -> Iterator[pa.Table]:
        """The merged rows; sums and counts are complete at the end."""
        files = [file for held in self._sources for file in held]
        weight = sum(file.rows for file in files), sum(file.bytes for file in files)
        if files and weight[0] <= merge.WINDOW_ROWS and weight[1] <= merge.WINDOW_BYTES:
            yield from merge.small(self.kind, self._together(files), self.counts, self._drop)
            return
        rows = merge.piece_rows(len(self._sources))
        sources: list[merge.Source] = []
        for held in self._sources:
            opened, alone = self._opener(held, rows), self._opener(held, merge.piece_rows(1))
            extent = self.extent(held[0]) if len(held) == 1 else None
            sources.append(opened if extent is None else merge.Bounded(opened, extent, alone))

        def together(places: Sequence[int]) -> pa.Table:
            return self._together([self._sources[place][0] for place in places])

        yield from merge.merge(self.kind, sources, self.counts, self._drop, together)

    def extent(self, file: FileRow) -> Extent | None:
        """The bounds of a file, where its statistics tell them."""
        return self._look(file).extent

    def _look(self, file: FileRow) -> extents.Look:
        if file.path not in self._looks:
            self._looks[file.path] = extents.look(self.root / file.path, self.kind, file.bytes)
        return self._looks[file.path]

    def _together(self, files: Sequence[FileRow]) -> pa.Table:
        """The rows of small files, one file after the other."""
        if self.kind == KIND:
            pieces = [piece for file in files for piece in carry.observed(self.root / file.path, self.kind, None)]
            table = merge.joined(pieces or [tables.empty(self.kind)])
        else:
            paths = [self.root / file.path for file in files]
            table = extents.read_together(paths, self.kind, [self._look(file) for file in files])
        self.sums.add(table)
        return table

    def _opener(self, files: Sequence[FileRow], rows: int) -> merge.Source:
        def opened(columns: Sequence[str] | None) -> Iterator[pa.Table]:
            for file in files:
                for piece in self._read(file, columns, rows):
                    if columns is None:
                        self.sums.add(piece)
                    yield piece

        return opened

    def _read(self, file: FileRow, columns: Sequence[str] | None, rows: int) -> Iterator[pa.Table]:
        if columns is None and self.kind != KIND:
            return extents.iterate(self.root / file.path, self.kind, self._look(file), rows)
        return carry.observed(self.root / file.path, self.kind, columns, rows)

    def _drop(self, rows: pa.Table) -> None:
        self.sums.add(rows, -1)
        for symbol in rows.column("symbol").to_pylist():
            self.dropped[symbol] += 1

    def seen(self, table: pa.Table) -> None:
        """Rows of an output as they were read back."""
        self._back.add(carry.without(table) if self.kind == KIND else table)

    def check(self) -> None:
        """Raises VerifyFailed where a row or a digit was lost on the way to the outputs, or one too many is there."""
        if self.counts.rows_in != self.counts.rows_out + self.counts.duplicates:
            raise VerifyFailed(
                f"{self.counts.rows_in} rows went in, {self.counts.rows_out} came out"
                f" and {self.counts.duplicates} were duplicates"
            )
        if not self._back.same(self.sums):
            raise VerifyFailed(
                f"outputs hold {self._back.rows} rows with sums {self._back.texts()}, inputs without duplicates"
                f" {self.sums.rows} with {self.sums.texts()}"
            )


def merge_hour(place: Place, job: HourMerge, duplicates: Mapping[str, int]) -> Made:
    """Parts (and an older hour file) of one hour as one hour file.

    `duplicates` are what was left out of the inputs already, by symbol. Raises CorruptFile, VerifyFailed,
    StorageFailed.
    """
    root = place.path
    exchange, market_type, kind = job.stream
    check_inputs(root, job.inputs)
    flow = Flow(root, kind)
    for row in job.inputs:
        flow.source([row])
    found = checks.Checks(kind)
    placement = Placement(
        kind=kind,
        exchange=exchange,
        market_type=market_type,
        level="hour",
        date=job.date,
        hour=job.hour,
        revision=job.revision,
        lake_id=place.lake_id,
        parents=parents_of(job.inputs),
        late=sum(row.late for row in job.inputs),
    )
    rows = _watched(_moderate(kind, flow.pieces()), found.add)
    file = publish(root, placement, rows, run=place.run, now=place.now, seen=flow.seen)
    try:
        flow.check()
    except BaseException:
        discard(root, [file])
        raise
    findings = [*_check_rows(file, found), *_duplicate_rows(file, flow.dropped + Counter(duplicates))]
    return Made(add=[file], remove=[row.path for row in job.inputs], checks=findings)


def _moderate(kind: str, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of a size that is cheap to look at: what a merge gives out can be very small."""
    if tables.level_columns(kind):
        return regroup(pieces, MODERATE_ROWS, MODERATE_LEVELS)
    return gathered(pieces, MODERATE_ROWS)


def _watched(pieces: Iterable[pa.Table], *watchers: Callable[[pa.Table], None]) -> Iterator[pa.Table]:
    for piece in pieces:
        for watch in watchers:
            watch(piece)
        yield piece


def _check_rows(file: FileRow, found: checks.Checks) -> list[CheckRow]:
    return [
        CheckRow(path=file.path, check=f.check, symbol=f.symbol, count=f.count, detail=f.detail)
        for f in found.findings()
    ]


def _duplicate_rows(file: FileRow, counts: Mapping[str, int]) -> list[CheckRow]:
    return [
        CheckRow(path=file.path, check=DUPLICATE, symbol=symbol, count=count)
        for symbol, count in sorted(counts.items())
        if count
    ]


def close_day(
    place: Place, job: DayClose, gaps: Sequence[Gap], coverage: Sequence[Coverage], duplicates: Mapping[str, int]
) -> Made:
    """All hot files of one stream and day as its daily files; symbols that have one already get a new revision.

    `gaps` and `coverage` are the stream's rows that touch the day, `duplicates` what earlier merges left out, by
    symbol. A symbol to which nothing was added keeps its file. Raises CorruptFile, VerifyFailed, StorageFailed.
    """
    return Day(place, job, gaps, coverage, duplicates).run()


class Day:
    """One stream and day on its way to its daily files; `run` once."""

    def __init__(
        self,
        place: Place,
        job: DayClose,
        gaps: Sequence[Gap],
        coverage: Sequence[Coverage],
        duplicates: Mapping[str, int],
    ) -> None:
        self.place = place
        self.root = place.path
        self.job = job
        self.kind = job.stream[2]
        self.split = kinds.kind(self.kind).grain == "symbol"
        self.gaps: dict[str | None, list[Gap]] = _by_symbol(gaps) if self.split else {None: list(gaps)}
        self.coverage: dict[str | None, list[Coverage]] = _by_symbol(coverage) if self.split else {None: list(coverage)}
        self.duplicates = duplicates
        self.made = Made(remove=[row.path for row in job.inputs])
        self.published: list[FileRow] = []
        self.measures: dict[str | None, certificate.Measure] = {}
        self.touched: dict[str | None, list[FileRow]] = {}
        self.before: dict[str | None, FileRow] = {row.symbol: row for row in job.before}
        self.openings: dict[str | None, carry.Opening] = {}

    def run(self) -> Made:
        check_inputs(self.root, self.job.inputs)
        flow = Flow(self.root, self.kind)
        self.touched = self._symbols(flow)
        base = {row.symbol: row for row in self.job.base if row.symbol in self.touched}
        check_inputs(self.root, [*base.values(), *(row for row in self.job.before if row.symbol in self.touched)])
        for row in self.job.inputs:
            flow.source([row])
        if base:
            flow.source([base[name] for name in sorted(base, key=lambda name: (name or "").encode())])
        return self.make(flow, base)

    def make(self, flow: Flow, base: Mapping[str | None, FileRow]) -> Made:
        """A file of each symbol that flows; nothing stays of them where one of them fails."""
        try:
            groups: Iterable[tuple[str | None, Iterator[pa.Table]]] = (
                merge.by_symbol(flow.pieces()) if self.split else [(None, flow.pieces())]
            )
            for symbol, pieces in groups:
                self._publish(symbol, pieces, base.get(symbol), flow)
            flow.check()
            for file in self.published:
                self._account(file, base.get(file.symbol), flow.dropped)
        except BaseException:
            discard(self.root, self.published)
            raise
        return self.made

    def _symbols(self, flow: Flow) -> dict[str | None, list[FileRow]]:
        """Symbols that the hot files hold, with those files: only their daily files change.

        And symbols whose day is to open anew, since the day before it was revised.
        """
        found: dict[str | None, list[FileRow]] = {None: list(self.job.inputs)}
        for row in self.job.base if self.job.carry else ():
            before = self.before.get(row.symbol)
            if before is not None and before.path not in row.parents:
                found[row.symbol] = []
        for row in self.job.inputs:
            extent = flow.extent(row)
            symbols = {extent.symbol} if extent is not None else extents.symbols(self.root / row.path)
            for symbol in symbols:
                found.setdefault(symbol, []).append(row)
        return found

    def inputs(self, symbol: str | None, base: FileRow | None) -> Sequence[FileRow | SegmentRow]:
        """What the file of a symbol is made of."""
        before = self.before.get(symbol)
        return [*self.touched[symbol], *(row for row in (base, before) if row is not None)]

    def _publish(self, symbol: str | None, pieces: Iterator[pa.Table], base: FileRow | None, flow: Flow) -> None:
        exchange, market_type, kind = self.job.stream
        measure = certificate.Measure(kind, self._gaps(symbol))
        pieces = self._opened(symbol, pieces)
        placement = Placement(
            kind=kind,
            exchange=exchange,
            market_type=market_type,
            level="day",
            date=self.job.date,
            symbol=symbol,
            revision=0 if base is None else base.revision + 1,
            lake_id=self.place.lake_id,
            parents=parents_of(self.inputs(symbol, base)),
        )
        rows = _watched(_moderate(kind, pieces), measure.add)
        file = publish(self.root, placement, rows, run=self.place.run, now=self.place.now, seen=flow.seen)
        self.published.append(file)
        self.measures[symbol] = measure

    def _gaps(self, symbol: str | None) -> list[Gap]:
        return [*self.gaps.get(symbol, []), *self.gaps.get(EVERY_SYMBOL, [])]

    def _opened(self, symbol: str | None, pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """The day's rows, and before them the book that the day before left, where there is one."""
        before = self.before.get(symbol)
        if before is None:
            return pieces
        after, pieces = carry.first_update(pieces)
        gaps = self._gaps(symbol)
        made = carry.opening(self.root, before, self.job.date, after, gaps, self.coverage.get(symbol, []))
        self.openings[symbol] = made
        return pieces if made.row is None else carry.opened(pieces, made.row)

    def unchanged(self, file: FileRow, base: FileRow) -> bool:
        """Whether a new revision says what its predecessor said."""
        if (file.content_digest, file.rows) != (base.content_digest, base.rows):
            return False
        if self.kind != KIND:
            return True
        return carry.same(carry.opening_of(self.root, file), carry.opening_of(self.root, base))

    def _account(self, file: FileRow, base: FileRow | None, dropped: Mapping[str, int]) -> None:
        """The certificate and gaps of a verified file, or nothing of it where it says what its predecessor said."""
        counts = {
            symbol: dropped.get(symbol, 0) + self.duplicates.get(symbol, 0)
            for symbol in {*dropped, *self.duplicates}
            if file.symbol in (None, symbol)
        }
        if base is not None and self.unchanged(file, base):
            discard(self.root, [file])
            self.made.checks += _duplicate_rows(base, counts)  # all that came late is there already
            return
        measure = self.measures[file.symbol]
        gaps = self._gaps(file.symbol)
        coverage = self.coverage.get(file.symbol, [])
        changed = certificate.changed(measure, file, gaps, coverage, self.place.now)
        gaps = certificate.updated(gaps, changed)
        file.late = measure.late
        inputs = parents_of(self.inputs(file.symbol, base))
        self.made.add.append(file)
        self.made.remove += [base.path] if base is not None else []
        self.made.gaps += changed
        self.made.checks += [*_check_rows(file, measure.checks), *_duplicate_rows(file, counts)]
        made = certificate.certify(file, measure, gaps, coverage, inputs, sum(counts.values()), self.place.now)
        crossed = self.openings.get(file.symbol, carry.Opening()).crossed
        if crossed is not None:
            made.crossed += 1
            self.made.checks.append(
                CheckRow(path=file.path, check=BOOK_CROSSED, symbol=file.symbol or "", count=1, detail=crossed)
            )
        self.made.certificates.append(made)


def _by_symbol(rows: Iterable[T]) -> dict[str | None, list[T]]:
    found: dict[str | None, list[T]] = defaultdict(list)
    for row in rows:
        found[row.symbol].append(row)
    return found
