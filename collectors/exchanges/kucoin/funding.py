"""Settled funding rates of KuCoin, polled without hole or duplicate. Pure.

The route wants both ends and gives the newest first; no page says how many at most. What is asked for is so short that
it is never more than 100 rates, and one answer leads to the next until now.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLIEST, EARLY, Millis, why
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.asking import Asking, opened
from market.kinds import Contract, FundingRate
from market.session import Fetch, Output, Polled, Rejected
from market.times import DAY, HOUR, MS, SECOND

ROUTE = "contract/funding-rates"
WINDOW = 100 * HOUR
"""No symbol settles more often than once an hour."""
LONGEST_INTERVAL = 8 * HOUR
"""Between two settlements; a longer distance between rows is no interval."""
WEIGHT = 5


class _Settled(msgspec.Struct):
    symbol: str
    fundingRate: msgspec.Raw  # noqa: N815 -- the venue's spelling
    timepoint: Millis


_rates = msgspec.json.Decoder(list[msgspec.Raw] | None).decode
_settled = msgspec.json.Decoder(_Settled).decode


class FundingPoll(Asking):
    """Settled rates from the last known one on; where nothing is known from the beginning of the day (UTC).

    A rate's interval is what the listing says, else the distance of neighbouring rates.
    """

    route = ROUTE

    def __init__(self, session_id: str, polled: Polled, base: str, market: str) -> None:
        super().__init__(session_id, polled, f"{base.rstrip('/')}/api/v1/{ROUTE}", market, WEIGHT)
        self._since = dict(polled.since)
        self._until: dict[str, int] = {}
        """Symbol -> the end of what was asked for, where that was not yet now."""
        self._intervals: dict[str, int] = {}

    def know(self, contract: Contract) -> None:
        """What the market's reference data says of an instrument (`market.session.Informed`)."""
        if contract.funding_interval_s is not None:
            self._intervals[contract.symbol] = contract.funding_interval_s

    def _fetch(self, name: str, now: int) -> Fetch:
        since = self._since.get(name, now - now % DAY)
        until = min(since + WINDOW, now)
        self._until.pop(name, None)
        if until < now:
            self._until[name] = until
        url = f"{self._base}?symbol={quote(name, safe='')}&from={since // MS}&to={max(until, since) // MS}"
        return Fetch(f"{self.route} {name}", "GET", url, self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        out: list[Output] = []
        good: dict[int, tuple[int, str]] = {}
        """Time of a settlement -> its place in the answer, and the rate."""
        for item, raw in enumerate(_rates(opened(body)) or ()):
            try:
                row = _settled(raw)
            except BAD_FRAME as error:
                out.append(Rejected(f"{self.route}: {why(error)}", self.frame_no, tag))
                continue
            time, rate = (row.timepoint * MS + SECOND // 2) // SECOND * SECOND, wire.figure(row.fundingRate)
            if row.symbol != name or rate is None or not EARLIEST < time <= ts_recv - EARLY:
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
        until = self._until.pop(name, None)
        newest = max(times[-1] if times else 0, until or 0)
        if newest:
            self._since[name] = max(self._since.get(name, 0), newest)
        if times:
            self.venue_time = max(self.venue_time, times[-1])
        return out, until is not None

    def _interval(self, symbol: str, times: Sequence[int], place: int) -> int | None:
        """Seconds between settlements, as of the one at `place`."""
        if symbol in self._intervals:
            return self._intervals[symbol]
        near = [times[one] - times[one - 1] for one in (place, place + 1) if 0 < one < len(times)]
        for distance in near:
            if distance % HOUR == 0 and distance <= LONGEST_INTERVAL:
                return distance // SECOND
        return None
