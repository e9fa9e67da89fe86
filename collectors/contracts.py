"""The merger of instruments: what says of a listing what was last said of it is no row, whoever says it and when.

Pure. The list that is fetched again and the venue's notices compare with each other; a notice leaves out what it does
not know (null), which then counts as unchanged. Numbers compare as numbers: a table keeps `0.10` as 0.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TypeAlias

from collectors.keyed import KeyedMerger
from market.kinds import KINDS, Contract, Event

KIND = "contract"
_Said: TypeAlias = tuple[object, ...]
_UNSAID = frozenset({"uid", "known_from", "known_to"})
"""What is no statement about the listing: which one it is, and when we were told."""
_FIELDS = tuple(column.name for column in KINDS[KIND].columns if column.name not in _UNSAID)
_NUMBERS = frozenset(column.name for column in KINDS[KIND].columns if column.type == "decimal")
_EXPIRY = _FIELDS.index("expiry")


def _said(contract: Contract) -> _Said:
    return tuple(
        Decimal(value) if name in _NUMBERS and value is not None else value
        for name, value in ((name, getattr(contract, name)) for name in _FIELDS)
    )


class ContractMerger(KeyedMerger):
    """Only notices are a stream that can be interrupted: the list is asked for."""

    def __init__(self, exchange: str, market_type: str) -> None:
        super().__init__(exchange, market_type, KIND)
        self._last: dict[str, _Said] = {}
        """uid -> what was last said of it."""

    def remember(self, contracts: Iterable[Contract]) -> None:
        """What is stored already, the oldest first."""
        for contract in contracts:
            self._last[contract.uid] = _said(contract)

    def merge(self, event: Event) -> bool:
        assert isinstance(event, Contract), "another kind's event"
        notice = event.source == "ws"
        if notice and not super().merge(event):
            return False
        held, said = self._last.get(event.uid), _said(event)
        if notice and held is not None:  # a notice always says when the listing ends, null being never
            said = tuple(
                old if new is None and place != _EXPIRY else new
                for place, (old, new) in enumerate(zip(held, said, strict=True))
            )
        if held == said:
            self.duplicates += 1
            return False
        self._last[event.uid] = said
        return True
