"""Work that changes a lake: done here where nobody else writes it, asked of the daemon where one does."""

from __future__ import annotations

import getpass
import http.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from cli.output import ERR, progress
from collectors.recovery import settle
from daemon.config import Config, load_config
from lake.errors import LakeError, LakeLocked
from lake.lock import LockInfo, read_lock
from lake.place import shut_out_others
from lake.recovery import Recovery
from lake.writer import LakeWriter
from market.errors import MarketError
from runtime.clock import SystemClock
from runtime.service import exit_code_of
from runtime.threads import WAITS
from runtime.workers import Workers

Report = Callable[[int, int, str], None]
Work = Callable[[LakeWriter, Workers, int, Config, Report], Any]
"""(writer, executor, now, config, report) -> result."""
SHOWN = 20
PATIENCE = 3600.0
"""Seconds without a word from the daemon after which asking it is given up."""


class JobFailed(LakeError):
    """The daemon's own words on why a job did not end well, with its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def settings(config: Path | None) -> Config:
    """The configuration that --config names, else ./config.yml, else the defaults."""
    path = config or Path("config.yml")
    return Config() if config is None and not path.is_file() else load_config(path)


def run_job(
    name: str,
    arguments: Mapping[str, Any],
    root: Path,
    config: Config,
    quiet: bool,
    work: Work,
    *,
    create: bool = False,
) -> Any:
    """The result of `work`, done by whoever may write the lake; `create` makes one where there is none.

    Raises LakeLocked, JobFailed, what the job raises.
    """
    with progress(name, quiet=quiet) as report:
        holder = read_lock(root)
        if holder is not None and holder.port:
            return ask(holder, name, arguments, report)
        if holder is not None:
            raise LakeLocked(
                f"{root} is being written by process {holder.pid}",
                "try again when that has ended, or is ready for jobs",
            )
        return _alone(name, arguments, root, config, report, work, create=create)


def _alone(
    name: str, arguments: Mapping[str, Any], root: Path, config: Config, report: Report, work: Work, *, create: bool
) -> Any:
    shut_out_others()
    now = SystemClock().now()
    workers = Workers(config.workers.processes, recycle_after=config.workers.recycle_after)
    with LakeWriter.open(root, config.collectors.node, now, simulated=None, create=create) as writer:
        try:
            found = writer.recover(now)
            tell(found)
            settle(writer, found, now)
            with noted(writer, name, arguments) as told:
                result = work(writer, workers, now, config, report)
                told(result)
            return result
        finally:
            workers.kill()


@contextmanager
def noted(writer: LakeWriter, work: str, arguments: Mapping[str, Any]) -> Iterator[Callable[[Any], None]]:
    """Work that is done here as the job that a daemon would have made of it; nothing for what is none. The body tells
    what came of it; ended by Ctrl-C it is paused.
    """
    from daemon.job_calls import CALLS, Trying, asked_of
    from daemon.jobs import outcome
    from lake.job_book import JobBook

    if work not in CALLS:
        yield lambda _result: None
        return
    clock, book = SystemClock(), JobBook(writer)
    book.settle(clock.now())
    asked = asked_of(work, arguments, asker(f"dl {work}"), clock.now())
    if CALLS[work].idle(writer.manifest, arguments) is not None and book.open(asked.request) is None:
        yield lambda _result: None  # there is nothing to do, and no job that waits for that
        return
    name = book.ask(asked.request, asked.chunks, clock.now()).job
    trying = Trying(writer, book, book.put(name, "running", clock.now()), clock.now())
    try:
        yield lambda result: trying.ended(result, clock.now())
    except KeyboardInterrupt:
        book.put(name, "paused", clock.now())
        raise
    except (LakeError, MarketError) as error:
        if exit_code_of(error) is None:
            trying.failed(error, clock.now())
            book.put(name, "failed", clock.now(), str(error))
        raise
    state, why = outcome(writer, name)
    book.put(name, state or "queued", clock.now(), why)


def asker(command: str) -> str:
    """Who asks, for the job's row."""
    try:
        return f"{command} ({getpass.getuser()})"
    except (KeyError, OSError, ImportError):  # a container without such a user
        return command


def publish(writer: LakeWriter, told: Config, *, quiet: bool) -> dict[str, Any]:
    """What was brought in, to parts, hours and days: the summaries of both passes, by name."""
    from collectors import exchanges
    from compactor.service import compact_once
    from transformer.service import transform_once

    clock = SystemClock()
    workers = Workers(told.workers.processes, recycle_after=told.workers.recycle_after)
    try:
        with progress("transforming", quiet=quiet) as report:
            transformed = transform_once(writer, workers, clock.now(), told.transformer, report)
        with progress("compacting", quiet=quiet) as report:
            compacted = compact_once(
                writer, workers, clock.now(), told.compactor, report, final=True, parsers=exchanges.parsers
            )
    finally:
        workers.kill()
    return {"transformed": transformed, "compacted": compacted}


def tell(found: Recovery) -> None:
    """What bringing the lake to order met, on stderr: nothing of it may go unseen."""
    said = [f"{row.origin}: {row.count} in quarantine: {row.reason}" for row in found.quarantined]
    said += [f"{row.path}: {row.error}" for row in found.segments if row.error]
    said += [f"{path} is missing: dl verify says what it held" for path in found.missing]
    said += [f"{path} is no file of this lake: move it away" for path in found.strangers]
    for line in said[:SHOWN]:
        ERR.print(f"WARNING: {line}", markup=False)
    if len(said) > SHOWN:
        ERR.print(f"WARNING: and {len(said) - SHOWN:,} more like these")


def ask(
    holder: LockInfo, name: str, arguments: Mapping[str, Any], report: Report, *, patience: float = PATIENCE
) -> Any:
    """Post a job to the daemon's control port and follow it to its end. Raises JobFailed."""
    connection, waits = http.client.HTTPConnection("127.0.0.1", holder.port, timeout=patience), ""
    body = msgspec.json.encode({"job": name, "arguments": dict(arguments)})
    headers = {"Authorization": f"Bearer {holder.token}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/control/jobs", body, headers)
        answer = connection.getresponse()
        for raw in answer:
            said = msgspec.json.decode(raw, type=dict[str, Any])
            if "progress" in said:
                told = said["progress"]
                report(int(told["done"]), int(told["total"]), str(told["what"]))
                if str(told["what"]).startswith(WAITS) and told["what"] != waits:
                    waits = str(told["what"])
                    ERR.print(f"dl {name} {waits}", markup=False)
            elif "error" in said:
                raise JobFailed(str(said["error"]), int(said.get("exit_code", 1)))
            else:
                return said.get("result")
    except (OSError, http.client.HTTPException) as error:
        raise JobFailed(f"process {holder.pid} does not answer on its control port: {error}", 1) from error
    finally:
        connection.close()
    raise JobFailed(f"process {holder.pid} ended before the job did", 1)
