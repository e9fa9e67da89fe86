"""Binance's exchangeInfo: what is listed, in which steps it trades, and the limits of the API."""

from __future__ import annotations

from typing import Any

from simulator.market import Book
from simulator.venues.binance.payloads import NEVER, ONBOARD, pair


def exchange_info(market: str, books: list[Book], now: int, budget: int) -> dict[str, Any]:
    """The answer of the route; `now` in ms."""
    spot = market == "spot"
    limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": budget}]
    if spot:
        limits.append({"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300_000})
    row = {"spot": _spot_row, "linear": _linear_row, "inverse": _inverse_row}[market]
    return {
        "timezone": "UTC",
        "serverTime": now,
        "rateLimits": limits,
        "exchangeFilters": [],
        "symbols": [row(book) for book in books],
    }


def _filters(book: Book) -> list[dict[str, Any]]:
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": book.price(1),
            "maxPrice": book.price(10**9),
            "tickSize": book.price(1),
        },
        {"filterType": "LOT_SIZE", "minQty": book.qty(1), "maxQty": book.qty(10**9), "stepSize": book.qty(1)},
    ]


def _spot_row(book: Book) -> dict[str, Any]:
    listed = book.instrument
    return {
        "symbol": listed.symbol,
        "status": book.status,
        "baseAsset": listed.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listed.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": True,
        "filters": [*_filters(book), {"filterType": "NOTIONAL", "minNotional": "5.00000000"}],
        "permissions": [],
        "permissionSets": [["SPOT", "MARGIN"]],
    }


def _linear_row(book: Book) -> dict[str, Any]:
    listed = book.instrument
    return {
        "symbol": listed.symbol,
        "pair": listed.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": book.delivery // 1000 or NEVER,
        "onboardDate": ONBOARD,
        "status": book.status,
        "baseAsset": listed.base,
        "quoteAsset": listed.quote,
        "marginAsset": listed.quote,
        "pricePrecision": listed.price_decimals,
        "quantityPrecision": listed.qty_decimals,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "filters": [*_filters(book), {"filterType": "MIN_NOTIONAL", "notional": "5.0"}],
    }


def _inverse_row(book: Book) -> dict[str, Any]:
    """Contracts of a number of USD, margined in their base; the status has another name than on USD-M."""
    listed = book.instrument
    return {
        "symbol": listed.symbol,
        "pair": pair(book),
        "contractType": "PERPETUAL",
        "deliveryDate": book.delivery // 1000 or NEVER,
        "onboardDate": ONBOARD,
        "contractStatus": book.status,
        "contractSize": listed.contract_size,
        "baseAsset": listed.base,
        "quoteAsset": listed.quote,
        "marginAsset": listed.base,
        "pricePrecision": listed.price_decimals,
        "quantityPrecision": listed.qty_decimals,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "filters": _filters(book),
    }
