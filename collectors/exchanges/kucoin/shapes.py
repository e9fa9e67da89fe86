"""What KuCoin's messages look like, field by field, and which message a frame is. Pure.

Put together from the venue's documents and from recordings (SOURCES.md beside the fixtures): a field that some of them
lack may be missing. `GET <route>` is the answer of a route.
"""

from __future__ import annotations

from collections.abc import Mapping

from market.shapes import Shape, shapes

_SPOT = shapes(
    {
        "/market/candles trade.candles.add": "topic type subject data.symbol data.candles[] data.time:ns",
        "/market/candles trade.candles.update": "topic type subject data.symbol data.candles[] data.time:ns",
        "/market/level2 trade.l2update": (
            "topic type subject data.changes.asks[][] data.changes.bids[][] data.sequenceEnd:int "
            "data.sequenceStart:int data.symbol data.time?:ms"
        ),
        "/market/match trade.l3match": (
            "topic type subject data.makerOrderId data.price data.sequence data.side data.size data.symbol "
            "data.takerOrderId data.time:ns data.tradeId data.type"
        ),
        "/market/ticker trade.ticker": (
            "type topic subject data.sequence data.price data.size data.bestAsk data.bestAskSize data.bestBid "
            "data.bestBidSize data.Time?:ms data.time?:ms"
        ),
        "/spotMarket/level1 level1": "topic type subject data.asks[] data.bids[] data.timestamp:ms",
        "GET level2": "code data.time:ms data.sequence data.bids[][] data.asks[][]",
        "GET symbols": (
            "code data[].symbol data[].baseCurrency? data[].quoteCurrency? data[].market? data[].baseMinSize? "
            "data[].quoteMinSize? data[].baseIncrement? data[].quoteIncrement? data[].priceIncrement? "
            "data[].minFunds? data[].isMarginEnabled?:bool data[].enableTrading:bool data[].st?:bool "
            "data[].callauctionIsEnabled?:bool data[].tradingStartTime?:ms|null"
        ),
        "GET timestamp": "code data:ms",
        "type ack": "id? type?",
        "type error": "id? type? code?:int data?",
        "type pong": "id? type? timestamp?:us",
        "type welcome": "id? type?",
    }
)
_FUTURES = shapes(
    {
        "/contract/instrument funding.rate": (
            "topic type subject data.granularity:int data.fundingRate:num data.timestamp:ms data.period?:int"
        ),
        "/contract/instrument mark.index.price": (
            "topic type subject data.granularity:int data.markPrice:num data.indexPrice:num data.timestamp:ms"
        ),
        "/contract/instrument position.limit": "topic type subject data.granularity:int data.timestamp:ms",
        "/contractMarket/execution match": (
            "topic type subject sn:int data.symbol data.sequence:int data.side data.size:int data.price:num|text "
            "data.takerOrderId data.makerOrderId data.tradeId data.ts:ns"
        ),
        "/contractMarket/level2 level2": "topic type subject sn:int data.sequence:int data.change data.timestamp:ms",
        "/contractMarket/tickerV2 tickerV2": (
            "topic type subject sn:int data.symbol data.sequence:int data.bestBidSize:int data.bestBidPrice "
            "data.bestAskPrice data.bestAskSize:int data.ts:ns"
        ),
        "GET contract/funding-rates": "code data[].symbol data[].fundingRate:num data[].timepoint:ms",
        "GET contracts": (
            "code data.symbol data.openInterest data.multiplier:num data.indexPriceTickSize?:num "
            "data.fundingRateSymbol? data.indexSymbol? data.fundingFeeRate?:num|null "
            "data.predictedFundingFeeRate?:num|null data.turnoverOf24h?:num data.volumeOf24h?:num data.markPrice?:num "
            "data.indexPrice?:num data.nextFundingRateTime?:any data.rootSymbol? data.type? data.firstOpenDate?:ms "
            "data.expireDate?:ms|null data.settleDate?:ms|null data.baseCurrency? data.quoteCurrency? "
            "data.settleCurrency? data.lotSize?:int data.tickSize?:num data.isQuanto?:bool data.isInverse?:bool "
            "data.status? data.fundingRateGranularity?:int|null"
        ),
        "GET contracts/active": (
            "code data[].symbol data[].rootSymbol? data[].type? data[].firstOpenDate?:ms data[].expireDate?:ms|null "
            "data[].settleDate?:null data[].baseCurrency? data[].quoteCurrency? data[].settleCurrency? "
            "data[].lotSize?:int data[].tickSize?:num data[].multiplier?:num data[].isQuanto?:bool "
            "data[].isInverse:bool data[].status data[].fundingRateGranularity?:int|null data[].openInterest? "
            "data[].indexPriceTickSize?:num data[].fundingRateSymbol? data[].indexSymbol? "
            "data[].fundingFeeRate?:num|null data[].predictedFundingFeeRate?:num|null data[].turnoverOf24h?:num "
            "data[].volumeOf24h?:num data[].markPrice?:num data[].indexPrice?:num data[].nextFundingRateTime?:any"
        ),
        "GET kline/query": "code data[]:any",
        "GET level2": "code data.sequence:int data.symbol data.bids[][]:num data.asks[][]:num data.ts:ns",
        "GET timestamp": "code data:ms",
        "type ack": "id? type?",
        "type error": "id? type? code?:int data?",
        "type pong": "id? type? timestamp?:us",
        "type welcome": "id? type?",
    }
)
SHAPES: Mapping[str, Mapping[str, Shape]] = {"spot": _SPOT, "linear": _FUTURES, "inverse": _FUTURES}
"""Market -> message -> its shape."""


def described(value: object) -> tuple[str, object] | None:
    """The message that a decoded frame is, and the part of it that its shape describes; None for none that is known."""
    if not isinstance(value, dict):
        return None
    topic, kind = value.get("topic"), value.get("type")
    if isinstance(topic, str):
        return f"{topic.partition(':')[0]} {value.get('subject')}", value
    return (f"type {kind}", value) if isinstance(kind, str) else None
