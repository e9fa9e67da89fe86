"""Settled funding rates of Binance, polled without hole or duplicate. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from collectors.adapters.answers import Failure
from collectors.adapters.schedule import Schedule
from collectors.adapters.settled import LONGEST_INTERVAL, interval
from collectors.exchanges.binance import answers, wire
from collectors.exchanges.binance.asking import Asking
from collectors.exchanges.binance.wire import BAD_FRAME, EARLY
from market.kinds import FundingRate
from market.numbers import is_decimal
from market.session import Fetch, Output, Polled, Rejected
from market.times import DAY, HOUR, MS, SECOND

ROUTE, INFO = "fundingRate", "fundingInfo"
PAGE = 1000
"""Settled rates in one answer, at most."""
SPACING = 6 * SECOND // 5
"""Between two requests, on average: the route has a limit of its own, 500 in 5 minutes, of which half is used."""
OVERLAP = SECOND
"""By how much a page begins before the last known rate: its time is rounded."""
EARLIEST = 1_500_000_000_000_000
"""2017: the venue did not exist before."""


class _Settled(msgspec.Struct):
    symbol: str
    fundingRate: str  # noqa: N815 -- the venue's spelling
    fundingTime: wire.Time  # noqa: N815


class _Info(msgspec.Struct):
    symbol: str
    fundingIntervalHours: Annotated[int, msgspec.Meta(ge=1, le=24)]  # noqa: N815


_items = msgspec.json.Decoder(list[msgspec.Raw] | None).decode
_settled = msgspec.json.Decoder(_Settled).decode
_info = msgspec.json.Decoder(_Info).decode


class FundingPoll(Asking):
    """Settled funding rates: from the last known one on, page by page, each page with the last row of the one before.

    Where nothing is known it begins with the day (UTC). A rate's interval is what `fundingInfo` says of the symbol,
    else the distance of neighbouring rates, else the eight hours of every symbol that `fundingInfo` does not name.
    Many symbols are asked for less often than wanted, where the route's own limit leaves no other way.
    """

    route = ROUTE

    def __init__(self, session_id: str, polled: Polled, base: str, info: str, weight: int) -> None:
        every = max(polled.every, SPACING * len(set(polled.symbols))) if polled.every else 0
        super().__init__(session_id, msgspec.structs.replace(polled, every=every), base, weight)
        self._info_url = info
        self._since = dict(polled.since)
        self._hours: dict[str, int] | None = None
        self._info = Schedule([INFO], max(polled.every, HOUR) if polled.every else 0)
        self._waiting = True
        """For the first answer of fundingInfo, whatever it is."""

    def start(self, now: int) -> Sequence[Output]:
        self._info.begin(now)
        return super().start(now)

    def tick(self, now: int) -> Sequence[Output]:
        asked = [Fetch(INFO, "GET", self._info_url, self._weight) for _ in self._info.due(now)]
        return asked if self._waiting else [*asked, *super().tick(now)]

    def next_deadline(self) -> int | None:
        info = self._info.deadline()
        rates = None if self._waiting else super().next_deadline()
        return min((at for at in (info, rates) if at is not None), default=None)

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        if tag != INFO:
            return super().respond(tag, status, headers, body, ts_recv)
        self.frame_no += 1
        self._waiting = False
        failed = answers.failure(status, headers, body)
        try:
            if status == 200:
                found = [_info(raw) for raw in _items(body) or ()]
                self._hours = {info.symbol: info.fundingIntervalHours for info in found}
                self._info.answered(INFO, ts_recv)
                self.ignored[INFO] += 1
                return ()
        except BAD_FRAME as error:
            failed = Failure(f"status 200 without data: {wire.why(error)}"[:300])
        self._info.failed(INFO, failed, ts_recv)
        self._schedule.failed(INFO, failed, ts_recv)
        return (Rejected(f"{INFO}: {failed.reason}"[:300], self.frame_no, INFO),)

    def _fetch(self, name: str, now: int) -> Fetch:
        since = self._since.get(name, now - now % DAY) - OVERLAP
        url = f"{self._url(name)}&startTime={since // MS}&limit={PAGE}"
        return Fetch(f"{self.route} {name}", "GET", url, self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        items = _items(body) or []
        out: list[Output] = []
        good: dict[int, tuple[int, int, str]] = {}
        """Time of a settlement -> its place in the answer, when the venue says that it was, and the rate."""
        for item, raw in enumerate(items):
            try:
                row = _settled(raw)
            except BAD_FRAME as error:
                out.append(Rejected(f"{self.route}: {wire.why(error)}", self.frame_no, tag))
                continue
            said = wire.to_us(row.fundingTime)
            time = (said + SECOND // 2) // SECOND * SECOND
            if row.symbol != name or not is_decimal(row.fundingRate) or not EARLIEST < time <= ts_recv - EARLY:
                out.append(Rejected(f"{self.route}: another symbol, no rate or an impossible time", self.frame_no, tag))
                continue
            good.setdefault(time, (item, said, row.fundingRate))
        times = sorted(good)
        for place, time in enumerate(times):
            item, said, rate = good[time]
            out.append(
                FundingRate(
                    name, self.route, time, None, ts_recv, self.session_id, self.frame_no, item, "rest", rate=rate,
                    rate_kind="ratio", interval_s=self._interval(name, times, place), known_at=max(time, said),
                )
            )  # fmt: skip
        before = self._since.get(name, 0)
        if times:
            self._since[name] = max(before, times[-1])
            self.venue_time = max(self.venue_time, times[-1])
        return out, len(items) >= PAGE and bool(times) and times[-1] > before

    def _interval(self, symbol: str, times: Sequence[int], place: int) -> int | None:
        """Seconds between settlements, as of the one at `place`."""
        if self._hours is not None and symbol in self._hours:
            return self._hours[symbol] * HOUR // SECOND
        near = interval(times, place)
        return LONGEST_INTERVAL // SECOND if near is None and self._hours is not None else near
