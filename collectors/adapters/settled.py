"""Settled funding rates, polled without hole or duplicate: what to ask for, and the rows of an answer. Pure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from collectors.adapters.asking import PollSession
from collectors.adapters.reading import BAD_FRAME, EARLIEST, EARLY, why
from market.kinds import Contract, FundingRate
from market.session import Output, Polled, Rejected
from market.times import DAY, HOUR, MS, SECOND

LONGEST_INTERVAL = 8 * HOUR
"""Between two settlements; a longer distance between rows is no interval."""


def interval(times: Sequence[int], place: int) -> int | None:
    """Seconds between settlements, as of the one at `place`; None where no neighbour says it."""
    near = [times[one] - times[one - 1] for one in (place, place + 1) if 0 < one < len(times)]
    return next((far // SECOND for far in near if far % HOUR == 0 and far <= LONGEST_INTERVAL), None)


class PolledRates(PollSession):
    """Settled rates from the last known one on; where nothing is known from the beginning of the day (UTC).

    It is half of a session; `more` is for the other, which says how the venue is asked and how it fails.
    """

    def __init__(self, session_id: str, polled: Polled, base: str, *more: Any) -> None:
        super().__init__(session_id, polled, base, *more)
        self._since = dict(polled.since)

    @abstractmethod
    def _settled(self, raw: msgspec.Raw) -> tuple[str, int, str | None]:
        """(symbol, time in us, rate) of an item; the rate is None where it is no number. Raises BAD_FRAME."""

    def _interval(self, symbol: str, times: Sequence[int], place: int) -> int | None:
        """Seconds between the symbol's settlements, as of the one at `place` of `times`."""
        del symbol
        return interval(times, place)

    def _rows(self, name: str, tag: str, items: Iterable[msgspec.Raw], ts_recv: int) -> tuple[list[Output], list[int]]:
        """What an answer's items come to: rejections, then rates, oldest first; and the times of the rates."""
        out: list[Output] = []
        good: dict[int, tuple[int, str]] = {}
        """Time of a settlement -> its place in the answer, and the rate."""
        for item, raw in enumerate(items):
            try:
                symbol, said, rate = self._settled(raw)
            except BAD_FRAME as error:
                out.append(Rejected(f"{self.route}: {why(error)}", self.frame_no, tag))
                continue
            time = (said + SECOND // 2) // SECOND * SECOND
            if symbol != name or rate is None or not EARLIEST < time <= ts_recv - EARLY:
                out.append(Rejected(f"{self.route}: another symbol, no rate or an impossible time", self.frame_no, tag))
                continue
            good.setdefault(time, (item, rate))
        times = sorted(good)
        for place, time in enumerate(times):
            item, rate = good[time]
            out.append(
                FundingRate(
                    name, self.route, time, None, ts_recv, self.session_id, self.frame_no, item, "rest", rate=rate,
                    rate_kind="ratio", interval_s=self._interval(name, times, place), known_at=time,
                )
            )  # fmt: skip
        if times:
            self.venue_time = max(self.venue_time, times[-1])
        return out, times


class WindowedRates(PolledRates):
    """Where a route wants both ends: so little is asked for that one answer has all of it, and the next leads on.

    A rate's interval is what the listing says, else the distance of neighbouring rates.
    """

    window = 0
    """So much (us) is asked for at once."""

    def __init__(self, session_id: str, polled: Polled, base: str, *more: Any) -> None:
        super().__init__(session_id, polled, base, *more)
        self._until: dict[str, int] = {}
        """Symbol -> the end of what was asked for, where that was not yet now."""
        self._intervals: dict[str, int] = {}

    def know(self, contract: Contract) -> None:
        """What the market's reference data says of an instrument (`market.session.Informed`)."""
        if contract.funding_interval_s is not None:
            self._intervals[contract.symbol] = contract.funding_interval_s

    def _asked(self, name: str, now: int) -> tuple[int, int]:
        """The first and the last time (ms) to ask for at `now`."""
        since = self._since.get(name, now - now % DAY)
        until = min(since + self.window, now)
        self._until.pop(name, None)
        if until < now:
            self._until[name] = until
        return since // MS, max(until, since) // MS

    def _answered(self, name: str, tag: str, items: Iterable[msgspec.Raw], ts_recv: int) -> tuple[list[Output], bool]:
        """The rows of an answer, and whether there are more at once."""
        out, times = self._rows(name, tag, items, ts_recv)
        until = self._until.pop(name, None)
        newest = max(times[-1] if times else 0, until or 0)
        if newest:
            self._since[name] = max(self._since.get(name, 0), newest)
        return out, until is not None

    def _interval(self, symbol: str, times: Sequence[int], place: int) -> int | None:
        return self._intervals[symbol] if symbol in self._intervals else interval(times, place)
