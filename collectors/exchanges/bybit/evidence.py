"""What each cell of Bybit's table rests on: recordings that the tests read, the venue's documents; or its absence."""

from __future__ import annotations

from collections.abc import Mapping

from market.described import Sunset
from market.session import Evidence

_DOCS = "the venue's documents of V5, state of 2026-07-24"
_SPOT = "cf_v5_spot_20260809"
AS_OF = "2026-07-24"
"""The date of the documents that it was written from."""
ENDS = (
    Sunset(
        "the stream liquidation.<symbol>", "", "use allLiquidation.<symbol>; the old one is refused (measured)",
        _DOCS, markets=("linear", "inverse"), channels=("liquidation",),
    ),
)  # fmt: skip
"""What the venue has taken away, or will."""
LIQUID: Mapping[str, str] = {"spot": "BTCUSDT", "linear": "BTCUSDT", "inverse": "BTCUSD"}
"""Market -> the symbol that is never silent for long."""


def _recorded(recordings: str, note: str = "") -> Evidence:
    return Evidence("recorded", recordings, note)


def _documented(note: str = "") -> Evidence:
    return Evidence("documentation", _DOCS, note)


def _absent(why: str) -> Evidence:
    return Evidence("absent", "", why)


_NO_AGGREGATES = _absent("the venue tells every fill by itself: collect trade")
_DERIVATIVE = {
    "trade": _documented("ids are UUIDs: a loss cannot be told from them"),
    "agg_trade": _NO_AGGREGATES,
    "book_delta": _documented("that u follows by one is measured, on spot"),
    "liquidation": _documented("all of them, without ids; the price is that of bankruptcy"),
    "kline": _documented("one sample of a forming candle"),
    "mark_price": _documented("tickers: one whole, then changes"),
    "funding_rate": _recorded("nautilus_http_get_funding_history"),
    "open_interest": _documented("both sides are counted"),
}
EVIDENCE: Mapping[str, Mapping[str, Evidence]] = {
    "spot": {
        "trade": _recorded(_SPOT, "ids ascend and do not follow by one"),
        "agg_trade": _NO_AGGREGATES,
        "quote": _recorded("cf_v5_spot_ob1_20250613"),
        "book_delta": _recorded(_SPOT, "u follows by one in 548 of 548 changes"),
        "book_snapshot": _documented("REST only: whole books of the stream are rows of book_delta"),
        "liquidation": _absent("spot has no forced orders"),
        "mark_price": _absent("spot has no mark price"),
        "funding_rate": _absent("spot has no funding"),
        "open_interest": _absent("spot has no open interest"),
        "kline": _recorded(_SPOT, "closing candles among them"),
        "contract": _recorded("nautilus_http_get_instruments_spot"),
    },
    "linear": {
        **_DERIVATIVE,
        "quote": _recorded("cf_v5_linear_ob1_20250613"),
        "book_snapshot": _recorded("nautilus_http_get_orderbook", "REST only"),
        "contract": _recorded("nautilus_http_get_instruments_linear"),
    },
    "inverse": {
        **_DERIVATIVE,
        "quote": _documented(),
        "funding_rate": _documented(),
        "book_snapshot": _documented("REST only"),
        "contract": _recorded("nautilus_http_get_instruments_inverse"),
    },
}
