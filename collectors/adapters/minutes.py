"""The venue's own one-minute candles where REST alone tells them for good: what to ask for, and which are closed. Pure.

Candles are asked for from the last known one on, those of the last minutes once more: what a venue changes behind its
close comes as another revision, and an unchanged candle is dropped by the merger. Nothing in an answer says that a
candle is closed; it is so some time after its end by the time of receipt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from collectors.adapters.asking import NoData
from collectors.adapters.reading import EARLIEST, EARLY, TOO_LONG
from market.kinds import Kline
from market.numbers import product
from market.session import Output, Polled, Rejected
from market.times import HOUR, MINUTE, MS, SECOND, floor_to

INTERVAL = "1m"
GRACE = 10 * SECOND
"""After a candle's end until it is taken for closed."""
AGAIN = 2 * MINUTE
"""So much of what was told is asked for once more."""
LOOKBACK = HOUR
"""How far back the first request goes where nothing is stored."""
PAGE = 400 * MINUTE
"""Of one request: fewer than any venue's page."""


class Told(msgspec.Struct, frozen=True):
    """A candle of an answer: its opening time (us), the venue's texts, and its volume in the venue's unit."""

    opened: int
    open: str
    high: str
    low: str
    close: str
    volume: str


class Minutes:
    """What is known of the candles of a session's symbols."""

    def __init__(self, polled: Polled, route: str) -> None:
        self._route = route
        self._next: dict[str, int] = {symbol: floor_to(time, MINUTE) + MINUTE for symbol, time in polled.since.items()}
        self._floor = dict(self._next)
        """What lies before was stored by a session before: it is not asked for again."""
        self._until: dict[str, int] = {}

    def asked(self, name: str, now: int) -> tuple[int, int]:
        """The opening times (us) of the first and the last candle to ask for at `now`."""
        newest = floor_to(now - GRACE, MINUTE) - MINUTE
        wanted = self._next.get(name)
        first = newest - LOOKBACK if wanted is None else max(wanted - AGAIN, self._floor.get(name, 0))
        first = min(first, newest)
        last = min(first + PAGE, newest)
        self._until[name] = last
        return first, last

    def rows(
        self, told: Iterable[Told | str], at: tuple[str, str, int, int], worth: Mapping[str, str], *, inverse: bool
    ) -> tuple[list[Output], bool]:
        """Rows of an answer's closed candles, and whether there are more at once. `at`: symbol, session, frame_no,
        ts_recv. Volumes times `worth` of the symbol are base units, of inverse contracts quote units. Raises NoData.
        """
        name, session, number, ts_recv = at
        multiplier = worth.get(name)
        out: list[Output] = []
        for item, one in enumerate(told):
            if isinstance(one, str):
                out.append(Rejected(f"{self._route}: {one}", number, f"{self._route} {name}"))
                continue
            if not EARLIEST < one.opened <= ts_recv - EARLY or one.opened % MINUTE:
                out.append(Rejected(f"{self._route}: impossible time", number, f"{self._route} {name}"))
                continue
            if one.opened + MINUTE + GRACE > ts_recv:
                continue  # it may be forming still
            if multiplier is None:
                raise NoData("what a contract is worth is not known")
            volume = product(one.volume, multiplier)
            if volume is None:
                out.append(Rejected(f"{self._route}: {TOO_LONG}", number, f"{self._route} {name}"))
                continue
            base, quote = (None, volume) if inverse else (volume, None)
            out.append(
                Kline(
                    name, self._route, one.opened + MINUTE - MS, None, ts_recv, session, number, item, "rest", INTERVAL,
                    one.opened, one.open, one.high, one.low, one.close, base, quote, None, None, None,
                )
            )  # fmt: skip
        return out, self._answered(name, ts_recv)

    def _answered(self, name: str, now: int) -> bool:
        """What was asked for has been told; whether there is more by now."""
        until = self._until.pop(name, None)
        if until is None:
            return False  # a replay asks nothing
        self._next[name] = max(self._next.get(name, 0), until + MINUTE)
        return until + MINUTE < floor_to(now - GRACE, MINUTE)


def in_order(rows: Sequence[Told | str]) -> list[Told | str]:
    """Rejections first, then candles oldest first, whatever order an answer has."""
    texts, candles = [one for one in rows if isinstance(one, str)], [one for one in rows if isinstance(one, Told)]
    return [*texts, *sorted(candles, key=lambda one: one.opened)]
