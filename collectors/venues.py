"""Venues by name: the adapters of `collectors.exchanges`, and `ccxt-<id>` for any other that ccxt knows.

A configuration may write `ccxt:<id>`; in columns and paths it is `ccxt-<id>`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import cast

from collectors import exchanges
from collectors.ccxt import library
from collectors.ccxt.venue import PREFIX, SPELLED, CcxtVenue
from collectors.config import SourceConfig
from market.session import Exchange


def load(name: str) -> Exchange:
    """The adapter of that venue. Raises UnknownExchange, and UnknownVenue for an id that ccxt has not."""
    for prefix in (SPELLED, PREFIX):
        if name.startswith(prefix):
            return _by_ccxt(name.removeprefix(prefix))
    return exchanges.load(name)


@functools.cache
def _by_ccxt(ccxt_id: str) -> Exchange:
    return cast("Exchange", CcxtVenue(library.known(ccxt_id)))


def by_ccxt(exchange: Exchange) -> CcxtVenue | None:
    """The venue where it is reached by ccxt, None elsewhere."""
    return exchange if isinstance(exchange, CcxtVenue) else None


def prepare(names: Iterable[str]) -> None:
    """Import what these venues need, which takes seconds where ccxt is among it: in a thread, where a loop runs."""
    for name in names:
        if (venue := by_ccxt(load(name))) is not None:
            library.load(venue.ccxt_id)


def check(source: SourceConfig) -> None:
    """Raises Malformed for a kind that the venue has not, where only its library can say so."""
    if (venue := by_ccxt(load(source.exchange))) is not None:
        library.check(venue.ccxt_id, source.market_type, source.kinds, source.channels)
