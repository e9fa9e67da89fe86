"""How far our clock is from a venue's, from requests for its time: the middle of one is taken for when it was read.

The error is at most half of the round trip, in which a handshake may lie. Nothing is corrected by it: `ts_recv` stays
what our clock said.
"""

from __future__ import annotations

import msgspec

from market.times import SECOND
from runtime import metrics, polled
from runtime.clock import Clock
from runtime.clock_watch import STEP_US

ALARM = SECOND
"""An offset beyond this is said, once until it is below again."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Our clock less that of a market's REST host at `at`, in us; wrong by at most half of `round_trip_us`."""

    exchange: str
    market_type: str
    at: int
    offset_us: int
    round_trip_us: int


class VenueClock:
    """The offset to the clock of one market's REST host: our time less the venue's, us. `clock` is ours: what it was
    stepped by since the last measure, which may be an hour ago, the venue's was not; a replay has none.
    """

    def __init__(self, exchange: str, market_type: str, clock: Clock | None = None) -> None:
        self.offset: int | None = None
        self.round_trip = 0
        self.reading: Reading | None = None
        self._exchange = exchange
        self._market_type = market_type
        self._alarmed = False
        self._clock = clock
        self._steady = self._ahead_of_steady()
        """By how much (us) our clock was ahead of steady time at the last measure."""

    def measured(self, venue_time: int, ts_recv: int, round_trip: int) -> None:
        """The venue said `venue_time` in an answer that came at `ts_recv`, `round_trip` us after it was asked for."""
        self.offset, self.round_trip = ts_recv - round_trip // 2 - venue_time, round_trip
        self._steady = self._ahead_of_steady()
        seconds = self.offset / SECOND
        self.reading = Reading(
            exchange=self._exchange, market_type=self._market_type, at=ts_recv, offset_us=self.offset,
            round_trip_us=round_trip,
        )  # fmt: skip
        metrics.clock_offset(self._exchange, self._market_type, seconds, round_trip / 2 / SECOND)
        # what the round trip alone may explain is no alarm
        beyond = abs(self.offset) - round_trip // 2 > ALARM
        if beyond and not self._alarmed:
            polled.clock_offset(
                exchange=self._exchange, market_type=self._market_type, offset_seconds=seconds,
                round_trip_seconds=round_trip / SECOND,
            )  # fmt: skip
        self._alarmed = beyond

    def around(self, at: int) -> tuple[int, int]:
        """The earliest and the latest (us) that the venue's clock may have said at `at` of ours; before the first
        measure it is believed to say the same, but for what ours was stepped by.
        """
        offset, error = (self.offset or 0) + self._stepped(), self.round_trip // 2
        return min(at, at - offset - error), max(at, at - offset + error)

    def status(self) -> dict[str, float] | None:
        """What `/status` says of it, seconds; None before the first measure."""
        if self.offset is None:
            return None
        offset = self.offset + self._stepped()
        return {"offset_seconds": offset / SECOND, "round_trip_seconds": self.round_trip / SECOND}

    def _ahead_of_steady(self) -> int:
        """Our wall clock less the time that has passed, asleep or not, us."""
        clock = self._clock
        return 0 if clock is None else clock.now() - round((clock.monotonic() + clock.asleep()) * SECOND)

    def _stepped(self) -> int:
        """By how much (us) our clock was stepped since the last measure; jitter is no step."""
        away = self._ahead_of_steady() - self._steady
        return away if abs(away) > STEP_US else 0


class Clocks:
    """The clocks of all markets, by ours."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[tuple[str, str], VenueClock] = {}

    def readings(self) -> list[Reading]:
        """The last measure of each."""
        return [held.reading for held in self._held.values() if held.reading is not None]

    def of(self, exchange: str, market_type: str) -> VenueClock:
        """The clock of one market, made at first use."""
        key = (exchange, market_type)
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = VenueClock(exchange, market_type, self._clock)
        return held
