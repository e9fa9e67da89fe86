"""What a connection asks Coinbase for: one channel a request, the heartbeats first, and answers that list everything.

An answer does not say which request it is of, but they come in order: the oldest one's streams that it lists are taken
on, the others are refused, since an unknown product is left out of it without a word. Where it lists none of them it
may be a late answer to something else: they are asked for once more before they are refused. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence

from collectors.adapters.subscribing import SUBSCRIBE, UNSUBSCRIBE, Request, Subscriber, Write
from collectors.subscriptions import batches
from market.session import Limits, Output, Refused, Stream, StreamState

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
        super().__init__((), states, limits, write)
        first = [Request((), 0)] if streams and heartbeats else []
        self._queue = deque([*first, *(Request(some, 0) for some in self._parts(streams))])

    def renew(self, streams: Sequence[Stream]) -> None:
        asked = {stream for one in (*self._queue, *self._waiting.values()) if one.renewal for stream in one.streams}
        for some in self._parts([stream for stream in streams if stream not in asked]):
            self._queue.append(Request(some, 0, UNSUBSCRIBE, renewal=True))
            self._queue.append(Request(some, 0, SUBSCRIBE, renewal=True))

    def listed(self, names: Collection[str], now: int) -> list[Output] | None:
        """The venue said what it serves: the oldest request is answered. None where nothing waits."""
        request = self._take(None)
        if request is None:
            return None
        if request.what == UNSUBSCRIBE:
            return []
        taken = tuple(stream for stream in request.streams if stream.name in names)
        missing = tuple(stream for stream in request.streams if stream.name not in names)
        again = {stream.name for stream in missing} - self._asked_again
        if again and not taken:
            self._asked_again |= again
            self._queue.append(Request(missing, 0, renewal=request.renewal))
            return []
        out = [] if request.renewal else self._acknowledge(taken, now)
        return [*out, Refused(missing, NOT_LISTED)] if missing else out

    def _parts(self, streams: Sequence[Stream]) -> list[tuple[Stream, ...]]:
        """Streams of one channel each."""
        channels: dict[str, list[Stream]] = {}
        for stream in streams:
            channels.setdefault(stream.channel, []).append(stream)
        return [some for held in channels.values() for some in batches(held, self._size)]
