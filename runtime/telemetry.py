"""Everything the process can say: one function an event, each one log line and one count in `lake_log_events`.

Levels are by consequence. INFO: as intended. WARNING: not as intended, nothing lost. ERROR: data lost, or a person is
needed. DEBUG: too frequent to read. Nothing here is called per message; what could repeat quickly says it once in
ten seconds with the number of repetitions, while its metric counts every one.
Every function is thread-safe and takes plain values: times in us, sizes in bytes, durations in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from market import times
from market.kinds import KINDS, Contiguous
from runtime import metrics
from runtime.saying import error_text, say, size, some, tail

GAPS_AT_ONCE = 10
"""Gaps of one stream and cause that are said one by one: a cut connection opens one for each of its symbols."""

# --- the process -------------------------------------------------------------------------------------------------


def starting(*, lake: str, config: str, pid: int, loop: str, simulated: bool) -> None:
    """The process has the lake's lock and begins."""
    what = "simulated lake" if simulated else "lake"
    say("INFO", "starting", f"{what} {lake}, configuration {config}, pid {pid}", loop=loop)


def ready(*, address: str | None, seconds: float) -> None:
    """Recovery is done and every service runs."""
    metrics.UP.set(1)
    where = f"; status at {address}/status" if address else ""
    say("INFO", "ready", f"running after {seconds:.1f} s{where}", address=address, seconds=seconds)


def simulating(*, exchange: str, address: str, seconds_before_midnight: float, close_delay_seconds: float) -> None:
    """`--simulate`: the local exchange is up; from here on time is its clock's."""
    text = (
        f"a local {exchange} at {address}; 00:00 UTC comes in {seconds_before_midnight:.0f} s,"
        f" the day is closed from {close_delay_seconds:.0f} s after it"
    )
    say("INFO", "simulating", text, exchange=exchange, address=address)


def recovered(*, seconds: float, problems: int, summary: str) -> None:
    """What a start had to put in order; `problems` counts the leftovers of an unclean end."""
    say("WARNING" if problems else "INFO", "recovered", f"{summary} in {seconds:.1f} s", problems=problems)


def manifest_rebuilt(reason: str, summary: str) -> None:
    """A start met a manifest that could not be used, and made it anew."""
    say("ERROR", "manifest_rebuilt", f"{reason}; it was made anew: {summary}", reason=reason)


def stopping(*, reason: str, deadline_seconds: float) -> None:
    """A stop was asked for: a signal, `--duration`, or a service that cannot go on."""
    metrics.UP.set(0)
    say("INFO", "stopping", f"{reason}; at most {deadline_seconds:g} s", reason=reason)


def phase_stopped(*, phase: int, services: Sequence[str], seconds: float) -> None:
    """All services of one phase have ended; the next phase is told to stop."""
    say("DEBUG", "phase_stopped", f"phase {phase} drained in {seconds:.1f} s", services=", ".join(services))


def straggling(*, services: Sequence[str], seconds_left: float) -> None:
    """Services that were told to stop and still run; said every five seconds."""
    say("WARNING", "straggling", f"still waiting for {', '.join(services)}, {seconds_left:.0f} s left")


def cancelled(*, services: Sequence[str], reason: str) -> None:
    """Services that had not ended at the deadline (or at a second signal) were cut off."""
    say("ERROR", "cancelled", f"{', '.join(services)} did not stop: {reason}")


def stopped(*, seconds: float, exit_code: int) -> None:
    """The process is done."""
    say("INFO", "stopped", f"after {seconds:.1f} s, exit code {exit_code}", exit_code=exit_code)


def service_restarted(*, service: str, error: BaseException, restarts: int, delay_seconds: float) -> None:
    """A service, or one connection, failed and is started again."""
    metrics.RESTARTS.labels(service).inc()
    text = f"{service} failed ({error_text(error)}), again in {delay_seconds:.1f} s"
    say("WARNING", "service_restarted", text, error=error, service=service, restarts=restarts)


def service_failed(*, service: str, error: BaseException, exit_code: int) -> None:
    """A service failed in a way that no retry cures; the process ends with this exit code."""
    say("ERROR", "service_failed", f"{service}: {error_text(error)}", error=error, service=service, exit_code=exit_code)


def worker_died(*, job: str, attempt: int) -> None:
    """A worker process died under a job."""
    after = "it runs once more on a new worker" if attempt == 1 else "the job is given up"
    say("WARNING" if attempt == 1 else "ERROR", "worker_died", f"a worker died running {job}; {after}", attempt=attempt)


def loop_lag(*, seconds: float) -> None:
    """The event loop was late; said from one second on."""
    metrics.LOOP_LAG.set(seconds)
    if seconds > 1.0:
        say("WARNING", "loop_lag", f"the event loop was blocked for {seconds:.1f} s", quiet=("loop_lag",))


