"""Binance spot: its addresses, limits and collected channels.

One WebSocket path serves every channel. Times are asked for in microseconds; a connection that answers in
milliseconds all the same is read by the size of the number.
"""

from __future__ import annotations

from collectors.exchanges.binance import books, klines, quotes, trades, wire
from collectors.exchanges.binance.depth import Depth
from collectors.exchanges.binance.polls import Routes
from collectors.exchanges.binance.protocol import Channel
from market.session import Endpoint, Limits
from market.times import HOUR, MINUTE, SECOND

STREAM = "stream"
ENDPOINT = Endpoint(
    rest="https://api.binance.com",
    ws={STREAM: "wss://stream.binance.com:9443/stream?timeUnit=MICROSECOND"},
)
LIMITS = Limits(
    streams_per_connection=400,  # the venue allows 1024
    streams_per_request=100,
    requests_per_second=3,  # of 5 inbound messages a second, pongs included
    connects_per_host=300,
    connects_window=5 * MINUTE,
    max_life=23 * HOUR,  # cut at 24 h
    silent_socket=15 * SECOND,  # or twenty of its own mean gaps, if that is longer
    first_message=60 * SECOND,
    weight_per_minute=6000,
    weight_pool="binance-spot",
    weight_header=wire.WEIGHT_HEADER,
)
_SPEEDS = ("@100ms", "")
CHANNELS = {
    channel.name: channel
    for channel in (
        Channel("trade", "trade", contiguous=True, max_silence=None, maker=trades.spot_trade),
        Channel("aggTrade", "agg_trade", contiguous=True, max_silence=None, maker=trades.agg_trade),
        Channel("bookTicker", "quote", contiguous=False, max_silence=MINUTE, maker=quotes.spot_quote),
        *(
            Channel(f"depth{speed}", "book_delta", contiguous=True, max_silence=MINUTE, maker=books.spot_delta)
            for speed in _SPEEDS  # without a speed: one second
        ),
        *(
            Channel(
                f"depth{levels}{speed}", "book_snapshot", contiguous=False, max_silence=MINUTE, maker=books.spot_book,
                symbol_at="name",
            )
            for levels in (20, 10, 5)
            for speed in _SPEEDS
        ),
        *(
            Channel(f"kline_{interval}", "kline", contiguous=False, max_silence=None, maker=klines.kline)
            for interval in klines.INTERVALS
        ),
    )
}  # fmt: skip
"""By name. Of the channels of one kind the first is the one offered, the others are for configuration."""
PATHS = dict.fromkeys(CHANNELS, STREAM)
"""channel -> name of the WebSocket base that serves it."""

EXCHANGE_INFO = "/api/v3/exchangeInfo"
EXCHANGE_INFO_WEIGHT = 20
EXCHANGE_INFO_BY_NAME = True
DEPTH = Depth("/api/v3/depth", {100: 5, 500: 25, 1000: 50, 5000: 250})
POLLS = Routes("/api/v3/time", DEPTH)
FALLBACK = None
"""There is one path."""


def sizes() -> None:
    """Quantities are in base: there are no contracts whose size must be known."""
