"""Carries out retention: reads closed days again, marks what may go, unlinks it, and writes down that it is gone.

A raw segment is marked as `deleting` before its name is removed, and as `deleted` once that is durable: a crash between
leaves a mark, which the next pass carries out, never a file that no row names and never a row that promises a file.
Of replaced Parquet files `retired` is that mark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from compactor import retention, view
from compactor.bitrot import set_right
from compactor.jobs import MAX_FAILURES, Stream
from compactor.rehash_job import rehash
from lake import backup, durable
from lake.errors import Fenced, LakeError, StorageFailed
from lake.layout import meta_path
from lake.rows import FRAMES, CheckRow, FileRow, SegmentRow
from lake.scrub import Target
from lake.writer import LakeWriter
from runtime import caring, telemetry
from runtime.service import exit_code_of

Days = dict[tuple[Stream, str], retention.DayState]


def always() -> bool:
    return True


def tidy(
    writer: LakeWriter,
    executor: Executor,
    now: int,
    keep: retention.Keep,
    clock_sane: Callable[[], bool] = always,
) -> int:
    """Lets go of what retention allows at `now` (us); how many files that were. Raises StorageFailed, Fenced.

    Nothing is judged by its age while `clock_sane` says no, or `now` is before the newest thing that was written down.
    """
    manifest = writer.manifest
    _unlink(writer, manifest.segments(state="deleting"), now)
    if not clock_sane() or retention.clock_went_back(now, view.newest(manifest)):
        caring.retention_held_back()
        return 0
    segments = view.raw_segments(manifest)
    states = view.day_states(manifest, segments)
    if _rehash(writer, executor, states, now, keep):
        states = view.day_states(manifest, segments)
    gaps = manifest.gaps(state="open")
    retired = manifest.retired(now - keep.grace + 1)
    everything = {day: _with(state, backed_up=True) for day, state in states.items()}
    gone = retention.plan(retired, segments, everything, gaps, now, keep)
    unlinked = [path for path in gone.files if durable.unlink(writer.root / path)]
    _settle(writer, unlinked)
    if unlinked:
        writer.mark_unlinked(unlinked, now)
    named = {row.path: row for row in segments}
    wanted = [named[path] for path in gone.segments]
    if wanted:
        states = _backed_up(writer, states, wanted, now)
        wanted = [named[path] for path in retention.plan([], wanted, states, gaps, now, keep).segments]
    if wanted:
        writer.publish(segments={row.path: "deleting" for row in wanted}, now=now)
    cleared = _unlink(writer, wanted, now)
    writer.forget_retired(now - keep.forget, now)
    sizes = {row.path: row.bytes for row in retired}
    telemetry.retained(files=len(unlinked), nbytes=sum(sizes[p] for p in unlinked), what="replaced files")
    telemetry.retained(files=len(cleared), nbytes=sum(row.bytes for row in cleared), what="raw and frames files")
    return len(unlinked) + len(cleared)


def _unlink(writer: LakeWriter, marked: Sequence[SegmentRow], now: int) -> list[SegmentRow]:
    """Carries out what was marked; those whose name is gone now."""
    cleared = []
    for row in marked:
        if durable.unlink(writer.root / row.path):
            durable.unlink(writer.root / meta_path(row.path))
            cleared.append(row)
    _settle(writer, [row.path for row in cleared])
    if cleared:
        writer.publish(segments={row.path: "deleted" for row in cleared}, now=now)
    return cleared


def _settle(writer: LakeWriter, paths: list[str]) -> None:
    """Makes removals durable, folder by folder, before they are written down."""
    for folder in sorted({(writer.root / path).parent for path in paths}):
        if folder.is_dir():
            durable.fsync_dir(folder)


def _with(state: retention.DayState, *, backed_up: bool) -> retention.DayState:
    return retention.DayState(state.closed_at, state.rehashed, backed_up)


def _backed_up(writer: LakeWriter, states: Days, wanted: Sequence[SegmentRow], now: int) -> Days:
    """Which days of these segments a copy of the manifest knows; one is made where the newest does not know all.

    Only raw asks for it: what was made of frames is as old as they are.
    """
    days = sorted(
        {
            ((row.exchange, row.market_type, row.kind), date)
            for row in wanted
            if row.kind != FRAMES and row.rows
            for date in retention.dates(row)
        }
    )
    files = {day: {row.path: row.sha256 for row in view.day_files(writer.manifest, *day)} for day in days}
    held = _known(writer, files)
    if not all(held.values()):
        try:
            backup.make(writer.root, now)
        except (StorageFailed, Fenced):
            raise
        except LakeError as error:
            caring.backup_failed(error=error)
        else:
            held = _known(writer, files)
    return {day: _with(states[day], backed_up=held.get(day, False)) for day in states}


def _known(writer: LakeWriter, files: Mapping[tuple[Stream, str], Mapping[str, str]]) -> dict[tuple[Stream, str], bool]:
    """Which days' files the newest copy knows, all of them; it is checked once for all the days."""
    newest = next(iter(backup.backups(writer.root)), None)
    paths = [path for found in files.values() for path in found]
    held = backup.live(writer.root / newest.path, paths) if newest is not None else None
    if held is None:
        return dict.fromkeys(files, False)
    return {day: all(held.get(path) == sha256 for path, sha256 in found.items()) for day, found in files.items()}


def _rehash(writer: LakeWriter, executor: Executor, states: Days, now: int, keep: retention.Keep) -> bool:
    """Reads the daily files of closed days again before their raw may go; whether any day is another now."""
    changed = False
    for stream, date in retention.rehash_due(states, now, keep):
        closed = states[stream, date].closed_at
        files = view.day_files(writer.manifest, stream, date)
        key = view.FAILED + "rehash/" + "/".join((*stream, date, str(closed)))
        failures = writer.manifest.cursor(key) or 0
        if failures >= MAX_FAILURES or closed is None:
            continue
        job = executor.submit(rehash, str(writer.root), files)
        error = job.exception()
        if error is not None:
            if exit_code_of(error) is not None or not isinstance(error, Exception):
                raise error
            _unreadable(writer, files[0], key, failures + 1, error, now)
            continue
        broken = job.result()
        changed = True
        for row in files:
            if row.path in broken:
                set_right(writer, Target(row.path, row.bytes, row.sha256, row.created_at), broken[row.path], now)
        if not broken:
            writer.publish(cursors={view.rehashed(stream, date): closed}, now=now)
            writer.manifest.record_scrubs([row.path for row in files], now)
    return changed


def _unreadable(writer: LakeWriter, first: FileRow, key: str, failures: int, error: BaseException, now: int) -> None:
    """The disk did not read a day's files: tried again by the next passes, then left to the scrub and to people."""
    row = CheckRow(path=first.path, check="unreadable", symbol="", count=failures, detail=str(error)[:500])
    writer.publish(cursors={key: failures}, checks=[row], now=now)
    telemetry.check_failed(path=row.path, check=row.check, symbol="", count=row.count, detail=row.detail)
