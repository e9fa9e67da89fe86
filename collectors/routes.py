"""Routes: of each kind of a market the merger that drops what was seen, and the channel that new events go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from collectors.intake import Intake, LaneKey, Lines, lines_of
from collectors.links import Totals
from collectors.merger import merger
from collectors.shedding import Shedding
from market.kinds import Event
from market.session import Exchange, Gap, Merger
from runtime import metrics
from runtime.channel import Channel


class Route:
    """Where events of one kind go: the merger that knows which are new, and the channel for those. Whoever has to know
    of what is given up is told the gaps as they begin and end.
    """

    def __init__(
        self, lane: LaneKey, merger: Merger, channel: Channel[Lines], tell: Callable[[Sequence[Gap]], None]
    ) -> None:
        self.kind = lane[2]
        self.lane = lane
        self.tell = tell
        self.merger = merger
        self.merge = merger.merge
        self.channel = channel
        self.batch: list[Event] = []
        """New events of the batch of frames in hand."""
        self.new = 0
        self.reported = (0, 0)
        self.shedding = Shedding(*lane)

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


def merger_maker(exchange: Exchange, market_type: str) -> Callable[[str], Merger]:
    """What makes the memory of a kind in this market: by whether the venue numbers its events one by one."""

    def make(kind: str) -> Merger:
        offered = kind in exchange.OFFERS.get(market_type, {})
        contiguous = offered and any(stream.contiguous for stream in exchange.streams(market_type, [kind], ["X"]))
        return merger(exchange.NAME, market_type, kind, contiguous=contiguous)

    return make
