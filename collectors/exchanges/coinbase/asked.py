"""What a connection asks Coinbase for: one channel a request, the heartbeats first, and answers that list everything.

An answer does not say which request it is of, but they come in order: the oldest one's streams that it lists are taken
on. It leaves out an unknown product without a word, but it may also be a late answer to something else, or the venue's
mistake: what it does not list is asked for once more, then refused, and from then on asked for every hour. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence

from collectors.adapters.subscribing import SUBSCRIBE, UNSUBSCRIBE, Request, Subscriber, Write
from collectors.subscriptions import batches
from market.session import Limits, Output, Refused, Stream, StreamState
from market.times import HOUR

ASKED_EVERY = HOUR
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
        self._left_out: dict[Stream, int] = {}
        """Refused streams, and when (us) they are asked for again."""

    def tick(self, now: int) -> list[Output]:
        due = [stream for stream, at in self._left_out.items() if now >= at]
        if due:
            self._left_out |= dict.fromkeys(due, now + ASKED_EVERY)
            self._asked_again -= {stream.name for stream in due}
            self._queue.extend(Request(some, 0) for some in self._parts(due))
        return super().tick(now)

    def deadline(self) -> int | None:
        times = [*self._left_out.values(), super().deadline()]
        return min((at for at in times if at is not None), default=None)

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
        missing = [stream for stream in request.streams if stream.name not in names]
        again = tuple(stream for stream in missing if stream.name not in self._asked_again)
        if again:
            self._asked_again |= {stream.name for stream in again}
            self._queue.append(Request(again, 0, renewal=request.renewal))
        out = [] if request.renewal else self._acknowledge(taken, now)
        for stream in taken:
            self._left_out.pop(stream, None)
        new = tuple(stream for stream in missing if stream not in again and stream not in self._left_out)
        self._left_out |= dict.fromkeys(new, now + ASKED_EVERY)
        return [*out, Refused(new, NOT_LISTED)] if new else out

    def _parts(self, streams: Sequence[Stream]) -> list[tuple[Stream, ...]]:
        """Streams of one channel each."""
        channels: dict[str, list[Stream]] = {}
        for stream in streams:
            channels.setdefault(stream.channel, []).append(stream)
        return [some for held in channels.values() for some in batches(held, self._size)]
