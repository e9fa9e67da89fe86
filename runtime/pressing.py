"""What the process says of a disk that is full, read-only or failing, and of what is given up for it.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime import metrics
from runtime.saying import error_text, say, size, some

LEVELS = ("ok", "low", "critical", "full")


def space(*, level: int, free: int, total: int, ballast: int) -> None:
    """The disk as it was found: metrics only, once a look. Bytes."""
    metrics.DISK_LEVEL.set(level)
    metrics.DISK_FREE.set(free)
    metrics.DISK_TOTAL.set(total)
    metrics.DISK_BALLAST.set(ballast)


def disk_level(*, level: int, before: int, available: int, total: int, stopped: Sequence[str]) -> None:
    """The disk has come to another level, or stops or resumes kinds at the same one."""
    text = f"the disk is {LEVELS[level]}: {size(available)} of {size(total)} may be written"
    paused = {1: "compaction waits", 2: "compaction and transform wait", 3: "nothing is written but rows of gaps"}
    if level in paused:
        text += f"; {paused[level]}"
    if stopped:
        text += f"; not collected: {some(stopped, 12)}"
    severity = "INFO" if level == 0 else ("WARNING" if level == 1 else "ERROR")
    say(severity, "disk_level", text, now=LEVELS[level], before=LEVELS[before], available=available)


def ballast_released(*, nbytes: int) -> None:
    """The reserve is given up, so that ledger and manifest can say what is lost."""
    say("WARNING", "ballast_released", f"{size(nbytes)} that were set aside are for ledger and manifest now")


def ballast_reserved(*, nbytes: int) -> None:
    """There is room again: the reserve is set aside."""
    say("INFO", "ballast_reserved", f"{size(nbytes)} are set aside for a full disk", bytes=nbytes)


def outage_began(*, cause: str, reason: str, error: BaseException | None) -> None:
    """Nothing can be written: nothing is acknowledged from here on, and what memory cannot hold is a gap."""
    metrics.OUTAGE.labels(cause).set(1)
    say("ERROR", "outage_began", f"{cause}: {reason}", cause=cause, error=error)


def still_out(*, cause: str, reason: str, waiting_bytes: int) -> None:
    """Another attempt to write has failed; it goes on."""
    text = f"{cause}: {reason}; {size(waiting_bytes)} waiting"
    say("WARNING", "still_out", text, quiet=("still_out", cause), cause=cause)


def outage_ended(*, cause: str, seconds: float, gaps: int) -> None:
    """What was held is written, and collecting goes on; what had no room is `gaps` gaps."""
    metrics.OUTAGE.labels(cause).set(0)
    text = f"{cause} is over after {seconds:.1f} s; {gaps} stream{'' if gaps == 1 else 's'} lost something"
    say("WARNING", "outage_ended", text, cause=cause, seconds=seconds, gaps=gaps)


def lane_parked(*, exchange: str, market_type: str, kind: str, error: BaseException) -> None:
    """The folder of one kind takes nothing while others do: what comes of it is a gap until it does."""
    text = f"{exchange} {market_type} {kind} cannot be written: {error_text(error)}"
    say("ERROR", "lane_parked", text, exchange=exchange, market_type=market_type, kind=kind)
