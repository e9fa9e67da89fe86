"""The protocol state of one connection by ccxt: what is watched, what came of it, and that it went silent. Pure.

There is nothing like an acknowledgement: that ccxt watches a symbol without an error is all that is known, and taken
for one. Trades of before the subscription, which many venues push, are history; a candle is a row once a later one was
told of.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from collectors.adapters.counting import GARBAGE_LIMIT, LABEL_LENGTH, LABELS_LIMIT, NOTHING
from collectors.adapters.reading import BAD_FRAME, why
from collectors.adapters.skew import Skew
from collectors.adapters.streaming import STATES_LIMIT
from collectors.ccxt import rows, tables, wire
from collectors.subscriptions import Pacer
from market.kinds import Event, Kline
from market.session import (
    Acknowledged,
    Connection,
    Leave,
    Limits,
    Output,
    Refused,
    Rejected,
    Send,
    StreamState,
)
from market.times import SECOND

TAKEN, REFUSED, LOST, FAILED = "taken", "refused", "lost", "failed"
"""Words of the shell: ccxt watches it, will never, has let go of what nobody had read yet, or failed at a message."""

FIRST_ALONE = 3 * SECOND
"""Until so much later, or until something has come: what is asked for while ccxt connects would go out in one burst,
which some venues answer by cutting the connection.
"""


class CcxtSession:
    """`market.session.Session`; with `learn` the streams are those that the recording asked for."""

    def __init__(self, connection: Connection, session_id: str, limits: Limits, *, learn: bool) -> None:
        self.session_id = session_id
        self.frame_no = 0
        self.venue_time = 0
        self.ignored: Counter[str] = Counter()
        self.market_type = connection.market_type
        self.learn = learn
        self._levels = connection.book_levels
        self._silence = limits.silent_socket
        self._states = {stream.name: StreamState(stream) for stream in connection.streams}
        self._to_ask = deque(self._states.values())
        self._pacer = Pacer(limits.requests_per_second)
        self._go_on_at = 0
        """When the others follow the first that is asked for."""
        self._candles: dict[str, Kline] = {}
        """Stream -> the newest candle, which is forming."""
        self._skew = Skew()
        self._seen_at = 0
        self._seen_frame = 0
        self._garbage = 0

    # --- market.session.Session ---

    def start(self, now: int) -> Sequence[Output]:
        self._seen_at = now
        return self.tick(now)

    def sent(self, text: str, now: int) -> None:
        """What was asked for, and when (`market.session.Heeding`)."""
        try:
            asked = wire.watch(text)
        except BAD_FRAME:
            return
        state = self._state(asked.watch, asked.timeframe, asked.symbol)
        if state is not None and not state.desired_at:
            state.desired_at = now

    def receive(self, frame: bytes, ts_recv: int) -> Sequence[Output]:
        self.frame_no += 1
        self._go_on_at = min(self._go_on_at, ts_recv)
        try:
            told = wire.head(frame)
        except BAD_FRAME as error:
            return self._reject(why(error), None)
        if told.event == FAILED:
            return self._reject(told.reason, None)
        state = self._states.get(f"{told.channel}:{told.symbol}")
        if state is None:
            return self._ignore("a stream that was not asked for")
        if told.event:
            return self._word(told, state, ts_recv)
        return self._rows(told, state, ts_recv)

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        """Nothing is asked over HTTP here."""
        del tag, status, headers, body, ts_recv
        self.frame_no += 1
        return self._reject("an answer to nothing that was asked", None)

    def tick(self, now: int) -> Sequence[Output]:
        if self.learn or not self._states:
            return NOTHING
        if self._seen_frame != self.frame_no:
            self._seen_frame, self._seen_at = self.frame_no, now
        if now - self._seen_at >= self._silence:
            return (Leave("silence", f"no frame for {(now - self._seen_at) // SECOND} s"),)
        if self._to_ask and now >= self._go_on_at and self._pacer.take(now):
            if not self._go_on_at:
                self._go_on_at = now + FIRST_ALONE
            return (Send(self._asking(self._to_ask.popleft())),)
        return NOTHING

    def next_deadline(self) -> int | None:
        if self.learn:
            return None
        silent = self._seen_at + self._silence
        return min(silent, max(self._pacer.next_at, self._go_on_at)) if self._to_ask else silent

    def streams(self) -> Iterable[StreamState]:
        return self._states.values()

    # --- inside ---

    def _asking(self, state: StreamState) -> str:
        channel = tables.BY_NAME[state.stream.channel]
        levels = self._levels if channel.method == tables.BOOK else 0
        asked = wire.Watch(channel.method, state.stream.symbol, channel.timeframe, levels)
        return msgspec.json.encode(asked).decode()

    def _state(self, method: str, timeframe: str, symbol: str) -> StreamState | None:
        """The state of a stream; in a recording, of one that is met."""
        name = f"{method}:{timeframe}" if timeframe else method
        found = self._states.get(f"{name}:{symbol}")
        channel = tables.CHANNELS[self.market_type].get(name)
        if found is None and self.learn and channel is not None and len(self._states) < STATES_LIMIT:
            stream = channel.stream(symbol)
            found = self._states[stream.name] = StreamState(stream)
        return found

    def _word(self, told: wire.Head, state: StreamState, ts_recv: int) -> Sequence[Output]:
        """What the shell says of a stream."""
        if told.event == TAKEN:
            if state.acknowledged_at:
                return NOTHING
            state.acknowledged_at = ts_recv
            state.since = state.since or self.venue_time
            return (Acknowledged((state.stream,)),)
        if told.event == REFUSED:
            return (Refused((state.stream,), told.reason[:300]),)
        if told.event == LOST:
            return (Leave("messages_missing", f"{state.stream.name}: {told.reason}"[:300]),)
        return self._ignore(f"word {told.event}")

    def _rows(self, told: wire.Head, state: StreamState, ts_recv: int) -> Sequence[Output]:
        channel = tables.BY_NAME[state.stream.channel]
        read, pushed = rows.READERS[channel.method], 0 if state.events else state.desired_at
        place = rows.Place(
            state.stream, self.session_id, ts_recv, self.frame_no, 0, told.size, self.market_type, pushed, self._skew
        )
        out: list[Output] = []
        newest = 0
        for item, raw in enumerate(told.rows):
            place.item = item
            try:
                made = read(wire.row(raw).parsed, place)
            except BAD_FRAME as error:
                made = why(error)
            if isinstance(made, Event):
                time = made.open_time if isinstance(made, Kline) else made.ts_event
                newest = max(newest, time or ts_recv - place.skew.value)
                out += self._closed(made) if isinstance(made, Kline) else (made,)
            elif made.startswith(rows.SKIP):
                self._ignore(made.removeprefix(rows.SKIP))
            else:
                out += self._reject(made, state.stream.name)
        if newest:
            self._garbage = 0
            self._heard(state, ts_recv, newest)
        elif not out:
            self._ignore(f"{state.stream.channel} without rows")
        return out

    def _closed(self, told: Kline) -> Sequence[Output]:
        """The candle that one is known to have closed by: the one before it, or itself where a later one was told."""
        forming = self._candles.get(told.stream)
        if forming is not None and told.open_time < forming.open_time:
            return (told,)
        self._candles[told.stream] = told
        return (forming,) if forming is not None and forming.open_time < told.open_time else NOTHING

    def _heard(self, state: StreamState, ts_recv: int, newest: int) -> None:
        self.venue_time = max(self.venue_time, newest)
        state.events += 1
        state.last_recv = ts_recv
        if not state.first_recv:
            state.first_recv, state.first_event = ts_recv, newest
            state.acknowledged_at = state.acknowledged_at or ts_recv

    def _reject(self, reason: str, stream: str | None) -> Sequence[Output]:
        self._garbage += 1
        rejected = Rejected(reason[:300], self.frame_no, stream)
        if self._garbage % GARBAGE_LIMIT or self.learn:
            return (rejected,)
        return (rejected, Leave("garbage", f"{self._garbage} rows in a row were not understood"))

    def _ignore(self, label: str) -> Sequence[Output]:
        label = label[:LABEL_LENGTH]
        if label not in self.ignored and len(self.ignored) >= LABELS_LIMIT:
            label = "other"
        self.ignored[label] += 1
        return NOTHING
