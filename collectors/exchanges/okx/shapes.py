"""What OKX's messages look like, field by field, and which message a frame is. Pure.

Put together from the venue's documents and from recordings (SOURCES.md beside the fixtures): a field that some of them
lack may be missing. `GET <route>` is the answer of a route.
"""

from __future__ import annotations

from collections.abc import Mapping

from market.shapes import Shape, shapes

_EVERYWHERE = shapes(
    {
        "GET funding-rate-history": (
            "code msg data[].instType data[].instId data[].formulaType? data[].fundingRate data[].realizedRate "
            "data[].fundingTime:ms data[].method?"
        ),
        "GET market/books": "code msg data[].asks[][] data[].bids[][] data[].ts:ms data[].seqId?:int",
        "GET public/instruments": (
            "code msg data[].instId data[].instType? data[].baseCcy? data[].quoteCcy? data[].settleCcy? data[].uly? "
            "data[].instFamily? data[].ctVal? data[].ctMult? data[].ctValCcy? data[].ctType? data[].listTime?:ms "
            "data[].expTime?:ms data[].tickSz? data[].lotSz? data[].minSz? data[].state data[].ruleType? "
            "data[].instIdCode?:int data[].upcChg?:any data[].alias? data[].auctionEndTime? data[].category? "
            "data[].contTdSwTime? data[].futureSettlement?:bool data[].lever? data[].maxIcebergSz? data[].maxLmtAmt? "
            "data[].maxLmtSz? data[].maxMktAmt? data[].maxMktSz? data[].maxPlatOILmt? data[].maxStopSz? "
            "data[].maxTriggerSz? data[].maxTwapSz? data[].openType? data[].optType? data[].posLmtAmt? "
            "data[].posLmtPct? data[].preMktSwTime? data[].stk? data[].tradeQuoteCcyList?:any"
        ),
        "GET public/time": "code msg data[].ts:ms",
        "bbo-tbt": "arg.channel arg.instId data[].asks[][] data[].bids[][] data[].ts:ms data[].seqId:int",
        "books": (
            "arg.channel arg.instId action data[].asks[][] data[].bids[][] data[].ts:ms data[].checksum?:int "
            "data[].prevSeqId:int data[].seqId:int"
        ),
        "candle": "arg.channel arg.instId data[][]",
        "event error": "event? code? msg? connId? id?",
        "event notice": "event? code? msg? connId?",
        "event subscribe": "id? event? arg?.channel? arg?.instId? connId?",
        "event unsubscribe": "id? event? arg?.channel? arg?.instId? connId?",
        "funding-rate": (
            "arg.channel arg.instId data[].formulaType? data[].fundingRate data[].fundingTime:ms data[].impactValue? "
            "data[].instId data[].instType? data[].interestRate? data[].method? data[].maxFundingRate? "
            "data[].minFundingRate? data[].nextFundingRate data[].nextFundingTime:ms data[].premium? "
            "data[].settFundingRate? data[].settState? data[].ts:ms"
        ),
        "liquidation-orders": (
            "arg.channel arg.instType data[].details[].bkLoss data[].details[].bkPx data[].details[].ccy "
            "data[].details[].posSide data[].details[].side data[].details[].sz data[].details[].ts:ms "
            "data[].instFamily data[].instId data[].instType data[].uly"
        ),
        "mark-price": "arg.channel arg.instId data[].instType data[].instId data[].markPx data[].ts:ms",
        "open-interest": (
            "arg.channel arg.instId data[].instId data[].instType data[].oi data[].oiCcy data[].oiUsd? data[].ts:ms"
        ),
        "trades": (
            "arg.channel arg.instId data[].instId data[].tradeId data[].px data[].sz data[].side data[].source? "
            "data[].ts:ms data[].count? data[].seqId?:int"
        ),
        "trades-all": (
            "arg.channel arg.instId data[].instId data[].tradeId data[].px data[].sz data[].side data[].source? "
            "data[].ts:ms"
        ),
    }
)
SHAPES: Mapping[str, Mapping[str, Shape]] = dict.fromkeys(("spot", "linear", "inverse"), _EVERYWHERE)
"""Market -> message -> its shape."""


def described(value: object) -> tuple[str, object] | None:
    """The message that a decoded frame is, and the part of it that its shape describes; None for none that is known."""
    if not isinstance(value, dict):
        return None
    event, asked = value.get("event"), value.get("arg")
    if isinstance(event, str):
        return f"event {event}", value
    channel = asked.get("channel") if isinstance(asked, dict) else None
    if not isinstance(channel, str) or not channel:
        return None
    return ("candle" if channel.startswith("candle") else channel), value
