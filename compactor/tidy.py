"""Carries out retention: reads closed days again, unlinks what may go, and writes down that it is gone.

A name is removed first and its row changed after: a crash between leaves a row without a file, which the next pass
puts right, never a file that no row names.
"""

from __future__ import annotations

from concurrent.futures import Executor

from compactor import retention, view
from compactor.jobs import MAX_FAILURES, Stream
from compactor.rehash_job import rehash
from lake import durable
from lake.layout import meta_path
from lake.rows import CheckRow
from lake.writer import LakeWriter
from runtime import telemetry
from runtime.service import exit_code_of


def tidy(writer: LakeWriter, executor: Executor, now: int, keep: retention.Keep) -> int:
    """Lets go of what retention allows at `now` (us); how many files that were. Raises StorageFailed, Fenced."""
    manifest = writer.manifest
    segments = view.raw_segments(manifest)
    states = view.day_states(manifest, segments)
    if _rehash(writer, executor, states, now, keep):
        states = view.day_states(manifest, segments)
    retired = manifest.retired(now - keep.grace + 1)
    gone = retention.plan(retired, segments, states, manifest.gaps(state="open"), now, keep)
    sizes = {row.path: row.bytes for row in retired} | {row.path: row.bytes for row in segments}
    unlinked = [path for path in gone.files if durable.unlink(writer.root / path)]
    _settle(writer, unlinked)
    if unlinked:
        writer.mark_unlinked(unlinked, now)
    cleared = []
    for path in gone.segments:
        if durable.unlink(writer.root / path):
            durable.unlink(writer.root / meta_path(path))
            cleared.append(path)
    _settle(writer, cleared)
    if cleared:
        writer.publish(segments=dict.fromkeys(cleared, "deleted"), now=now)
    writer.forget_retired(now - keep.forget, now)
    telemetry.retained(files=len(unlinked), nbytes=sum(sizes[p] for p in unlinked), what="replaced files")
    telemetry.retained(files=len(cleared), nbytes=sum(sizes[p] for p in cleared), what="raw and frames files")
    return len(unlinked) + len(cleared)


def _settle(writer: LakeWriter, paths: list[str]) -> None:
    """Makes removals durable, folder by folder, before they are written down."""
    for folder in sorted({(writer.root / path).parent for path in paths}):
        if folder.is_dir():
            durable.fsync_dir(folder)


def _rehash(
    writer: LakeWriter,
    executor: Executor,
    states: dict[tuple[Stream, str], retention.DayState],
    now: int,
    keep: retention.Keep,
) -> bool:
    """Reads the daily files of closed days again before their raw may go; whether any day was found whole."""
    found = False
    for stream, date in retention.rehash_due(states, now, keep):
        closed = states[stream, date].closed_at
        files = view.day_files(writer.manifest, stream, date)
        key = view.FAILED + "rehash/" + "/".join((*stream, date, str(closed)))
        failures = writer.manifest.cursor(key) or 0
        if failures >= MAX_FAILURES or closed is None:
            continue
        job = executor.submit(rehash, str(writer.root), files)
        error = job.exception()
        if error is not None and (exit_code_of(error) is not None or not isinstance(error, Exception)):
            raise error
        broken = job.result() if error is None else {files[0].path: str(error)}
        if broken:
            rows = [
                CheckRow(path=p, check="bitrot", symbol="", count=1, detail=text[:500]) for p, text in broken.items()
            ]
            writer.publish(cursors={key: failures + 1}, checks=rows, now=now)
            for row in rows:
                telemetry.check_failed(path=row.path, check=row.check, symbol="", count=1, detail=row.detail)
        else:
            writer.publish(cursors={view.rehashed(stream, date): closed}, now=now)
            found = True
    return found
