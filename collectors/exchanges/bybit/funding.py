"""Settled funding rates of Bybit, polled without hole or duplicate. Pure.

The route gives at most 200 rows, the newest of those asked for; so what is asked for is never longer than 200 of the
shortest intervals, and one answer leads to the next until now.
"""

from __future__ import annotations

import msgspec

from collectors.adapters.settled import WindowedRates
from collectors.exchanges.bybit.asking import Asking
from market.numbers import is_decimal
from market.session import Fetch, Output
from market.times import HOUR, MS

ROUTE = "funding/history"
PAGE = 200
"""Settled rates in one answer, at most."""


class _Settled(msgspec.Struct):
    symbol: str
    fundingRate: str  # noqa: N815 -- the venue's spelling
    fundingRateTimestamp: str  # noqa: N815


class _Rates(msgspec.Struct):
    rows: list[msgspec.Raw] = msgspec.field(name="list")


_rates = msgspec.json.Decoder(_Rates)
_settled = msgspec.json.Decoder(_Settled).decode


class FundingPoll(WindowedRates, Asking):
    """No symbol settles more often than once an hour."""

    route = ROUTE
    window = PAGE * HOUR

    def _fetch(self, name: str, now: int) -> Fetch:
        first, last = self._asked(name, now)
        url = f"{self._url(name)}&startTime={first}&endTime={last}&limit={PAGE}"
        return Fetch(f"{self.route} {name}", "GET", url, self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        found, _ = self._opened(body, _rates, ts_recv)
        return self._answered(name, tag, found.rows, ts_recv)

    def _settled(self, raw: msgspec.Raw) -> tuple[str, int, str | None]:
        row = _settled(raw)
        text = row.fundingRateTimestamp
        time = int(text) * MS if text.isascii() and text.isdigit() and len(text) <= 13 else 0
        return row.symbol, time, row.fundingRate if is_decimal(row.fundingRate) else None
