"""What each cell of Binance's table rests on: recordings that the tests read, the venue's documents; or its absence."""

from __future__ import annotations

from collections.abc import Mapping

from market.described import Sunset
from market.session import Evidence

_FUTURES_DOCS = "developers.binance.com, derivatives, state of 2026-08-21"
_ROUTES = "gct_rest_public_routes"
AS_OF = "2026-08-21"
"""The newest of the documents: derivatives of that day, spot of 2026-07-21."""
ENDS = (
    Sunset(
        "the REST routes /api/v1 of spot", "2026-03-25", "use /api/v3", "spot documents, state of 2026-07-21",
        markets=("spot",), address="/api/v1",
    ),
    Sunset(
        "the stream !ticker@arr of spot", "2026-03-26", "use the streams of the symbols, or !miniTicker@arr",
        "spot documents, state of 2026-07-21", markets=("spot",), channels=("!ticker@arr",),
    ),
    Sunset(
        "market data on USD-M addresses without /public or /market", "2026-04-23",
        "use wss://fstream.binance.com/public/stream and /market/stream", "announced 2026-03-06", markets=("linear",),
        address="fstream.binance.com/stream",
    ),
    Sunset(
        "market data on USD-M addresses without /public or /market (raw)", "2026-04-23",
        "use wss://fstream.binance.com/public/stream and /market/stream", "announced 2026-03-06", markets=("linear",),
        address="fstream.binance.com/ws",
    ),
    Sunset(
        "order ids (b, a) in the spot stream trade", "2024-06-30", "none: they are not collected",
        "spot change log, gone in June of that year",
    ),
)  # fmt: skip
"""What the venue has taken away, or will."""
LIQUID: Mapping[str, str] = {"spot": "BTCUSDT", "linear": "BTCUSDT", "inverse": "BTCUSD_PERP"}
"""Market -> the symbol that is never silent for long."""


def _recorded(recordings: str, note: str = "") -> Evidence:
    return Evidence("recorded", recordings, note)


def _documented(source: str, note: str = "") -> Evidence:
    return Evidence("documentation", source, note)


def _absent(why: str) -> Evidence:
    return Evidence("absent", "", why)


EVIDENCE: Mapping[str, Mapping[str, Evidence]] = {
    "spot": {
        "trade": _recorded("hft_spot_btcusdt_20230405", "ids follow"),
        "agg_trade": _recorded("cf_spot_20211012"),
        "quote": _recorded("cf_spot_20211012"),
        "book_delta": _recorded("cf_spot_20211012", "bridges from the recorded snapshot"),
        "book_snapshot": _recorded("cf_spot_20211012", "REST answers; partial depth from the documents"),
        "liquidation": _absent("spot has no forced orders"),
        "mark_price": _absent("spot has no mark price"),
        "funding_rate": _absent("spot has no funding"),
        "open_interest": _absent("spot has no open interest"),
        "kline": _recorded("cf_spot_20211012", "forming candles; the closing one from the documents"),
        "contract": _recorded(f"cf_spot_20211012, {_ROUTES}"),
    },
    "linear": {
        "trade": _recorded(
            "hft_um_btcusdt_20240718, hft_um_btcusdt_20240719", "undocumented stream; 10,701 ids follow"
        ),
        "agg_trade": _recorded("cf_um_20210417"),
        "quote": _recorded("cf_um_20210417, hft_um_btcusdt_20240718, hft_um_btcusdt_20240719"),
        "book_delta": _recorded("cf_um_20210417, hft_um_btcusdt_20240718", "best prices equal bookTicker at equal id"),
        "book_snapshot": _recorded("cf_um_20210417", "REST answers; partial depth from the documents"),
        "liquidation": _documented(_FUTURES_DOCS, "at most one order a symbol and second"),
        "mark_price": _documented(_FUTURES_DOCS),
        "kline": _recorded("cf_um_20210417", "forming candles; the closing one from the documents"),
        "contract": _recorded(f"cf_um_20210417, {_ROUTES}"),
        "funding_rate": _recorded(_ROUTES),
        "open_interest": _recorded(_ROUTES),
    },
    "inverse": {
        "trade": _documented(_FUTURES_DOCS, "undocumented stream, as on USD-M"),
        "agg_trade": _documented(_FUTURES_DOCS),
        "quote": _documented(_FUTURES_DOCS),
        "book_delta": _documented(_FUTURES_DOCS, "chain measured by third parties, 2026-09"),
        "book_snapshot": _recorded(_ROUTES, "REST answers; partial depth from the documents"),
        "liquidation": _documented(_FUTURES_DOCS, "at most one order a symbol and second"),
        "mark_price": _documented(_FUTURES_DOCS),
        "kline": _documented(_FUTURES_DOCS),
        "contract": _recorded(_ROUTES),
        "funding_rate": _recorded(_ROUTES),
        "open_interest": _recorded(_ROUTES),
    },
}
