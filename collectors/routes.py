"""Routes: of each kind of a market the merger that drops what was seen, and the channel that new events go to."""

from __future__ import annotations

from collections.abc import Callable

from collectors.intake import Intake, Lines, lines_of
from collectors.links import Totals
from collectors.merger import merger
from collectors.shedding import Shedding
from market.kinds import Event
from market.session import Exchange, Gap, Merger
from runtime import metrics
from runtime.channel import Channel


class Route:
    """Where events of one kind go: the merger that knows which are new, and the channel for those."""

    def __init__(self, exchange: str, market_type: str, kind: str, merger: Merger, channel: Channel[Lines]) -> None:
        self.kind = kind
        self.lane = (exchange, market_type, kind)
        self.merger = merger
        self.merge = merger.merge
        self.channel = channel
        self.batch: list[Event] = []
        """New events of the batch of frames in hand."""
        self.new = 0
        self.reported = (0, 0)
        self.shedding = Shedding(exchange, market_type, kind)

    def hand_on(self, totals: Totals, intake: Intake) -> list[Gap]:
        """The batch to its channel, as lines, or nowhere where memory is short; the gaps that begin or end with it."""
        batch, self.batch = self.batch, []
        channel = self.channel
        if channel.when_full == "drop_newest" or intake.pressed:
            refused = intake.gives_up(self.lane)
            if refused is not None:
                totals.shed[self.kind] += len(batch)
                return self.shedding.give_up(batch, *refused)
        lines = lines_of(batch)
        channel.offer((lines,), len(lines.data))
        self.new += len(batch)
        return self.shedding.end() if self.shedding else []

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
