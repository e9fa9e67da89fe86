"""How long a socket may be quiet before the connection is given up. Pure."""

from __future__ import annotations

from collections.abc import Collection

from market.session import Limits, StreamState

SLOW_FACTOR = 20
"""A socket is silent when it has been quiet for this many of its own mean gaps."""


def silence_limit(states: Collection[StreamState], limits: Limits) -> int | None:
    """us; None where its channels say nothing about silence.

    Before the first event the venue's first-message rule holds: a wrong path and a restricted address are
    acknowledged and silent for ever. A socket of quiet channels only is given five times as long.
    """
    if all(state.stream.sparse for state in states):
        return None
    heard = [state for state in states if state.events]
    talkative = any(state.stream.max_silence is not None for state in states)
    if not heard:
        return limits.first_message * (1 if talkative else 5)
    if not talkative:
        return None
    events = sum(state.events for state in heard)
    lasted = max(state.last_recv for state in heard) - min(state.first_recv for state in heard)
    mean_gap = lasted // (events - 1) if events > 1 else limits.silent_socket
    return max(limits.silent_socket, SLOW_FACTOR * mean_gap)
