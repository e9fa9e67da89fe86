"""Coinbase's markets: addresses, limits and collected channels of both feeds. All of it public, without a key.

`linear` are the US futures, of Advanced Trade alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from collectors.exchanges.coinbase import books, exchange_feed, klines, quotes, trades
from collectors.exchanges.coinbase import exchange_wire as flat
from collectors.exchanges.coinbase.protocol import ADVANCED, EXCHANGE, Channel
from market.session import Endpoint, Limits
from market.times import MINUTE, SECOND

MARKETS = ("spot", "linear")
_REST, _ADVANCED = "https://api.coinbase.com", {ADVANCED: "wss://advanced-trade-ws.coinbase.com"}
ENDPOINTS: Mapping[str, Endpoint] = {
    "spot": Endpoint(_REST, {**_ADVANCED, EXCHANGE: "wss://ws-feed.exchange.coinbase.com"}),
    "linear": Endpoint(_REST, _ADVANCED),
}
LIMITS: Mapping[str, Limits] = dict.fromkeys(
    MARKETS,
    Limits(
        streams_per_connection=25,  # measured: more than about 30 products of level2 and the socket is closed
        streams_per_request=25,
        requests_per_second=4,  # of 8, without a key
        connects_per_host=4,  # of 8 a second
        connects_window=SECOND,
        max_life=None,
        silent_socket=10 * SECOND,  # ten heartbeats
        first_message=15 * SECOND,
        max_frame=16 * 1024 * 1024,  # a whole book of BTC-USD has 5 MB and more
        weight_per_minute=600,  # 10 requests a second
        weight_pool="coinbase",
    ),
)
_ADVANCED_CHANNELS = (
    Channel(trades.CHANNEL, "trade", contiguous=True, max_silence=None, maker=trades.trade),
    Channel(quotes.CHANNEL, "quote", contiguous=False, max_silence=None, maker=quotes.quote),
    Channel(books.CHANNEL, "book_delta", contiguous=True, max_silence=10 * MINUTE, maker=books.delta),
    Channel(klines.CHANNEL, "kline", contiguous=False, max_silence=None, maker=klines.kline),
)
_EXCHANGE_CHANNELS = (
    Channel(
        exchange_feed.MATCHES, "trade", contiguous=True, max_silence=None, maker=exchange_feed.trade,
        types=("match", flat.LAST_MATCH),
    ),
    Channel(
        exchange_feed.TICKER, "quote", contiguous=False, max_silence=None, maker=exchange_feed.quote, types=("ticker",)
    ),
    Channel(
        exchange_feed.BOOK, "book_delta", contiguous=True, max_silence=10 * MINUTE, maker=exchange_feed.delta,
        types=("snapshot", "l2update"),
    ),
)  # fmt: skip
CHANNELS: Mapping[str, Mapping[str, Channel]] = {
    "spot": {channel.name: channel for channel in (*_ADVANCED_CHANNELS, *_EXCHANGE_CHANNELS)},
    "linear": {
        channel.name: msgspec.structs.replace(channel, contiguous=channel.contiguous and channel.kind != "trade")
        for channel in _ADVANCED_CHANNELS
    },
}
