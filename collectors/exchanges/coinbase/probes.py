"""How Coinbase is asked for the newest trade of a product (`market.probing`). Pure.

Answers are cached at the venue's edge for about a second, which is less than what is in doubt.
"""

from __future__ import annotations

import msgspec

from collectors.adapters.probing import NONE, TRADE, Probes, Route, newest
from collectors.exchanges.coinbase import wire
from market.probing import Newest


class _Trade(msgspec.Struct):
    trade_id: str
    time: str


class _Answer(msgspec.Struct):
    trades: list[_Trade]


_answer = msgspec.json.Decoder(_Answer).decode


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _newest(body: bytes, kind: str) -> Newest:
    del kind
    found = _answer(body).trades
    if not found:
        return NONE
    last = max(found, key=lambda one: wire.micros(one.time) or 0)
    return newest(wire.micros(last.time), last.trade_id, _number(last.trade_id))


_ROUTE = Route("/api/v3/brokerage/market/products/{symbol}/ticker?limit=1", 1, _newest)
_PROBES = Probes({"spot": {TRADE: _ROUTE}, "linear": {TRADE: _ROUTE}})
probe, probed = _PROBES.probe, _PROBES.probed
