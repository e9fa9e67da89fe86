"""Liveness per symbol and kind: desired, acknowledged, producing; and its alarms: unanswered, silent, stalled.

Pure. Some venues acknowledge streams that will never send (unknown symbols, wrong paths), so "acknowledged but silent"
is its own alarm; a stream that declares `max_silence` and falls quiet for longer, and for much longer than its own
rhythm, has stalled. Streams that declare none are judged by their socket only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import msgspec

from market.session import Stream, StreamState
from market.times import SECOND

Status = Literal["desired", "unanswered", "acknowledged", "silent", "producing", "stalled"]
ALARMS: tuple[Status, ...] = ("unanswered", "silent", "stalled")
SILENT_AFTER = 45 * SECOND
"""From the request, or its acknowledgement, to the alarm: within a minute, the caller's interval included."""
SLOW_FACTOR = 20
"""A stream has stalled when it has been quiet for this many of its own mean gaps."""


class Change(msgspec.Struct, frozen=True):
    """A stream's status changed; `quiet` is how long (us) it had sent nothing."""

    stream: Stream
    was: Status
    status: Status
    quiet: int

    @property
    def alarm(self) -> bool:
        return self.status in ALARMS

    @property
    def was_alarm(self) -> bool:
        return self.was in ALARMS

    @property
    def over(self) -> bool:
        """Whether this ends an alarm."""
        return self.was_alarm and not self.alarm


def allowed_silence(state: StreamState) -> int | None:
    """How long (us) a producing stream may be quiet, None where silence says nothing."""
    if state.stream.max_silence is None:
        return None
    mean_gap = (state.last_recv - state.first_recv) // (state.events - 1) if state.events > 1 else 0
    return max(state.stream.max_silence, SLOW_FACTOR * mean_gap)


def status(state: StreamState, now: int, silent_after: int = SILENT_AFTER) -> Status:
    """What a stream is at `now` (us)."""
    if state.events:
        if state.proven > state.last_recv:
            return "stalled"
        limit = allowed_silence(state)
        return (
            "stalled"
            if limit is not None and now - state.last_recv > limit and now >= max(state.excused, state.ordinary)
            else "producing"
        )
    if state.acknowledged_at:
        if state.proven:
            return "silent"
        if state.stream.sparse or now < state.excused:
            return "acknowledged"
        return "silent" if now - state.acknowledged_at >= silent_after else "acknowledged"
    return "unanswered" if state.desired_at and now - state.desired_at >= silent_after else "desired"


class Watch:
    """The statuses of one connection's streams over time; `look` tells what changed."""

    def __init__(self, silent_after: int = SILENT_AFTER) -> None:
        self._silent_after = silent_after
        self._statuses: dict[str, Status] = {}

    def look(self, states: Iterable[StreamState], now: int) -> list[Change]:
        """Changes since the last look that are news: an alarm, its end, and the first event of a stream."""
        found = []
        for state in states:
            name = state.stream.name
            was = self._statuses.get(name, "desired")
            new = status(state, now, self._silent_after)
            self._statuses[name] = new
            if new != was and (new != "acknowledged" or was in ALARMS):
                last = state.last_recv or state.acknowledged_at or state.desired_at or now
                found.append(Change(state.stream, was, new, now - last))
        return found

    def counts(self) -> Counter[Status]:
        """How many streams are in each status, as of the last look."""
        return Counter(self._statuses.values())
