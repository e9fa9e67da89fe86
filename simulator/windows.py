"""When each market of the simulator was disturbed, and by what. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from market.times import SECOND
from simulator.faults import ON_REQUESTS
from simulator.witness import Witness

PLANNED = ("shutdown", "end of life")
QUIET = ("duplicate_ids", "reorder_ids", "restart_ids", "replay", *ON_REQUESTS)
"""Faults that explain no gap."""


class Windows:
    """When each market was disturbed: what a gap may lie beside, us."""

    def __init__(self, witness: Witness, grace: int) -> None:
        self._spans: dict[str, list[tuple[int, int, str]]] = {}
        self._untold: dict[str, list[tuple[int, int]]] = {}
        """Market -> when connections lived whose subscriptions were not answered as they should have been."""
        self.anew = [f.time for f in witness.faults if f.name == "restart_ids"]
        """When the venue began to number anew: what it lost then, if anything, has no number."""
        self._heed_acks(witness)
        markets = {link.market for link in witness.links.values()}
        ends = {f.id: f.time for f in witness.faults if f.phase in ("applied", "end")}
        for fault in witness.faults:
            if fault.phase != "begin" or fault.name in QUIET or fault.name in PLANNED:
                continue
            end = max(ends.get(fault.id, 0), fault.time + round(fault.parameters.get("seconds", 0) * SECOND))
            for market in [fault.parameters["market"]] if fault.parameters.get("market") else markets:
                self._spans.setdefault(market, []).append((fault.time - SECOND, end + grace, fault.name))

    def _heed_acks(self, witness: Witness) -> None:
        for fault in witness.faults:
            link = witness.links.get(fault.detail.get("connection", -1))
            if fault.name == "acks" and fault.phase == "applied" and link is not None:
                span = (fault.time, link.closed or witness.stopped)
                self._untold.setdefault(link.market, []).append(span)

    def untold(self, market: str, time: int, slack: int) -> bool:
        """Whether a venue may have taken a rare stream on or not, without a word that shows it."""
        return any(a - SECOND <= time <= b + slack for a, b in self._untold.get(market, ()))

    def near(self, market: str, start: int, end: int, name: str = "", but: Sequence[str] = ()) -> bool:
        """Whether a fault (of that name, or none of `but`) was in force in [start, end], or shortly before."""
        return any(
            a <= end and start <= b and name in ("", fault) and fault not in but
            for a, b, fault in self._spans.get(market, ())
        )
