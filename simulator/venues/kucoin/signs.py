"""What KuCoin's rows are known by: fills by texts, numbers by leaps; spot's best levels by what they say."""

from __future__ import annotations

from market.times import SECOND
from simulator.signs import KLINE, Sign, Signs, time

_TRADE = Sign("trade_id", read=lambda name: (int(name) - 1_000_000_000) // 3, shows=False)
_BOOK = Sign("last_id")
_FUTURES = {
    "trade": _TRADE,
    "quote": Sign("update_id", shows=False),
    "book_delta": _BOOK,
    # one a minute tells the funding rate and no price
    "mark_price": Sign("ts_event", told=time, shows=False, only=lambda line: time(line) // SECOND % 60 != 0),
}
SIGNS: Signs = {
    "spot": {
        "trade": _TRADE,
        "quote": Sign("", content=("ts_event", "bid", "bid_qty", "ask", "ask_qty"), shows=False),
        "book_delta": _BOOK,
        "kline": KLINE,
    },
    "linear": _FUTURES,
    "inverse": _FUTURES,
}
