"""What the process says of closed days that are held against what the venue says of them.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime import metrics
from runtime.saying import error_text, say


def day_verified(*, exchange: str, market_type: str, date: str, start: int, files: int, compared: int) -> None:
    """What the venue says of a closed day confirms its files; what differs is explained in their certificates."""
    metrics.AUDITED.labels("verified").inc(files)
    metrics.VERIFIED_DAY.labels(exchange, market_type).set(start / 1e6)
    text = f"{exchange} {market_type} {date}: the venue confirms {files:,} files, {compared:,} values compared"
    say("INFO", "day_verified", text, exchange=exchange, market_type=market_type, date=date, files=files)


def day_differs(*, exchange: str, market_type: str, date: str, files: int, reason: str) -> None:
    """The venue says something else of a closed day than its files, and nothing explains it. An alarm."""
    metrics.AUDITED.labels("unexplained").inc(files)
    text = f"{exchange} {market_type} {date}: {files:,} certified files are not what the venue says: {reason}"
    say("ERROR", "day_differs", text, exchange=exchange, market_type=market_type, date=date, reason=reason)


def day_not_told(*, exchange: str, market_type: str, date: str, files: int, hint: str) -> None:
    """The lake holds too little of what the venue says of a closed day to confirm it."""
    metrics.AUDITED.labels("not_told").inc(files)
    text = f"{exchange} {market_type} {date}: too little is held of what the venue says of {files:,} files: {hint}"
    say("INFO", "day_not_told", text, exchange=exchange, market_type=market_type, date=date, files=files)


def candles_asked(*, exchange: str, market_type: str, job: str, parts: int) -> None:
    """The venue is asked for candles that days are to be held against, by a job."""
    text = (
        f"{exchange} {market_type}: the venue is asked for candles to hold its days against, {parts:,} parts of {job}"
    )
    say("INFO", "candles_asked", text, exchange=exchange, market_type=market_type, job=job, parts=parts)


def candles_wait(*, exchange: str, market_type: str, reason: str) -> None:
    """Candles that the newest closed days lack are not asked for this night."""
    text = f"{exchange} {market_type}: candles that closed days lack are not asked for: {reason}"
    say("INFO", "candles_wait", text, exchange=exchange, market_type=market_type, reason=reason)


def audit_failed(*, exchange: str, market_type: str, date: str, error: BaseException | str) -> None:
    """A closed day could not be held against the venue's word now; it is tried again the next night."""
    metrics.AUDITED.labels("failed").inc()
    reason = error if isinstance(error, str) else error_text(error)
    text = f"{exchange} {market_type} {date}: cannot be compared with the venue now: {reason}"
    say("WARNING", "audit_failed", text, exchange=exchange, market_type=market_type, date=date)
