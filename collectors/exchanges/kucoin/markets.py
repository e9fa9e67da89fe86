"""KuCoin's markets: addresses, limits and collected channels of the classic API. Both futures markets share a host."""

from __future__ import annotations

from collections.abc import Mapping

from collectors.exchanges.kucoin import books, derivatives, klines, trades
from collectors.exchanges.kucoin.topics import CANDLES, Channel
from collectors.exchanges.kucoin.wire import INTERVALS
from market.session import Endpoint, Limits
from market.times import HOUR, MINUTE, SECOND

MARKETS = ("spot", "linear", "inverse")
PUBLIC = "public"
_FUTURES = Endpoint("https://api-futures.kucoin.com", {PUBLIC: "wss://ws-api-futures.kucoin.com/"})
ENDPOINTS: Mapping[str, Endpoint] = {
    "spot": Endpoint("https://api.kucoin.com", {PUBLIC: "wss://ws-api-spot.kucoin.com/"}),
    "linear": _FUTURES,
    "inverse": _FUTURES,
}
"""The addresses of streams are what they usually are: the answer with the token says which to use."""
_LIMITS = Limits(
    streams_per_connection=100,  # texts say 300 and 400
    streams_per_request=50,  # the venue takes 100
    requests_per_second=8,  # of 100 messages in 10 s
    connects_per_host=100,  # none is stated
    connects_window=5 * MINUTE,
    max_life=23 * HOUR,  # of a token: 24 h
    silent_socket=40 * SECOND,  # two pings
    first_message=30 * SECOND,
    weight_per_minute=4000,  # 2000 in 30 s from one address
    weight_pool="kucoin",  # whether spot and futures share it no page says
)
LIMITS: Mapping[str, Limits] = dict.fromkeys(MARKETS, _LIMITS)
QUIET = 5 * MINUTE
"""A book without a change for so long is asked for on a new connection; unknown symbols are acknowledged and silent."""


def _spot() -> list[Channel]:
    return [
        Channel("/market/match", "trade", contiguous=False, max_silence=None, maker=trades.match),
        Channel("/spotMarket/level1", "quote", contiguous=False, max_silence=QUIET, maker=books.level1),
        Channel("/market/ticker", "quote", contiguous=False, max_silence=QUIET, maker=books.spot_ticker),
        Channel("/market/level2", "book_delta", contiguous=True, max_silence=QUIET, maker=books.level2),
        *(
            Channel(f"{CANDLES}_{interval}", "kline", contiguous=False, max_silence=None, maker=klines.kline)
            for interval in INTERVALS
        ),
    ]


def _futures() -> list[Channel]:
    return [
        Channel("/contractMarket/execution", "trade", contiguous=False, max_silence=None, maker=trades.execution),
        Channel("/contractMarket/tickerV2", "quote", contiguous=False, max_silence=QUIET, maker=books.ticker),
        Channel("/contractMarket/level2", "book_delta", contiguous=True, max_silence=QUIET, maker=books.change),
        Channel(
            "/contract/instrument", "mark_price", contiguous=False, max_silence=MINUTE, maker=derivatives.mark_price
        ),
    ]


def _channels(market: str) -> dict[str, Channel]:
    """By name. Of the channels of one kind the first is the one offered, the others are for configuration."""
    return {channel.name: channel for channel in (_spot() if market == "spot" else _futures())}


CHANNELS: Mapping[str, Mapping[str, Channel]] = {market: _channels(market) for market in MARKETS}
