"""When a connection that is still answered has been without data for too long. Pure.

Answers to pings and heartbeats are frames and no data: a venue may keep both up while it has forgotten every stream.
"""

from __future__ import annotations

from collections.abc import Iterable

from market.session import StreamState
from market.times import MINUTE, SECOND

LEAST = 15 * SECOND
SLOW_FACTOR = 20
"""It is silent when it has been quiet for this many of its own mean gaps."""
ENOUGH = 100
"""Events that a mean gap is taken from; with fewer it has YOUNG, so that a quiet market is not left again and again."""
YOUNG = MINUTE


def ordinary_until(states: Iterable[StreamState]) -> int:
    """Until when (us) its silence is no more than is usual for each of its channels that has spoken; 0 for never.

    A connection that is young has said too little to be judged by that alone.
    """
    return min((state.ordinary for state in states if state.events and state.stream.max_silence is not None), default=0)


def silent_at(states: Iterable[StreamState]) -> int | None:
    """By when (us) the next event of any stream must have come; None where nothing has come yet, or where none of what
    has come declares a `max_silence`.
    """
    events = newest = first = 0
    ordinary: int | None = None
    for state in states:  # asked at every tick, of every stream
        if not state.events:
            continue
        first = min(first, state.first_recv) if events else state.first_recv
        newest = max(newest, state.last_recv)
        events += state.events - state.at_once  # a hundred trades of the past are no rhythm
        if state.stream.max_silence is not None:
            ordinary = state.ordinary if ordinary is None else min(ordinary, state.ordinary)
    if ordinary is None:
        return None
    quiet = max(LEAST if events >= ENOUGH else YOUNG, SLOW_FACTOR * ((newest - first) // max(1, events - 1)))
    return max(newest + quiet, ordinary)
