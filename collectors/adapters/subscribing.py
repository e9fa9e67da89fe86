"""The subscribing half of a connection: requests with numbers, their pacing, answers, refusals and time-outs. Pure.

For venues whose answers carry the number of their request. A refusal concerns the whole request, so a refused request
is halved until the name at fault stands alone; from then on that one is asked for now and then (`refusals`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from collectors.adapters.refusals import Refusals
from collectors.subscriptions import Pacer, batches
from market.session import Acknowledged, Leave, Limits, Output, Renewal, Send, Stream, StreamState
from market.times import SECOND

ANSWER_WITHIN = 10 * SECOND
SUBSCRIBE, UNSUBSCRIBE = "subscribe", "unsubscribe"
Write = Callable[[str, Sequence[str], int], str]
"""(SUBSCRIBE or UNSUBSCRIBE, names of streams, number of the request) -> the frame to send."""


def number_of(text: str | None) -> int | None:
    """The number of a request, None where an answer names none of ours."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


class Request(msgspec.Struct):
    """One question to the venue. A `renewal` ends or begins anew what was taken on before: nothing is news of it. Where
    it has `unless`, by stream how much had come when it was decided, it is for what is still silent at its turn.
    """

    streams: tuple[Stream, ...]
    sent_at: int
    what: str = SUBSCRIBE
    renewal: bool = False
    unless: dict[str, int] | None = None


