"""Instruments: the venue's spelling, the unified one, and what one unit of quantity is worth."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from market import times
from market.errors import Malformed

MarketType = Literal["spot", "linear", "inverse", "option", "index", "fx", "equity"]
MARKET_TYPES: tuple[str, ...] = get_args(MarketType)
QtyUnit = Literal["base", "quote", "contract"]


class Sizing(msgspec.Struct, frozen=True):
    """What a quantity counts (`qty_unit`) and how much of it one unit is (`multiplier`, decimal text)."""

    qty_unit: QtyUnit
    multiplier: str


MARKET_SIZING: dict[str, Sizing] = {
    "spot": Sizing("base", "1"),
    "linear": Sizing("base", "1"),
    "inverse": Sizing("contract", "1"),
    "option": Sizing("contract", "1"),
    "index": Sizing("base", "1"),
    "fx": Sizing("base", "1"),
    "equity": Sizing("base", "1"),
}
"""Sizing of a market where no contract in force says otherwise; a line without qty_unit means this."""


def unified(base: str, quote: str, settle: str | None = None, expiry: int | None = None) -> str:
    """The ccxt spelling: `BTC/USDT`, `BTC/USDT:USDT`, `BTC/USDT:USDT-261225`. `expiry` is us, UTC."""
    name = f"{base}/{quote}"
    if settle:
        name += f":{settle}"
        if expiry is not None:
            name += f"-{times.to_datetime(expiry):%y%m%d}"
    return name


def check_market_type(value: str) -> str:
    """`value` if it is a market type. Raises Malformed naming the known ones."""
    if value not in MARKET_TYPES:
        raise Malformed(f"market_type (one of {', '.join(MARKET_TYPES)})", value)
    return value
