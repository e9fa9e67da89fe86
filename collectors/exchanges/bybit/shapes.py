"""What Bybit's messages look like, field by field, and which message a frame is. Pure.

Put together from the venue's documents and from recordings (SOURCES.md beside the fixtures): a field that some of them
lack may be missing. `GET <route>` is the answer of a route.
"""

from __future__ import annotations

from collections.abc import Mapping

from market.shapes import Shape, shapes

_EVERYWHERE = shapes(
    {
        "GET funding/history": (
            "retCode:int retMsg result.category result.list[].symbol result.list[].fundingRate "
            "result.list[].fundingRateTimestamp:ms retExtInfo?:any time:ms"
        ),
        "GET instruments-info": (
            "retCode:int retMsg result.category? result.nextPageCursor:null|text result.list[].symbol "
            "result.list[].status result.list[].baseCoin? result.list[].quoteCoin? "
            "result.list[].priceFilter?.minPrice? result.list[].priceFilter?.maxPrice? "
            "result.list[].priceFilter?.tickSize result.list[].symbolType? result.list[].contractType? "
            "result.list[].launchTime?:ms result.list[].deliveryTime?:ms result.list[].lotSizeFilter?.maxOrderQty? "
            "result.list[].lotSizeFilter?.minOrderQty? result.list[].lotSizeFilter?.qtyStep? "
            "result.list[].lotSizeFilter?.basePrecision? result.list[].lotSizeFilter?.quotePrecision? "
            "result.list[].lotSizeFilter?.minOrderAmt? result.list[].lotSizeFilter?.maxOrderAmt? "
            "result.list[].lotSizeFilter?.postOnlyMaxOrderQty? result.list[].lotSizeFilter?.maxMktOrderQty? "
            "result.list[].lotSizeFilter?.minNotionalValue? result.list[].fundingInterval?:int "
            "result.list[].settleCoin? result.list[].marginTrading? result.list[].innovation? "
            "result.list[].symbolId?:int result.list[].xstockMultiplier? result.list[].deliveryFeeRate? "
            "result.list[].priceScale? result.list[].leverageFilter?:any result.list[].unifiedMarginTrade?:bool "
            "retExtInfo:any time:ms"
        ),
        "GET orderbook": (
            "retCode:int retMsg result.s result.b[][] result.a[][] result.ts:ms result.u:int result.seq:int "
            "result.cts:ms retExtInfo?:any time:ms"
        ),
        "GET tickers": (
            "retCode:int retMsg result.category result.list[].symbol result.list[].lastPrice? "
            "result.list[].openInterest result.list[].openInterestValue result.list[].singleOpenInterest? "
            "retExtInfo:any time:ms result.list[].prevPrice24h? result.list[].price24hPcnt? "
            "result.list[].highPrice24h? result.list[].lowPrice24h? result.list[].prevPrice1h? "
            "result.list[].markPrice? result.list[].indexPrice? result.list[].turnover24h? result.list[].volume24h? "
            "result.list[].fundingRate? result.list[].nextFundingTime?:ms result.list[].bid1Price? "
            "result.list[].bid1Size? result.list[].ask1Price? result.list[].ask1Size? result.list[].deliveryTime?:ms "
            "result.list[].deliveryFeeRate? result.list[].basis? result.list[].basisRate? "
            "result.list[].predictedDeliveryPrice? result.list[].preOpenPrice? result.list[].preQty? "
            "result.list[].curPreListingPhase? result.list[].fundingIntervalHour? result.list[].fundingCap? "
            "result.list[].basisRateYear? result.list[].singleOpenInterestValue?"
        ),
        "GET time": "retCode:int retMsg result.timeSecond:s result.timeNano:ns retExtInfo:any time:ms",
        "allLiquidation": "topic type ts:ms data[].T:ms data[].s data[].S data[].v data[].p",
        "answer": "success?:bool ret_msg? conn_id? req_id? op?",
        "kline": (
            "topic data[].start:ms data[].end:ms data[].interval data[].open data[].close data[].high data[].low "
            "data[].volume data[].turnover data[].confirm:bool data[].timestamp:ms ts:ms type"
        ),
        "orderbook": "topic type ts:ms data.s data.b[][] data.a[][] data.u:int data.seq?:int cts?:ms",
        "publicTrade": (
            "topic type ts:ms data[].i data[].T:ms data[].p data[].v data[].S data[].seq?:int data[].s data[].BT:bool "
            "data[].RPI?:bool data[].L?"
        ),
        "tickers delta": (
            "topic type data.symbol data.indexPrice? data.bid1Price? data.openInterest? data.bid1Size? "
            "data.fundingRate? data.nextFundingTime?:ms data.markPrice? cs:int ts:ms data.tickDirection? "
            "data.price24hPcnt? data.lastPrice? data.prevPrice24h? data.highPrice24h? data.lowPrice24h? "
            "data.prevPrice1h? data.openInterestValue? data.singleOpenInterest? data.singleOpenInterestValue? "
            "data.turnover24h? data.volume24h? data.fundingIntervalHour? data.fundingCap? data.ask1Price? "
            "data.ask1Size? data.preOpenPrice? data.preQty? data.curPreListingPhase? data.deliveryTime? "
            "data.predictedDeliveryPrice? data.basis? data.basisRate? data.deliveryFeeRate?"
        ),
        "tickers snapshot": (
            "topic type data.symbol data.tickDirection? data.lastPrice? data.markPrice? data.indexPrice? "
            "data.openInterest? data.openInterestValue? data.fundingIntervalHour? data.nextFundingTime?:ms "
            "data.fundingRate? data.bid1Price? data.deliveryTime? data.price24hPcnt? data.prevPrice24h? "
            "data.highPrice24h? data.lowPrice24h? data.prevPrice1h? data.turnover24h? data.volume24h? "
            "data.fundingCap? data.bid1Size? data.ask1Price? data.ask1Size? data.preOpenPrice? data.preQty? "
            "data.curPreListingPhase? data.usdIndexPrice? data.bidPrice? data.bidSize? data.bidIv? data.askPrice? "
            "data.askSize? data.askIv? data.markPriceIv? data.underlyingPrice? data.totalVolume? data.totalTurnover? "
            "data.delta? data.gamma? data.vega? data.theta? data.predictedDeliveryPrice? data.change24h? cs?:int "
            "ts:ms id? data.singleOpenInterest? data.singleOpenInterestValue?"
        ),
    }
)
SHAPES: Mapping[str, Mapping[str, Shape]] = dict.fromkeys(("spot", "linear", "inverse"), _EVERYWHERE)
"""Market -> message -> its shape."""


def described(value: object) -> tuple[str, object] | None:
    """The message that a decoded frame is, and the part of it that its shape describes; None for none that is known."""
    if not isinstance(value, dict):
        return None
    topic = value.get("topic")
    if isinstance(topic, str):
        channel = (topic.rpartition(".")[0] or topic).partition(".")[0]
        return (f"tickers {value.get('type')}" if channel == "tickers" else channel), value
    return ("answer", value) if value.keys() & {"success", "op"} else None
