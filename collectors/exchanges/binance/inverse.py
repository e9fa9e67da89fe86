"""Binance COIN-M futures: its addresses, limits, collected channels, and what one contract is worth.

The channels are USD-M's. Sources disagree on the path: routed as on USD-M is asked first; where nothing comes the
connection is made again on the unrouted form, which the venue's own client uses. A connection of forced orders and
listings only stays where it is: hours of silence are ordinary there, and acknowledgements prove nothing.
"""

from __future__ import annotations

import re

from collectors.exchanges.binance import wire
from collectors.exchanges.binance.depth import FUTURES_POOL, FUTURES_WEIGHTS, Depth
from collectors.exchanges.binance.futures import CHANNELS, MARKET, PATHS, PUBLIC
from collectors.exchanges.binance.polls import Routes
from market.session import Endpoint, Limits
from market.times import HOUR, MINUTE, SECOND

UNROUTED = "unrouted"
ENDPOINT = Endpoint(
    rest="https://dapi.binance.com",
    ws={
        PUBLIC: "wss://dstream.binance.com/public/stream",
        MARKET: "wss://dstream.binance.com/market/stream",
        UNROUTED: "wss://dstream.binance.com/stream",
    },
)
FALLBACK = UNROUTED
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
EXCHANGE_INFO = "/dapi/v1/exchangeInfo"
EXCHANGE_INFO_WEIGHT = 1
EXCHANGE_INFO_BY_NAME = False
DEPTH = Depth("/dapi/v1/depth", FUTURES_WEIGHTS)
POLLS = Routes("/dapi/v1/time", DEPTH, "/dapi/v1/openInterest", "/dapi/v1/fundingRate", "/dapi/v1/fundingInfo")
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


NAMED = re.compile("[A-Z0-9]+USD_(PERP|[0-9]{6})").fullmatch
"""Contracts for which the rule of `Sizes` holds."""


class Sizes(dict[str, str]):
    """Symbol -> contract size in USD, as decimal text: from exchangeInfo once it was seen.

    Until then, and in recordings that hold no exchangeInfo, it is what the venue lists: 100 USD for BTC contracts,
    10 for all others.
    """

    def __missing__(self, symbol: str) -> str:
        return "100" if symbol.startswith("BTCUSD_") else "10"


def sizes() -> Sizes | None:
    """A new memory of contract sizes."""
    return Sizes()