def clock_stepped(*, seconds: float) -> None:
    """The wall clock moved against the monotonic one: receive times jump with it."""
    say("WARNING", "clock_stepped", f"the wall clock jumped by {seconds:+.3f} s", seconds=seconds)


def midnight_crossed(*, date: str, closes_in_seconds: float) -> None:
    """00:00 UTC has passed; `date` is the day that ended."""
    text = f"00:00 UTC: {date} has ended, its daily files follow in about {closes_in_seconds:.0f} s"
    say("INFO", "midnight_crossed", text, date=date)


def control_job(*, job: str, state: str, detail: str = "") -> None:
    """A job that `dl` asked for over the control port began, ended or failed."""
    say("INFO" if state != "failed" else "WARNING", "control_job", f"{job} {state}{tail(detail)}", job=job, state=state)


# --- collecting --------------------------------------------------------------------------------------------------


def collecting(
    *, exchange: str, market_type: str, kinds: Sequence[str], symbols: Sequence[str], connections: int
) -> None:
    """What one market is asked for."""
    text = (
        f"{exchange} {market_type}: {', '.join(kinds)} of {some(symbols)}"
        f" over {connections} connection{'s' if connections != 1 else ''}"
    )
    say("INFO", "collecting", text, exchange=exchange, market_type=market_type, symbols=len(symbols))


def transport_missing(*, transport: str, used: str, reason: str) -> None:
    """The configured WebSocket library cannot be imported; the other one does the same for more CPU."""
    text = f"{transport} cannot be used ({reason}): {used} is used instead, at several times the CPU"
    say("WARNING", "transport_missing", text, transport=transport, used=used)


def connected(*, exchange: str, market_type: str, connection: str, session: str, url: str) -> None:
    """A connection is open and has a session."""
    metrics.CONNECTIONS.labels(exchange, market_type).inc()
    text = f"{exchange} {market_type} {connection} to {url}"
    say("INFO", "connected", text, exchange=exchange, market_type=market_type, connection=connection, session=session)


def connect_failed(*, exchange: str, market_type: str, connection: str, reason: str, retry_seconds: float) -> None:
    """A connection could not be opened; attempts go on without end."""
    text = f"{exchange} {market_type} {connection}: {reason}; again in {retry_seconds:.1f} s"
    say("WARNING", "connect_failed", text, exchange=exchange, market_type=market_type, connection=connection)


def disconnected(
    *,
    exchange: str,
    market_type: str,
    connection: str,
    session: str,
    cause: str,
    detail: str = "",
    planned: bool = False,
) -> None:
    """A connection is over; `planned` where we closed it: a stop or a handover."""
    metrics.CONNECTIONS.labels(exchange, market_type).dec()
    text = f"{exchange} {market_type} {connection}: {cause}{tail(detail)}"
    level = "INFO" if planned else "WARNING"
    say(level, "disconnected", text, exchange=exchange, market_type=market_type, session=session, cause=cause)


def subscribed(*, exchange: str, market_type: str, connection: str, streams: int) -> None:
    """The venue accepted all `streams` of a connection."""
    text = f"{exchange} {market_type} {connection}: {streams} stream{'s' if streams != 1 else ''}"
    say("INFO", "subscribed", text, exchange=exchange, market_type=market_type, connection=connection, streams=streams)


def refused(*, exchange: str, market_type: str, streams: Sequence[str], reason: str) -> None:
    """The venue refused streams: nothing is collected of them."""
    text = f"{exchange} {market_type} refused {some(streams)}: {reason}"
    say("ERROR", "refused", text, exchange=exchange, market_type=market_type)


def silent_stream(
    *, exchange: str, market_type: str, kind: str, symbol: str, seconds: float, state: str = "silent"
) -> None:
    """A stream sends nothing: its request was not answered, or nothing came since it was acknowledged, or no more."""
    text = f"{exchange} {market_type} {kind} {symbol}: {state}, nothing for {seconds:.0f} s"
    quiet = ("silent_stream", exchange, market_type, kind)
    say("WARNING", "silent_stream", text, quiet=quiet, exchange=exchange, market_type=market_type, symbol=symbol)


def rejected(*, exchange: str, market_type: str, reason: str, session: str, frame_no: int) -> None:
    """A frame or item that broke the venue's rules was set aside; the frame itself is kept."""
    metrics.REJECTED.labels(exchange, market_type).inc()
    text = f"{exchange} {market_type}: {reason}"
    quiet = ("rejected", exchange, market_type)
    say("WARNING", "rejected", text, quiet=quiet, exchange=exchange, session=session, frame_no=frame_no)


