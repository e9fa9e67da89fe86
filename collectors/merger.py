"""Mergers: the memory of one (exchange, market, kind) across connections; drops what was seen, names what is missing.

Pure. Which one a kind gets follows from what its events say of themselves: ids that follow each other (`numbered`), ids
that only rise (`rising`), updates of a book that chain (`chain`), or names and no ids at all (`keyed`). An event that
was never seen is never dropped: where memory ends it is let through, and the table's key drops it if it was a copy.
"""

from __future__ import annotations

from collectors.chain import ChainMerger
from collectors.contracts import KIND as CONTRACT
from collectors.contracts import ContractMerger
from collectors.giving import JUMP, gap_id
from collectors.holes import CONFIRM, HANDOVER, HOLD, IN_FLIGHT, RESET, SEEN, STALLED, venue_time
from collectors.keyed import IDENTITIES, NAMED, KeyedMerger
from collectors.numbered import HOLES, IdMerger
from collectors.rising import MonotonicMerger
from market.session import Merger

__all__ = [
    "CONFIRM", "HANDOVER", "HOLD", "HOLES", "IN_FLIGHT", "JUMP", "RESET", "SEEN", "STALLED", "ChainMerger",
    "ContractMerger", "IdMerger", "KeyedMerger", "MonotonicMerger", "gap_id", "merger", "venue_time",
]  # fmt: skip
CHAINED = "book_delta"


def merger(exchange: str, market_type: str, kind_name: str, *, contiguous: bool) -> Merger:
    """The merger of a kind, by what its ids promise (`market.session.Stream.contiguous`)."""
    if kind_name == CHAINED:
        return ChainMerger(exchange, market_type, kind_name)
    if kind_name == CONTRACT:
        return ContractMerger(exchange, market_type)
    if kind_name in IDENTITIES or (kind_name in NAMED and not contiguous):
        return KeyedMerger(exchange, market_type, kind_name)
    made = IdMerger if contiguous else MonotonicMerger
    return made(exchange, market_type, kind_name)
