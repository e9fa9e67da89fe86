"""What most venues are polled for: their clock, books of so many levels, open interest. Pure.

Each is a half of a session; the other, named second, says how the venue is asked and how it fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from collectors.adapters.asking import NoData, PollSession
from collectors.adapters.reading import EARLIEST, LAST
from market.session import Fetch, Output, Polled, ServerTime, Stream, StreamState

SILENCE = 3
"""A symbol's open interest that is so many intervals late is missing."""


class PolledClock(PollSession):
    """The venue's clock, at an address of its own."""

    def _names(self) -> Iterable[str]:
        return (self.route,)

    def _name(self, tag: str) -> str | None:
        return tag if tag == self.route else None

    def _fetch(self, name: str, now: int) -> Fetch:
        del name, now
        return Fetch(self.route, "GET", self._base, self._weight)

    def _told(self, time: int, ts_recv: int) -> tuple[list[Output], bool]:
        """What an answer comes to that told `time` (us), 0 for none. Raises NoData."""
        if not EARLIEST <= time < LAST:
            raise NoData("impossible time")
        self.venue_time = max(self.venue_time, min(time, ts_recv))
        return [ServerTime(time)], False


class PolledBooks(PollSession):
    """Books of `_levels` levels a side; a request's tag has their number behind the route."""

    _levels: int

    def _name(self, tag: str) -> str | None:
        route, _, rest = tag.partition(" ")
        levels, _, symbol = rest.partition(" ")
        good = route == self.route and levels.isascii() and levels.isdigit() and len(levels) <= 5
        return symbol if good and symbol in self._symbols else None

    def _fetch(self, name: str, now: int) -> Fetch:
        del now
        return Fetch(f"{self.route} {self._levels} {name}", "GET", self._url(name), self._weight)


def levels_of(tag: str) -> int:
    """How many levels were asked for with the tag of a book."""
    return int(tag.split(" ", 2)[1])


class PolledInterest(PollSession):
    """Open interest of each symbol; its silence is a hole. `more` is for the session's other half."""

    def __init__(self, session_id: str, polled: Polled, base: str, *more: Any) -> None:
        super().__init__(session_id, polled, base, *more)
        self._states = {symbol: StreamState(self._stream(symbol)) for symbol in self._symbols}

    def start(self, now: int) -> Sequence[Output]:
        for state in self._states.values():
            state.desired_at = state.acknowledged_at = now
        return super().start(now)

    def streams(self) -> Iterable[StreamState]:
        return self._states.values()

    def _stream(self, symbol: str) -> Stream:
        silence = SILENCE * self._every or None
        return Stream(
            f"{self.route} {symbol}", self.route, symbol, "open_interest", contiguous=False, max_silence=silence
        )

    def _heard(self, symbol: str, ts_recv: int, time: int) -> None:
        """An answer told a symbol's open interest of `time` (us)."""
        state = self._states[symbol]
        if not state.events:
            state.first_recv, state.first_event = ts_recv, time
        state.last_recv = ts_recv
        state.events += 1
