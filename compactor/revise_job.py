"""The revision of a closed day whose frames were read again, and what a revision has to be told besides its rows.

Runs in a worker process as the day's close does, whose checks it shares: what it is given are all rows of the symbols
that change, so their files are written anew and the old ones are no input but of their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from compactor import view
from compactor.book_plan import next_day
from compactor.jobs import DayClose, Job, Revision
from compactor.merge_job import Day, Flow, Made, Place, check_inputs
from lake import sources
from lake.books import KIND as BOOKS
from lake.checks import REPARSED, REPARSED_ADDED, REPARSED_REMOVED, REPARSES
from lake.manifest import Manifest
from lake.rows import CheckRow, FileRow, SegmentRow
from market.session import Coverage, Gap

FRAMES = "frames"
"""Where the missing came from, in gap rows that a revision repairs."""


def revise_day(
    place: Place, job: Revision, gaps: Sequence[Gap], coverage: Sequence[Coverage], duplicates: Mapping[str, int]
) -> Made:
    """New revisions of the daily files that `job` names. Arguments as `merge_job.close_day` has them.

    Raises CorruptFile, VerifyFailed, StorageFailed.
    """
    return _Revised(place, job, gaps, coverage, duplicates).run()


class _Revised(Day):
    job: Revision

    def run(self) -> Made:
        folder = Path(self.job.folder)
        base = {row.symbol: row for row in self.job.base}
        check_inputs(self.root, [*base.values(), *self.before.values()])
        check_inputs(folder, self.job.parts)
        flow = Flow(folder, self.kind)
        parts = sorted(self.job.parts, key=lambda row: ((row.symbol or "").encode(), row.hour or 0))
        for some in [parts] if self.split and parts else [[row] for row in parts]:
            flow.source(some)
        made = self.make(flow, base)
        made.gaps = [_from_frames(gap) for gap in made.gaps]
        for file in self.published:
            counts = zip(REPARSES, self.job.revised[file.symbol], strict=True)
            made.checks += [CheckRow(path=file.path, check=name, symbol="", count=n) for name, n in counts if n]
        return made

    def inputs(self, symbol: str | None, base: FileRow | None) -> Sequence[FileRow | SegmentRow]:
        before = self.before.get(symbol)
        return [*self.job.frames, *(row for row in (base, before) if row is not None)]

    def unchanged(self, file: FileRow, base: FileRow) -> bool:  # noqa: ARG002
        """What frames say of it was looked at."""
        return False


def _from_frames(gap: Gap) -> Gap:
    return msgspec.structs.replace(gap, source=FRAMES) if gap.state == "repaired" and gap.source == "late" else gap


def told_before(manifest: Manifest, job: Job, made: Made) -> list[CheckRow]:
    """What re-parses of earlier revisions changed, told of the files that take their place."""
    if not isinstance(job, DayClose):
        return []
    old = {row.symbol: row.path for row in job.base}
    found: list[CheckRow] = []
    for file in made.add:
        counts: Counter[str] = Counter()
        for row in manifest.checks(old[file.symbol]) if file.symbol in old else ():
            if row.check in (REPARSED, REPARSED_ADDED, REPARSED_REMOVED):
                counts[row.check] += row.count
        told = {row.check: row for row in made.checks if row.path == file.path}
        for name, count in counts.items():
            if name in told:
                told[name].count += count
            else:
                found.append(CheckRow(path=file.path, check=name, symbol="", count=count))
    return found


def due_after(manifest: Manifest, job: DayClose, made: Made, *, samples: bool) -> dict[str, int]:
    """What a day that was closed, or revised, leaves to be made again; `samples`: whether books are sampled."""
    market, due = job.stream[:2], {}
    if job.stream[2] in sources.INPUTS and made.add:
        due[sources.bars_due(*market, job.date)] = 1
    if job.stream[2] == BOOKS:
        if manifest.cursor(view.carry_due(*market, job.date)):
            due[view.carry_due(*market, job.date)] = 0
        if made.add:
            due[view.carry_due(*market, next_day(job.date))] = 1
        if made.add and samples:
            due[view.samples_due(*market, job.date)] = 1
    return due
