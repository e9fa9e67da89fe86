"""`dl jobs`: what was asked for and how far it is; a job paused, resumed or cancelled."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ERR, OUT, print_json, print_table, progress, when
from cli.places import ConfigOption, JsonOption, LakeOption, UsageError, command, lake_root, reading

if TYPE_CHECKING:
    from lake.jobs import Action, AttemptRow, ChunkRow, JobRow, JobStatus
    from lake.lock import LockInfo

SHOWN = 20
PRIORITIES = ("resync", "poll", "repair", "backfill")


class What(enum.Enum):
    """What is done with a job."""

    SHOW, PAUSE, RESUME, CANCEL = "show", "pause", "resume", "cancel"


@command
def jobs(
    what: Annotated[What | None, typer.Argument(help="What to do with one job; nothing: list all.")] = None,
    job: Annotated[str | None, typer.Argument(help="Its name, or as much of it as no other has.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="With show: tell how far it is until it is over.")] = False,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """List the jobs of a lake, show one with its parts and attempts, or pause, resume or cancel one.

    A job is what was asked for once: dl backfill, dl archive, dl gaps --repair and dl reconcile make them, and the
    daemon one of each market whose gaps it repairs by itself, or of which closed days lack candles (paused or
    cancelled, it leaves that market alone). The
    daemon works on those that are queued and goes on with them at its next start; without one the command that asked
    does. What a cancelled job brought in stays. Exit code 1 where the job shown has failed.
    """
    from lake.lock import read_lock

    root = lake_root(lake, config)
    if (what is None) != (job is None):
        raise UsageError("name what to do and with which job", "dl jobs show ID; dl jobs alone lists them")
    if follow and what is not What.SHOW:
        raise UsageError("--follow goes with show", "dl jobs show ID --follow")
    holder = read_lock(root)
    if what is None or job is None:
        with reading(root) as manifest:
            return _list(manifest.job_statuses(), holder, as_json=as_json)
    name = _named(root, job)
    if what is What.SHOW:
        if follow:
            _follow(root, holder, name, as_json=as_json)
        return _show(root, holder, name, as_json=as_json)
    row = _moved(root, holder, name, what.value, config)
    if as_json:
        print_json(row)
    else:
        OUT.print(f"job {row.job} is {row.state}{_then(row, holder)}", markup=False)
    return 0


def _named(root: Path, job: str) -> str:
    """The full name. Raises UsageError."""
    with reading(root) as manifest:
        names = [one.job for one in manifest.jobs()]
    found = [name for name in names if name == job] or [name for name in names if name.startswith(job)]
    if len(found) != 1:
        what = f"{len(found)} jobs begin with {job!r}" if found else f"there is no job {job!r}"
        raise UsageError(what, "dl jobs lists them")
    return found[0]


def _list(found: Sequence[JobStatus], holder: LockInfo | None, *, as_json: bool) -> int:
    if as_json:
        print_json({"writer": None if holder is None else holder.pid, "jobs": found})
        return 0
    rows = [
        (one.job.job, _state(one.job, holder), _part(one), one.progress.rows, _left(one.progress.eta_seconds, one.job),
         when(one.job.created_at), one.job.what)
        for one in found
    ]  # fmt: skip
    print_table("", ("job", "state", "done", "rows", "time left", "asked", "what"), rows, "no jobs")
    return 0


def _state(job: JobRow, holder: LockInfo | None) -> str:
    """A job that says it runs where no process writes the lake was interrupted."""
    return "interrupted" if job.state == "running" and holder is None else job.state


def _part(one: JobStatus) -> str:
    told = one.progress
    share = 100 * told.done_us // told.total_us if told.total_us else 100 if one.job.state == "done" else 0
    return f"{told.chunks_done:,} of {told.chunks:,} ({share} %)"


def _left(seconds: float | None, job: JobRow) -> str | None:
    if seconds is None or job.state not in ("queued", "running", "paused"):
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _show(root: Path, holder: LockInfo | None, name: str, *, as_json: bool) -> int:
    with reading(root) as manifest, manifest.snapshot() as now:
        status = now.job_status(name)
        chunks, attempts = now.job_chunks(name), now.job_attempts(name)
    if status is None:
        raise UsageError(f"there is no job {name!r}", "dl jobs lists them")
    if as_json:
        print_json({"job": status.job, "progress": status.progress, "chunks": chunks, "attempts": attempts})
    else:
        _say(status, chunks, attempts, holder)
    return 1 if status.job.state == "failed" else 0


def _say(
    status: JobStatus, chunks: Sequence[ChunkRow], attempts: Sequence[AttemptRow], holder: LockInfo | None
) -> None:
    job, told = status.job, status.progress
    OUT.print(f"{job.job}: {job.what}", markup=False)
    asked = f"asked {when(job.created_at)} by {job.asked_by or '-'}, changed {when(job.updated_at)}"
    OUT.print(f"  {_state(job, holder)}, {PRIORITIES[job.priority]}; {asked}", markup=False)
    left = _left(told.eta_seconds, job)
    OUT.print(f"  {_part(status)} parts, {told.rows:,} rows in {told.requests:,} requests, {told.attempts:,} attempts"
              + (f", {left} left" if left else ""), markup=False)  # fmt: skip
    if job.error:
        ERR.print(f"  {job.error}", markup=False)
    last = {one.chunk: one for one in attempts}
    order = sorted(chunks, key=lambda one: (("running", "failed", "queued", "done").index(one.state), one.chunk))
    rows = [
        (one.chunk, one.kind, one.symbol, when(one.ts_from), when(one.ts_to), one.state, *_tried(last.get(one.chunk)),
         when(one.due_at) if one.due_at else None)
        for one in order[:SHOWN]
    ]  # fmt: skip
    columns = ("part", "kind", "symbol", "from", "to", "state", "attempt", "what came of it", "tried again")
    print_table("", columns, rows, "  no parts")
    if len(chunks) > SHOWN:
        OUT.print(f"and {len(chunks) - SHOWN:,} more parts (--json lists all)")


def _tried(attempt: AttemptRow | None) -> tuple[int | None, str | None]:
    if attempt is None:
        return None, None
    if attempt.ended_at is None:
        return attempt.attempt, "under way"
    if attempt.error is None:
        return attempt.attempt, f"{attempt.rows:,} rows"
    sort = {True: " (for good)", False: " (passing)", None: ""}[attempt.permanent]
    return attempt.attempt, attempt.error[:100] + sort


def _follow(root: Path, holder: LockInfo | None, name: str, *, as_json: bool) -> None:
    """Until it is over, or nobody works on it."""
    from cli.jobs import ask

    with reading(root) as manifest:
        row = manifest.job(name)
    if row is None or row.state not in ("queued", "running") or holder is None or not holder.port:
        return
    with progress(name, quiet=False, lines=as_json) as report:
        ask(holder, "job_follow", {"job": name}, report)


def _moved(root: Path, holder: LockInfo | None, name: str, action: Action, config: Path | None) -> JobRow:
    """Through the daemon where one runs, else in the manifest itself."""
    import msgspec

    from cli.jobs import ask, settings
    from lake.errors import LakeLocked
    from lake.job_book import JobBook
    from lake.jobs import JobRow
    from lake.place import shut_out_others
    from lake.writer import LakeWriter
    from runtime.clock import SystemClock

    if holder is not None and not holder.port:
        raise LakeLocked(
            f"{root} is being written by process {holder.pid}, which takes no orders",
            f"end it (Ctrl-C pauses its job), then dl jobs {action} {name}",
        )
    if holder is not None:
        told: Any = ask(holder, f"job_{action}", {"job": name}, lambda *_: None)
        return msgspec.convert(told, JobRow)
    shut_out_others()
    now, node = SystemClock().now(), settings(config).collectors.node
    with LakeWriter.open(root, node, now, simulated=None, create=False) as writer:
        return JobBook(writer).move(name, action, now)


def _then(row: JobRow, holder: LockInfo | None) -> str:
    if row.state != "queued" or holder is not None:
        return ""
    return ": the next daemon goes on with it, or the command that asked for it"
