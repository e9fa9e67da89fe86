"""The subscribing half of a Binance connection: SUBSCRIBE requests, their pacing, answers, refusals and time-outs.

An acknowledgement proves little here (unknown symbols and wrong paths are acknowledged too). Where streams may be
silent for hours, so that nothing else would tell, the venue is asked at the end what it took on, and what is not among
that is asked for again. A refusal concerns the whole request, so a refused request is halved until the name at fault
stands alone; from then on that one is asked for now and then (`collectors.adapters.refusals`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from collectors.adapters.refusals import Refusals
from collectors.exchanges.binance.wire import BAD_FRAME
from collectors.subscriptions import Pacer, batches
from market.session import Acknowledged, Leave, Limits, Output, Renewal, Send, Stream, StreamState
from market.times import SECOND

ANSWER_WITHIN = 10 * SECOND
ATTEMPTS = 3
"""How often a stream is asked for that is acknowledged and then not among those taken on."""
SUBSCRIBE, UNSUBSCRIBE = "SUBSCRIBE", "UNSUBSCRIBE"
TOO_MANY = 4
"""The venue's code for "Too many subscriptions": halving the request would not help."""


class _Request(msgspec.Struct):
    streams: tuple[Stream, ...]
    sent_at: int
    listing: bool = False
    """Whether it asks for what was taken on."""
    renewal: bool = False
    """Whether it begins anew what was taken on before."""
    ending: bool = False
    """Whether it ends that."""


class _Command(msgspec.Struct):
    method: str
    id: int
    params: list[str] = []


_command = msgspec.json.Decoder(_Command).decode
_names = msgspec.json.Decoder(frozenset[str]).decode


