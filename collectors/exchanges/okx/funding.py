"""Settled funding rates of OKX, polled without hole or duplicate, as far back as the venue keeps them. Pure.

The route gives at most 400 rows, the newest first, of three months. `before` is what is newer than a time, and gives
the newest page of it; so a longer way is gone backwards with `after` until what is stored is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from collectors.adapters.settled import PolledRates
from collectors.exchanges.okx import wire
from collectors.exchanges.okx.asking import Asking, opened
from market.numbers import is_decimal
from market.session import Fetch, Output, Polled
from market.times import DAY, MS

ROUTE = "funding-rate-history"
PAGE = 400
"""Settled rates in one answer, at most."""


class _Settled(msgspec.Struct):
    """`fundingRate` was the estimate, `realizedRate` is what was settled."""

    instId: str  # noqa: N815 -- the venue's spelling
    realizedRate: str  # noqa: N815
    fundingTime: str  # noqa: N815


_settled = msgspec.json.Decoder(_Settled).decode


class FundingPoll(PolledRates, Asking):
    """A rate's interval is the distance of neighbouring rates: the list of instruments does not say it."""

    route = ROUTE
    weight = 4

    def __init__(self, session_id: str, polled: Polled, base: str) -> None:
        super().__init__(session_id, polled, base)
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
        out, times = self._rows(name, tag, rows, ts_recv)
        return out, self._further(name, times, full=len(rows) >= PAGE)

    def _settled(self, raw: msgspec.Raw) -> tuple[str, int, str | None]:
        row = _settled(raw)
        return row.instId, wire.time_of(row.fundingTime), row.realizedRate if is_decimal(row.realizedRate) else None

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
