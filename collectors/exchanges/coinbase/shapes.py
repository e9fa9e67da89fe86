"""What Coinbase's messages look like, field by field, and which message a frame is. Pure.

Put together from the venue's documents and from recordings (SOURCES.md beside the fixtures): a field that some of them
lack may be missing. `GET <route>` is the answer of a route.
"""

from __future__ import annotations

from collections.abc import Mapping

from market.shapes import Shape, shapes

_EVERYWHERE = shapes(
    {
        "Exchange heartbeat": "type? sequence?:int last_trade_id?:int product_id? time?",
        "Exchange l2update": "type product_id changes[][] time product?:int",
        "Exchange last_match": (
            "type trade_id:int maker_order_id taker_order_id side size price product_id sequence:int time"
        ),
        "Exchange match": (
            "type trade_id:int maker_order_id taker_order_id side size price product_id sequence:int time"
        ),
        "Exchange snapshot": "type product_id asks[][] bids[][] time?",
        "Exchange subscriptions": "type? channels?[].name? channels?[].product_ids?[] channels?[].account_ids?:any",
        "Exchange ticker": (
            "type sequence:int product_id price open_24h volume_24h low_24h high_24h volume_30d best_bid "
            "best_bid_size? best_ask best_ask_size? side time trade_id:int last_size"
        ),
        "GET product": (
            "product_id price? base_increment quote_increment base_min_size? status is_disabled:bool cancel_only:bool "
            "limit_only:bool post_only:bool trading_disabled:bool auction_mode?:bool view_only?:bool new?:bool "
            "product_type quote_currency_id base_currency_id alias? alias_to?:any price_increment product_venue? "
            "new_at?:null|text future_product_details?.venue? future_product_details?.contract_code? "
            "future_product_details?.contract_expiry future_product_details?.contract_size? "
            "future_product_details?.contract_root_unit? future_product_details?.contract_expiry_type? "
            "future_product_details?.open_interest future_product_details?.funding_rate "
            "future_product_details?.funding_time:null|text future_product_details?.funding_interval:null|text "
            "future_product_details?.index_price? future_product_details?.settlement_price? "
            "price_percentage_change_24h? volume_24h? volume_percentage_change_24h? quote_min_size? quote_max_size? "
            "base_max_size? base_name? quote_name? watched?:bool fcm_trading_session_details?:any mid_market_price? "
            "base_display_symbol? quote_display_symbol? display_name? approximate_quote_24h_volume? market_cap? "
            "base_cbrn? quote_cbrn? product_cbrn? icon_color? icon_url? display_name_overwrite? "
            "is_alpha_testing?:bool about_description? best_bid_price? best_ask_price?"
        ),
        "GET product_book": (
            "pricebook.product_id pricebook.bids[].price pricebook.bids[].size pricebook.asks[].price "
            "pricebook.asks[].size pricebook.time last? mid_market? spread_bps? spread_absolute?"
        ),
        "GET products": (
            "products[].product_id products[].price? products[].base_increment? products[].quote_increment? "
            "products[].base_min_size? products[].status? products[].is_disabled?:bool products[].cancel_only?:bool "
            "products[].limit_only?:bool products[].post_only?:bool products[].trading_disabled?:bool "
            "products[].auction_mode?:bool products[].view_only?:bool products[].new?:bool products[].product_type? "
            "products[].quote_currency_id? products[].base_currency_id? products[].alias? products[].alias_to?:any "
            "products[].price_increment? products[].product_venue? products[].new_at?:null|text "
            "products[].future_product_details?.venue? products[].future_product_details?.contract_code? "
            "products[].future_product_details?.contract_expiry products[].future_product_details?.contract_size? "
            "products[].future_product_details?.contract_root_unit? "
            "products[].future_product_details?.contract_expiry_type? "
            "products[].future_product_details?.open_interest products[].future_product_details?.funding_rate "
            "products[].future_product_details?.funding_time:null|text "
            "products[].future_product_details?.funding_interval:null|text "
            "products[].future_product_details?.index_price? products[].future_product_details?.settlement_price? "
            "products[].future_product_details?.group_description? "
            "products[].future_product_details?.contract_expiry_timezone? "
            "products[].future_product_details?.group_short_description? "
            "products[].future_product_details?.risk_managed_by? "
            "products[].future_product_details?.perpetual_details?:any "
            "products[].future_product_details?.contract_display_name? "
            "products[].future_product_details?.time_to_expiry_ms? "
            "products[].future_product_details?.non_crypto?:bool "
            "products[].future_product_details?.contract_expiry_name? "
            "products[].future_product_details?.twenty_four_by_seven?:bool "
            "products[].future_product_details?.display_name? products[].future_product_details?.region_enabled?:any "
            "products[].future_product_details?.intraday_margin_rate?:any "
            "products[].future_product_details?.overnight_margin_rate?:any "
            "products[].future_product_details?.futures_asset_type? "
            "products[].future_product_details?.contract_code_display_name? "
            "products[].future_product_details?.product_group_cbrn? products[].price_percentage_change_24h? "
            "products[].volume_24h? products[].volume_percentage_change_24h? products[].quote_min_size? "
            "products[].quote_max_size? products[].base_max_size? products[].base_name? products[].quote_name? "
            "products[].watched?:bool products[].fcm_trading_session_details?:any products[].mid_market_price? "
            "products[].base_display_symbol? products[].quote_display_symbol? products[].display_name? "
            "products[].approximate_quote_24h_volume? products[].market_cap? products[].base_cbrn? "
            "products[].quote_cbrn? products[].product_cbrn? products[].icon_color? products[].icon_url? "
            "products[].display_name_overwrite? products[].is_alpha_testing?:bool products[].about_description? "
            "products[].best_bid_price? products[].best_ask_price? num_products?:int pagination?:any"
        ),
        "GET time": "iso epochSeconds epochMillis",
        "candles": (
            "channel timestamp sequence_num:int events[].type events[].candles[].start:s events[].candles[].high "
            "events[].candles[].low events[].candles[].open events[].candles[].close events[].candles[].volume "
            "events[].candles[].product_id client_id?"
        ),
        "error": "type? message?",
        "heartbeats": (
            "channel? timestamp? sequence_num?:int events?[].current_time? events?[].heartbeat_counter?:int client_id?"
        ),
        "l2_data": (
            "channel timestamp sequence_num:int events[].type events[].product_id events[].updates[].side "
            "events[].updates[].event_time events[].updates[].price_level events[].updates[].new_quantity client_id?"
        ),
        "market_trades": (
            "channel timestamp sequence_num:int events[].type events[].trades[].product_id events[].trades[].trade_id "
            "events[].trades[].price events[].trades[].size events[].trades[].time events[].trades[].side client_id?"
        ),
        "subscriptions": (
            "channel? timestamp? sequence_num?:int events?[].subscriptions?.market_trades?[] "
            "events?[].subscriptions?.*[] client_id?"
        ),
        "ticker": (
            "channel timestamp sequence_num:int events[].type events[].tickers[].type events[].tickers[].product_id "
            "events[].tickers[].price events[].tickers[].volume_24_h events[].tickers[].low_24_h? "
            "events[].tickers[].high_24_h? events[].tickers[].low_52_w? events[].tickers[].high_52_w? "
            "events[].tickers[].price_percent_chg_24_h? events[].tickers[].best_bid events[].tickers[].best_ask "
            "events[].tickers[].best_bid_quantity events[].tickers[].best_ask_quantity client_id?"
        ),
    }
)
SHAPES: Mapping[str, Mapping[str, Shape]] = dict.fromkeys(("spot", "linear"), _EVERYWHERE)
"""Market -> message -> its shape."""


def described(value: object) -> tuple[str, object] | None:
    """The message that a decoded frame is, and the part of it that its shape describes; None for none that is known."""
    if not isinstance(value, dict):
        return None
    channel = value.get("channel")
    if isinstance(channel, str):
        return channel, value
    kind = value.get("type")  # of the older feed, Exchange, whose messages have no channel; errors have none in either
    if not isinstance(kind, str):
        return None
    return ("error" if kind == "error" else f"Exchange {kind}"), value
