"""What each cell of Coinbase's table rests on: a recording that the tests read, the documents; or its absence."""

from __future__ import annotations

from collections.abc import Mapping

from market.described import Sunset
from market.session import Evidence

_DOCS = "the venue's documents of Advanced Trade, state of 2026-08-22"
_ADVANCED = "cf_advtrade_20260809_first300"
AS_OF = "2026-08-22"
"""The date of the documents that it was written from."""
ENDS = (
    Sunset(
        "International Exchange products (-INTX) on these addresses", "2026-09-09",
        "they moved to a gateway of their own, which is not collected", "announced; not verified since",
        symbol="-INTX",
    ),
)  # fmt: skip
"""What the venue has taken away, or will."""
LIQUID: Mapping[str, str] = {"spot": "BTC-USD", "linear": "BIP-20DEC30-CDE"}
"""Market -> the symbol that is never silent for long."""


def _absent(why: str) -> Evidence:
    return Evidence("absent", "", why)


_STREAMED = (
    "the venue's page of WebSocket endpoints: public market data for spot crypto and US futures, state of 2026-09"
)


def _future(note: str = "") -> Evidence:
    return Evidence("documentation", _STREAMED, f"as on spot, in contracts{note}")


EVIDENCE: Mapping[str, Mapping[str, Evidence]] = {
    "spot": {
        "trade": Evidence(
            "recorded", _ADVANCED, "ids follow by one; or exchange.matches, of the other feed (documentation)"
        ),
        "agg_trade": _absent("the venue tells every fill by itself: collect trade"),
        "quote": Evidence("recorded", _ADVANCED, "told at trades, some 0.3 s behind the book; or exchange.ticker"),
        "book_delta": Evidence(
            "recorded", _ADVANCED,
            "ids are the engine's times; or exchange.level2_batch, whose batches nothing numbers (documentation)",
        ),
        "book_snapshot": Evidence("recorded", "nautilus_http_product_book", "REST only, up to a second old"),
        "liquidation": _absent("the venue has no public feed of liquidations"),
        "mark_price": _absent("spot has no mark price"),
        "funding_rate": _absent("spot has no funding"),
        "open_interest": _absent("spot has no open interest"),
        "kline": Evidence("recorded", _ADVANCED, "five minutes only; closed 30 s after its end by the venue's clock"),
        "contract": Evidence("recorded", "nautilus_http_products", f"flags: {_DOCS}"),
    },
    "linear": {
        "trade": _future("; ids are names: that they follow by one is said of spot only"),
        "quote": _future(),
        "book_delta": _future(),
        "kline": _future("; volume_base is volume x contract_size"),
        "agg_trade": _absent("the venue tells every fill by itself"),
        "book_snapshot": _future("; REST only"),
        "liquidation": _absent("the venue has no public feed of liquidations"),
        "mark_price": _absent("the venue tells an index of futures and no mark price"),
        "funding_rate": Evidence(
            "recorded", "nautilus_http_products_future", "the rate told with a past time; no history: what is not "
            "asked for in its hour is not had",
        ),
        "open_interest": Evidence("recorded", "nautilus_http_products_future", "contracts, in the product"),
        "contract": Evidence("recorded", "nautilus_http_products_future", "US futures (CDE)"),
    },
}  # fmt: skip
