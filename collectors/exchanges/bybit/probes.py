"""How Bybit is asked for the newest trade of a symbol (`market.probing`). Pure.

Block and RPI trades move no book of the streams: of books and quotes they prove nothing, so a few trades are asked for.
"""

from __future__ import annotations

import msgspec

from collectors.adapters.probing import NONE, TRADE, Probes, Route, newest
from collectors.adapters.reading import LAST
from collectors.exchanges.bybit.asking import opened
from market.probing import Newest
from market.times import MS


class _Trade(msgspec.Struct):
    execId: str  # noqa: N815 -- the venue's spelling
    time: str
    isBlockTrade: bool = False  # noqa: N815
    isRPITrade: bool = False  # noqa: N815

    @property
    def at(self) -> int:
        """us; 0 for what is no time."""
        return int(self.time) * MS if self.time.isascii() and self.time.isdigit() and len(self.time) < 14 else 0


class _Trades(msgspec.Struct):
    rows: list[_Trade] = msgspec.field(name="list")


_trades = msgspec.json.Decoder(_Trades).decode


def _newest(body: bytes, kind: str) -> Newest:
    rows = _trades(opened(body, {}, LAST).result).rows
    found = [one for one in rows if kind == TRADE or not (one.isBlockTrade or one.isRPITrade)]
    if not found:
        return NONE
    last = max(found, key=lambda one: one.at)
    return newest(last.at, last.execId)


_ROUTE = Route("/v5/market/recent-trade?category={market}&symbol={symbol}&limit=10", 1, _newest)
_PROBES = Probes({market: {TRADE: _ROUTE} for market in ("spot", "linear", "inverse")})
probe, probed = _PROBES.probe, _PROBES.probed
