"""Venues as replays and exports know them: their names at tardis.dev, and the adapters that tell frames apart."""

from __future__ import annotations

import importlib
from typing import cast

from collectors import exchanges
from market.replayed import Replayed


def adapter(exchange: str) -> Replayed | None:
    """What tells the frames of a venue apart; None for one that is reached by ccxt, or that is known by files only."""
    if exchange not in exchanges.names():
        return None
    return cast("Replayed", importlib.import_module(f"{exchanges.__name__}.{exchange}.replayed"))


def named(exchange: str, market_type: str, symbol: str) -> str:
    """What tardis.dev calls the exchange of a symbol; of others it is our name, and the market behind it."""
    held = adapter(exchange)
    if held is not None:
        return held.named(market_type, symbol)
    return exchange if market_type == "spot" else f"{exchange}-{market_type}"
