"""Suspects: streams of one connection that are quiet for longer than is usual for them, and what becomes of each.

Pure. A suspected stream is asked about by another way than itself: the venue's REST route (`market.probing`), where
there is one; else another connection that carries the same stream; else the trades of its symbol, which move books and
quotes. The verdict is

- `quiet`: nothing newer exists. Nothing is missing; the stream is left alone for as long again, and longer each time;
- `missed`: something newer exists, and has not come for GRACE after that was known. The stream is asked for anew, and
  the connection replaced where that does not help, or where half of its streams are suspected together;
- `unknown`: there was no answer that says anything.

Of quotes and books some venues tell what they are now: two answers are compared. Of quotes one newer trade is no proof,
for it may leave the best prices as they are; MOVES of them are.

A stream that comes while it is being asked about is no suspect any more, and nothing was ever said of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from collectors.rhythm import LEAST, MOST, WINDOW, YOUNG_EVENTS, YOUNG_SPAN, Rhythms, young
from collectors.suspicion import IMPLIED, NEAR, Ask, Doubt, Facts, Finding, Seen, newer
from market.probing import Newest
from market.session import EVERY_SYMBOL, Stream, StreamState
from market.times import HOUR, MINUTE, SECOND

__all__ = [
    "AGAIN", "ANSWER_WITHIN", "COMPARED", "GRACE", "TRADES", "WATCHED", "Ask", "Finding", "Seen", "Suspects", "newer",
]  # fmt: skip
TRADES = frozenset({"trade", "agg_trade"})
QUOTE = "quote"
GRACE = 3 * SECOND
"""What is newer may still be on its way: it has missed what has not come so long after the answer."""
ANSWER_WITHIN = 12 * SECOND
"""Of a request, the wait for its turn included."""
PATIENCE = 30 * SECOND
"""So long a suspect that waits to be asked about is excused, and what has never sent anything for FRESH_EXCUSE."""
FRESH_EXCUSE = 55 * SECOND
COMPARED = 5 * SECOND
"""Between two answers that tell what is, and no event."""
WATCHED = 10 * SECOND
"""How long the trades of a symbol are watched."""
MOVES = 3
"""Of its trades while a stream said nothing: one may be of a sort that moves no book."""
FRESH_PART = 4 / 9
"""Of the time after which an acknowledged stream is reported as silent: then it is asked about."""
AT_ONCE = 4
"""Requests of one connection that are under way together."""
SHORT = LEAST // 3
"""Spells below it are not worth learning."""
AGAIN = 30 * SECOND
"""From asking for a stream anew to asking about it again."""
REPLACED_AGAIN = (MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR)
"""After a connection was replaced for its streams, the next time at the earliest: what does not help is no storm."""
CONNECTION = "connection"
HALF = 2
FEWEST = 3
"""Streams that must be suspected together before it is the connection that is suspected."""


class Suspects:
    """Those of one session. `look` at its streams about once a second, before their statuses are taken: it says in the
    states what is excused and what is proven.
    """

    def __init__(self, facts: Facts, rhythms: Rhythms, silent_after: int, connection: str = "") -> None:
        self._facts = facts
        self._rhythms = rhythms
        self._whole = rhythms.of(CONNECTION, connection)
        """What is remembered of the connection, over the sessions that it has."""
        self._fresh = round(silent_after * FRESH_PART)
        self._last: dict[str, int] = {}
        """Name of a stream -> receive time of its newest event at the last look."""
        self._grown: set[str] = set()
        """Streams of which the session has seen enough to know their rhythm."""
        self._window = -1
        self._doubts: dict[str, Doubt] = {}
        self._judged: set[str] = set()
        self._told: dict[str, tuple[int, Newest]] = {}
        """Name of a stream -> how many events it had when an answer told what is, and that answer."""
        self._known: set[str] = set()
        """Streams that were found to have nothing to say."""
        self.verdicts: Counter[str] = Counter()

    def reset(self) -> None:
        """The clock was stepped, or nothing was read: what was quiet meanwhile says nothing."""
        for doubt in self._doubts.values():
            doubt.state.excused = 0
        self._doubts.clear()
        self._told.clear()
        self._last.clear()

    def asks(self, stream: Stream) -> bool:
        """Whether an answer about a stream is waited for."""
        doubt = self._doubts.get(stream.name)
        return doubt is not None and doubt.asked_at > 0

    def judged(self, stream: Stream) -> bool:
        """Whether what is wrong with a stream has been found here, and seen to."""
        return stream.name in self._judged

    def look(self, states: Iterable[StreamState], now: int) -> list[Ask | Finding]:
        """What to ask and what was found."""
        window = now // WINDOW
        turned, self._window = window != self._window, window
        out: list[Ask | Finding] = []
        eligible = 0
        for state in states:
            last = state.last_recv or state.acknowledged_at
            if not last or state.stream.sparse or state.stream.symbol == EVERY_SYMBOL:
                continue
            eligible += 1
            name = state.stream.name
            if self._doubts and (doubt := self._doubts.get(name)) is not None:
                if state.events != doubt.events:
                    self._came(doubt, now)
                continue
            if state.events:
                self._learn(state, now, turned=turned)
            if now - last > LEAST and now >= state.excused:
                self._weigh(state, last, now)
        for doubt in list(self._doubts.values()):
            out += self._pursue(doubt, now, eligible)
        return [*out, *self._ask(now)]

    def answer(self, stream: Stream, newest: Newest | str, now: int) -> list[Ask | Finding]:
        """What a request came to: the newest that the venue knows of, or why it says nothing."""
        doubt = self._doubts.get(stream.name)
        if doubt is None or not doubt.asked_at:
            return []  # it has come, or the answer is late
        doubt.asked_at = 0
        return [*self._answered(doubt, newest, now), *self._ask(now)]

    def _answered(self, doubt: Doubt, newest: Newest | str, now: int) -> list[Ask | Finding]:
        if isinstance(newest, str):
            return [self._unknown(doubt, newest, now)]
        state, stream = doubt.state, doubt.state.stream
        if state.events != doubt.events:
            return []  # the next look sees that it has come
        if newest.state:
            return self._compared(doubt, newest, now)
        since = 0 if state.events else state.since or state.acknowledged_at
        if not newer(newest, self._facts.seen(stream), kind=stream.kind, since=since) or newest.ts <= doubt.told:
            return [self._quiet(doubt, newest.said, now)]
        doubt.told, doubt.moves = newest.ts, doubt.moves + 1
        if stream.kind == QUOTE and state.events and doubt.moves < MOVES:  # one may leave the best prices as they are
            doubt.mark, doubt.due = self._facts.trades(stream.symbol), now + WATCHED
            if doubt.mark is None:
                return [self._unknown(doubt, f"{newest.said}, which may have moved no quote", now)]
        else:
            doubt.found, doubt.due = newest.said, now + GRACE
        self._excuse(doubt, doubt.due + 2 * SECOND)
        return []

    def _compared(self, doubt: Doubt, newest: Newest, now: int) -> list[Ask | Finding]:
        """An answer tells what is, and no event: what changed between two of them, while nothing came, was missed."""
        events, name = doubt.state.events, doubt.state.stream.name
        before = self._told.get(name)
        self._told[name] = (events, newest)
        if before is None or before[0] != events:
            doubt.waits, doubt.due = True, now + COMPARED
        elif before[1].state == newest.state:
            return [self._quiet(doubt, f"{newest.said}, as before", now)]
        else:
            doubt.found, doubt.due = f"{newest.said}, before {before[1].said}", now + GRACE
        self._excuse(doubt, doubt.due + 2 * SECOND)
        return []

    # --- inside ---

    def _learn(self, state: StreamState, now: int, *, turned: bool) -> None:
        """The spell that has ended since the last look, if it was one."""
        name, last = state.stream.name, state.last_recv
        before = self._last.get(name, 0)
        if name not in self._grown and state.events >= YOUNG_EVENTS and last - state.first_recv >= YOUNG_SPAN:
            self._grown.add(name)  # longer spells were learnt as they ended
            self._rhythms.of(state.stream.kind, state.stream.symbol).learn(SHORT, now)
        if last != before:
            self._last[name] = last
            spell = last - before
            if before and (turned or spell >= SHORT) and 0 <= spell < MOST * 2:
                self._rhythms.of(state.stream.kind, state.stream.symbol).learn(spell, now)

    def _bound(self, state: StreamState, now: int) -> int:
        if not state.events:
            return self._fresh
        stream = state.stream
        return self._rhythms.of(stream.kind, stream.symbol).bound(now, stream.max_silence, young(state))

    def _weigh(self, state: StreamState, last: int, now: int) -> None:
        """It is suspected, or what is usual for it is written down, for those who know its connection only."""
        bound, stream = self._bound(state, now), state.stream
        if now - last > bound:
            self._suspect(state, now)
        elif state.events and self._rhythms.of(stream.kind, stream.symbol).known:
            state.ordinary = last + bound

    def _suspect(self, state: StreamState, now: int) -> None:
        """Where there is anyone to ask."""
        stream, facts = state.stream, self._facts
        implied = stream.kind in IMPLIED and facts.trades(stream.symbol) is not None
        if facts.probe(stream) is None and facts.twin(stream) is None and not implied:
            return
        doubt = self._doubts[stream.name] = Doubt(state, now)
        self._excuse(doubt, now + ANSWER_WITHIN)

    def _excuse(self, doubt: Doubt, until: int) -> None:
        """While it is asked about for the first time. What has never sent anything, and of which nothing is known, is
        reported within a minute, whatever is asked.
        """
        state = doubt.state
        known = state.events or state.stream.name in self._known
        limit = until if known else state.acknowledged_at + FRESH_EXCUSE
        if doubt.since and not doubt.misses:
            state.excused = max(state.excused, min(until, limit))

    def _ask(self, now: int) -> list[Ask | Finding]:
        """Those that wait are asked about, a few at once, and first those that have the least to be quiet for."""
        waiting = [doubt for doubt in self._doubts.values() if doubt.waits and now >= doubt.due]
        if not waiting:
            return []
        free = AT_ONCE - sum(1 for doubt in self._doubts.values() if doubt.asked_at)
        out: list[Ask | Finding] = []
        for doubt in sorted(waiting, key=lambda one: self._bound(one.state, now)):
            stream, twin = doubt.state.stream, self._facts.twin(doubt.state.stream)
            last = doubt.state.last_recv or doubt.state.acknowledged_at
            if twin is not None and twin > last + NEAR:
                doubt.waits, doubt.found, doubt.due = False, f"another connection had events at {twin}", now + GRACE
                self._excuse(doubt, doubt.due + 2 * SECOND)
            elif (fetch := self._facts.probe(stream)) is not None:
                if free > 0:
                    free -= 1
                    doubt.waits, doubt.asked_at, doubt.due = False, now, now + ANSWER_WITHIN
                    self._excuse(doubt, doubt.due + 2 * SECOND)
                    out.append(Ask(stream, fetch))
            elif stream.kind in IMPLIED and (count := self._facts.trades(stream.symbol)) is not None:
                doubt.waits, doubt.mark, doubt.due = False, count, now + WATCHED
                self._excuse(doubt, doubt.due + 2 * SECOND)
            else:
                out.append(self._quiet(doubt, "another connection had nothing either", now))
        return out

    def _pursue(self, doubt: Doubt, now: int, eligible: int) -> list[Finding]:
        if doubt.waits and now - doubt.since < PATIENCE:
            self._excuse(doubt, now + 2 * SECOND)
        if doubt.waits or now < doubt.due:
            return []
        if doubt.found is not None:
            return [self._missed(doubt, doubt.found, now, eligible)]
        if doubt.asked_at:
            doubt.asked_at = 0
            return [self._unknown(doubt, "no answer in time", now)]
        return [self._watched(doubt, now, eligible)]

    def _watched(self, doubt: Doubt, now: int, eligible: int) -> Finding:
        """What the trades of its symbol did."""
        count = self._facts.trades(doubt.state.stream.symbol)
        moves = 0 if count is None or doubt.mark is None else count - doubt.mark
        said = f"{moves} trades of the symbol in {WATCHED // SECOND} s"
        doubt.mark = None
        if moves >= MOVES:
            return self._missed(doubt, said, now, eligible)
        return self._unknown(doubt, said, now) if doubt.moves else self._quiet(doubt, said, now)

    def _came(self, doubt: Doubt, now: int) -> None:
        state = doubt.state
        del self._doubts[state.stream.name]
        self._judged.discard(state.stream.name)
        if doubt.misses:
            self._last[state.stream.name] = state.last_recv  # that spell was no rhythm
        elif doubt.events:
            self._learn(state, now, turned=True)
        if now - self._whole.replace_after > MOST:
            self._whole.replaced = 0
        state.excused = 0

    def _quiet(self, doubt: Doubt, proof: str, now: int) -> Finding:
        """It is left alone for as long again, and its rhythm is what it is."""
        state, stream = doubt.state, doubt.state.stream
        quiet = self._quiet_for(doubt, now)
        doubt.found, doubt.mark = None, None
        leave = min(MOST, max(quiet, self._bound(state, now)))
        if doubt.misses:  # it has missed something before, and nothing has come since: that is not over
            doubt.waits, doubt.due = True, now + leave
        else:
            del self._doubts[stream.name]
            self._judged.discard(stream.name)
            self._known.add(stream.name)
            state.excused, state.proven = now + leave, 0
            if state.events:
                self._rhythms.of(stream.kind, stream.symbol).learn(quiet, now)
        self.verdicts["quiet"] += 1
        return Finding(stream, "quiet", proof, quiet)

    def _missed(self, doubt: Doubt, proof: str, now: int, eligible: int) -> Finding:
        state, stream = doubt.state, doubt.state.stream
        doubt.found, doubt.misses = None, doubt.misses + 1
        doubt.waits, doubt.due = True, now + AGAIN
        state.proven, state.excused = now, 0
        self._judged.add(stream.name)
        self.verdicts["missed"] += 1
        quiet = self._quiet_for(doubt, now)
        remedy: Literal["", "stream", "replace", "leave"] = "stream"
        together = len(self._doubts)
        if together >= FEWEST and together * HALF >= eligible:
            remedy = "leave"
        elif doubt.misses > 1:
            remedy = "replace"
        if remedy != "stream" and not self._may_replace(now):
            remedy = "stream" if doubt.misses == 1 else ""
        return Finding(stream, "missed", proof, quiet, remedy, doubt.misses == 1, state.since or state.acknowledged_at)

    def _may_replace(self, now: int) -> bool:
        whole = self._whole
        if now < whole.replace_after:
            return False
        whole.replace_after = now + REPLACED_AGAIN[min(whole.replaced, len(REPLACED_AGAIN) - 1)]
        whole.replaced += 1
        return True

    def _unknown(self, doubt: Doubt, why: str, now: int) -> Finding:
        """The alarm stands until it comes, or an answer does. Where silence means nothing by itself (`max_silence`
        None) it is no gap either.
        """
        state, stream = doubt.state, doubt.state.stream
        doubt.waits, doubt.due = True, now + max(MINUTE, min(MOST, self._quiet_for(doubt, now)))
        state.excused = doubt.since = 0
        if state.events and stream.max_silence is None:
            state.proven = now
            self._judged.add(stream.name)
        self.verdicts["unknown"] += 1
        return Finding(stream, "unknown", why, self._quiet_for(doubt, now))

    @staticmethod
    def _quiet_for(doubt: Doubt, now: int) -> int:
        return now - (doubt.state.last_recv or doubt.state.acknowledged_at)
