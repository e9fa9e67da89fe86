"""What a venue refused to a connection, and when it is asked for again: after a minute, then every hour. Pure.

A refusal may be the venue's mistake of a moment, or for good: a symbol that it does not have. A refused request is
halved until the name at fault stands alone, so how many are asked for together is bounded too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from market.session import Output, Refused, Stream, StreamState
from market.times import HOUR, MINUTE

FIRST_AFTER, EVERY = MINUTE, HOUR
AT_ONCE = 16
"""Refused streams that are asked for again in an hour in which the venue takes none on: at most 31 requests of them."""


class _Refusal(msgspec.Struct):
    """When a stream was refused last, and when it is asked for again (us)."""

    refused_at: int
    due: int


class Refusals:
    """The refused streams of one connection; `states` (by stream name) tells which of them speak after all."""

    def __init__(self, states: Mapping[str, StreamState]) -> None:
        self._states = states
        self._held: dict[Stream, _Refusal] = {}
        """Who was asked for again last comes last."""
        self._asked: deque[int] = deque(maxlen=AT_ONCE)
        """When streams were asked for again."""

    def __contains__(self, stream: Stream) -> bool:
        return stream in self._held

    def refuse(self, streams: Sequence[Stream], reason: str, now: int) -> list[Output]:
        """The venue refused these: what is to be said of those of which it is news."""
        new = tuple(stream for stream in streams if stream not in self._held)
        for stream in streams:
            self._held[stream] = _Refusal(now, now + (FIRST_AFTER if stream in new else EVERY))
        return [Refused(new, reason[:300])] if new else []

    def taken_on(self, streams: Iterable[Stream]) -> None:
        """The venue serves these."""
        for stream in streams:
            if self._held.pop(stream, None) is not None:
                self._asked.clear()

    def again(self, now: int) -> tuple[Stream, ...]:
        """Those to ask for now."""
        self.taken_on([one for one, held in self._held.items() if self._states[one.name].last_recv > held.refused_at])
        while self._asked and now >= self._asked[0] + EVERY:
            self._asked.popleft()
        due = [stream for stream, held in self._held.items() if now >= held.due]
        some = tuple(due[: AT_ONCE - len(self._asked)])
        for stream in some:
            self._asked.append(now)
            held = self._held.pop(stream)
            held.due = now + EVERY
            self._held[stream] = held
        return some

    def deadline(self) -> int | None:
        """When `again` has something."""
        due = min((held.due for held in self._held.values()), default=None)
        full = len(self._asked) == AT_ONCE
        return due if due is None or not full else max(due, self._asked[0] + EVERY)
