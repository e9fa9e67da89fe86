"""A market's recorded frames made into rows once more, outside the lake, and held against the rows that it has.

Frames go file by file through today's parsers, mergers and transformer into a temporary folder that never holds more
than the rows of the days under way; each day is compared as soon as all frames that may belong to it were read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import msgspec

from collectors.config import CollectorsConfig
from collectors.nameless import beside
from collectors.recorded import Skipped
from collectors.rederive import REST, Rederivation, opening
from collectors.unsettled import CRASH
from lake import durable, reproduced
from lake.errors import CorruptFile, LakeError
from lake.finding import Finding
from lake.frame_order import as_written
from lake.frames import FrameLine
from lake.lasting import lasting, said_last
from lake.manifest import Manifest
from lake.manifest_reads import Snapshot
from lake.reproduced import Comparison, DayResult, Different, Reach
from lake.rows import FRAMES, HISTORY, FileRow, SegmentRow, SessionRow
from lake.scratch import Scratch
from market.kinds import KINDS
from market.times import MINUTE, SECOND, Interval, day_start, text, union
from transformer import plan
from transformer.run import run_transform

WARM = 10 * MINUTE
"""How long before a day its frames are read: by then sessions and mergers know what they knew that day."""
BEHIND = 2 * SECOND
"""How long mergers may hold back what they received."""
ENOUGH = 24 * 1024 * 1024
"""Bytes of lines that wait in the temporary folder before they become rows."""
SHOWN = 5
"""Runs of frames in no file that are told one by one."""
KINDS_WITH_TIMES = ("funding_rate",)
MERGED = "mark_price"
"""The kind whose messages may tell only what changed: the rest was said before, perhaps hours ago."""
TAKEN_IN = "dl reparse takes in what they tell"
Stream = tuple[str, str, str]
Span = tuple[int, int]
FOREVER = 2**62
LOST_FRAMES = "bring the file back from a copy; without it these rows cannot be proven"
GIVEN_UP = frozenset({"disk_full", "read_only", "storage_failed"})
"""Causes of gaps in whose time frames that hold nothing else were given up too."""
NO_ROOM = "the disk took no more then: gaps say what is missing; what came after it is proven as far as it is the same"
OTHER = "dl trace prints the frame; if it is the parser that changed, dl reparse makes its rows anew"


class Wanted(msgspec.Struct, frozen=True):
    """What is to be reproduced of one market; None means all there is."""

    exchange: str
    market_type: str
    dates: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    symbol: str | None = None


class Outcome(msgspec.Struct, kw_only=True):
    """What came of one market: streams and days compared, and what differs."""

    exchange: str
    market_type: str
    files: int = 0
    frames: int = 0
    events: int = 0
    duplicates: int = 0
    rejected: int = 0
    ignored: int = 0
    days: list[DayResult] = []
    findings: list[Finding] = []

    @property
    def ok(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)


class _Source(msgspec.Struct):
    """Which frames are read, and what has to be known for it."""

    files: list[SegmentRow]
    begin: int
    sessions: list[SessionRow]
    dates: dict[str, int]
    """Date -> receive time (us) by which all its rows had come."""


class Rederiver:
    """One market under way: `step` until it says that there is no more, then `outcome` is complete.

    `now` us. As a context manager it leaves nothing behind. Raises CorruptFile, UnknownExchange, StorageFailed.
    """

    def __init__(
        self, root: Path, wanted: Wanted, config: CollectorsConfig, now: int, scratch: Path | None = None
    ) -> None:
        self.root = root
        self.wanted = wanted
        self.outcome = Outcome(exchange=wanted.exchange, market_type=wanted.market_type)
        self._market = (wanted.exchange, wanted.market_type)
        self._now = now
        self._manifest = Manifest.read_only(root)
        self._folder = Scratch("lake-frames-", scratch)
        self._made: list[FileRow] = []
        self._spans: list[Span] = []
        self._unread: set[str] = set()
        self._reader: Rederivation | None = None
        try:
            with self._manifest.snapshot() as snapshot:
                self._source = self._plan(snapshot)
                known = lasting(root, snapshot, *self._market, KINDS_WITH_TIMES, before=self._source.begin)
                said = said_last(root, snapshot, MERGED, *self._market, self._started())
                every = snapshot.segments(*self._market, FRAMES)
                ended = [row for row in snapshot.sessions(*self._market) if row.close_cause == CRASH]
                self._ends = {row.session: row.closed_at for row in ended if row.closed_at is not None}
                self._pressed = [
                    Interval(gap.ts_from - MINUTE, (now if gap.ts_to is None else gap.ts_to) + MINUTE)
                    for gap in snapshot.gaps(*self._market)
                    if gap.cause in GIVEN_UP
                ]
            self._files = list(self._source.files)
            self.total = len(self._files)
            if self._files:
                own = beside(self._manifest, *self._market, again=True)
                self._reader = Rederivation(*self._market, self._folder.path / "lake", config, known, now, own)
                self._reader.begin(self._opened(every), self._unread, said)
        except BaseException:
            self.close()
            raise

    def step(self) -> bool:
        """Read one more file, and compare the days that are over with it. False where all is done."""
        if self._reader is None:
            return False
        if self._files:
            row = self._files.pop(0)
            self._take(row)
            waiting = self._reader.segments()
            if sum(one.bytes for one in waiting) >= ENOUGH:
                self._transform(waiting)
            time = min((one.period_start for one in self._files), default=FOREVER)
            due = [date for date, end in self._source.dates.items() if end + BEHIND < time] if self._files else []
            if due:
                self._reader.seal()
                self._transform(self._reader.segments())
                self._compare(due)
            return True
        self._reader.finish()
        self._transform(self._reader.segments())
        self._compare(list(self._source.dates))
        self._finish(self._reader)
        self._reader.close()
        self._reader = None
        return False

    def close(self) -> None:
        """Leave nothing behind."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._manifest.close()
        self._folder.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    # --- which frames ---

    def _plan(self, snapshot: Snapshot) -> _Source:
        rows = [row for row in snapshot.segments(*self._market, FRAMES) if row.rows and row.state != "open"]
        kept = [row for row in rows if row.state in ("sealed", "transformed")]
        gone = max((_end(row) for row in rows if row not in kept), default=0)
        wanted = self._dates(snapshot)
        first = self._since(wanted) - WARM if self.wanted.dates is not None else 0
        begin = max(first, gone)
        last = max(wanted.values(), default=0) + BEHIND if self.wanted.dates is not None else FOREVER
        read = {self.root / row.path: row for row in kept if _end(row) > begin and _start(row) <= last}
        files = [read[path] for path in as_written((row.period_start, path) for path, row in read.items())]
        started = min((_start(row) for row in files), default=begin)
        begin = max(begin, started)
        sessions = [
            row
            for row in snapshot.sessions(*self._market)
            if row.opened_at < begin and (row.closed_at is None or row.closed_at >= begin)
        ]
        if gone and gone > first:
            self._say_gone(gone, wanted)
        return _Source(files, begin, sessions, wanted)

    def _started(self) -> int:
        """The receive time (us) from which on frames are read."""
        return min((_start(row) for row in self._source.files), default=self._source.begin)

    def _since(self, dates: Iterable[str]) -> int:
        """When (us) the first row of these dates was received."""
        return min((_start_of(date) for date in dates), default=0)

    def _dates(self, snapshot: Snapshot) -> dict[str, int]:
        """The dates to compare, each with the receive time by which all its rows had come."""
        found: dict[str, list[FileRow]] = {}
        exchange, market_type = self._market
        for stream in self._streams(snapshot):
            for row in snapshot.files(stream[2], exchange=exchange, market_type=market_type):
                if self.wanted.dates is None or row.date in self.wanted.dates:
                    found.setdefault(row.date, []).append(row)
        return {date: reproduced.last_received(self.root, found[date]) for date in sorted(found)}

    def _streams(self, snapshot: Snapshot) -> list[Stream]:
        mine = [stream for stream in snapshot.streams() if stream[:2] == self._market]
        wanted = self.wanted.kinds
        return [one for one in mine if not KINDS[one[2]].derived and (wanted is None or one[2] in wanted)]

    def _say_gone(self, gone: int, wanted: Iterable[str]) -> None:
        before = [date for date in wanted if _start_of(date) < gone]
        if before:
            problem = f"frames up to {text(gone)} are gone"
            hint = f"rows received before are not proven: {', '.join(before[:5])}"
            self.outcome.findings.append(Finding("warning", "/".join(self._market), problem, hint))

    def _opened(self, every: Sequence[SegmentRow]) -> list[FrameLine]:
        """Lines that open the sessions which were open already; what they asked is in an earlier file."""
        times = [row.opened_at for row in self._source.sessions if row.source in (REST, HISTORY)]
        files = [
            self.root / row.path
            for row in every
            if row.rows and any(_start(row) <= time < _end(row) for time in times) and (self.root / row.path).is_file()
        ]
        lines, self._unread = opening(self._source.sessions, files)
        return lines

    # --- rows ---

    def _take(self, row: SegmentRow) -> None:
        assert self._reader is not None
        self._spans.append((_start(row), _end(row)))
        path = self.root / row.path
        if not path.is_file():
            self.outcome.findings.append(Finding("error", row.path, "is missing", LOST_FRAMES))
            return
        try:
            self._reader.take(path, self._crashed(_start(row)))
        except CorruptFile as error:
            self.outcome.findings.append(Finding("error", row.path, error.message, LOST_FRAMES))
        self.outcome.files += 1

    def _crashed(self, until: int) -> list[str]:
        """Sessions that a crash had ended by then (us): said once."""
        found = [session for session, end in self._ends.items() if end <= until]
        for session in found:
            del self._ends[session]
        return found

    def _transform(self, rows: Sequence[SegmentRow]) -> None:
        """Lines into hot rows; the lines go."""
        assert self._reader is not None
        taken = [row for row in rows if self.wanted.kinds is None or row.kind in self.wanted.kinds]
        writer = self._reader.writer
        run = plan.Run(lake_id=writer.lake_id, run="frames", now=self._now, max_bytes=ENOUGH, lateness=0)
        dates = self._source.dates
        for job in plan.transforms(taken, {}, run):
            result = run_transform(str(writer.root), job)
            if result.failed:
                path, reason = next(iter(result.failed.items()))
                raise LakeError(f"{path}, made of frames, cannot be read: {reason}")
            self._made += [file for file in result.files if file.date in dates]
            for file in result.files:
                if file.date not in dates:
                    self._beyond(file, writer.root / file.path)
                    durable.unlink(writer.root / file.path)
        self._reader.drop(rows, self._now)

    def _beyond(self, file: FileRow, path: Path) -> None:
        """Rows of a date that is not wanted, before they go."""

    def _compare(self, dates: Sequence[str]) -> None:
        """Hold these dates against the lake, and let go of what was made for them."""
        reach = self._reach()
        with self._manifest.snapshot() as snapshot:
            for date in dates:
                for stream in self._streams(snapshot):
                    parts = self._parts(stream[2], date)
                    found = Comparison(self.root, snapshot, stream, date, parts, reach).run(self.wanted.symbol)
                    if found.rows or found.derived:
                        self.outcome.days.append(found)
                        self.outcome.findings += _findings(found)
                del self._source.dates[date]
        self._let_go(dates)

    def _reach(self) -> Reach:
        """What the frames that were read can prove."""
        # sessions that were open before the first file need a while to know what they knew
        since = self._source.begin + (WARM if self._source.sessions else 0)
        spans = ((max(start, since), end) for start, end in self._spans if end > since)
        behind = {session: lost[0].start for session, lost in self._missing(given_up=True).items()}
        return Reach(reproduced.spans_of(spans), frozenset(self._unread), behind=behind)

    def _missing(self, *, given_up: bool) -> dict[str, list[Skipped]]:
        """Session -> its frames that are in no file: those for which there was no room, or the others."""
        assert self._reader is not None
        pressed = union(self._pressed)
        found = {
            session: [one for one in lost if given_up == any(span.overlaps(_received(one)) for span in pressed)]
            for session, lost in self._reader.missing().items()
        }
        return {session: lost for session, lost in found.items() if lost}

    def _parts(self, kind: str, date: str) -> list[tuple[Path, int]]:
        """What was made of a kind and date: files, each with its hour."""
        assert self._reader is not None
        root = self._reader.writer.root
        return [(root / file.path, file.hour or 0) for file in self._made if file.kind == kind and file.date == date]

    def _let_go(self, dates: Sequence[str]) -> None:
        """Of what was made for these dates."""
        assert self._reader is not None
        for file in [file for file in self._made if file.date in dates]:
            durable.unlink(self._reader.writer.root / file.path)
            self._made.remove(file)

    def _finish(self, reader: Rederivation) -> None:
        """What was counted on the way, and what sessions say of themselves."""
        summary = reader.summary
        outcome = self.outcome
        outcome.frames = summary.frames
        outcome.events, outcome.duplicates = sum(summary.events.values()), sum(summary.duplicates.values())
        outcome.rejected, outcome.ignored = sum(summary.rejected.values()), sum(summary.ignored.values())
        where = "/".join(self._market)
        for session, spans in sorted(self._missing(given_up=False).items()):
            problem = f"frames {_numbers(spans)} of {session} are in no file"
            outcome.findings.append(Finding("error", where, problem, "what was made of them cannot be proven"))
        for session, spans in sorted(self._missing(given_up=True).items()):
            problem = f"frames {_numbers(spans)} of {session} were given up"
            outcome.findings.append(Finding("warning", where, problem, NO_ROOM))
        made, again = reader.rejected(), reader.sessions()
        aside: dict[str, int] = {}
        for held in self._manifest.quarantine():
            aside[held.origin] = aside.get(held.origin, 0) + held.count
        for row in self._manifest.sessions(*self._market):
            told = again.get(row.session)
            whole = told is not None and row.close_cause == told.close_cause and told.frames == row.frames
            if row.opened_at < self._source.begin or not whole:
                continue
            # a recorded session does not know what was asked for: it may refuse what the live one did not look at
            if made[row.session] < aside.get(row.session, 0):
                problem = (
                    f"{row.session}: {aside.get(row.session, 0):,} of its frames were set aside,"
                    f" {made[row.session]:,} are rejected now"
                )
                # rows that the lake lacks are errors of their own
                outcome.findings.append(Finding("warning", where, problem, TAKEN_IN))


def _received(lost: Skipped) -> Interval:
    return Interval(lost.since, lost.until + 1)


def _numbers(spans: Sequence[Skipped]) -> str:
    """The first of them."""
    shown = ", ".join(f"{span.start} to {span.stop - 1}" for span in spans[:SHOWN])
    return shown if len(spans) <= SHOWN else f"{shown} and others"


def _start(row: SegmentRow) -> int:
    return min(row.period_start, row.recv_min if row.recv_min is not None else row.period_start)


def _end(row: SegmentRow) -> int:
    return max(row.period_end or 0, (row.recv_max or 0) + 1)


def _start_of(date: str) -> int:
    return day_start(dt.date.fromisoformat(date))


def _findings(found: DayResult) -> list[Finding]:
    """One finding a stream, day and sort of difference, with the first rows."""
    said: dict[str, list[Different]] = {}
    for one in found.examples:
        said.setdefault(one.what, []).append(one)
    where = f"{found.exchange}/{found.market_type}/{found.kind}"
    return [
        Finding("error", where, f"{found.date}: {what}: {'; '.join(row.place for row in rows)}", OTHER)
        for what, rows in said.items()
    ]
