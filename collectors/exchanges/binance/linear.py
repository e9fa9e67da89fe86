"""Binance USD-M futures: its addresses, limits and collected channels.

Since 2026-04-23 each channel is served by one routed path only; the other acknowledges it and stays silent. Old
recordings of the unrouted path hold both, and are read by the same parsers.
"""

from __future__ import annotations

from collectors.exchanges.binance import wire
from collectors.exchanges.binance.depth import FUTURES_POOL, FUTURES_WEIGHTS, Depth
from collectors.exchanges.binance.futures import CHANNELS, MARKET, PATHS, PUBLIC
from collectors.exchanges.binance.polls import Routes
from market.session import Endpoint, Limits
from market.times import HOUR, MINUTE, SECOND

ENDPOINT = Endpoint(
    rest="https://fapi.binance.com",
    ws={
        PUBLIC: "wss://fstream.binance.com/public/stream",
        MARKET: "wss://fstream.binance.com/market/stream",
    },
)
LIMITS = Limits(
    streams_per_connection=200,  # the venue allows 1024, older texts 200
    streams_per_request=100,
    requests_per_second=5,  # of 10 inbound messages a second
    connects_per_host=300,
    connects_window=5 * MINUTE,
    max_life=23 * HOUR,  # cut at 24 h
    silent_socket=15 * SECOND,  # or twenty of its own mean gaps, if that is longer
    first_message=60 * SECOND,
    weight_per_minute=2400,
    weight_pool=FUTURES_POOL,
    weight_header=wire.WEIGHT_HEADER,
    weight_unsaid=wire.WEIGHT_UNSAID,
)
EXCHANGE_INFO = "/fapi/v1/exchangeInfo"
EXCHANGE_INFO_WEIGHT = 1
EXCHANGE_INFO_BY_NAME = False
DEPTH = Depth("/fapi/v1/depth", FUTURES_WEIGHTS)
POLLS = Routes("/fapi/v1/time", DEPTH, "/fapi/v1/openInterest", "/fapi/v1/fundingRate", "/fapi/v1/fundingInfo")
FALLBACK = None
"""The unrouted form serves nothing more here since 2026-04-23."""
__all__ = [
    "CHANNELS",
    "DEPTH",
    "ENDPOINT",
    "EXCHANGE_INFO",
    "EXCHANGE_INFO_BY_NAME",
    "EXCHANGE_INFO_WEIGHT",
    "FALLBACK",
    "LIMITS",
    "PATHS",
    "POLLS",
    "sizes",
]


def sizes() -> None:
    """Quantities are in base: there are no contracts whose size must be known."""
