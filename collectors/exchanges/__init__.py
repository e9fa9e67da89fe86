"""Exchange adapters: each folder here is one venue, and its name is the name in `config.yml`.

Sans-I/O: frames and time in, events and actions out (`market.session`). No socket, clock, file or async below here.
The directory is the registry: a venue exists because its folder does.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import cast

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


def load(name: str) -> Exchange:
    """The adapter of that venue. Raises UnknownExchange."""
    if name not in names():
        raise UnknownExchange(name, names())
    return cast("Exchange", importlib.import_module(f"{__name__}.{name}"))
