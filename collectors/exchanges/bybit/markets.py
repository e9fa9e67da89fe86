"""Bybit's markets: addresses, limits and collected channels. Spot, linear (USDT and USDC) and inverse speak alike."""

from __future__ import annotations

from collections.abc import Mapping

from collectors.exchanges.bybit import books, derivatives, klines, trades
from collectors.exchanges.bybit.asking import FORBIDDEN, FORBIDDEN_PAUSE
from collectors.exchanges.bybit.protocol import Channel
from collectors.exchanges.bybit.wire import INTERVALS
from market.session import Endpoint, Limits
from market.times import MINUTE, SECOND

MARKETS = ("spot", "linear", "inverse")
PUBLIC = "public"
ENDPOINTS: Mapping[str, Endpoint] = {
    market: Endpoint("https://api.bybit.com", {PUBLIC: f"wss://stream.bybit.com/v5/public/{market}"})
    for market in MARKETS
}
_LIMITS = Limits(
    streams_per_connection=200,  # 21,000 characters of topics
    streams_per_request=10,  # of spot; futures state none
    requests_per_second=5,
    connects_per_host=500,
    connects_window=5 * MINUTE,
    max_life=None,
    silent_socket=40 * SECOND,  # two pings
    first_message=15 * SECOND,
    weight_per_minute=7200,  # 600 requests in 5 s
    weight_pool="bybit",
    silences={FORBIDDEN: FORBIDDEN_PAUSE},
)
LIMITS: Mapping[str, Limits] = dict.fromkeys(MARKETS, _LIMITS)


def _channels(market: str) -> dict[str, Channel]:
    """By name. Of the channels of one kind the first is the one offered, the others are for configuration."""
    found = [
        Channel("publicTrade", "trade", contiguous=False, max_silence=None, maker=trades.trade),
        Channel("orderbook.1", "quote", contiguous=False, max_silence=MINUTE, maker=books.quote),
        *(
            Channel(f"orderbook.{levels}", "book_delta", contiguous=True, max_silence=MINUTE, maker=books.delta)
            for levels in (200, 50, 1000)
        ),
        *(
            Channel(f"kline.{interval}", "kline", contiguous=False, max_silence=None, maker=klines.kline)
            for interval in INTERVALS
        ),
    ]
    if market != "spot":
        found += [
            Channel("tickers", "mark_price", contiguous=False, max_silence=MINUTE, maker=derivatives.mark_price),
            Channel(
                "allLiquidation", "liquidation", contiguous=False, max_silence=None, maker=derivatives.liquidation,
                sparse=True,
            ),
        ]  # fmt: skip
    return {channel.name: channel for channel in found}


CHANNELS: Mapping[str, Mapping[str, Channel]] = {market: _channels(market) for market in MARKETS}
