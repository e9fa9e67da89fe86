"""What each cell of KuCoin's table rests on: recordings that the tests read, the venue's documents; or its absence."""

from __future__ import annotations

from collections.abc import Mapping

from market.described import Sunset
from market.session import Evidence

_DOCS = "the venue's specification of its classic API, state of 2025-11"
_SPOT = "cf_20210425_first1000"
AS_OF = "2025-11"
"""The date of the documents that it was written from."""
ENDS = (
    Sunset(
        "the routes /api/ua/v1 (UTA V1 REST)", "2026-12-31",
        "the adapter speaks the classic API, which stays the documented one", "secondary, unconfirmed",
        address="/api/ua/v1",
    ),
    Sunset(
        "plain increments in the V2 stream obu", "2026-07-15", "use increment@10ms", "the venue's pages of V2",
        channels=("obu",),
    ),
)  # fmt: skip
"""What the venue has taken away, or will."""
LIQUID: Mapping[str, str] = {"spot": "BTC-USDT", "linear": "XBTUSDTM", "inverse": "XBTUSDM"}
"""Market -> the symbol that is never silent for long."""


def _recorded(recordings: str, note: str = "") -> Evidence:
    return Evidence("recorded", recordings, note)


def _documented(note: str = "") -> Evidence:
    return Evidence("documentation", _DOCS, note)


def _absent(why: str) -> Evidence:
    return Evidence("absent", "", why)


_NO_AGGREGATES = _absent("the venue tells every fill by itself: collect trade")
_FUTURES = {
    "trade": _documented("ids ascend and do not follow by one; sizes in lots"),
    "agg_trade": _NO_AGGREGATES,
    "quote": _documented("sizes in lots"),
    "book_delta": _documented("one level a message; from a snapshot of the whole book"),
    "book_snapshot": _documented("REST only"),
    "liquidation": _absent("the venue tells no forced orders in public: it has no such stream and no such route"),
    "mark_price": _documented("the rate is the newest estimate before; the venue does not say when it settles"),
    "funding_rate": _documented("how many rates one answer holds at most is not said"),
    "open_interest": _documented("lots, without a time of the venue"),
    "contract": _documented(),
    "kline": _documented("REST, polled, one minute: the stream never says that a candle is closed; volumes in lots"),
}
EVIDENCE: Mapping[str, Mapping[str, Evidence]] = {
    "spot": {
        "trade": _recorded("cf_20210423_ticker_match", "ids ascend and do not follow by one"),
        "agg_trade": _NO_AGGREGATES,
        "quote": _documented("nothing numbers level1: of two connections one leads; ticker is numbered"),
        "book_delta": _recorded(_SPOT, "a snapshot holds 100 levels a side: the whole book wants a key"),
        "book_snapshot": _recorded("cf_20210425", "REST only, 100 levels at most"),
        "liquidation": _absent("spot has no forced orders"),
        "mark_price": _absent("spot has no mark price"),
        "funding_rate": _absent("spot has no funding"),
        "open_interest": _absent("spot has no open interest"),
        "kline": _recorded(_SPOT, "a candle is closed by the first message of the next one"),
        "contract": _documented(),
    },
    "linear": _FUTURES,
    "inverse": _FUTURES,
}
