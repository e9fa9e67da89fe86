"""What can be had of a venue by ccxt: its methods by market and kind, and what stands behind each. Pure.

The names of channels and routes are those of ccxt's capabilities (`exchange.has`).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from market.session import Evidence, Limits, Poll, Stream
from market.times import MINUTE, SECOND

MARKETS = ("spot", "linear", "inverse")
TRADES, BIDS_ASKS, TICKER = "watchTrades", "watchBidsAsks", "watchTicker"
BOOK, CANDLES, LIQUIDATIONS, MARKS = "watchOrderBook", "watchOHLCV", "watchLiquidations", "watchMarkPrice"
MARKETS_ROUTE, INTEREST, FUNDING = "fetchMarkets", "fetchOpenInterest", "fetchFundingRateHistory"
TRADES_PAST, CANDLES_PAST, INTEREST_PAST = "fetchTrades", "fetchOHLCV", "fetchOpenInterestHistory"
INTERVALS: Mapping[str, int] = {
    **{f"{count}m": count * MINUTE for count in (1, 3, 5, 15, 30)},
    **{f"{count}h": count * 60 * MINUTE for count in (1, 2, 4, 6, 8, 12)},
    "1d": 1440 * MINUTE,
}
"""ccxt's names of the candles that are collected -> us."""
SILENCE = 5 * MINUTE


class Channel(msgspec.Struct, frozen=True):
    """One way to watch a symbol. `method` is ccxt's, `timeframe` that of candles."""

    name: str
    kind: str
    method: str
    timeframe: str = ""
    max_silence: int | None = None
    sparse: bool = False

    def stream(self, symbol: str, /) -> Stream:
        return Stream(
            f"{self.name}:{symbol}", self.name, symbol, self.kind, contiguous=False, max_silence=self.max_silence,
            sparse=self.sparse,
        )  # fmt: skip


_SPOT = (
    Channel(TRADES, "trade", TRADES),
    Channel(BIDS_ASKS, "quote", BIDS_ASKS, max_silence=SILENCE),
    Channel(TICKER, "quote", TICKER, max_silence=SILENCE),
    Channel(BOOK, "book_snapshot", BOOK, max_silence=SILENCE),
)
_CANDLES = tuple(Channel(f"{CANDLES}:{one}", "kline", CANDLES, one) for one in INTERVALS)
_CONTRACTS = (
    Channel(LIQUIDATIONS, "liquidation", LIQUIDATIONS, sparse=True),
    Channel(MARKS, "mark_price", MARKS, max_silence=SILENCE),
)
CHANNELS: Mapping[str, Mapping[str, Channel]] = {
    market: {one.name: one for one in (*_SPOT, *(_CANDLES if market == "spot" else _CONTRACTS))} for market in MARKETS
}
"""Market -> name -> channel; the first of a kind is its default."""
BY_NAME: Mapping[str, Channel] = {name: one for held in CHANNELS.values() for name, one in held.items()}
_LISTED = {"contract": Poll(MARKETS_ROUTE, each=False)}
_DERIVATIVE = {**_LISTED, "open_interest": Poll(INTEREST), "funding_rate": Poll(FUNDING)}
POLLS: Mapping[str, Mapping[str, Poll]] = {"spot": _LISTED, "linear": _DERIVATIVE, "inverse": _DERIVATIVE}


def limits(name: str) -> Mapping[str, Limits]:
    """Those of one venue: its requests are paced by ccxt, whose own limiter knows the venue."""
    one = Limits(
        streams_per_connection=100, streams_per_request=1, requests_per_second=4.0, connects_per_host=20,
        connects_window=MINUTE, max_life=None, silent_socket=SILENCE, first_message=60 * SECOND, weight_pool=name,
    )  # fmt: skip
    return dict.fromkeys(MARKETS, one)


_DOCS = "ccxt 4.5.90's unified structures; which venue has it is asked of ccxt at the start"


def _told(note: str) -> Evidence:
    return Evidence("documentation", _DOCS, note)


def _absent(why: str) -> Evidence:
    return Evidence("absent", "", why)


_EVERYWHERE = {
    "trade": _told("ids are names: a loss inside a connection is not seen; a trade of several fills may be one"),
    "agg_trade": _absent("ccxt does not tell aggregated trades from others: collect trade"),
    "quote": _told("watchBidsAsks, or channels: {quote: watchTicker}"),
    "book_delta": _absent("ccxt keeps the book itself and does not show its updates: collect book_snapshot"),
    "book_snapshot": _told("the book that ccxt keeps, at most once a second; it has no words of the venue"),
    "contract": _told("symbols are ccxt's unified ones, uid is the venue's own"),
}
_NONE = "spot has no such thing"
_CONTRACT = {
    **_EVERYWHERE,
    "kline": _absent("ccxt does not say what the volumes of contracts' candles count: bars come from trade"),
    "liquidation": _told("as far as the venue pushes them; rows without a side are set aside"),
    "mark_price": _told(""),
    "funding_rate": _told("taken as ratios"),
    "open_interest": _told("taken as contracts, counted once"),
}
EVIDENCE: Mapping[str, Mapping[str, Evidence]] = {
    "spot": {
        **_EVERYWHERE,
        "kline": _told("a candle is a row once a later one was told of; it has no words of the venue"),
        **{kind: _absent(_NONE) for kind in ("liquidation", "mark_price", "funding_rate", "open_interest")},
    },
    "linear": _CONTRACT,
    "inverse": _CONTRACT,
}
