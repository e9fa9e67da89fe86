"""Settled funding rates of KuCoin, polled without hole or duplicate. Pure.

The route wants both ends and gives the newest first; no page says how many at most. What is asked for is so short that
it is never more than 100 rates, and one answer leads to the next until now.
"""

from __future__ import annotations

import msgspec

from collectors.adapters.reading import Millis
from collectors.adapters.settled import WindowedRates
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.asking import Asking, opened
from market.session import Fetch, Output, Polled
from market.times import HOUR, MS

ROUTE = "contract/funding-rates"
WEIGHT = 5


class _Settled(msgspec.Struct):
    symbol: str
    fundingRate: msgspec.Raw  # noqa: N815 -- the venue's spelling
    timepoint: Millis


_rates = msgspec.json.Decoder(list[msgspec.Raw] | None).decode
_settled = msgspec.json.Decoder(_Settled).decode


class FundingPoll(WindowedRates, Asking):
    """No symbol settles more often than once an hour."""

    route = ROUTE
    window = 100 * HOUR

    def __init__(self, session_id: str, polled: Polled, base: str, market: str) -> None:
        super().__init__(session_id, polled, f"{base.rstrip('/')}/api/v1/{ROUTE}", market, WEIGHT)

    def _fetch(self, name: str, now: int) -> Fetch:
        first, last = self._asked(name, now)
        return Fetch(f"{self.route} {name}", "GET", f"{self._url(name)}&from={first}&to={last}", self._weight)

    def _read(self, name: str, tag: str, body: bytes, ts_recv: int) -> tuple[list[Output], bool]:
        return self._answered(name, tag, _rates(opened(body)) or (), ts_recv)

    def _settled(self, raw: msgspec.Raw) -> tuple[str, int, str | None]:
        row = _settled(raw)
        return row.symbol, row.timepoint * MS, wire.figure(row.fundingRate)
