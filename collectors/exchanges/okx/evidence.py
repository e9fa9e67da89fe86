"""What each cell of OKX's table rests on: recordings that the tests read, the venue's documents; or its absence."""

from __future__ import annotations

from collections.abc import Mapping

from market.described import Sunset
from market.session import Evidence

_DOCS = "the venue's documents of V5, state of 2026-08-22"
AS_OF = "2026-08-22"
"""The date of the documents that it was written from."""
ENDS = (
    Sunset(
        "port 8443 of WebSocket addresses", "2026-10-31", "use the addresses without a port", _DOCS, address=":8443",
    ),
    Sunset("the stream books-elp", "", "use books-rpi", _DOCS, channels=("books-elp",)),
    Sunset(
        "checksum in frames of books", "2026-06-23", "nothing is needed: prevSeqId and seqId prove the chain",
        "measured in frames of 2026-10",
    ),
)  # fmt: skip
"""What the venue has taken away, or will."""
LIQUID: Mapping[str, str] = {"spot": "BTC-USDT", "linear": "BTC-USDT-SWAP", "inverse": "BTC-USD-SWAP"}
"""Market -> the symbol that is never silent for long."""


def _recorded(recordings: str, note: str = "") -> Evidence:
    return Evidence("recorded", recordings, note)


def _documented(note: str = "") -> Evidence:
    return Evidence("documentation", _DOCS, note)


def _absent(why: str) -> Evidence:
    return Evidence("absent", "", why)


_EVERYWHERE = {
    "trade": _documented("every fill by itself, on the business address; ids follow by one"),
    "agg_trade": _recorded("cf_20220513", "fills of one taker order at one price; without count before 2023"),
    "quote": _documented(),
    "book_delta": _documented("checksum is dead since 2026-06; frames of before 2023, without ids, are proven by it"),
    "book_snapshot": _documented("REST only"),
    "kline": _recorded("cf_okcoin_candle1m_20230527", "closing candles, of a sister venue with the same protocol"),
}
_DERIVATIVE = {
    **_EVERYWHERE,
    "liquidation": _documented("not all of them, without ids; the price is that of the takeover"),
    "mark_price": _documented("index is null; the estimated rate comes by a channel of its own"),
    "funding_rate": _documented("perpetuals, of three months"),
    "open_interest": _documented("contracts, counted once"),
}
EVIDENCE: Mapping[str, Mapping[str, Evidence]] = {
    "spot": {
        **_EVERYWHERE,
        "liquidation": _absent("spot has no forced orders"),
        "mark_price": _absent("spot has no mark price"),
        "funding_rate": _absent("spot has no funding"),
        "open_interest": _absent("spot has no open interest"),
        "contract": _recorded("nautilus_http_get_instruments_spot"),
    },
    "linear": {**_DERIVATIVE, "contract": _recorded("nautilus_http_get_instruments_swap")},
    "inverse": {
        **_DERIVATIVE,
        "contract": _recorded("nautilus_http_get_instruments_swap, nautilus_http_get_instruments_futures"),
    },
}
