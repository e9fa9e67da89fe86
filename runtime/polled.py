"""What the process says of what it asks venues for again and again: instruments, failures, and their clocks.

As `runtime.telemetry`, whose rules hold here: one function an event, each one log line and one count.
"""

from __future__ import annotations

from runtime.saying import say


def reference_loaded(*, exchange: str, market_type: str, contracts: int) -> None:
    """The venue's instruments are known; those that changed since they were last stored are contract rows."""
    text = f"{exchange} {market_type}: {contracts:,} contracts"
    say("INFO", "reference_loaded", text, exchange=exchange, market_type=market_type, contracts=contracts)


def poll_failed(*, exchange: str, market_type: str, kind: str, reason: str, retry_seconds: float | None) -> None:
    """An answer was no data; it is asked for again, and collecting goes on without it."""
    again = f"; again in {retry_seconds:.0f} s" if retry_seconds is not None else ""
    text = f"{exchange} {market_type} {kind}: {reason}{again}"
    quiet = ("poll_failed", exchange, market_type, kind)
    say("WARNING", "poll_failed", text, quiet=quiet, exchange=exchange, market_type=market_type, kind=kind)


def poll_late(*, exchange: str, market_type: str, kind: str, every_seconds: float, takes_seconds: float) -> None:
    """One round of requests takes longer than its interval, within half of what the venue allows: it comes late."""
    text = (
        f"{exchange} {market_type} {kind}: a round takes at least {takes_seconds:.0f} s, asked for every"
        f" {every_seconds:.0f} s"
    )
    say("WARNING", "poll_late", text, exchange=exchange, market_type=market_type, kind=kind)


def clock_skew(*, exchange: str, market_type: str, skew_seconds: float) -> None:
    """What a market sends is stamped more than a second before or after we have it, for two minutes in a row.

    Either the clocks differ (see `clock_offset`, which measures it), or the venue or the way to it is slow.
    """
    text = (
        f"{exchange} {market_type}: half of what comes is stamped {abs(skew_seconds):.3f} s or more"
        f" {'before' if skew_seconds > 0 else 'after'} its receipt: the clocks differ, or the way is slow"
    )
    say("WARNING", "clock_skew", text, exchange=exchange, market_type=market_type, seconds=skew_seconds)


def clock_offset(*, exchange: str, market_type: str, offset_seconds: float, round_trip_seconds: float) -> None:
    """Our clock and the venue's differ by more than a second; positive where ours is ahead. Said when it begins."""
    text = (
        f"our clock is {abs(offset_seconds):.3f} s {'ahead of' if offset_seconds > 0 else 'behind'} that of {exchange}"
        f" {market_type} (+-{round_trip_seconds / 2:.3f} s)"
    )
    say("WARNING", "clock_offset", text, exchange=exchange, market_type=market_type, seconds=offset_seconds)