def shed(*, exchange: str, market_type: str, kind: str, events: int, reason: str) -> None:
    """Events were given up because the disk is too slow, or takes nothing; the gap row comes with it."""
    metrics.SHED.labels(exchange, market_type, kind).inc(events)
    text = f"{exchange} {market_type} {kind}: {events:,} events given up: {reason}"
    say("ERROR", "shed", text, quiet=("shed", exchange, market_type, kind), events=events)


def rate_limited(*, exchange: str, market_type: str, status: int, wait_seconds: float) -> None:
    """The venue asked for fewer requests, or banned us for a while."""
    text = f"{exchange} {market_type} answered {status}: no request for {wait_seconds:.0f} s"
    say("WARNING", "rate_limited", text, exchange=exchange, status=status)


def ban_remembered(*, exchange: str, host: str, status: int, wait_seconds: float) -> None:
    """A venue that told an earlier run to wait is not asked before its time."""
    text = f"{host} of {exchange} answered {status} to an earlier run: no request for {wait_seconds:.0f} s"
    say("WARNING", "ban_remembered", text, exchange=exchange, host=host, status=status)


# --- on disk -----------------------------------------------------------------------------------------------------


def segment_sealed(*, exchange: str, market_type: str, kind: str, rows: int, nbytes: int, path: str) -> None:
    """A segment is complete and hashed; DEBUG where it is empty."""
    metrics.SEALED_ROWS.labels(exchange, market_type, kind).inc(rows)
    metrics.SEALED_BYTES.labels(exchange, market_type, kind).inc(nbytes)
    text = f"{exchange} {market_type} {kind}: {rows:,} rows, {size(nbytes)}"
    say("INFO" if rows else "DEBUG", "segment_sealed", text, rows=rows, bytes=nbytes, path=path)


def durable_lag(*, seconds: float, waiting_bytes: int) -> None:
    """What a write pass brought took longer than collectors.writing.lag_warning_ms to become durable."""
    text = f"what a write pass brought took {seconds:.1f} s to become durable, {size(waiting_bytes)} waiting"
    say("WARNING", "durable_lag", text, quiet=("durable_lag",), seconds=seconds, waiting_bytes=waiting_bytes)


def storage_failed(*, path: str, error: BaseException) -> None:
    """A write or sync failed: what was not durable is written to another file."""
    say("ERROR", "storage_failed", f"{path}: {error_text(error)}", error=error, path=path)


def quarantined(*, origin: str, reason: str, count: int, nbytes: int, path: str) -> None:
    """Bytes that cannot be believed were set aside under quarantine/."""
    metrics.QUARANTINED.inc(count)
    text = f"{count:,} item{'s' if count != 1 else ''} ({size(nbytes)}) of {origin}: {reason}"
    say("WARNING", "quarantined", text, path=path, origin=origin, count=count)


def gap_opened(
    *,
    exchange: str,
    market_type: str,
    kind: str,
    symbol: str,
    cause: str,
    ts_from: int,
    ts_to: int | None,
    missing: int | None,
) -> None:
    """A hole was found: `missing` ids, None where the venue does not number; of unknown size it is one nevertheless."""
    metrics.GAPS_OPENED.labels(exchange, market_type, kind, cause).inc()
    what = f"{missing:,} ids missing" if missing is not None else "a hole"
    text = (
        f"{exchange} {market_type} {kind} {symbol}: {what} from {times.text(ts_from)} to {times.text(ts_to)}, {cause}"
    )
    quiet = ("gap_opened", exchange, market_type, kind, cause)
    say(
        "ERROR",
        "gap_opened",
        text,
        quiet=quiet,
        burst=GAPS_AT_ONCE,
        exchange=exchange,
        kind=kind,
        symbol=symbol,
        cause=cause,
    )


def gap_closed(*, exchange: str, market_type: str, kind: str, symbol: str, state: str, source: str | None) -> None:
    """A hole was filled, or is known to be none: `state` says which."""
    metrics.GAPS_CLOSED.labels(exchange, market_type, kind, state).inc()
    text = f"{exchange} {market_type} {kind} {symbol}: {state}{f' from {source}' if source else ''}"
    quiet = ("gap_closed", exchange, market_type, kind, state)
    level = "ERROR" if state == "unrepairable" else "INFO"
    say(level, "gap_closed", text, quiet=quiet, burst=GAPS_AT_ONCE, exchange=exchange, kind=kind, symbol=symbol)


# --- tables ------------------------------------------------------------------------------------------------------


