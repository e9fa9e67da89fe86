"""Inquiry: what one open session does about streams that are too quiet (`collectors.suspects` decides).

It knows the other connections and what is stored, asks the venue, records what was missed, has streams asked for anew,
and says and counts which are reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from collectors.holes import Memory
from collectors.http import Fetching, HttpFailed
from collectors.links import Link
from collectors.liveness import Change, Watch
from collectors.pipeline import Pipeline
from collectors.suspects import TRADES, Ask, Finding, Seen, Suspects
from market.probing import Newest, Probing, Renewing
from market.session import Connection, Fetch, Stream, StreamState
from market.times import SECOND
from runtime import probed as events
from runtime import telemetry
from runtime.clock import Clock

REMEDIES = {
    "stream": "it is asked for anew", "replace": "the connection is replaced",
    "leave": "the connection is left, as others on it are silent too", "": "what could be done was done",
}  # fmt: skip
Spend = Callable[[int], Awaitable[None]]
Spawn = Callable[[Callable[[], Awaitable[None]]], None]


class Inquiry:
    """Of one session. `remedy` is told what the connection has to do (`replace`, `leave`) and why; `spawn` runs what
    has to wait, and `wake` has the session's `tick` called.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        link: Link,
        connection: Connection,
        silent_after: int,
        probing: Probing | None,
        clock: Clock,
        http: Fetching,
        spend: Spend,
        remedy: Callable[[str, str], None],
        spawn: Spawn,
    ) -> None:
        self._pipeline = pipeline
        self._link = link
        self._connection = connection
        self._probing = probing
        self._clock, self._http, self._spend = clock, http, spend
        self._remedy, self._spawn = remedy, spawn
        self._watch = Watch(silent_after)
        self._silent_after = silent_after
        self._suspects = Suspects(self, pipeline.rhythms, silent_after, connection.name)
        self._alarmed: Counter[str] = Counter()
        self._asking: set[str] = set()
        """Streams about which a request is under way or waits for its turn."""
        self._elsewhere: tuple[dict[tuple[str, str], int], Counter[str]] | None = None
        """What this look has found of other connections, and of trades, once it was asked."""

    # --- collectors.suspects.Facts ---

    def seen(self, stream: Stream) -> Seen:
        merger = self._pipeline.route(stream.kind).merger
        return Seen(*merger.seen(stream.symbol)) if isinstance(merger, Memory) else Seen()

    def probe(self, stream: Stream) -> Fetch | None:
        return None if self._probing is None else self._probing.probe(self._connection, stream)

    def twin(self, stream: Stream) -> int | None:
        return self._others()[0].get((stream.kind, stream.symbol))

    def trades(self, symbol: str) -> int | None:
        return self._others()[1].get(symbol)

    def _others(self) -> tuple[dict[tuple[str, str], int], Counter[str]]:
        if self._elsewhere is None:
            twins: dict[tuple[str, str], int] = {}
            trades: Counter[str] = Counter()
            for link in self._pipeline.links:
                for state in link.session.streams():
                    stream = state.stream
                    if link is not self._link and state.acknowledged_at:
                        key = (stream.kind, stream.symbol)
                        twins[key] = max(twins.get(key, 0), state.last_recv)
                    if stream.kind in TRADES and state.events:
                        trades[stream.symbol] += state.events
            self._elsewhere = twins, trades
        return self._elsewhere

    # --- for the life of the session ---

    def look(self, now: int) -> None:
        """Look at its streams: what is suspected, and what has changed."""
        link = self._link
        if self._pipeline.full:
            self._suspects.reset()  # the silence is our own
            return
        self._elsewhere = None
        wanted = list(link.session.streams())
        if link.unwanted:
            wanted = [state for state in wanted if link.wants(state.stream)]
        for act in self._suspects.look(wanted, now):
            self._do(act, now)
        for change in self._watch.look(wanted, now):
            self._changed(change, now)
        self._hold_to_their_word(wanted, now)

    def reset(self) -> None:
        """The wall clock was stepped."""
        self._suspects.reset()

    def close(self) -> None:
        """The session is over: nothing of it is reported any more."""
        for kind, streams in self._alarmed.items():
            events.alarmed(self._connection.exchange, self._connection.market_type, kind, -streams)
        self._alarmed.clear()

    def status(self) -> Mapping[str, int]:
        """How often each verdict was found."""
        return dict(self._suspects.verdicts)

    # --- inside ---

    def _do(self, act: Ask | Finding, now: int) -> None:
        if isinstance(act, Ask):
            if act.stream.name not in self._asking:  # one that still waits for its turn will tell as much
                self._asking.add(act.stream.name)
                self._spawn(partial(self._ask, act))
            return
        stream, facts = act.stream, self._facts(act.stream)
        seconds = act.quiet / SECOND
        events.counted(self._connection.exchange, self._connection.market_type, stream.kind, act.verdict)
        if act.verdict == "quiet":
            events.stream_quiet(**facts, seconds=seconds, proof=act.proof)
        elif act.verdict == "unknown":
            events.stream_unproven(**facts, seconds=seconds, reason=act.proof)
        else:
            if act.first:
                self._pipeline.stalled(self._link, stream, now, act.proof, act.since)
            if act.first or act.remedy:
                events.stream_missed(**facts, seconds=seconds, proof=act.proof, remedy=REMEDIES[act.remedy])
            self._mend(act)

    def _mend(self, found: Finding) -> None:
        session = self._link.session
        if found.remedy == "stream" and isinstance(session, Renewing):
            session.renew([found.stream])
        elif found.remedy:
            why = f"{found.stream.name} sent nothing for {found.quiet // SECOND} s, but {found.proof}"
            self._remedy("replace" if found.remedy == "stream" else found.remedy, why)

    async def _ask(self, ask: Ask) -> None:
        assert self._probing is not None
        await self._spend(ask.fetch.weight)
        self._asking.discard(ask.stream.name)
        if not self._suspects.asks(ask.stream):
            return  # its turn took too long to come
        try:
            answer = await self._http.fetch(ask.fetch.method, ask.fetch.url)
        except HttpFailed as error:
            newest: Newest | str = str(error)
        else:
            newest = self._probing.probed(self._connection, ask.stream, answer.status, answer.body)
        if not self._link.ended:
            now = self._clock.now()
            for act in self._suspects.answer(ask.stream, newest, now):
                self._do(act, now)

    def _changed(self, change: Change, now: int) -> None:
        """A stream is reported, or no longer."""
        stream, facts = change.stream, self._facts(change.stream)
        if change.alarm != change.was_alarm:
            step = 1 if change.alarm else -1
            self._alarmed[stream.kind] += step
            events.alarmed(self._connection.exchange, self._connection.market_type, stream.kind, step)
        if change.over:
            events.stream_speaks(**facts, seconds=change.quiet / SECOND)
        if change.alarm:
            telemetry.silent_stream(**facts, seconds=change.quiet / SECOND, state=change.status)
        if change.status == "stalled" and not self._suspects.judged(stream):
            self._pipeline.stalled(self._link, stream, now)
            self._remedy("replace", "")  # the venue may have forgotten a subscription: ask again on a new one

    def _hold_to_their_word(self, states: Iterable[StreamState], now: int) -> None:
        """Streams that another connection left to this one, since the venue said that it has them, and that never came
        though their silence says something: that was no more than a word.
        """
        for state in states:
            longest = state.stream.max_silence
            if state.events or longest is None or not state.acknowledged_at or now < state.excused:
                continue
            if now - state.acknowledged_at > max(longest, self._silent_after):
                merger = self._pipeline.route(state.stream.kind).merger
                if isinstance(merger, Memory) and merger.awaits(state.stream.symbol):
                    self._pipeline.stalled(self._link, state.stream, now)

    def _facts(self, stream: Stream) -> dict[str, str]:
        plan = self._connection
        facts = {"exchange": plan.exchange, "market_type": plan.market_type}
        return facts | {"kind": stream.kind, "symbol": stream.symbol}
