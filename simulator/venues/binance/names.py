"""Binance's stream names: which are well formed, what they ask for, which path of the futures serves them."""

from __future__ import annotations

import re

from market.times import MS
from simulator.candles import INTERVALS
from simulator.feeds import Wanted

NOTICES = "!contractInfo"
_INTERVAL = r"(?:1s|1m|3m|5m|15m|30m|1h|2h|4h|6h|8h|12h|1d|3d|1w|1M)"
_WELL_FORMED = re.compile(
    r"[^@/\s!]+@(?:trade|aggTrade|blockTrade|bookTicker|miniTicker|ticker|ticker_(?:1h|4h|1d)|avgPrice|referencePrice"
    rf"|kline_{_INTERVAL}(?:@\+08:00)?|continuousKline_{_INTERVAL}|indexPriceKline_{_INTERVAL}|markPriceKline_{_INTERVAL}"
    r"|depth(?:5|10|20)?(?:@(?:0|100|500)ms)?|rpiDepth@500ms|markPrice(?:@1s)?|indexPrice(?:@1s)?|forceOrder"
    r"|compositeIndex|assetIndex)"
    r"|!(?:bookTicker|miniTicker@arr|ticker@arr|markPrice@arr(?:@1s)?|forceOrder@arr|contractInfo|assetIndex@arr)"
    r"|tradingSession"
)
_PUBLIC = re.compile(r"!bookTicker|.*@(?:bookTicker|trade|depth.*|rpiDepth.*)")
_DEPTH = re.compile(r"depth(5|10|20)?(@100ms|@500ms)?")
_SPEEDS = {
    "spot": {None: 1000 * MS, "@100ms": 100 * MS},
    "futures": {None: 250 * MS, "@100ms": 100 * MS, "@500ms": 500 * MS},
}
_FORCED_EVERY = 1000 * MS
_OF_ALL = {
    "!markPrice@arr": Wanted("mark_price", "", 3000 * MS),
    "!markPrice@arr@1s": Wanted("mark_price", "", 1000 * MS),
    "!forceOrder@arr": Wanted("liquidation", "", _FORCED_EVERY),
}
"""Of all contracts of both futures markets, on either host."""


def well_formed(stream: str) -> bool:
    """Whether the venue knows this form of stream name; that its symbol exists is not asked."""
    return _WELL_FORMED.fullmatch(stream) is not None


def public(stream: str) -> bool:
    """Whether `/public` of the futures serves it; `/market` serves the others."""
    return _PUBLIC.fullmatch(stream) is not None


def wanted(market: str, stream: str) -> Wanted | None:
    """What a stream made on request is; None for those the twin does not speak."""
    if stream in _OF_ALL:
        return None if market == "spot" else _OF_ALL[stream]
    symbol, _, channel = stream.partition("@")
    spot = market == "spot"
    if (match := _DEPTH.fullmatch(channel)) is not None:
        period = _SPEEDS["spot" if spot else "futures"].get(match[2])
        if period is None:
            return None
        levels = int(match[1] or 0)
        return Wanted("book_snapshot" if levels else "book_delta", symbol, period, levels)
    if channel.startswith("kline_"):
        interval = channel.removeprefix("kline_")
        if interval not in INTERVALS or (interval == "1s" and not spot):
            return None
        period = 250 * MS if not spot else 1000 * MS if interval == "1s" else 2000 * MS
        return Wanted("kline", symbol, period, interval=interval)
    if spot:
        return None
    if channel in ("markPrice", "markPrice@1s"):
        return Wanted("mark_price", symbol, 1000 * MS if channel.endswith("@1s") else 3000 * MS)
    return Wanted("liquidation", symbol, _FORCED_EVERY) if channel == "forceOrder" else None
