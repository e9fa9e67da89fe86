"""How OKX is asked for the newest trade of an instrument (`market.probing`). Pure."""

from __future__ import annotations

import msgspec

from collectors.adapters.probing import NONE, TRADE, Probes, Route, newest
from collectors.exchanges.okx.asking import opened
from market.probing import Newest
from market.times import MS


class _Trade(msgspec.Struct):
    tradeId: str  # noqa: N815 -- the venue's spelling
    ts: str


_trade = msgspec.json.Decoder(_Trade).decode


def _digits(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _newest(body: bytes, kind: str) -> Newest:
    del kind
    found = [_trade(row) for row in opened(body)]
    if not found:
        return NONE
    last = max(found, key=lambda one: _digits(one.tradeId) or 0)
    return newest((_digits(last.ts) or 0) * MS, last.tradeId, _digits(last.tradeId))


_ROUTE = Route("/api/v5/market/trades?instId={symbol}&limit=1", 1, _newest)
_PROBES = Probes({market: {TRADE: _ROUTE} for market in ("spot", "linear", "inverse")})
probe, probed = _PROBES.probe, _PROBES.probed
