"""Typical rates and sizes as data: what an estimate starts from where a lake has none of its own.

Measured with this program from the recordings that tests read (minutes of one market, years apart) and said so, or a
guess, and said so: `spread` is the factor by which the truth may lie on either side. All events are a day's of one
symbol, all sizes bytes a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

Tier = Literal["busiest", "busy", "other"]
TIERS: Mapping[str, Tier] = {
    **dict.fromkeys(("BTC", "XBT", "ETH"), "busiest"),
    **dict.fromkeys(("SOL", "XRP", "BNB", "DOGE", "ADA", "TRX", "LTC", "AVAX", "LINK", "SUI", "BCH"), "busy"),
}
"""Base currencies by how busy their markets are; all others are `other`."""


class Rate(NamedTuple):
    """Events a day of one symbol, the factor by which that may be wrong, and where it is from."""

    events: float
    spread: float
    basis: str


class Size(NamedTuple):
    """Bytes a row: as a line of raw, in a hot part, in a daily file."""

    raw: float
    hot: float
    table: float


def _recorded(events: float, recording: str) -> Rate:
    return Rate(events, 3.0, f"recorded: {recording}")


def _seen(events: float, what: str) -> Rate:
    return Rate(events, 2.0, f"measured: {what}")


def _guess(events: float) -> Rate:
    return Rate(events, 5.0, "a guess")


_SPOT = {
    ("trade", "busiest"): _recorded(656_000, "BTCUSDT, 7 min of 2023-04"),
    ("trade", "busy"): _guess(150_000),
    ("trade", "other"): _guess(20_000),
    ("quote", "busiest"): _recorded(1_670_000, "BTCUSDT, 7 min of 2023-04"),
    ("quote", "busy"): _guess(600_000),
    ("quote", "other"): _recorded(238_000, "NKNUSDT, 30 s of 2021-10"),
    ("book_delta", "busiest"): _recorded(819_000, "BTCUSDT, 7 min of 2023-04"),
    ("book_delta", "busy"): _guess(600_000),
    ("book_delta", "other"): _recorded(432_000, "NKNUSDT, 30 s of 2021-10"),
}
_LINEAR = {
    ("trade", "busiest"): _recorded(2_806_000, "BTCUSDT, 5 min of 2024-07"),
    ("trade", "busy"): _guess(500_000),
    ("trade", "other"): _guess(60_000),
    ("agg_trade", "busy"): _recorded(240_000, "DENTUSDT, 30 s of 2021-04"),
    ("quote", "busiest"): _recorded(13_000_000, "BTCUSDT, 5 min of 2024-07"),
    ("quote", "busy"): _recorded(2_541_000, "YFIUSDT, 30 s of 2021-04"),
    ("quote", "other"): _guess(400_000),
    ("book_delta", "busiest"): _recorded(1_637_000, "BTCUSDT unthrottled, 5 min of 2024-07"),
    ("book_delta", "busy"): _recorded(773_000, "KSMUSDT, 30 s of 2021-04"),
    ("book_delta", "other"): _seen(223_000, "571 perpetuals, 2026-09"),
}
BINANCE: Mapping[str, Mapping[tuple[str, str], Rate]] = {"spot": _SPOT, "linear": _LINEAR}
"""Market -> (kind, tier) -> rate at Binance, which the others are taken to be a part of."""
OWN: Mapping[tuple[str, str, str, str], Rate] = {
    ("bybit", "linear", "book_delta", "other"): _seen(496_000, "819 perpetuals, 2026-09"),
    ("bybit", "linear", "quote", "other"): _recorded(325_000, "SNTUSDT, 28 s of 2025-06"),
    ("okx", "spot", "agg_trade", "busiest"): _recorded(585_000, "BTC-USDT, 10 s of 2022-05"),
    ("okx", "spot", "book_delta", "busiest"): _recorded(782_000, "BTC-USDT, 11 s of 2022-05"),
    ("okx", "linear", "book_delta", "other"): _seen(265_000, "473 perpetuals, 2026-09"),
    ("kraken", "linear", "book_delta", "other"): _seen(1_430_000, "275 perpetuals, 2026-09"),
    ("kucoin", "spot", "quote", "other"): _recorded(337_000, "DAPPT-BTC, 6 s of 2021-04"),
    ("kucoin", "spot", "book_delta", "other"): _recorded(1_490_000, "DAPPT-BTC, 6 s of 2021-04"),
}
"""(exchange, market, kind, tier) -> what is known of that venue itself."""
PARTS: Mapping[str, float] = {"binance": 1.0, "bybit": 0.6, "okx": 0.5, "coinbase": 0.3, "kucoin": 0.15, "kraken": 0.1}
"""What part of Binance's events another venue has; a guess."""
PART_OF_OTHERS = 0.1
PART_OF_INVERSE = 0.15
"""What part of linear contracts' events inverse ones have; a guess."""
FEWER_TRADES = 0.4
"""Aggregated trades a trade; a guess."""
LIQUIDATIONS: Mapping[Tier, float] = {"busiest": 3_000, "busy": 500, "other": 30}
SETTLEMENTS = 3.0
CHANGES = 2.0
"""Changes of a contract a day."""
STREAMED_INTEREST = 28_800.0
MARKS = 86_400.0
CANDLES = 1440.0
FIVE_MINUTES: Mapping[str, float] = {"coinbase": 288.0}
PATTERN: Mapping[str, int] = {"spot": 400, "linear": 500, "inverse": 30}
"""Symbols that a pattern may mean where no lake says it; a guess."""
SIZES: Mapping[str, Size] = {
    "trade": Size(303, 14, 12),
    "agg_trade": Size(336, 70, 30),
    "quote": Size(315, 13, 11),
    "book_delta": Size(900, 110, 95),
    "liquidation": Size(330, 60, 40),
    "mark_price": Size(300, 25, 15),
    "funding_rate": Size(290, 60, 40),
    "open_interest": Size(290, 40, 25),
    "contract": Size(520, 120, 90),
    "kline": Size(450, 90, 60),
    "bar_1s": Size(0, 140, 125),
    "bar_1m": Size(0, 180, 140),
}
"""Of trades, quotes and books from the recordings' lakes of more than 3,000 rows; of the others from small ones."""
_LINE, _LEVEL_RAW, _PACKED = 220.0, 24.0, 0.14
"""Of a book's whole: bytes around the levels, bytes a level, and the part that is left of that in Parquet."""
FRAMES_PART: Mapping[str, float] = {"binance": 0.10, "bybit": 0.104, "okx": 0.175, "kucoin": 0.094}
"""Bytes of frames files (zstd) a byte of raw, from the recordings' lakes."""
FRAMES_OTHERS, FRAMES_CCXT = 0.12, 0.20
_EVERY = re.compile(r"@([0-9]+)(ms|s)")
_DEPTH = re.compile(r"depth([0-9]{1,4})@")
_CANDLE = re.compile(r"([0-9]+)(s|m|min|h|hour|H|d|D|day)?(?:utc)?$")
_UNITS = {
    "s": 1,
    "m": 60,
    "min": 60,
    "": 60,
    "h": 3600,
    "hour": 3600,
    "H": 3600,
    "d": 86_400,
    "D": 86_400,
    "day": 86_400,
}
DAY = 86_400.0


