"""What adapters say of their histories holds for the sessions that they make of it."""

from __future__ import annotations

import pytest

from collectors import exchanges
from collectors.adapters.paging import IdPages
from market.history import Offer
from market.session import Polled
from market.times import DAY, HOUR

BEGIN = 1_795_000_000_000_000
PROMPT = [
    (name, market, kind)
    for name in exchanges.names()
    for market, kinds in getattr(exchanges.load(name), "HISTORY", {}).items()
    for kind, offer in kinds.items()
    if isinstance(offer, Offer) and offer.prompt
]


@pytest.mark.parametrize("name, market, kind", PROMPT)
def test_what_may_be_asked_for_at_once_is_asked_for_by_ids_that_prove_themselves(
    name: str, market: str, kind: str
) -> None:
    venue = exchanges.load(name)
    polled = Polled(kind, ("BTCUSDT",), span=(BEGIN, BEGIN + HOUR))
    assert type(venue.poller(market, "n-1-1", polled, venue.ENDPOINTS[market])) is IdPages
    offer = venue.HISTORY[market][kind]  # type: ignore[attr-defined] # an adapter with a history has it
    assert offer.width is None
    assert offer.reach is None or offer.reach >= DAY


def test_some_are() -> None:
    assert ("binance", "spot", "trade") in PROMPT
