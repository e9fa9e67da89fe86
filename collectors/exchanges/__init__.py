"""Exchange adapters: each folder here is one venue, and its name is the name in `config.yml`.

Sans-I/O: frames and time in, events and actions out (`market.session`). No socket, clock, file or async below here.
The directory is the registry: a venue exists because its folder does.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import cast

from collectors.adapters.dated import in_force
from market.errors import MarketError
from market.session import Exchange


class UnknownExchange(MarketError):
    """No adapter of that name; the message lists those there are."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown exchange {name!r}; known exchanges: {', '.join(known)}")
        self.name = name


def names() -> tuple[str, ...]:
    """The venues there are, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.ispkg))


def parsers(exchange: str, market_type: str, kind: str, date: str) -> str:
    """Which parsers read what was received of a kind on a date (UTC), of channels that changed; "" of all others."""
    if exchange not in names():
        return ""
    return in_force(load(exchange).PARSERS.get(market_type, {}).get(kind, {}), date)


@functools.cache
def load(name: str) -> Exchange:
    """The adapter of that venue. Raises UnknownExchange."""  # kept: it is asked for with every look at the status
    if name not in names():
        raise UnknownExchange(name, names())
    return cast("Exchange", importlib.import_module(f"{__name__}.{name}"))
