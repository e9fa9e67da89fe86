"""OKX's markets: addresses, limits and collected channels. All share the addresses; instruments tell them apart.

Perpetuals and dated futures are one market of ours: linear or inverse, by what an instrument's `ctType` says.
"""

from __future__ import annotations

from collections.abc import Mapping

from collectors.adapters.dated import Dated
from collectors.exchanges.okx import books, derivatives, klines, trades
from collectors.exchanges.okx.protocol import Channel, Maker
from collectors.exchanges.okx.wire import INTERVALS, SUMS_DIED
from market.session import Endpoint, Limits
from market.times import MINUTE, SECOND

MARKETS = ("spot", "linear", "inverse")
PUBLIC, BUSINESS = "public", "business"
BOOKS = "books"
"""Connections of books, on the public address: few of them are carried by one."""
PATHS = {PUBLIC: PUBLIC, BOOKS: PUBLIC, BUSINESS: BUSINESS}
"""What connections are named for -> the address that they are made to."""
ENDPOINTS: Mapping[str, Endpoint] = {
    market: Endpoint(
        "https://openapi.okx.com",
        {PUBLIC: "wss://ws.okx.com/ws/v5/public", BUSINESS: "wss://ws.okx.com/ws/v5/business"},
    )
    for market in MARKETS
}
FUNDING = "funding-rate"
"""The channel of perpetuals that is taken beside that of the mark."""
BOOKS_PER_CONNECTION = 25
"""Fewer than 30 are recommended."""
_LIMITS = Limits(
    streams_per_connection=100,  # 64 KB of arguments a message
    streams_per_request=20,
    requests_per_second=3,  # and 480 commands an hour
    connects_per_host=3,
    connects_window=SECOND,
    max_life=None,
    silent_socket=35 * SECOND,  # one ping, and more than the 30 s after which the venue hangs up
    first_message=15 * SECOND,
    weight_per_minute=1200,  # books: 40 in 2 s; what is allowed less often weighs more
    weight_pool="okx",
)
LIMITS: Mapping[str, Limits] = dict.fromkeys(MARKETS, _LIMITS)

_BOOKS: Dated[Maker] = Dated(books.summed_delta, (SUMS_DIED, books.delta))


def _channels(market: str) -> dict[str, Channel]:
    """By name. Of the channels of one kind the first is the one offered, the others are for configuration."""
    found = [
        Channel("trades-all", "trade", BUSINESS, contiguous=True, max_silence=None, maker=trades.trade),
        Channel("trades", "agg_trade", PUBLIC, contiguous=False, max_silence=None, maker=trades.agg_trade),
        Channel("bbo-tbt", "quote", PUBLIC, contiguous=False, max_silence=2 * MINUTE, maker=books.quote),
        Channel("books", "book_delta", BOOKS, contiguous=True, max_silence=2 * MINUTE, maker=_BOOKS),
        *(
            Channel(f"candle{interval}", "kline", BUSINESS, contiguous=False, max_silence=None, maker=klines.kline)
            for interval in sorted(INTERVALS, key=lambda spelt: spelt != "1m")
        ),
    ]
    if market != "spot":
        found += [
            Channel(
                "mark-price", "mark_price", PUBLIC, contiguous=False, max_silence=MINUTE, maker=derivatives.mark_price
            ),
            Channel(
                FUNDING, "mark_price", PUBLIC, contiguous=False, max_silence=None, maker=derivatives.funding_rate
            ),
            Channel(
                "open-interest", "open_interest", PUBLIC, contiguous=False, max_silence=MINUTE,
                maker=derivatives.open_interest,
            ),
            Channel(
                "liquidation-orders", "liquidation", PUBLIC, contiguous=False, max_silence=None,
                maker=derivatives.liquidation, sparse=True, of_type=True,
            ),
        ]  # fmt: skip
    return {channel.name: channel for channel in found}


CHANNELS: Mapping[str, Mapping[str, Channel]] = {market: _channels(market) for market in MARKETS}
