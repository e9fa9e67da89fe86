"""Mergers for venues that push what is past when they are subscribed to: the newest trades, forced orders. Pure.

What is pushed happened before the subscription: adapters give trades the condition `history`, which no bar counts
(forced ones are told by those of their frame).
Inside what a stream has covered already it is an ordinary trade that comes late: it fills a hole, and counts. Forced
orders have no ids, so that those which were covered are told by their time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from collectors.holes import IN_FLIGHT, Memory, venue_time
from collectors.keyed import FORCED, KeyedMerger
from collectors.numbered import IdMerger
from market.kinds import Event, Trade
from market.session import EVERY_SYMBOL, Merger, Resume

HISTORY, ORDINARY = "history", "market"
MET = 64
"""Streams of sessions whose first frames are remembered."""


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
        past = set()
        for event in events:
            if isinstance(event, Trade) and event.condition == HISTORY:
                if self._covered(event):
                    event.condition = ORDINARY
                else:
                    past.add((event.session, event.frame_no))
        for event in events if past else ():
            if isinstance(event, Trade) and event.condition == FORCED and (event.session, event.frame_no) in past:
                event.condition = FORCED if self._covered(event) else HISTORY
        for event in events:
            if event.symbol not in since:
                since[event.symbol] = venue_time(event)
        return [event for event in events if self._new(event)]

    def _covered(self, event: Event) -> bool:
        """Whether it lies in what was covered before it was told."""
        since = self._since.get(event.symbol)
        return since is not None and venue_time(event) >= since

    @abstractmethod
    def _new(self, event: Event) -> bool:
        """Whether an event is new."""

    def resume(self, last: Mapping[str, Resume]) -> None:
        """What was stored before a restart is covered from its beginning on, where that is known."""
        super().resume(last)
        self._since.update({symbol: stop.since or stop.ts_event for symbol, stop in last.items()})


class PushedIds(_Pushed, IdMerger):
    """For ids that follow each other by one."""

    def _new(self, event: Event) -> bool:
        return IdMerger.merge(self, event)


class PushedNames(_Pushed, KeyedMerger):
    """For ids that are names."""

    def _new(self, event: Event) -> bool:
        return KeyedMerger.merge(self, event)


class PushedOrders(KeyedMerger):
    """For forced orders. What the first frame of a stream tells of before is stored where nobody was there to hear it,
    and says nothing of when the stream flows: an order that was told twice is no overlap of two connections.
    """

    def __init__(self, exchange: str, market_type: str, kind_name: str) -> None:
        super().__init__(exchange, market_type, kind_name)
        self._first: dict[tuple[str, str], int] = {}
        """(session, stream) -> number of its first frame."""

    def merge(self, event: Event) -> bool:
        return self._new(event) if self._is_past(event) else super().merge(event)

    def _is_past(self, event: Event) -> bool:
        place = (event.session, event.stream)
        first = self._first.setdefault(place, event.frame_no)
        if len(self._first) > MET:
            del self._first[next(iter(self._first))]
        return event.frame_no == first and event.ts_recv - venue_time(event) > IN_FLIGHT

    def _new(self, event: Event) -> bool:
        """Whether it is an order that was not told: none of before an interruption, and none that is remembered."""
        key, told = self._key(event), self._told.setdefault(event.symbol, {})
        lines = (self._lines.get(symbol) for symbol in (event.symbol, EVERY_SYMBOL))
        ends = [line.gap.ts_from for line in lines if line is not None and line.gap is not None]
        if key in told or venue_time(event) <= max(ends, default=0):
            self.duplicates += 1
            return False
        self._remember(told, key, event)
        return True


def pushed(exchange: str, market_type: str, kind_name: str, *, contiguous: bool) -> Merger:
    """The merger of what is pushed, of trades by whether their ids follow each other."""
    if kind_name == FORCED:
        return PushedOrders(exchange, market_type, kind_name)
    return (PushedIds if contiguous else PushedNames)(exchange, market_type, kind_name)
