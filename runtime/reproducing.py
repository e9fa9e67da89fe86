"""What the process says of days that are made again from their frames.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime import metrics
from runtime.saying import error_text, say


def day_reproduced(
    *, exchange: str, market_type: str, date: str, start: int, files: int, rows: int, seconds: float
) -> None:
    """Today's code made of a closed day's frames just what its certified files hold."""
    metrics.REPRODUCED.labels("same").inc(files)
    metrics.REPRODUCED_DAY.labels(exchange, market_type).set(start / 1e6)
    text = f"{exchange} {market_type} {date}: {files:,} certified files made again, {rows:,} rows, in {seconds:.0f} s"
    say("INFO", "day_reproduced", text, exchange=exchange, market_type=market_type, date=date, files=files)


def day_not_reproduced(*, exchange: str, market_type: str, date: str, files: int, reason: str) -> None:
    """Frames of a closed day make other rows than its certified files hold: one of them is wrong. An alarm."""
    metrics.REPRODUCED.labels("different").inc(max(1, files))
    text = f"{exchange} {market_type} {date}: {files:,} certified files are not what their frames make: {reason}"
    say("ERROR", "day_not_reproduced", text, exchange=exchange, market_type=market_type, date=date, reason=reason)


def day_not_provable(*, exchange: str, market_type: str, date: str, files: int) -> None:
    """Of some certified files not all frames are there any more: they can be neither proven nor doubted."""
    metrics.REPRODUCED.labels("not_provable").inc(files)
    text = f"{exchange} {market_type} {date}: not all frames of {files:,} certified files are there"
    say("WARNING", "day_not_provable", text, exchange=exchange, market_type=market_type, date=date)


def reproduction_failed(*, exchange: str, market_type: str, date: str, error: BaseException | str) -> None:
    """A day could not be made again from its frames tonight; it is tried again the next night."""
    metrics.REPRODUCED.labels("failed").inc()
    reason = error if isinstance(error, str) else error_text(error)
    text = f"{exchange} {market_type} {date}: cannot be made again from its frames now: {reason}"
    say("WARNING", "reproduction_failed", text, exchange=exchange, market_type=market_type, date=date)


def day_reparsed(
    *, exchange: str, market_type: str, kind: str, date: str, files: int, changed: int, added: int, removed: int
) -> None:
    """A closed day was read again from its frames, and has new revisions of the files that changed."""
    text = (
        f"{exchange} {market_type} {kind} {date}: {files:,} daily files made anew of their frames: {changed:,} rows"
        f" changed, {added:,} added, {removed:,} removed"
    )
    say("INFO", "day_reparsed", text, exchange=exchange, market_type=market_type, kind=kind, date=date)


def reparse_failed(*, exchange: str, market_type: str, kind: str, date: str, error: BaseException) -> None:
    """What frames say of a closed day could not be published; the day is what it was."""
    text = f"{exchange} {market_type} {kind} {date}: {error_text(error)}"
    say("WARNING", "reparse_failed", text, exchange=exchange, market_type=market_type, kind=kind, date=date)