def parts_written(*, exchange: str, market_type: str, kind: str, rows: int, files: int) -> None:
    """A transform published hot parts."""
    metrics.TABLE_ROWS.labels(exchange, market_type, kind, "part").inc(rows)
    text = f"{exchange} {market_type} {kind}: {rows:,} rows in {files} file{'s' if files != 1 else ''}"
    say("DEBUG", "parts_written", text, rows=rows, files=files)


def bars_written(
    *, exchange: str, market_type: str, kind: str, rows: int, symbols: int, start: int, end: int, level: str = "part"
) -> None:
    """Bars of windows inside [start, end) were published."""
    metrics.TABLE_ROWS.labels(exchange, market_type, kind, level).inc(rows)
    if end - start >= times.DAY - times.HOUR:
        span = f"the whole of {times.date_of(start)}"
    else:
        span = f"{times.to_datetime(start):%H:%M:%S} to {times.to_datetime(end):%H:%M:%S}"
    text = f"{exchange} {market_type} {kind}: {rows:,} bars of {symbols} symbol{'s' if symbols != 1 else ''}, {span}"
    say("INFO", "bars_written", text, rows=rows, symbols=symbols)


def hour_merged(*, exchange: str, market_type: str, kind: str, date: str, hour: int, rows: int, inputs: int) -> None:
    """The parts of one hour became one file."""
    metrics.TABLE_ROWS.labels(exchange, market_type, kind, "hour").inc(rows)
    text = f"{exchange} {market_type} {kind} {date} {hour:02d}h: {rows:,} rows from {inputs} files"
    say("INFO", "hour_merged", text, rows=rows, inputs=inputs)


def certified(
    *,
    exchange: str,
    market_type: str,
    kind: str,
    symbol: str | None,
    date: str,
    revision: int,
    rows: int,
    missing: int,
    gaps: Sequence[str],
    sha256: str,
    path: str,
) -> None:
    """A daily file is published with its certificate. `gaps` is one readable text a hole that is still open."""
    metrics.TABLE_ROWS.labels(exchange, market_type, kind, "day").inc(rows)
    metrics.CERTIFIED.labels(exchange, market_type, kind).inc()
    holes = f"gaps: {some(gaps, 3)}" if gaps else "gaps: none"
    text = (
        f"{date} {exchange} {market_type} {kind} {symbol or 'all symbols'}: {rows:,} rows{_missing(kind, missing)},"
        f" {holes}, sha256 {sha256}"
    )
    say("INFO", "certified", text, path=path, revision=revision, sha256=sha256, gaps=len(gaps))


def day_closed(
    *,
    exchange: str,
    market_type: str,
    date: str,
    files: int,
    rows: int,
    missing: int,
    open_gaps: int,
    revision: int = 1,
    kind: str = "",
) -> None:
    """All daily files of one market's day (of one `kind`, where given) are published and its inputs may go."""
    gaps = f"{open_gaps} open gaps" if open_gaps else "no open gap"
    what = f"{exchange} {market_type} {kind}".rstrip()
    text = f"{date} {what}: {files} daily files, {rows:,} rows{_missing(kind, missing)}, {gaps}"
    say("INFO", "day_closed", text, date=date, files=files, open_gaps=open_gaps, revision=revision)


def check_failed(*, path: str, check: str, symbol: str, count: int, detail: str = "") -> None:
    """An integrity check found rows that are stored and counted, but not as they should be."""
    text = f"{check}: {count:,} rows of {symbol} in {path}{tail(detail)}"
    say("WARNING", "check_failed", text, quiet=("check_failed", check), path=path, symbol=symbol, count=count)


def job_failed(*, job: str, subject: str, error: BaseException, failures: int, parked: bool) -> None:
    """A transform or merge failed; `parked` once it is not tried again until a person has looked."""
    after = "parked until a person looks" if parked else "tried again"
    text = f"{job} of {subject}: {error_text(error)}; failure {failures}, {after}"
    say("ERROR" if parked else "WARNING", "job_failed", text, error=error, job=job, subject=subject, failures=failures)


def commit_conflict(*, job: str, detail: str) -> None:
    """What a job had planned with is no longer so."""
    say("DEBUG", "commit_conflict", f"{job}: {detail}; planned again", job=job)


def retained(*, files: int, nbytes: int, what: str) -> None:
    """Retention let go of `files` whose contents live on in newer ones, or whose time was over."""
    if files:
        say("INFO", "retained", f"let go of {files:,} {what}, {size(nbytes)}", files=files, bytes=nbytes)


def _missing(kind: str, missing: int) -> str:
    """`, 0 ids missing`, only for kinds whose ids can be missing."""
    numbered = kind not in KINDS or any(isinstance(check, Contiguous) for check in KINDS[kind].checks)
    return f", {missing:,} ids missing" if numbered or missing else ""
