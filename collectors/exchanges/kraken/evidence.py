"""What each cell of Kraken's table rests on: recordings that the tests read, the venue's documents; or its absence."""

from __future__ import annotations

from collections.abc import Mapping

from market.described import Sunset
from market.session import Evidence

_DOCS = "the venue's documents of WebSocket v2 and of futures, state of 2026-05-27"
AS_OF = "2026-05-27"
"""The date of the documents that it was written from."""
ENDS = (
    Sunset(
        "the demonstration host of futures", "",
        "its end is announced, yet an overview of 2026-08-22 lists it: use futures.kraken.com", _DOCS,
        markets=("linear", "inverse"), address="demo-futures.kraken.com",
    ),
)  # fmt: skip
"""What the venue has taken away, or will."""
LIQUID: Mapping[str, str] = {"spot": "BTC/USD", "linear": "PF_XBTUSD", "inverse": "PI_XBTUSD"}
"""Market -> the symbol that is never silent for long."""


def _recorded(recordings: str, note: str = "") -> Evidence:
    return Evidence("recorded", recordings, note)


def _documented(note: str = "") -> Evidence:
    return Evidence("documentation", _DOCS, note)


def _absent(why: str) -> Evidence:
    return Evidence("absent", "", why)


_NO_AGGREGATES = _absent("the venue tells every fill by itself: collect trade")
_FUTURES = {
    "trade": _recorded("nautilus_ws_futures_trade, nautilus_ws_futures_trade_snapshot", "ids are UUIDs"),
    "agg_trade": _NO_AGGREGATES,
    "quote": _recorded(
        "nautilus_ws_futures_ticker", "at most once a second, 1 to 4 s behind the book: take book_sample"
    ),
    "book_delta": _recorded(
        "nautilus_ws_futures_book_snapshot, nautilus_ws_futures_book_delta", "that seq follows by one is measured"
    ),
    "book_snapshot": _recorded("nautilus_http_futures_orderbook", "REST only, without id"),
    "liquidation": _documented("fills of the type liquidation in the feed of trades"),
    "mark_price": _recorded("nautilus_ws_futures_ticker", "the rate is the one predicted for the next hour"),
    "funding_rate": _recorded("nautilus_http_futures_historical_funding_rates", "relative, of an hour"),
    "open_interest": _recorded("nautilus_http_futures_tickers", "one side is counted"),
    "kline": _recorded("nautilus_http_futures_candles_trade", "REST only: polled, one minute"),
    "contract": _recorded("nautilus_http_futures_instruments"),
}
EVIDENCE: Mapping[str, Mapping[str, Evidence]] = {
    "spot": {
        "trade": _recorded("nautilus_ws_trade_update", "ids follow by one a pair"),
        "agg_trade": _NO_AGGREGATES,
        "quote": _recorded("nautilus_ws_ticker_snapshot", "numbered by the venue's time"),
        "book_delta": _recorded("pks_v2_book_first100", "the checksum holds in 100 of 100 updates"),
        "book_snapshot": _recorded("nautilus_http_order_book", "REST only, without id"),
        "liquidation": _absent("spot has no public forced orders"),
        "mark_price": _absent("spot has no mark price"),
        "funding_rate": _absent("spot has no funding"),
        "open_interest": _absent("spot has no open interest"),
        "kline": _recorded("nautilus_ws_ohlc_update", "a candle is closed when the next one begins"),
        "contract": _recorded("nautilus_http_asset_pairs"),
    },
    "linear": _FUTURES,
    "inverse": _FUTURES,
}
