"""Subscribing where one request names many symbols of one channel and each symbol is answered by itself. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from collectors.adapters.subscribing import UNSUBSCRIBE, Request, Subscriber, Write
from collectors.subscriptions import batches
from market.session import Limits, Output, Refused, Stream, StreamState

HELD = "already subscribed"


class SymbolSubscriber(Subscriber):
    """Requests hold the streams of one channel; answers name a symbol of theirs, or the whole request."""

    def __init__(
        self, streams: Sequence[Stream], states: Mapping[str, StreamState], limits: Limits, write: Write
    ) -> None:
        super().__init__((), states, limits, write)
        channels: dict[str, list[Stream]] = {}
        for stream in streams:
            channels.setdefault(stream.channel, []).append(stream)
        size = limits.streams_per_request
        self._queue = deque(Request(some, 0) for held in channels.values() for some in batches(held, size))

    def told(self, number: int | None, symbol: str | None, now: int, refusal: str | None = None) -> list[Output] | None:
        """What the venue said of one symbol of a request; None where nothing waits for it."""
        request = None if number is None else self._waiting.get(number)
        mine = () if request is None else tuple(stream for stream in request.streams if stream.symbol == symbol)
        if request is None or not mine:
            if symbol is not None and request is not None and request.streams:
                return None
            held = refusal is not None and HELD in refusal.lower()
            return self.accepted(number, now) if refusal is None else self.refused(number, refusal, now, held=held)
        rest = tuple(stream for stream in request.streams if stream not in mine)
        if rest:
            request.streams = rest
        else:
            self._take(number)
        if refusal is not None and HELD not in refusal.lower():
            return [] if request.what == UNSUBSCRIBE else [Refused(mine, refusal[:300])]
        return [] if request.renewal else self._acknowledge(mine, now)