class Subscriber:
    """Asks for `streams` once, and again for what was not answered; `states` (by stream name) is told of answers."""

    def __init__(self, streams: Sequence[Stream], states: Mapping[str, StreamState], limits: Limits) -> None:
        self._states = states
        self._limits = limits
        self._queue = deque(batches(streams, limits.streams_per_request))
        self._renewals: deque[dict[Stream, int]] = deque()
        """Streams to be asked for anew, with how much each had sent when that was decided."""
        self._ended: tuple[Stream, ...] = ()
        """Those of them whose subscription was ended, and is begun anew next."""
        self._pacer = Pacer(limits.requests_per_second)
        self._waiting: dict[int, _Request] = {}
        self._asked_again: set[str] = set()
        self._refusals = Refusals(states)
        self._last_id = 0
        self._hidden = any(stream.sparse for stream in streams)
        """Whether something may be silent for ever; of all else silence is told."""
        self._unsure: dict[str, Stream] = {}
        """By name the streams that were acknowledged since the venue was last asked what it took on."""
        self._listed = 0

    def tick(self, now: int) -> list[Output]:
        """The requests that are due, one a pacing interval, and what to do about those never answered."""
        out: list[Output] = []
        if again := self._refusals.again(now):
            self._queue.extend(batches(again, self._limits.streams_per_request))
        for number in [n for n, r in self._waiting.items() if now >= r.sent_at + ANSWER_WITHIN]:
            out += self._unanswered(self._waiting.pop(number), now)
        if self._queue and self._pacer.take(now):
            out.append(self._send(self._queue.popleft(), now))
        elif self._ended and self._pacer.take(now):
            streams, self._ended = self._ended, ()
            out.append(self._send(streams, now, renewal=True))
        elif (streams := self._silent_still()) and self._pacer.take(now):
            self._renewals.popleft()
            self._ended = streams
            out += [Renewal(streams), self._send(streams, now, UNSUBSCRIBE)]
        elif self._may_list() and self._pacer.take(now):
            out.append(self._list(now))
        return out

    def sent(self, text: str, now: int, named: Callable[[str], Stream | None]) -> tuple[Stream, ...]:
        """The streams of a request that was sent in a recording; its answer is then understood like one of ours."""
        try:
            command = _command(text)
        except BAD_FRAME:
            return ()
        if command.method != SUBSCRIBE:
            return ()
        streams = tuple(stream for stream in map(named, command.params) if stream is not None)
        self._waiting[command.id] = _Request(streams, now)
        return streams

    def renew(self, streams: Sequence[Stream]) -> None:
        """End the subscriptions of these and begin them again, where they are still silent when it is their turn: the
        venue may have forgotten them.
        """
        for some in batches(streams, self._limits.streams_per_request):
            self._renewals.append({stream: self._states[stream.name].events for stream in some})

    def deadline(self) -> int | None:
        """When `tick` is wanted next."""
        times = [r.sent_at + ANSWER_WITHIN for r in self._waiting.values()]
        if self._queue or self._renewals or self._ended or self._may_list():
            times.append(self._pacer.next_at)
        if (again := self._refusals.deadline()) is not None:
            times.append(again)
        return min(times, default=None)

    def accepted(self, number: object, result: bytes, now: int) -> list[Output] | None:
        """The venue answered `number` with a result (JSON); None where we asked no such thing."""
        request = self._take(number)
        if request is not None and request.listing:
            return self._compare(request.streams, result, now)
        if request is None:
            return None
        return self._over(request) if request.renewal or request.ending else self._acknowledge(request.streams, now)

    def refused(self, number: object, code: int, reason: str, now: int) -> list[Output] | None:
        """The venue refused `number` (None: it did not say which; the oldest is meant). None where nothing waits."""
        if number is None and self._waiting:
            number = next(iter(self._waiting))
        request = self._take(number)
        if request is None:
            return None
        streams = request.streams
        if request.listing or request.renewal or request.ending:
            return self._over(request)
        if not streams:  # a recording may have asked for nothing that is collected
            return []
        if len(streams) == 1 or code == TOO_MANY:
            return self._refusals.refuse(streams, f"{code}: {reason}", now)
        self._queue.extendleft(reversed(batches(streams, -(-len(streams) // 2))))
        return []

    def _take(self, number: object) -> _Request | None:
        return self._waiting.pop(number, None) if isinstance(number, int) else None

    def _send(self, streams: tuple[Stream, ...], now: int, method: str = SUBSCRIBE, *, renewal: bool = False) -> Send:
        self._last_id += 1
        self._waiting[self._last_id] = _Request(streams, now, renewal=renewal, ending=method == UNSUBSCRIBE)
        names = [stream.name for stream in streams]
        command = {"method": method, "params": names, "id": self._last_id}
        return Send(msgspec.json.encode(command).decode())

    @staticmethod
    def _over(request: _Request) -> list[Output]:
        """No more of a request is waited for; what comes of a renewed stream from now on is of the new subscription."""
        return [Renewal(request.streams, done=True)] if request.renewal else []

    def _silent_still(self) -> tuple[Stream, ...]:
        """The next ones to be asked for anew. What speaks again would only miss what comes before it is taken on."""
        while self._renewals:
            sent = self._renewals[0].items()
            if silent := tuple(stream for stream, events in sent if self._states[stream.name].events == events):
                return silent
            self._renewals.popleft()
        return ()

    def _may_list(self) -> bool:
        return bool(self._unsure) and not (self._queue or self._waiting)

    def _list(self, now: int) -> Send:
        self._last_id += 1
        streams, self._unsure = tuple(self._unsure.values()), {}
        self._waiting[self._last_id] = _Request(streams, now, listing=True)
        return Send(msgspec.json.encode({"method": "LIST_SUBSCRIPTIONS", "id": self._last_id}).decode())

    def _compare(self, streams: Sequence[Stream], result: bytes, now: int) -> list[Output]:
        """Ask again for what was acknowledged, has sent nothing, and is not among what was taken on."""
        try:
            taken = _names(result)
        except BAD_FRAME:
            return []  # no list of names: it says nothing
        if taken.isdisjoint(self._states):
            return []  # nor does one of other names
        missing = tuple(s for s in streams if s.name not in taken and not self._states[s.name].events)
        for state in (self._states[stream.name] for stream in missing):
            state.acknowledged_at = state.since = 0
        self._refusals.taken_on([stream for stream in streams if stream not in missing])
        self._listed += 1
        if missing and self._listed >= ATTEMPTS:
            return self._refusals.refuse(missing, f"acknowledged {ATTEMPTS} times and never taken on", now)
        self._queue.extend(batches(missing, self._limits.streams_per_request))
        return []

    def _acknowledge(self, streams: tuple[Stream, ...], now: int) -> list[Output]:
        for stream in streams:
            state = self._states[stream.name]
            state.acknowledged_at = state.acknowledged_at or now
            if self._hidden:
                self._unsure[stream.name] = stream
        if not self._hidden:
            self._refusals.taken_on(streams)
        return [Acknowledged(streams)] if streams else []

    def _unanswered(self, request: _Request, now: int) -> list[Output]:
        """Data proves a subscription better than an answer; the rest is asked for once more, then given up. What was
        refused before has its turn again later.
        """
        if request.listing or request.renewal or request.ending:
            return self._over(request)
        proven = tuple(s for s in request.streams if self._states[s.name].events)
        rest = tuple(s for s in request.streams if not self._states[s.name].events and s not in self._refusals)
        out = self._acknowledge(proven, now)
        again = {s.name for s in rest}
        if again & self._asked_again:
            return [*out, Leave("unacknowledged", f"{len(rest)} streams asked for twice without an answer")]
        if rest:
            self._asked_again |= again
            self._queue.append(rest)
        return out
