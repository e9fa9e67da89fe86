"""Mergers of trades for venues that push the newest ones when they are subscribed to. Pure.

What is pushed happened before the subscription: adapters give it the condition `history`, which no bar counts. Inside
what a stream has covered already it is an ordinary trade that comes late: it fills a hole, and counts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from collectors.holes import Memory, venue_time
from collectors.keyed import KeyedMerger
from collectors.numbered import IdMerger
from market.kinds import Event, Trade
from market.session import Merger, Resume

HISTORY, ORDINARY = "history", "market"


class _Pushed(Memory):
    """Before anything is merged: trades of the past that lie in what was covered lose their condition."""

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        super().__init__(exchange, market_type, kind_name)
        self._since: dict[str, int] = {}
        """Symbol -> from which time on trades are covered."""

    def merge(self, event: Event) -> bool:
        return bool(self.merge_all((event,)))

    def merge_all(self, events: Sequence[Event]) -> Sequence[Event]:
        since = self._since
        for event in events:
            if isinstance(event, Trade) and event.condition == HISTORY:
                covered = since.get(event.symbol)
                if covered is not None and venue_time(event) >= covered:
                    event.condition = ORDINARY
        for event in events:
            if event.symbol not in since:
                since[event.symbol] = venue_time(event)
        return [event for event in events if self._new(event)]

    @abstractmethod
    def _new(self, event: Event) -> bool:
        """Whether an event is new."""

    def resume(self, last: Mapping[str, Resume]) -> None:
        """What was stored before a restart is covered up to its end, and what comes since is inside."""
        super().resume(last)
        self._since.update({symbol: stop.ts_event for symbol, stop in last.items()})


class PushedIds(_Pushed, IdMerger):
    """For ids that follow each other by one."""

    def _new(self, event: Event) -> bool:
        return IdMerger.merge(self, event)


class PushedNames(_Pushed, KeyedMerger):
    """For ids that are names."""

    def _new(self, event: Event) -> bool:
        return KeyedMerger.merge(self, event)


def pushed(exchange: str, market_type: str, kind_name: str, *, contiguous: bool) -> Merger:
    """The merger of trades that are pushed, by whether their ids follow each other."""
    return (PushedIds if contiguous else PushedNames)(exchange, market_type, kind_name)
