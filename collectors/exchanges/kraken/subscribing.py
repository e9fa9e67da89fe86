"""Subscribing where one request names many symbols of one channel and each symbol is answered by itself. Pure."""

from __future__ import annotations

from collectors.adapters.subscribing import UNSUBSCRIBE, Subscriber
from market.session import Output, Stream

HELD = "already subscribed"


class SymbolSubscriber(Subscriber):
    """Requests hold the streams of one channel; answers name a symbol of theirs, or the whole request."""

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
            return [] if request.what == UNSUBSCRIBE else self._refuse(request, mine, refusal, now)
        return self._taken_on(request, mine, now)

    def _together(self, stream: Stream) -> str:
        return stream.channel
