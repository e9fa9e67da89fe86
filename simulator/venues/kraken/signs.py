"""What Kraken's rows are known by: on spot fills by ids, books by times; on futures fills by texts, books by ids.

Spot's best levels, and forced orders, are known by what they say.
"""

from __future__ import annotations

from simulator.signs import ID, KLINE, MARK, Sign, Signs, time
from simulator.venues.kraken.wire import FORCED_EVERY

_FUTURES = {
    "trade": Sign("trade_id", read=lambda name: int(name[:8], 16), shows=False),
    "book_delta": Sign("last_id"),
    "mark_price": MARK,
    "liquidation": Sign(
        "", of="trade", only=lambda line: line[ID] % FORCED_EVERY == 0, content=("ts_event", "price", "qty"),
        shows=False,
    ),
}  # fmt: skip
SIGNS: Signs = {
    "spot": {
        "trade": Sign("seq"),
        "quote": Sign("", content=("bid", "bid_qty", "ask", "ask_qty"), shows=False),
        "book_delta": Sign("ts_event", told=time, rising=True),
        "kline": KLINE,
    },
    "linear": _FUTURES,
    "inverse": _FUTURES,
}
