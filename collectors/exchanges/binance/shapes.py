"""What Binance's messages look like, field by field, and which message a frame is. Pure.

Put together from the venue's documents and from recordings (SOURCES.md beside the fixtures): a field that some of them
lack may be missing. `GET <route>` is the answer of a route. Of a combined stream the payload is described.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from market.shapes import Shape, shapes

_SPOT = shapes(
    {
        "!serverShutdown": "e? E?:ms",
        "GET depth": "lastUpdateId:int bids[][] asks[][]",
        "GET exchangeInfo": (
            "timezone serverTime:ms rateLimits:any symbols[].symbol symbols[].status symbols[].baseAsset "
            "symbols[].baseAssetPrecision:int symbols[].quoteAsset symbols[].quotePrecision:int "
            "symbols[].orderTypes:any symbols[].isSpotTradingAllowed:bool symbols[].isMarginTradingAllowed:bool "
            "symbols[].filters[].filterType symbols[].filters[].tickSize? symbols[].filters[].stepSize? "
            "symbols[].permissionSets:any symbols[].allowTrailingStop?:bool "
            "symbols[].allowedSelfTradePreventionModes?:any symbols[].amendAllowed?:bool "
            "symbols[].baseCommissionPrecision?:int symbols[].cancelReplaceAllowed?:bool "
            "symbols[].defaultSelfTradePreventionMode? symbols[].icebergAllowed?:bool symbols[].ocoAllowed?:bool "
            "symbols[].otoAllowed?:bool symbols[].permissions?:any symbols[].quoteAssetPrecision?:int "
            "symbols[].quoteCommissionPrecision?:int symbols[].quoteOrderQtyMarketAllowed?:bool exchangeFilters?:any "
            "symbols[].filters[].*:any"
        ),
        "GET time": "serverTime:ms",
        "aggTrade": "e E:ms|us s a:int p q f:int l:int T:ms|us m:bool M:bool",
        "answer": "result?[] result?:null id?:int error?:any code?:int msg?",
        "bookTicker": "u:int s b B a A",
        "depth": "e E:ms|us s U:int u:int a[][][]:any b[][][]:any b[][] a[][]",
        "kline": (
            "e E:ms|us s k.t:ms|us k.T:ms|us k.s k.i k.f:int k.L:int k.o k.c k.h k.l k.v k.n:int k.x:bool k.q k.V k.Q "
            "k.B"
        ),
        "partial depth": "lastUpdateId:int bids[][] asks[][]",
        "trade": "e E:ms|us s t:int p q T:ms|us m:bool M:bool b?:int a?:int",
    }
)
_FUTURES = shapes(
    {
        "!contractInfo": (
            "e E:ms s ct dt:ms ot:ms cs bks?[].bs:int bks?[].bnf:int bks?[].bnc:int bks?[].mmr:num bks?[].cf:int "
            "bks?[].mi:int bks?[].ma:int st:int ps?"
        ),
        "!forceOrder@arr": "e E:ms o.s o.S o.o? o.f? o.q o.p o.ap o.X? o.l? o.z? o.T:ms ps st:int",
        "!markPrice@arr@1s": "[].e [].E:ms [].s [].p [].P [].r [].T:ms [].i?",
        "GET depth": "lastUpdateId:int E:ms T:ms bids[][] asks[][] symbol? pair?",
        "GET exchangeInfo": (
            "serverTime:ms symbols[].symbol symbols[].pair? symbols[].contractType? symbols[].deliveryDate?:ms "
            "symbols[].onboardDate?:ms symbols[].status? symbols[].baseAsset? symbols[].quoteAsset? "
            "symbols[].marginAsset? symbols[].pricePrecision?:int symbols[].quantityPrecision?:int "
            "symbols[].underlyingType? symbols[].underlyingSubType?:any symbols[].filters?[].filterType "
            "symbols[].filters?[].tickSize? symbols[].filters?[].stepSize? symbols[].contractStatus? "
            "symbols[].contractSize?:int symbols[].baseAssetPrecision?:int symbols[].equalQtyPrecision?:int "
            "symbols[].liquidationFee? symbols[].maintMarginPercent? symbols[].marketTakeBound? "
            "symbols[].maxMoveOrderLimit?:int symbols[].orderTypes?:any symbols[].quotePrecision?:int "
            "symbols[].requiredMarginPercent? symbols[].timeInForce?:any symbols[].triggerProtect? "
            "symbols[].permissionSets?:any timezone? exchangeFilters?:any rateLimits?:any futuresType? "
            "symbols[].filters?[].*:any assets?:any"
        ),
        "GET fundingInfo": (
            "[].symbol [].adjustedFundingRateCap [].adjustedFundingRateFloor [].fundingIntervalHours:int "
            "[].disclaimer:bool [].updateTime?:ms"
        ),
        "GET fundingRate": "[].symbol [].fundingRate [].fundingTime:ms [].markPrice? [].rateType?",
        "GET openInterest": "openInterest symbol time:ms more?:int pair? contractType?",
        "GET time": "serverTime:ms",
        "aggTrade": "e E:ms s a:int p q nq? f:int l:int T:ms m:bool st?:int",
        "answer": "result?:null id?:int|null error?:any",
        "bookTicker": "e u:int E:ms T:ms s ps? b B a A st?:int",
        "depth": "e E:ms T:ms s U:int u:int pu:int b[][] a[][] ps? st?:int",
        "forceOrder": "e E:ms o.s o.S o.o o.f o.q o.p o.ap o.X o.l o.z o.T:ms o.ps? ps? st?:int",
        "kline": (
            "e E:ms s k.t:ms k.T:ms k.s k.i k.f:int k.L:int k.o k.c k.h k.l k.v k.n:int k.x:bool k.q k.V k.Q k.B"
        ),
        "markPrice": "[].e [].E:ms [].s [].p [].P [].r [].T:ms e E:ms s p ap? i? P r T:ms st?:int",
        "partial depth": "e E:ms T:ms s U:int u:int pu:int b[][] a[][] ps? st?:int",
        "trade": "e E:ms T:ms s t:int p q X m:bool st?:int",
    }
)
SHAPES: Mapping[str, Mapping[str, Shape]] = {"spot": _SPOT, "linear": _FUTURES, "inverse": _FUTURES}
"""Market -> message -> its shape."""


_CHANNEL = re.compile(r"(!?[A-Za-z]+)(\d*)")
_BARE = {
    "depthUpdate": "depth", "markPriceUpdate": "markPrice", "contractInfo": "!contractInfo",
    "serverShutdown": "!serverShutdown",
}  # fmt: skip
"""Event of a payload without its envelope -> message, where they differ."""
_FAMILIES = frozenset({"kline", "depth", "markPrice"})
"""Channels whose names go on with an interval or a speed."""


def described(value: object) -> tuple[str, object] | None:
    """The message that a decoded frame is, and the part of it that its shape describes; None for none that is known."""
    if not isinstance(value, dict):
        return None
    name, held, event = value.get("stream"), value.get("data"), value.get("e")
    if isinstance(name, str) and name and held is not None:
        return (name if name.startswith("!") else _message(name.partition("@")[2] or name)), held
    if isinstance(event, str):
        return _BARE.get(event, event), value
    if value.keys() & {"result", "error", "code"}:
        return "answer", value
    if "lastUpdateId" in value:
        return "partial depth", value
    return ("bookTicker", value) if {"u", "s"} <= value.keys() else None


def _message(channel: str) -> str:
    found = _CHANNEL.match(channel)
    if found is None or found[1] not in _FAMILIES:
        return channel
    return "partial depth" if found[1] == "depth" and found[2] else found[1]
