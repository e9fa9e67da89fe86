"""One market and day read again from its frames, in a process of its own: what changes, and the rows of what does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import polars as pl

from collectors.config import CollectorsConfig
from collectors.rederive import Rederivation
from compactor.jobs import day_span
from daemon.rederiving import TAKEN_IN, WARM, Rederiver, Stream, Wanted
from daemon.reproducing import Under
from lake import parquet, reproduced
from lake.manifest_reads import Snapshot
from lake.merge import plain_frame
from lake.reparsed import Reparse, StreamChange
from lake.reproduced import Reach
from lake.rows import FRAMES, FileRow, SegmentRow
from market import kinds
from market.times import DAY

ROWS = "rows"
"""Folder below a job's own of the rows that it made."""
_NOWHERE = pl.DataFrame(schema={"session": pl.String, "frame_no": pl.Int64, "item": pl.Int64})


def overlaps(row: SegmentRow, date: str) -> bool:
    """Whether a segment was open on a date."""
    span = day_span(date)
    return row.period_start < span.end and (row.period_end or 0) > span.start


class DayChange(msgspec.Struct, kw_only=True):
    """One market and day: what was read, what changes in each stream, or why nothing is done (`refused`).

    `published` are the kinds whose days have new revisions now, `failed` says why others have not.
    """

    exchange: str
    market_type: str
    date: str
    frames: int = 0
    refused: str = ""
    warnings: list[str] = []
    streams: list[StreamChange] = []
    published: list[str] = []
    failed: list[str] = []

    @property
    def changes(self) -> int:
        """Rows that are otherwise."""
        return sum(one.changed + one.added + one.removed for one in self.streams)

    @property
    def ok(self) -> bool:
        """Whether all of it could be looked at, and done."""
        left = any(one.refused or one.spared for one in self.streams)
        return not (self.refused or self.failed or left)


class Job(msgspec.Struct, frozen=True):
    """One market and day to read again; rows of other dates than `dates` stay what they are."""

    exchange: str
    market_type: str
    date: str
    dates: tuple[str, ...]
    kind: str | None
    symbol: str | None
    examples: int

    @property
    def text(self) -> str:
        return f"{self.exchange} {self.market_type} {self.date}"


class Step(msgspec.Struct):
    """How far a day is: files of frames read, of how many; at the end what was found, and which files were read."""

    done: int
    total: int
    change: DayChange | None = None
    frames: list[SegmentRow] = []


class Reparser(Rederiver):
    """A day's frames once more; rows of what changes go into `out` (None: nowhere). See `Rederiver`."""

    def __init__(
        self, root: Path, job: Job, config: CollectorsConfig, now: int, scratch: Path | None, out: Path | None
    ) -> None:
        self.job = job
        self.out = out
        self.change = DayChange(exchange=job.exchange, market_type=job.market_type, date=job.date)
        self.read: list[SegmentRow] = []
        self._first: int | None = None
        self._beyond_rows: dict[str, list[pl.DataFrame]] = {}
        named = None if job.kind is None else (job.kind,)
        super().__init__(root, Wanted(job.exchange, job.market_type, (job.date,), named), config, now, scratch)
        self.read = list(self._files)
        if not self._files:
            self.change.refused = self._no_frames()

    def result(self) -> DayChange:
        """What was found, once `step` has said that there is no more."""
        self.change.frames = self.outcome.frames
        if not self.change.refused:
            self.change.warnings = [f"{found.problem}: {found.hint}" for found in self.outcome.findings]
        return self.change

    def _finish(self, reader: Rederivation) -> None:
        """Frames that are read now and once were not are what this is for."""
        super()._finish(reader)
        self.outcome.findings = [found for found in self.outcome.findings if found.hint != TAKEN_IN]

    def _dates(self, snapshot: Snapshot) -> dict[str, int]:
        """Rows that the lake lacks may have come last of all."""
        (date,) = self.wanted.dates or ("",)
        found = super()._dates(snapshot)
        files = snapshot.files(exchange=self._market[0], market_type=self._market[1], date_from=date, date_to=date)
        held = [row for row in files if not kinds.kind(row.kind).derived]
        self._first = reproduced.first_received(self.root, held)
        return {date: max(found.get(date, 0), day_span(date).end + WARM)}

    def _since(self, dates: Iterable[str]) -> int:
        """Rows may have come before their day, where that was misread."""
        start = super()._since(dates)
        return start if self._first is None else max(start - DAY, min(start, self._first))

    def _no_frames(self) -> str:
        rows = self._manifest.segments(*self._market, FRAMES)
        gone = any(row.rows and overlaps(row, self.job.date) for row in rows)
        why = "they were let go of (compactor.frames_days)" if gone else "none were ever kept of it"
        return f"there are no frames of it: {why}"

    def _beyond(self, file: FileRow, path: Path) -> None:
        if file.date in self.job.dates:
            return
        for piece in parquet.iterate(path, list(kinds.PROVENANCE)):
            self._beyond_rows.setdefault(file.kind, []).append(plain_frame(piece))

    def _compare(self, dates: Sequence[str]) -> None:
        broken = [f"{f.path} {f.problem}" for f in self.outcome.findings if f.severity == "error"]
        if broken:
            self.change.refused = f"not all of its frames can be read ({broken[0]}): bring the file back from a copy"
        else:
            with self._manifest.snapshot() as snapshot:
                for date in dates:
                    self._look(snapshot, date)
        for date in dates:
            del self._source.dates[date]
        self._let_go(dates)

    def _look(self, snapshot: Snapshot, date: str) -> None:
        reader = self._reader
        assert reader is not None
        whole = self._reach()
        taken = {name: one for name, one in reader.taken().items() if name not in self._unread}
        behind = {name: lost[0].start for name, lost in reader.missing().items()}
        reach = Reach(whole.spans, whole.unreadable, taken, behind)
        for stream in self._every(snapshot):
            beyond = self._beyond_rows.get(stream[2], [])
            found = Reparse(
                self.root, snapshot, stream, date, self._parts(stream[2], date), reach, symbol=self.job.symbol,
                shown=self.job.examples, out=self.out, elsewhere=pl.concat([_NOWHERE, *beyond]),
            ).day()  # fmt: skip
            if found.rows or found.added or found.refused:
                self.change.streams.append(found)

    def _every(self, snapshot: Snapshot) -> list[Stream]:
        """Streams that the lake has, and those that only frames make."""
        made = {(*self._market, file.kind) for file in self._made}
        return sorted({*self._streams(snapshot), *made})


_under: Under[Reparser] = Under()


def advance(
    config: CollectorsConfig,
    root: str,
    job: Job,
    folder: str,
    now: int,
    seconds: float,
    memory: int,
    *,
    fresh: bool,
    publishing: bool,
) -> Step:
    """Go on with `job` for about `seconds`, in at most `memory` bytes; `fresh` begins it. With `publishing` the rows of
    what changes are below ROWS in `folder` afterwards. Raises Lost, TooLarge, CorruptFile, StorageFailed.
    """
    if fresh:
        out = Path(folder) / ROWS if publishing else None
        _under.begin(job, lambda: Reparser(Path(root), job, config, now, Path(folder), out))
    work, over = _under.advance(job, seconds, memory)
    if not over:
        return Step(_under.done, work.total)
    change = work.result()
    _under.end()
    return Step(_under.done, work.total, change, work.read)
