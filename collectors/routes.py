"""Routes: of each kind of a market the merger that drops what was seen, and the channel that new events go to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

from collectors.intake import Intake, LaneKey, Lines, MarketKey, lines_of
from collectors.led import LedMerger
from collectors.links import Link, Totals
from collectors.shedding import Shedding
from market.kinds import KIND_OF_EVENT, Event
from market.session import Gap, Merger, Output
from runtime import metrics
from runtime.channel import Channel

MergeAll = Callable[[Sequence[Event]], Sequence[Event]]
"""Events in a row -> those of them that are new."""


class Keeper(Protocol):
    """Who sees the events of a kind before a merger does, and says which of those that are new are rows."""

    def before(self, kind: str, events: Sequence[Event]) -> None: ...
    def after(self, kind: str, events: Sequence[Event]) -> Sequence[Event]: ...


class Route:
    """Where events of one kind go: the merger that knows which are new, and the channel for those. Whoever has to know
    of what is given up is told the gaps as they begin and end.
    """

    def __init__(
        self,
        lane: LaneKey,
        merger: Merger,
        channel: Channel[Lines],
        tell: Callable[[Sequence[Gap]], None],
        keeper: Keeper | None = None,
    ) -> None:
        self.kind = lane[2]
        self.lane = lane
        self.tell = tell
        self.merger = merger
        self.merge_all: MergeAll = merger.merge_all
        self._keep: MergeAll | None = None
        if keeper is not None:
            self._keep = partial(keeper.after, self.kind)
            self.merge_all = partial(_kept, keeper, self.kind, merger)
        self._led = merger if isinstance(merger, LedMerger) else None
        self.channel = channel
        self.found: list[Event] = []
        """Events of the batch of frames in hand that the merger has not seen."""
        self.batch: list[Event] = []
        """Those of them that are new."""
        self.new = 0
        self.reported = (0, 0)
        self.shedding = Shedding(*lane)

    def merge(self) -> None:
        """Let the merger see what was found."""
        found = self.found
        if found:
            self.batch += self.merge_all(found)
            found.clear()

    def release(self) -> Sequence[Event]:
        """What the merger kept back and is new after all, though nothing came with it: into the batch."""
        owed = self._led.owed() if self._led is not None else ()
        owed = owed if self._keep is None else self._keep(owed)
        self.batch += owed
        return owed

    def hand_on(self, totals: Totals, intake: Intake) -> list[Gap]:
        """The batch to its channel, as lines, or nowhere where memory is short; the gaps that begin or end with it."""
        batch, self.batch = self.batch, []
        channel = self.channel
        if channel.when_full == "drop_newest" or intake.pressed:
            refused = intake.gives_up(self.lane)
            if refused is not None:
                totals.shed[self.kind] += len(batch)
                begun = self.shedding.give_up(batch, *refused)
                self.tell(begun)
                return begun
        lines = lines_of(batch)
        channel.offer((lines,), len(lines.data))
        self.new += len(batch)
        return self._end() if self.shedding else []

    def relieve(self, intake: Intake) -> list[Gap]:
        """The gaps that end because nothing is given up any more, though nothing has come since."""
        return self._end() if self.shedding and not intake.gives_up(self.lane) else []

    def _end(self) -> list[Gap]:
        ended = self.shedding.end()
        self.tell(ended)
        return ended

    def report(self) -> None:
        """Count what has come since the last time in the metrics: once a pass and not once an event."""
        now = (self.new, self.merger.duplicates)
        if now != self.reported:
            metrics.received(*self.lane, now[0] - self.reported[0], now[1] - self.reported[1])
            self.reported = now


def _kept(keeper: Keeper, kind: str, merger: Merger, events: Sequence[Event]) -> Sequence[Event]:
    keeper.before(kind, events)
    return keeper.after(kind, merger.merge_all(events))


class Routes:
    """The routes of one market: by kind, and by the class of the events. Channels that make reading wait when they are
    full join `blocking`.
    """

    def __init__(
        self,
        market: MarketKey,
        intake: Intake,
        merger: Callable[[str], Merger],
        tell: Callable[[Sequence[Gap]], None],
        blocking: list[Channel[Lines]],
        keeper: Keeper | None = None,
    ) -> None:
        self.puts: dict[type, Callable[[Event], None]] = {}
        """Class of events -> what takes one; of those that were met (see `meet`)."""
        self._market = market
        self._intake = intake
        self._merger = merger
        self._tell = tell
        self._blocking = blocking
        self._keeper = keeper
        self._routes: dict[str, Route] = {}
        self._met: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def of(self, kind: str) -> Route:
        """The route of a kind, made at first use."""
        found = self._routes.get(kind)
        if found is None:
            lane = (*self._market, kind)
            channel = self._intake.lane(lane)
            found = self._routes[kind] = Route(lane, self._merger(kind), channel, self._tell, self._keeper)
            if found.channel.when_full == "block":
                self._blocking.append(found.channel)
        return found

    def batch(self, kind: str) -> Sequence[Event]:
        """The new events of a kind in the batch of frames in hand."""
        found = self._routes.get(kind)
        if found is None:
            return ()
        found.merge()
        return found.batch

    def put(self, event: Event) -> None:
        """An event found, of any class."""
        if type(event) not in self.puts:
            route = self.of(KIND_OF_EVENT[type(event)])
            self._met.append(route)
            self.puts[type(event)] = route.found.append
        self.puts[type(event)](event)

    def past(self, link: Link, outputs: Sequence[Output]) -> Sequence[Output]:
        """Of what a session of history said all but its events: they go past the mergers, which know streams only."""
        if not link.past:
            return outputs
        events = [out for out in outputs if isinstance(out, Event)]
        if (
            events
        ):  # a page: all of one kind, and received together; it is not shed, its asker waits until it is written
            route = self.of(KIND_OF_EVENT[type(events[0])])
            lines = lines_of(events)
            route.channel.put((lines,), len(lines.data))
            route.new += len(events)
            link.row.events += len(events)
        return [out for out in outputs if not isinstance(out, Event)]

    def merge(self) -> None:
        """Let the mergers see what was found so far."""
        for route in self._met:
            route.merge()

    def release(self, links: Iterable[Link], totals: Totals) -> list[Gap]:
        """Hand on what mergers kept back of the sessions that go on, now that another one has ended or stalled."""
        released = [event for route in self._met for event in route.release()]
        for link in links:
            link.row.events += sum(event.session == link.row.session for event in released)
        return self.hand_on(totals)[1] if released else []

    def hand_on(self, totals: Totals) -> tuple[int, list[Gap]]:
        """What was found to its channels, as far as it is new: how many events, and the gaps that begin or end."""
        events, gaps = 0, []
        for route in self._met:
            route.merge()
            if route.batch:
                events += len(route.batch)
                gaps += route.hand_on(totals, self._intake)
        return events, gaps
