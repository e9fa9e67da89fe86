"""The clock skew of one session: what to take off the receive time of a quote that carries none of its own.

The median of (receive time - venue time) over the session's previous full minute of the receive clock, from its own
timed frames only, so that a replay of the same frames gives the same value; 0 before that, after a minute without a
timed frame, and where it would be more than a day: such times are no clock's.
"""

from __future__ import annotations

from array import array

from market.times import DAY, MINUTE, floor_to

SAMPLES = 20_000
"""Samples kept of one minute: its first ones. Bounds the sorting once a minute to a few milliseconds."""


class Skew:
    """`value` in us. The minute [`start`, `end`) is the running one; whoever adds or reads rolls it forward first."""

    def __init__(self) -> None:
        self.value = 0
        self.start = 0
        self.end = 0
        self._samples = array("q")
        self._full = False

    def add(self, ts_recv: int, delay: int) -> None:
        """One timed frame: `delay` = receive time - venue time, us."""
        if not self.start <= ts_recv < self.end:
            self.roll(ts_recv)
        if len(self._samples) < SAMPLES:
            self._samples.append(delay)

    def at(self, ts_recv: int) -> int:
        """The skew in force at `ts_recv`."""
        if not self.start <= ts_recv < self.end:
            self.roll(ts_recv)
        return self.value

    def roll(self, ts_recv: int) -> None:
        """Begin the minute of `ts_recv`; the one before counts if it was seen from its start and is the previous."""
        start = floor_to(ts_recv, MINUTE)
        if self._full and start == self.end and self._samples:
            median = sorted(self._samples)[(len(self._samples) - 1) // 2]
            self.value = median if -DAY <= median <= DAY else 0
        else:
            self.value = 0
        self._full = start >= self.end if self.end else ts_recv == start
        self.start, self.end = start, start + MINUTE
        self._samples = array("q")
