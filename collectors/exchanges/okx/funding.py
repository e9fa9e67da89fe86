"""Settled funding rates of OKX, polled without hole or duplicate, as far back as the venue keeps them. Pure.

The route gives at most 400 rows, the newest first, of three months. `before` is what is newer than a time, and gives
the newest page of it; so a longer way is gone backwards with `after` until what is stored is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLIEST, EARLY, why
from collectors.exchanges.okx import wire
from collectors.exchanges.okx.asking import Asking, opened
from market.kinds import FundingRate
from market.numbers import is_decimal
from market.session import Fetch, Output, Polled, Rejected
from market.times import DAY, HOUR, MS, SECOND

ROUTE = "funding-rate-history"
PAGE = 400
"""Settled rates in one answer, at most."""
LONGEST_INTERVAL = 8 * HOUR
"""Between two settlements; a longer distance between rows is no interval."""


class _Settled(msgspec.Struct):
    """`fundingRate` was the estimate, `realizedRate` is what was settled."""

    instId: str  # noqa: N815 -- the venue's spelling
    realizedRate: str  # noqa: N815
    fundingTime: str  # noqa: N815


_settled = msgspec.json.Decoder(_Settled).decode


class FundingPoll(Asking):
    """Settled rates from the last known one on; where nothing is known from the beginning of the day (UTC).

    A rate's interval is the distance of neighbouring rates: the list of instruments does not say it.
    """

    route = ROUTE
    weight = 4

    def __init__(self, session_id: str, polled: Polled, base: str) -> None:
        super().__init__(session_id, polled, base)
        self._since = dict(polled.since)
        self._before: dict[str, int] = {}
        """Symbol -> the oldest settlement of the way back so far, where it goes on."""
        self._newest: dict[str, int] = {}
        """Symbol -> the newest settlement of that way."""

    def _fetch(self, name: str, now: int) -> Fetch:
        since = self._since.setdefault(name, now - now % DAY)
        older = self._before.get(name)
        times = f"&before={since // MS - 1}" if older is None else f"&after={older // MS}"
        url = f"{self._base}?instId={quote(name, safe='')}{times}&limit={PAGE}"
        return Fetch(f"{self.route} {name}", "GET", url, self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        rows = opened(body)
        out: list[Output] = []
        good: dict[int, tuple[int, str]] = {}
        """Time of a settlement -> its place in the answer, and the rate."""
        for item, raw in enumerate(rows):
            try:
                row = _settled(raw)
            except BAD_FRAME as error:
                out.append(Rejected(f"{self.route}: {why(error)}", self.frame_no, tag))
                continue
            time = (wire.time_of(row.fundingTime) + SECOND // 2) // SECOND * SECOND
            if row.instId != name or not is_decimal(row.realizedRate) or not EARLIEST < time <= ts_recv - EARLY:
                out.append(Rejected(f"{self.route}: another symbol, no rate or an impossible time", self.frame_no, tag))
                continue
            good.setdefault(time, (item, row.realizedRate))
        times = sorted(good)
        for place, time in enumerate(times):
            item, rate = good[time]
            out.append(
                FundingRate(
                    name, self.route, time, None, ts_recv, self.session_id, self.frame_no, item, "rest", rate=rate,
                    rate_kind="ratio", interval_s=_interval(times, place), known_at=time,
                )
            )  # fmt: skip
        if times:
            self.venue_time = max(self.venue_time, times[-1])
        return out, self._further(name, times, full=len(rows) >= PAGE)

    def _further(self, name: str, times: Sequence[int], *, full: bool) -> bool:
        """Whether older rates than these are missing, which are asked for at once."""
        newest = max(self._newest.get(name, 0), times[-1] if times else 0)
        since = self._since.get(name, 0)
        if full and times and times[0] > since and times[0] != self._before.get(name):
            self._before[name], self._newest[name] = times[0], newest
            return True
        self._before.pop(name, None)
        self._newest.pop(name, None)
        self._since[name] = max(since, newest)
        return False


def _interval(times: Sequence[int], place: int) -> int | None:
    """Seconds between settlements, as of the one at `place`."""
    near = [times[one] - times[one - 1] for one in (place, place + 1) if 0 < one < len(times)]
    for distance in near:
        if distance % HOUR == 0 and distance <= LONGEST_INTERVAL:
            return distance // SECOND
    return None
