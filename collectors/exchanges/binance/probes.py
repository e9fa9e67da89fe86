"""How Binance is asked for the newest trade of a symbol, and for its best prices and levels (`market.probing`). Pure.

Spot: the newest aggregate, which names the last trade in it and costs a sixth of the trades themselves. Futures'
`trades` leave out those of the insurance fund and of ADL: an id that is not newer may hide one of these.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from collectors.adapters.asking import NoData
from collectors.adapters.probing import NONE, Probes, Route, best, newest
from collectors.adapters.reading import Id, Millis
from market.probing import Newest
from market.times import MS


class _Aggregate(msgspec.Struct):
    a: Id
    l: Id  # noqa: E741 -- the venue's spelling
    T: Millis


class _Trade(msgspec.Struct):
    id: Id
    time: Millis


class _Best(msgspec.Struct):
    bidPrice: str  # noqa: N815 -- the venue's spelling
    bidQty: str  # noqa: N815
    askPrice: str  # noqa: N815
    askQty: str  # noqa: N815


class _Depth(msgspec.Struct):
    lastUpdateId: Id  # noqa: N815
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


_aggregates = msgspec.json.Decoder(list[_Aggregate]).decode
_trades = msgspec.json.Decoder(list[_Trade]).decode
_tops = msgspec.json.Decoder(_Best | list[_Best]).decode
_depth = msgspec.json.Decoder(_Depth).decode


def _aggregate(body: bytes, kind: str) -> Newest:
    found = _aggregates(body)
    if not found:
        return NONE
    last = max(found, key=lambda one: one.a)
    number = last.a if kind == "agg_trade" else last.l
    return newest(last.T * MS, number, number)


def _trade(body: bytes, kind: str) -> Newest:
    del kind
    found = _trades(body)
    if not found:
        return NONE
    last = max(found, key=lambda one: one.id)
    return newest(last.time * MS, last.id, last.id)


def _best(body: bytes, kind: str) -> Newest:
    del kind
    said = _tops(body)
    found = said if isinstance(said, list) else [said]  # COIN-M answers with a list, even of one symbol
    if len(found) != 1:
        raise NoData("no answer about one symbol")
    return best(found[0].bidPrice, found[0].bidQty, found[0].askPrice, found[0].askQty)


def _levels(body: bytes, kind: str) -> Newest:
    """The best levels: of what changes deeper a quiet book's next look tells."""
    del kind
    said = _depth(body)
    return Newest(0, None, f"REST: book at update {said.lastUpdateId}", f"{said.bids} / {said.asks}")


def _route(path: str, weight: int, read: Callable[[bytes, str], Newest]) -> Route:
    return Route(path + "?symbol={symbol}&limit=1", weight, read)


def _tops_of(api: str, weight: int) -> dict[str, Route]:
    return {
        "quote": Route(f"/{api}/ticker/bookTicker?symbol={{symbol}}", 2, _best),
        "book_delta": Route(f"/{api}/depth?symbol={{symbol}}&limit=5", weight, _levels),
    }


_spot = _route("/api/v3/aggTrades", 4, _aggregate)
_PROBES = Probes(
    {
        "spot": {"trade": _spot, "agg_trade": _spot, **_tops_of("api/v3", 5)},
        **{
            market: {
                "trade": _route(f"/{api}/v1/trades", 5, _trade),
                "agg_trade": _route(f"/{api}/v1/aggTrades", 20, _aggregate),
                **_tops_of(f"{api}/v1", 2),
            }
            for market, api in (("linear", "fapi"), ("inverse", "dapi"))
        },
    }
)
probe, probed = _PROBES.probe, _PROBES.probed
