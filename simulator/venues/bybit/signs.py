"""What Bybit's rows are known by: fills by texts, which on spot are numbers by leaps, all else by ids or times."""

from __future__ import annotations

import msgspec

from simulator.signs import KLINE, LIQUIDATION, MARK, Sign, Signs

_SPOT = {
    "trade": Sign("trade_id", read=lambda name: int(name) // 3, shows=False),
    "quote": Sign("update_id", shows=False),
    "book_delta": Sign("last_id"),
    "kline": KLINE,
}
_FUTURES = {
    **_SPOT,
    "trade": Sign("trade_id", read=lambda name: int(name[:8], 16), shows=False),
    "mark_price": msgspec.structs.replace(MARK, repeats=True),
    "liquidation": LIQUIDATION,
}
SIGNS: Signs = {"spot": _SPOT, "linear": _FUTURES, "inverse": _FUTURES}