def tier(symbol: str) -> Tier:
    """How busy a symbol's market is, by how its name begins."""
    letters = re.sub(r"[^A-Z0-9]", "", symbol.upper().removeprefix("PF_").removeprefix("PI_"))
    held = [base for base in TIERS if letters.startswith(base)]
    return TIERS[max(held, key=len)] if held else "other"


def cadence(channel: str) -> float | None:
    """Events a day of a channel that says how often it speaks, as `depth@100ms`."""
    found = _EVERY.search(channel)
    if found is None:
        return None
    seconds = int(found[1]) / (1000 if found[2] == "ms" else 1)
    return DAY / seconds if seconds else None


def candles(exchange: str, channel: str) -> float:
    """Closed candles a day of a channel that says their interval."""
    if exchange in FIVE_MINUTES:
        return FIVE_MINUTES[exchange]
    found = _CANDLE.search(channel)
    seconds = int(found[1]) * _UNITS[found[2] or ""] if found else 0
    return DAY / seconds if seconds else CANDLES


def levels(channel: str) -> int | None:
    """Levels a side of a channel that says so, as `depth20@100ms`."""
    found = _DEPTH.match(channel)
    return None if found is None else int(found[1])


def whole_book(levels: int) -> Size:
    """Bytes of a snapshot of so many levels a side."""
    raw = _LINE + 2 * levels * _LEVEL_RAW
    return Size(raw, raw * _PACKED * 1.15, raw * _PACKED)


def rate(exchange: str, market: str, kind: str, symbol: str) -> Rate:
    """Events a day of a kind that comes as the market goes."""
    of = tier(symbol)
    if (known := OWN.get((exchange, market, kind, of))) is not None:
        return known
    if kind == "liquidation":
        return _guess(LIQUIDATIONS[of])
    if exchange == "coinbase" and kind == "quote":
        kind = "trade"  # its quotes are told at trades
    table = BINANCE.get(market, _LINEAR)
    found = table.get((kind, of))
    if found is None:
        trades = table["trade", of]
        found = Rate(trades.events * FEWER_TRADES, trades.spread * 1.5, trades.basis)
    part = PARTS.get(exchange, PART_OF_OTHERS) * (PART_OF_INVERSE if market == "inverse" else 1.0)
    if part == 1.0:
        return found
    return Rate(found.events * part, max(5.0, found.spread * 1.5), f"{part:g} of Binance's, a guess ({found.basis})")


def frames_part(exchange: str) -> float:
    """Bytes of frames a byte of raw."""
    return FRAMES_CCXT if exchange.startswith("ccxt-") else FRAMES_PART.get(exchange, FRAMES_OTHERS)
