"""How KuCoin is asked for the newest trade of a symbol (`market.probing`). Pure. Both routes give the last hundred."""

from __future__ import annotations

import msgspec

from collectors.adapters.probing import NONE, TRADE, Probes, Route, newest
from collectors.exchanges.kucoin.asking import opened
from market.probing import Newest


class _Trade(msgspec.Struct):
    """Times in ns: spot says `time`, futures `ts`."""

    tradeId: str = ""  # noqa: N815 -- the venue's spelling
    sequence: str | int = ""
    time: int = 0
    ts: int = 0

    @property
    def at(self) -> int:
        """Us."""
        return (self.time or self.ts) // 1000


_trades = msgspec.json.Decoder(list[_Trade]).decode


def _newest(body: bytes, kind: str) -> Newest:
    del kind
    found = _trades(opened(body))
    if not found:
        return NONE
    last = max(found, key=lambda one: one.at)
    return newest(last.at, last.tradeId or last.sequence)


_SPOT = Route("/api/v1/market/histories?symbol={symbol}", 3, _newest)
_FUTURES = Route("/api/v1/trade/history?symbol={symbol}", 5, _newest)
_PROBES = Probes({"spot": {TRADE: _SPOT}, "linear": {TRADE: _FUTURES}, "inverse": {TRADE: _FUTURES}})
probe, probed = _PROBES.probe, _PROBES.probed