class Subscriber:
    """Asks for `streams` once, and again for what was not answered; `states` (by stream name) is told of answers."""

    def __init__(
        self, streams: Sequence[Stream], states: Mapping[str, StreamState], limits: Limits, write: Write
    ) -> None:
        self._states = states
        self._write = write
        self._size = limits.streams_per_request
        self._queue = deque(Request(some, 0) for some in self._parts(streams))
        self._pacer = Pacer(limits.requests_per_second)
        self._waiting: dict[int, Request] = {}
        self._asked_again: set[str] = set()
        self._refusals = Refusals(states)
        self._last_number = 0

    def tick(self, now: int) -> list[Output]:
        """The request that is due, one a pacing interval, and what to do about those never answered."""
        out: list[Output] = []
        if again := self._refusals.again(now):
            self._asked_again -= {stream.name for stream in again}
            self.ask(again)
        for number in [n for n, r in self._waiting.items() if now >= r.sent_at + ANSWER_WITHIN]:
            out += self._unanswered(self._waiting.pop(number), now)
        self._leave_what_speaks()
        if self._queue and self._pacer.take(now):
            request = self._queue.popleft()
            if request.unless is not None and request.what == UNSUBSCRIBE:
                out.append(Renewal(request.streams))
            out.append(self._send(request, now))
        return out

    def deadline(self) -> int | None:
        """When `tick` is wanted next."""
        times = [r.sent_at + ANSWER_WITHIN for r in self._waiting.values()]
        if self._queue:
            times.append(self._pacer.next_at)
        if (again := self._refusals.deadline()) is not None:
            times.append(again)
        return min(times, default=None)

    def ask(self, streams: Sequence[Stream]) -> None:
        """Subscribe to these too."""
        self._queue.extend(Request(some, 0) for some in self._parts(streams))

    def renew(self, streams: Sequence[Stream], *, silent: bool = False) -> None:
        """End subscriptions and begin them again: some venues then send the whole book anew. With `silent` only those
        that are silent still when it is their turn: others would miss what comes before they are taken on again.
        """
        renewals = [one for one in (*self._queue, *self._waiting.values()) if one.renewal]
        asked = {stream for one in renewals if silent or one.unless is None for stream in one.streams}
        wanted = [stream for stream in streams if stream not in asked]
        for some in self._parts(self._served_with(wanted)):
            sent = {one.name: self._states[one.name].events for one in some if one in wanted} if silent else None
            self._queue.append(Request(some, 0, UNSUBSCRIBE, renewal=True, unless=sent))
            self._queue.append(Request(some, 0, SUBSCRIBE, renewal=True, unless=sent))

    def sent(self, number: int, streams: tuple[Stream, ...], now: int) -> None:
        """A request that was sent in a recording; its answer is then understood like one of ours."""
        self._waiting[number] = Request(streams, now)

    def accepted(self, number: int | None, now: int) -> list[Output] | None:
        """The venue accepted a request (None: it did not say which; the oldest is meant). None where nothing waits."""
        request = self._take(number)
        if request is None:
            return None
        return self._taken_on(request, request.streams, now)

    def refused(self, number: int | None, reason: str, now: int, *, held: bool = False) -> list[Output] | None:
        """The venue refused a request, as `accepted`; `held`: because it serves one of the streams already."""
        request = self._take(number)
        if request is None:
            return None
        if request.what == UNSUBSCRIBE or not request.streams:
            return []
        if len(request.streams) == 1:
            if held:
                return self._taken_on(request, request.streams, now)
            return self._refuse(request, request.streams, reason, now)
        half = -(-len(request.streams) // 2)
        parts = reversed(batches(request.streams, half))
        self._queue.extendleft(Request(some, 0, renewal=request.renewal, unless=request.unless) for some in parts)
        return []

    def _leave_what_speaks(self) -> None:
        """Forget renewals that are next and no longer needed, before their subscriptions are ended."""
        while self._queue and self._queue[0].what == UNSUBSCRIBE and (sent := self._queue[0].unless) is not None:
            if any(self._states[name].events == events for name, events in sent.items()):
                return
            self._queue = deque(request for request in self._queue if request.unless is not sent)

    def _parts(self, streams: Sequence[Stream]) -> Iterable[tuple[Stream, ...]]:
        """`streams` as requests can name them."""
        alike: dict[str, list[Stream]] = {}
        for stream in streams:
            alike.setdefault(self._together(stream), []).append(stream)
        return (some for held in alike.values() for some in batches(held, self._size))

    def _served_with(self, streams: Sequence[Stream]) -> Sequence[Stream]:
        """`streams`, and those whose subscriptions end with theirs."""
        return streams

    def _together(self, stream: Stream) -> str:
        """What the streams of one request have in common."""
        del stream
        return ""

    def _taken_on(self, request: Request, streams: tuple[Stream, ...], now: int) -> list[Output]:
        """The venue serves these of a request."""
        if request.what == SUBSCRIBE:
            self._refusals.taken_on(streams)
        if not request.renewal:
            return self._acknowledge(streams, now)
        over = self._over(request, streams)
        sparse = tuple(stream for stream in streams if stream.sparse)
        return [*over, Acknowledged(sparse)] if over and sparse else over

    def _refuse(self, request: Request, streams: Sequence[Stream], reason: str, now: int) -> list[Output]:
        """The venue does not serve these of a request: they are asked for later."""
        return [*self._over(request, streams), *self._refusals.refuse(streams, reason, now)]

    @staticmethod
    def _over(request: Request, streams: Sequence[Stream]) -> list[Output]:
        """No more of a renewal is waited for: what comes of these streams from now on comes of the new subscription."""
        asked = request.unless is not None and request.what == SUBSCRIBE
        return [Renewal(tuple(streams), done=True)] if asked and streams else []

    def _take(self, number: int | None) -> Request | None:
        if number is None:
            number = next(iter(self._waiting), None)
        return None if number is None else self._waiting.pop(number, None)

    def _send(self, request: Request, now: int) -> Send:
        self._last_number += 1
        request.sent_at = now
        self._waiting[self._last_number] = request
        return Send(self._write(request.what, [stream.name for stream in request.streams], self._last_number))

    def _acknowledge(self, streams: tuple[Stream, ...], now: int) -> list[Output]:
        for state in (self._states[stream.name] for stream in streams):
            state.acknowledged_at = state.acknowledged_at or now
        return [Acknowledged(streams)] if streams else []

    def _unanswered(self, request: Request, now: int) -> list[Output]:
        """Data proves a subscription better than an answer; the rest is asked for once more, then given up. What was
        refused before has its turn again later.
        """
        if request.renewal:
            return self._over(request, request.streams)
        proven = tuple(s for s in request.streams if self._states[s.name].events)
        rest = tuple(s for s in request.streams if not self._states[s.name].events and s not in self._refusals)
        out = self._acknowledge(proven, now)
        again = {s.name for s in rest}
        if again & self._asked_again:
            return [*out, Leave("unacknowledged", f"{len(rest)} streams asked for twice without an answer")]
        if rest:
            self._asked_again |= again
            self._queue.append(Request(rest, 0))
        return out
