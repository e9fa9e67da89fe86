"""What a connection asks Coinbase for: one channel a request, the heartbeats first, and answers that list everything.

An answer does not say which request it is of, but they come in order: the oldest one's streams that it lists are taken
on. It leaves out an unknown product without a word, but it may also be a late answer to something else, or the venue's
mistake: what it does not list is asked for once more, and then counts as refused. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from collectors.adapters.subscribing import UNSUBSCRIBE, Request, Subscriber, Write
from market.session import Limits, Output, Stream, StreamState

NOT_LISTED = "the venue's answer does not list it: no such product?"


class ListedSubscriber(Subscriber):
    """A request without streams asks for the `heartbeats` of the connection."""

    def __init__(
        self,
        streams: Sequence[Stream],
        states: Mapping[str, StreamState],
        limits: Limits,
        write: Write,
        *,
        heartbeats: bool = True,
    ) -> None:
        super().__init__(streams, states, limits, write)
        if streams and heartbeats:
            self._queue.appendleft(Request((), 0))

    def listed(self, names: Collection[str], now: int) -> list[Output] | None:
        """The venue said what it serves: the oldest request is answered. None where nothing waits."""
        request = self._take(None)
        if request is None:
            return None
        if request.what == UNSUBSCRIBE:
            return []
        taken = tuple(stream for stream in request.streams if stream.name in names)
        missing = [stream for stream in request.streams if stream.name not in names]
        again = tuple(stream for stream in missing if stream.name not in self._asked_again)
        if again:
            self._asked_again |= {stream.name for stream in again}
            self._queue.append(Request(again, 0, renewal=request.renewal, unless=request.unless))
        out = self._taken_on(request, taken, now)
        return out + self._refuse(request, [stream for stream in missing if stream not in again], NOT_LISTED, now)

    def _together(self, stream: Stream) -> str:
        return stream.channel
