"""What OKX's rows are known by: fills by ids, aggregates by their last one, changes of books by ids with leaps."""

from __future__ import annotations

from simulator.signs import KLINE, LIQUIDATION, Sign, Signs, field, time, times
from simulator.venues.okx.wire import STEP

_SPOT = {
    "trade": Sign("seq"),
    "agg_trade": Sign("trade_id", told=field("last_id"), read=int, shows=False),
    "quote": Sign("update_id", shows=False),
    "book_delta": Sign("last_id", told=times(STEP)),
    "kline": KLINE,
}
_FUTURES = {
    **_SPOT,
    # the estimate of the funding rate is told beside the mark, as a row of that kind
    "mark_price": Sign("ts_event", told=time, shows=False, values=("mark",), stream="mark-price:", where="mark"),
    "liquidation": LIQUIDATION,
}
SIGNS: Signs = {"spot": _SPOT, "linear": _FUTURES, "inverse": _FUTURES}
