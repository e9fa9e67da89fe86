"""What the process says of its own health to whoever restarts it.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime.saying import error_text, say


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


def kernel_clock_unsynchronised(*, largest_seconds: float | None) -> None:
    """Nobody keeps the machine's clock right, as far as the kernel knows: receive times may be wrong unnoticed."""
    bound = "nobody knows by how much" if largest_seconds is None else f"by {largest_seconds:.3f} s at most"
    text = f"the kernel's clock is not synchronised: times of receipt may be wrong, {bound} (chrony, ntpd, timesyncd?)"
    say("WARNING", "kernel_clock_unsynchronised", text, largest_seconds=largest_seconds)


def kernel_clock_synchronised(*, largest_seconds: float | None) -> None:
    """The kernel says that the clock is kept right."""
    bound = "" if largest_seconds is None else f", wrong by {largest_seconds:.3f} s at most"
    text = f"the kernel's clock is synchronised{bound}"
    say("INFO", "kernel_clock_synchronised", text, largest_seconds=largest_seconds)


def kernel_clock_unknown(*, why: str) -> None:
    """Nobody can say whether the machine's clock is kept right."""
    say("INFO", "kernel_clock_unknown", f"whether the kernel's clock is synchronised is unknown: {why}", why=why)


def clock_record_failed(*, error: BaseException) -> None:
    """What the clocks or latencies were could not be written down, and is not kept; no data is missing by that."""
    text = f"clocks and latencies are not recorded: {error_text(error)}"
    say("WARNING", "clock_record_failed", text, quiet=("clock_record_failed",))


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
