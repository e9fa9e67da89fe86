"""What the process says of its own health to whoever restarts it.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime.saying import say


def watchdog_held_back(*, reason: str) -> None:
    """Something stands still, so the service manager's watchdog is not fed: the process is ended if that goes on."""
    say("ERROR", "watchdog_held_back", f"the watchdog is not fed: {reason}", reason=reason)


def machine_slept(*, seconds: float) -> None:
    """The machine slept: monotonic time stood still, and every connection is made again."""
    say("WARNING", "machine_slept", f"the machine slept for {seconds:.0f} s", seconds=seconds)


def clock_doubted(*, why: str) -> None:
    """Wall time decides on no deletion any more: retention rests."""
    say("WARNING", "clock_doubted", f"nothing is deleted by age: {why}", why=why)


def clock_believed() -> None:
    """Wall time may decide on deletion again."""
    say("INFO", "clock_believed", "retention goes on: the wall clock has been steady and agrees with the venues'")


def safe_mode_entered(*, failed: int, minutes: float) -> None:
    """Too many starts failed: raw data are collected, and whatever works on stored data waits."""
    text = (
        f"{failed} starts failed in a row: raw data are collected, nothing is transformed, compacted or polled for"
        f" {minutes:g} minutes (dl resume ends it)"
    )
    say("ERROR", "safe_mode_entered", text, failed=failed)


def safe_mode_left(*, reason: str) -> None:
    """Everything is done again."""
    say("WARNING", "safe_mode_left", f"safe mode is left, {reason}: everything is done again")


def start_uncounted(*, reason: str) -> None:
    """Whether this start succeeds cannot be written down: safe mode does not know of it."""
    say("WARNING", "start_uncounted", f"this start cannot be counted: {reason}")
