"""What Kraken's messages look like, spot (WebSocket v2) and futures, and which message a frame is. Pure.

Put together from the venue's documents and from recordings (SOURCES.md beside the fixtures): a field that some of them
lack may be missing. `GET <route>` is the answer of a route.
"""

from __future__ import annotations

from collections.abc import Mapping

from market.shapes import Shape, shapes

_SPOT = shapes(
    {
        "GET AssetPairs": (
            "error:any result.*.altname result.*.wsname? result.*.aclass_base? result.*.base? result.*.aclass_quote? "
            "result.*.quote? result.*.lot? result.*.cost_decimals?:int result.*.pair_decimals:int "
            "result.*.lot_decimals:int result.*.lot_multiplier?:int result.*.fee_volume_currency? "
            "result.*.margin_call?:int result.*.margin_stop?:int result.*.ordermin? result.*.costmin? "
            "result.*.tick_size result.*.status result.*.long_position_limit?:int result.*.short_position_limit?:int "
            "result.*.leverage_buy?:any result.*.leverage_sell?:any result.*.fees?:any result.*.fees_maker?:any "
            "result.*.execution_venue?"
        ),
        "GET Depth": "error:any result.*.asks[][]:int|text result.*.bids[][]:int|text",
        "GET Time": "error:any result.unixtime:s result.rfc1123",
        "answer": (
            "method? result?.channel? result?.symbol? result?.snapshot?:bool result?.depth?:int result?.interval?:int "
            "result?.event_trigger? result?.execution_venue? result?.warnings?:any success?:bool "
            "time_in? time_out? req_id?:int error?:any symbol?"
        ),
        "book snapshot": (
            "channel type data[].symbol data[].bids[].price:num data[].bids[].qty:num data[].asks[].price:num "
            "data[].asks[].qty:num data[].checksum:int data[].timestamp?"
        ),
        "book update": (
            "channel type data[].symbol data[].bids[].price:num data[].bids[].qty:num data[].asks[].price:num "
            "data[].asks[].qty:num data[].checksum:int data[].timestamp"
        ),
        "heartbeat": "channel?",
        "instrument snapshot": (
            "channel type data.assets[].id data.assets[].status data.assets[].precision:int "
            "data.assets[].precision_display?:int data.assets[].borrowable?:bool data.assets[].collateral_value?:num "
            "data.assets[].margin_rate?:num data.pairs[].symbol data.pairs[].base data.pairs[].quote "
            "data.pairs[].status data.pairs[].qty_precision:int data.pairs[].qty_increment:num "
            "data.pairs[].price_precision:int data.pairs[].price_increment:num data.pairs[].cost_precision?:int "
            "data.pairs[].cost_min?:num data.pairs[].qty_min?:num data.pairs[].marginable?:bool "
            "data.pairs[].has_index?:bool data.pairs[].margin_initial?:num data.pairs[].position_limit_long?:int "
            "data.pairs[].position_limit_short?:int data.pairs[].tick_size?:num"
        ),
        "instrument update": (
            "channel type data.assets[].id data.assets[].status data.assets[].precision:int "
            "data.assets[].precision_display?:int data.assets[].borrowable?:bool data.assets[].collateral_value?:num "
            "data.assets[].margin_rate?:num data.pairs[].symbol data.pairs[].base data.pairs[].quote "
            "data.pairs[].status data.pairs[].qty_precision:int data.pairs[].qty_increment:num "
            "data.pairs[].price_precision:int data.pairs[].price_increment:num data.pairs[].cost_precision?:int "
            "data.pairs[].cost_min?:num data.pairs[].qty_min?:num data.pairs[].marginable?:bool "
            "data.pairs[].has_index?:bool data.pairs[].margin_initial?:num data.pairs[].position_limit_long?:int "
            "data.pairs[].position_limit_short?:int data.pairs[].tick_size?:num"
        ),
        "ohlc snapshot": (
            "channel type data[].symbol data[].interval:int data[].interval_begin data[].open:num data[].high:num "
            "data[].low:num data[].close:num data[].volume:num data[].vwap:num data[].trades:int data[].timestamp? "
            "timestamp?"
        ),
        "ohlc update": (
            "channel type data[].symbol data[].interval:int data[].interval_begin data[].open:num data[].high:num "
            "data[].low:num data[].close:num data[].volume:num data[].vwap:num data[].trades:int data[].timestamp? "
            "timestamp?"
        ),
        "status update": (
            "channel? type? data?[].api_version? data?[].connection_id?:int data?[].system? data?[].version? "
            "data?[].upcoming_maintenance?:any data?[].emergency?:any"
        ),
        "ticker snapshot": (
            "channel type data[].symbol data[].bid:num data[].bid_qty:num data[].ask:num data[].ask_qty:num "
            "data[].last?:num data[].volume?:num data[].vwap?:num data[].low?:num data[].high?:num data[].change?:num "
            "data[].change_pct?:num data[].trades?:int data[].timestamp?"
        ),
        "ticker update": (
            "channel type data[].symbol data[].bid:num data[].bid_qty:num data[].ask:num data[].ask_qty:num "
            "data[].last?:num data[].volume?:num data[].vwap?:num data[].low?:num data[].high?:num data[].change?:num "
            "data[].change_pct?:num data[].trades?:int data[].timestamp?"
        ),
        "trade snapshot": (
            "channel type data[].symbol data[].side data[].price:num data[].qty:num data[].ord_type "
            "data[].trade_id:int data[].timestamp"
        ),
        "trade update": (
            "channel type data[].symbol data[].side data[].price:num data[].qty:num data[].ord_type "
            "data[].trade_id:int data[].timestamp"
        ),
    }
)
_FUTURES = shapes(
    {
        "GET charts": (
            "candles[].time:ms candles[].open candles[].high candles[].low candles[].close candles[].volume:num|text "
            "more_candles:bool result? serverTime?"
        ),
        "GET historical-funding-rates": (
            "result rates[].timestamp rates[].relativeFundingRate:num rates[].fundingRate:num serverTime?"
        ),
        "GET instruments": (
            "result instruments[].symbol instruments[].type instruments[].underlying? instruments[].tickSize:num "
            "instruments[].contractSize:num instruments[].tradeable:bool instruments[].impactMidSize?:num "
            "instruments[].maxPositionSize?:num instruments[].openingDate instruments[].fundingRateCoefficient?:num "
            "instruments[].maxRelativeFundingRate?:num instruments[].isin? "
            "instruments[].contractValueTradePrecision?:int instruments[].postOnly:bool instruments[].feeScheduleUid? "
            "instruments[].mtf?:bool instruments[].base? instruments[].quote? instruments[].pair? "
            "instruments[].lastTradingTime? instruments[].marginLevels?:any instruments[].category? "
            "instruments[].tradfi?:bool instruments[].isExpired?:bool instruments[].makerProtectionMillis?:int "
            "serverTime?"
        ),
        "GET orderbook": "result orderBook.bids[][]:num orderBook.asks[][]:num serverTime",
        "GET tickers": (
            "result ticker.symbol ticker.last?:num ticker.openInterest:num ticker.markPrice?:num serverTime "
            "ticker.lastTime? ticker.tag? ticker.pair? ticker.bid?:num ticker.bidSize?:num ticker.ask?:num "
            "ticker.askSize?:num ticker.vol24h?:num ticker.volumeQuote?:num ticker.open24h?:num ticker.lastSize?:num "
            "ticker.fundingRate?:num ticker.fundingRatePrediction?:num ticker.suspended?:bool ticker.indexPrice?:num "
            "ticker.postOnly?:bool ticker.change24h?:num ticker.high24h?:num ticker.low24h?:num"
        ),
        "book": "feed product_id side seq:int price:num qty:num timestamp:ms",
        "book_snapshot": (
            "feed product_id timestamp:ms seq:int tickSize?:any bids[].price:num bids[].qty:num asks[].price:num "
            "asks[].qty:num"
        ),
        "event alert": "event? message?",
        "event error": "event? message?",
        "event info": "event? version?:int",
        "event subscribed": "event? feed? product_ids?[]",
        "event unsubscribed": "event? feed? product_ids?[]",
        "heartbeat": "feed? time?:ms",
        "ticker": (
            "time:ms product_id funding_rate?:num funding_rate_prediction?:num relative_funding_rate?:num "
            "relative_funding_rate_prediction?:num next_funding_rate_time?:ms feed bid?:num ask?:num bid_size?:num "
            "ask_size?:num volume?:num dtm?:int leverage? index:num premium?:num last?:num change?:num "
            "suspended?:bool tag? pair? openInterest:num markPrice:num maturityTime?:int post_only?:bool "
            "volumeQuote?:num open?:num high?:num low?:num"
        ),
        "trade": "feed product_id uid side type seq:int time:ms qty:num price:num",
        "trade_snapshot": (
            "feed product_id trades[].feed trades[].product_id trades[].uid trades[].side trades[].type "
            "trades[].seq:int trades[].time:ms trades[].qty:num trades[].price:num"
        ),
    }
)
SHAPES: Mapping[str, Mapping[str, Shape]] = {"spot": _SPOT, "linear": _FUTURES, "inverse": _FUTURES}
"""Market -> message -> its shape."""


def described(value: object) -> tuple[str, object] | None:
    """The message that a decoded frame is, and the part of it that its shape describes; None for none that is known."""
    if not isinstance(value, dict):
        return None
    channel, event, feed = value.get("channel"), value.get("event"), value.get("feed")
    if isinstance(value.get("method"), str):
        return "answer", value
    if isinstance(channel, str):
        return (f"{channel} {value['type']}" if "type" in value else channel), value
    if isinstance(event, str):
        return f"event {event}", value
    return (feed, value) if isinstance(feed, str) else None
