"""What adapters say of their histories holds for the sessions that they make of it."""

from __future__ import annotations

import pytest

from collectors import exchanges
from collectors.adapters.pages import Pages
from market.history import Offer
from market.session import Polled
from market.times import DAY, HOUR
from tests.support.past import contract

BEGIN = 1_795_000_000_000_000
PROMPT = [
    (name, market, kind)
    for name in exchanges.names()
    for market, kinds in getattr(exchanges.load(name), "HISTORY", {}).items()
    for kind, offer in kinds.items()
    if isinstance(offer, Offer) and offer.prompt
]


@pytest.mark.parametrize("name, market, kind", PROMPT)
def test_what_may_be_asked_for_at_once_is_asked_for_in_pages_that_know_what_is_too_soon(
    name: str, market: str, kind: str
) -> None:
    venue = exchanges.load(name)
    polled = Polled(kind, ("BTCUSDT",), known=(contract("BTCUSDT", "1"),), span=(BEGIN, BEGIN + HOUR))
    made = venue.poller(market, "n-1-1", polled, venue.ENDPOINTS[market])
    assert isinstance(made, Pages)
    assert not made.early(BEGIN + HOUR), "nothing was told yet"
    offer = venue.HISTORY[market][kind]  # type: ignore[attr-defined] # an adapter with a history has it
    assert offer.width is None or not made.numbered, "ids prove themselves in pages of any width"
    assert offer.reach is None or offer.reach >= DAY


def test_some_are() -> None:
    assert ("binance", "spot", "trade") in PROMPT
