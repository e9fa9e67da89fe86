"""What Coinbase's rows are known by: fills by ids (futures by texts), books by times, best levels by what they say."""

from __future__ import annotations

from simulator.signs import KLINE, Sign, Signs, time

_STREAMED = {
    "trade": Sign("seq"),
    "quote": Sign("", content=("bid", "bid_qty", "ask", "ask_qty"), shows=False),
    "book_delta": Sign("ts_event", told=time, rising=True),
    "kline": KLINE,
}
_FUTURES = {**_STREAMED, "trade": Sign("trade_id", read=int, shows=False)}
SIGNS: Signs = {"spot": _STREAMED, "linear": _FUTURES}
