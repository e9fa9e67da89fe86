"""Kraken's markets: addresses, limits and collected channels. Spot speaks WebSocket v2, futures another protocol."""

from __future__ import annotations

from collections.abc import Mapping

from collectors.adapters.dated import Dated
from collectors.exchanges.kraken import books, futures_parsing, parsing, wire
from collectors.exchanges.kraken.futures import Parse
from collectors.exchanges.kraken.protocol import Channel, Read
from market.session import Endpoint, Limits
from market.times import MINUTE, SECOND

SPOT = "spot"
MARKETS = (SPOT, "linear", "inverse")
PUBLIC = "public"
_SPOT = Endpoint("https://api.kraken.com", {PUBLIC: "wss://ws.kraken.com/v2"})
_FUTURES = Endpoint("https://futures.kraken.com", {PUBLIC: "wss://futures.kraken.com/ws/v1"})
ENDPOINTS: Mapping[str, Endpoint] = {SPOT: _SPOT, "linear": _FUTURES, "inverse": _FUTURES}
_SPOT_LIMITS = Limits(
    streams_per_connection=100,  # none is stated
    streams_per_request=50,
    requests_per_second=5,
    connects_per_host=150,
    connects_window=10 * MINUTE,
    max_life=None,
    silent_socket=10 * SECOND,  # a heartbeat a second
    first_message=15 * SECOND,
    weight_per_minute=60,  # one a second is the common advice
    weight_pool="kraken-spot",
)
_FUTURES_LIMITS = Limits(
    streams_per_connection=100,
    streams_per_request=50,
    requests_per_second=10,  # of 100
    connects_per_host=100,  # at a time
    connects_window=10 * MINUTE,
    max_life=None,
    silent_socket=60 * SECOND,
    first_message=15 * SECOND,
    weight_per_minute=600,  # public routes cost nothing: what is polite
    weight_pool="kraken-futures",
)
LIMITS: Mapping[str, Limits] = {SPOT: _SPOT_LIMITS, "linear": _FUTURES_LIMITS, "inverse": _FUTURES_LIMITS}


def _named(*channels: Channel) -> dict[str, Channel]:
    """By name. Of the channels of one kind the first is the one offered, the others are for configuration."""
    return {channel.name: channel for channel in channels}


_FEEDS = _named(
    Channel("trade", "trade"),
    Channel("trade.liquidation", "liquidation", sparse=True),
    Channel("book", "book_delta", contiguous=True),
    Channel("ticker", "mark_price", max_silence=MINUTE),
    Channel("ticker.best", "quote", max_silence=MINUTE),
)
CHANNELS: Mapping[str, Mapping[str, Channel]] = {
    SPOT: _named(
        Channel("trade", "trade", contiguous=True),
        Channel("ticker", "quote"),
        *(Channel(f"book.{depth}", "book_delta") for depth in (1000, 10, 25, 100, 500)),
        *(Channel(f"ohlc.{interval}", "kline") for interval in wire.INTERVALS),
        Channel("instrument", "contract", sparse=True),
    ),
    "linear": _FEEDS,
    "inverse": _FEEDS,
}
READERS: Mapping[str, Read | Dated[Read]] = {
    "trade": parsing.each(parsing.trade, "trade"),
    "ticker": parsing.each(parsing.quote, "ticker"),
    "book": parsing.each(books.delta, "book", books.unread),
    "ohlc": parsing.each(parsing.kline, "ohlc"),
    "instrument": parsing.pairs,
}
FUTURES_READERS: Mapping[str, Parse | Dated[Parse]] = {
    "trade": futures_parsing.trade,
    "trade_snapshot": futures_parsing.past_trades,
    "book": futures_parsing.change,
    "book_snapshot": futures_parsing.whole,
    "ticker": futures_parsing.ticker,
}
