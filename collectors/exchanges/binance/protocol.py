"""The protocol state of one Binance WebSocket connection: frames in, events and actions out.

A frame finds its parser by the bytes of its stream name. Everything else (first frames of a stream, answers, bare
payloads of raw connections, frames of other channels, garbage) takes the cold path, which decides by content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from collectors.adapters.booking import Booking
from collectors.adapters.counting import NOTHING, Counting
from collectors.adapters.dated import Dated, reader
from collectors.adapters.lifetime import lifetime
from collectors.adapters.silence import ordinary_until
from collectors.adapters.skew import Skew
from collectors.exchanges.binance import bare, wire
from collectors.exchanges.binance.commands import Subscriber
from collectors.exchanges.binance.depth import KIND as BOOKS
from collectors.exchanges.binance.depth import Books, Depth
from collectors.exchanges.binance.silence import silence_limit
from market.kinds import Contract, Event
from market.session import EVERY_SYMBOL, Connection, Leave, Limits, Output, Stream, StreamState

Parsed = Event | Sequence[Output]
"""What a frame says: one event, which is what nearly all say, or any number of outputs."""
Parse = Callable[[bytes, int, int], Parsed]
"""(frame with the payload under `data`, ts_recv, frame_no) -> what it says, or a Rejected."""
Maker = Callable[["StreamSession", StreamState], Parse]

PREFIX, NAME_END = b'{"stream":"', b'","'
"""Between them lies the stream's name in the spelling that every frame has."""
NAME_LIMIT = 128
HEAD = 40
"""Bytes of a frame that lead to its parser, where the name ends in them: a longer one is looked up whole. What follows
a short name is the same in every frame, or nearly.
"""
ROUTES_LIMIT = 20_000
SHUTDOWN = "serverShutdown"


class Channel(msgspec.Struct, frozen=True):
    """A collected channel: its kind, whether its ids follow each other, its `max_silence` (us) and its parser."""

    name: str
    kind: str
    contiguous: bool
    max_silence: int | None
    maker: Maker | Dated[Maker]
    sparse: bool = False
    """Whether hours without an event are ordinary."""
    symbol_at: Literal["data", "order", "name"] = "data"
    """Where a payload names its symbol: as its `s`, inside its `o`, or nowhere but in the stream's name."""

    @property
    def market_wide(self) -> bool:
        """Whether one stream of it carries every symbol."""
        return self.name.startswith("!")

    def stream(self, symbol: str) -> Stream:
        """The stream of one symbol (EVERY_SYMBOL of a market-wide channel)."""
        name = self.name if self.market_wide else f"{symbol.lower()}@{self.name}"
        return Stream(name, self.name, symbol, self.kind, self.contiguous, self.max_silence, self.sparse)


class StreamSession(Booking, Counting):
    """`market.session.Session` of one Binance connection; with `learn` it sends nothing and takes what it meets."""

    def __init__(
        self,
        connection: Connection,
        session_id: str,
        channels: Mapping[str, Channel],
        limits: Limits,
        depth: Depth,
        sizes: dict[str, str] | None = None,
        *,
        learn: bool = False,
    ) -> None:
        super().__init__(learn=learn)
        self.session_id = session_id
        self.frame_no = 0
        self.venue_time = 0
        self.skew = Skew()
        self.books: Books = Books(connection, session_id, depth, self.skew)
        self.market_type = connection.market_type
        self.sizes = sizes
        """Symbol -> what one contract is worth, where quantities are contracts."""
        self.contracts: dict[str, Contract] = {}
        """Symbol -> what the reference data last said of it."""
        self._life = lifetime(connection, limits, session_id)
        self._raw = bare.names(connection.url)
        self._channels = channels
        self._limits = limits
        self._hot: dict[bytes, Parse] = {}
        self._long: dict[bytes, Parse] = {}
        """As `_hot`, for names that are too long for that."""
        self._makers: dict[str, Parse] = {}
        self._states = {s.name: StreamState(s) for s in connection.streams}
        self._subscriber = Subscriber(() if learn else connection.streams, self._states, limits)
        self._placed = True  # whether all acknowledged streams have their `since`
        self._started = 0
        self._checked_frame = 0
        self._checked_at = 0

    def start(self, now: int) -> Sequence[Output]:
        self._started = self._checked_at = now
        for state in self._states.values():
            state.desired_at = now
            self.books.desire(state)
        return NOTHING if self.learn else self._subscriber.tick(now)

    def receive(self, frame: bytes, ts_recv: int) -> Sequence[Output]:
        self.frame_no = number = self.frame_no + 1
        out = self._hot.get(frame[:HEAD], self._cold)(frame, ts_recv, number)
        return (out,) if isinstance(out, Event) else out

    def receive_all(
        self, frames: Sequence[bytes], times: Sequence[int], puts: Mapping[type, Callable[[Event], None]]
    ) -> tuple[int, Sequence[Output]]:
        """See `market.session.Batching`."""
        hot, cold = self._hot.get, self._cold
        begun = number = self.frame_no
        try:
            for frame, ts_recv in zip(frames, times, strict=False):
                number += 1
                out = hot(frame[:HEAD], cold)(frame, ts_recv, number)
                put = puts.get(out.__class__)
                if put is not None:
                    put(out)  # type: ignore[arg-type] # only event types have a place
                elif out:
                    return number - begun, (out,) if isinstance(out, Event) else out
        finally:
            self.frame_no = number
        return number - begun, NOTHING

    def know(self, contract: Contract) -> None:
        """What the market's reference data says of an instrument (`market.session.Informed`)."""
        self.contracts[contract.symbol] = contract
        if self.sizes is not None and contract.multiplier is not None:
            self.sizes[contract.symbol] = contract.multiplier

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        """The snapshot of a book, which is all that is asked over HTTP here."""
        del headers
        self._checked_frame += self._checked_frame == self.frame_no  # no sign of life of the socket
        self.frame_no += 1
        if self.learn:
            self._learn_book(tag, ts_recv)
        out = self.books.respond(tag, status, body, ts_recv, self.frame_no)
        return self.reject("an answer to nothing that was asked", None, self.frame_no) if out is None else out

    def sent(self, text: str, now: int) -> None:
        """A frame that a recorded session sent: the streams it asked for (`market.session.Heeding`)."""
        if not self.learn:
            return
        for stream in self._subscriber.sent(text, now, self._asked_for):
            self._states.setdefault(stream.name, StreamState(stream, desired_at=now))

    def tick(self, now: int) -> Sequence[Output]:
        if self.learn:
            return NOTHING
        out = self._subscriber.tick(now)
        out += self.books.tick(now)
        if now >= self._end_of_life():
            out.append(Leave("planned", "its life is over: the venue cuts every connection after 24 hours"))
        elif (limit := silence_limit(self._states.values(), self._limits)) is not None:
            if self._checked_frame != self.frame_no:
                self._checked_frame, self._checked_at = self.frame_no, now
            elif now >= self._checked_at + limit and now >= ordinary_until(self._states.values()):
                out.append(self._leave_silent(now))
        return out

    def next_deadline(self) -> int | None:
        if self.learn:
            return None
        times = [self._end_of_life()]
        if (asked := self._subscriber.deadline()) is not None:
            times.append(asked)
        if (snapshot := self.books.deadline()) is not None:
            times.append(snapshot)
        if (limit := silence_limit(self._states.values(), self._limits)) is not None:
            fresh = self._checked_frame != self.frame_no
            times.append(self._checked_at + (limit // 4 if fresh else limit))
        return min(times)

    def streams(self) -> Iterable[StreamState]:
        return self._states.values()

    def renew(self, streams: Sequence[Stream]) -> None:
        """Ask for these anew with the next `tick` (`market.probing.Renewing`)."""
        self._subscriber.renew(streams)

    def heard(self, state: StreamState, ts_recv: int, time: int) -> None:
        """A frame of a stream was understood; `time` is its venue time (us, 0 where it has none)."""
        self.venue_time = max(self.venue_time, time)
        state.events += 1
        state.last_recv = ts_recv

    # The cold path

    def _cold(self, frame: bytes, ts_recv: int, number: int) -> Parsed:
        parse = self._long.get(frame.partition(NAME_END)[0])
        if parse is not None:
            return parse(frame, ts_recv, number)
        try:
            found = wire.envelope(frame)
        except wire.BAD_FRAME:
            return self._bare(frame, ts_recv, number)
        name = found.stream
        if name == f"!{SHUTDOWN}":
            return self._shutdown()
        return self._route(name, frame, ts_recv, number)

    def _bare(self, frame: bytes, ts_recv: int, number: int) -> Parsed:
        """A frame without the envelope: an answer to a command, or a payload of a raw connection."""
        try:
            found = wire.peek(frame)
        except wire.BAD_FRAME as error:
            return self._array(frame, wire.why(error), number)
        if found.stream is not None:
            return self.reject("a combined-stream frame without data", found.stream[:NAME_LIMIT], number)
        if found.e == SHUTDOWN:
            return self._shutdown()
        name = bare.name_of(found, self._raw, self._channels)
        if name is not None:
            return self._route(name, b'{"data":%b}' % frame, ts_recv, number)
        if found.e is not None:
            return self.ignore(found.e)
        if found.result is not msgspec.UNSET or found.error is not msgspec.UNSET or found.code is not None:
            return self._answer(found, ts_recv, number)
        if found.lastUpdateId is not None:
            return self.ignore("depth snapshot")
        return self.reject("a payload of no documented shape", None, number)

    def _array(self, frame: bytes, error: str, number: int) -> Sequence[Output]:
        """All-market streams of raw connections are bare arrays."""
        try:
            found = wire.peeks(frame)
        except wire.BAD_FRAME:
            return self.reject(error, None, number)
        if found and all(item.e is not None for item in found):
            return self.ignore(f"!{found[0].e}@arr")
        return self.reject("an array of no documented shape", None, number)

    def _answer(self, found: wire.Peek, now: int, number: int) -> Sequence[Output]:
        if isinstance(found.error, msgspec.Raw):
            try:
                problem = wire.problem(found.error)
            except wire.BAD_FRAME as error:
                return self.reject(wire.why(error), None, number)
        elif found.code is not None:
            problem = wire.Problem(found.code, found.msg)
        else:
            accepted = self._subscriber.accepted(found.id, found.result or b"", now)
            if not accepted:
                return self.ignore("answer")
            self._placed = False
            self._seen_since()
            return accepted
        refused = self._subscriber.refused(found.id, problem.code, problem.msg or "", now)
        if refused is None and not self.learn:
            return self.reject(f"the venue reports error {problem.code}", None, number)
        return refused or self.ignore("answer")

    def _route(self, name: str, frame: bytes, ts_recv: int, number: int) -> Parsed:
        """Parse a frame of stream `name`; a stream whose first event this is gets its place in the fast path."""
        if not 0 < len(name) <= NAME_LIMIT:
            return self.reject("a stream name of impossible length", None, number)
        parse = self._makers.get(name)
        if parse is None:
            state = self._states.get(name)
            if state is None:
                state = self._learned(name, frame, ts_recv) if self.learn else None
            if state is None:
                return self._foreign(name, frame, number)
            maker = self._channels[state.stream.channel].maker
            parse = self._makers[name] = reader(maker, ts_recv, self, state)
        state = self._states[name]
        before = state.events
        out = parse(frame, ts_recv, number)
        if state.events > before:
            if not state.first_recv:
                state.first_recv = ts_recv
                first = out if isinstance(out, Event) else next(iter(out), None)
                time = first.ts_event if isinstance(first, Event) else self.venue_time
                state.first_event = time or ts_recv - self.skew.value
                self._seen_since()
            self._promote(name, frame, parse)
        return out

    def _learned(self, name: str, frame: bytes, ts_recv: int) -> StreamState | None:
        """The state of a stream first met in a recording, where we collect its channel."""
        prefix, _, channel = name.partition("@")
        known = self._channels.get(name if name.startswith("!") else channel)
        if known is None or not prefix or len(self._states) >= ROUTES_LIMIT:
            return None
        symbol = EVERY_SYMBOL if known.market_wide else self._symbol(known, prefix, frame)
        if symbol is None:
            return None
        state = StreamState(known.stream(symbol), desired_at=ts_recv, acknowledged_at=ts_recv)
        self._states[name] = state
        return state

    def _learn_book(self, tag: str, ts_recv: int) -> None:
        """The book of an answer in a recording: it was asked for before its first update where that took its time."""
        stream = self._asked_for(tag.rpartition(" ")[2])
        if stream is not None and stream.kind == BOOKS:
            state = StreamState(stream, desired_at=ts_recv, acknowledged_at=ts_recv)
            self.books.desire(self._states.setdefault(stream.name, state))

    def _seen_since(self) -> None:
        """Streams that were acknowledged are there from the venue's time that is known then."""
        if not self._placed and self.venue_time:
            self._placed = True
            for state in (state for state in self._states.values() if state.acknowledged_at and not state.since):
                state.since = self.venue_time

    def _asked_for(self, name: str) -> Stream | None:
        """The stream that a subscription names, where we collect its channel."""
        prefix, _, channel = name.partition("@")
        known = self._channels.get(name if name.startswith("!") else channel)
        if known is None or not prefix or len(name) > NAME_LIMIT or len(self._states) >= ROUTES_LIMIT:
            return None
        return known.stream(EVERY_SYMBOL if known.market_wide else prefix.upper())

    @staticmethod
    def _symbol(channel: Channel, prefix: str, frame: bytes) -> str | None:
        """The symbol of a stream, None where payload and name differ: one odd frame would name the stream for all."""
        symbol = prefix.upper()
        try:
            if channel.symbol_at == "data":
                symbol = wire.symbol(frame).data.s
            elif channel.symbol_at == "order":
                symbol = wire.order(frame).data.o.s
        except wire.BAD_FRAME:
            return None
        return symbol if symbol.lower() == prefix and symbol == symbol.upper() else None

    def _foreign(self, name: str, frame: bytes, number: int) -> Sequence[Output]:
        """A frame of a channel that is not collected is counted; one that only looks like ours is not understood."""
        channel = name.partition("@")[2]
        label = name if name.startswith("!") else channel or name
        if self.learn and channel in self._channels:
            if channel.startswith("markPrice") and bare.is_array(frame):  # the contracts of a COIN-M pair together
                return self.ignore(f"{label} array")
            return self.reject("a payload that is not its stream's", name, number)
        if self.learn:
            self._promote(name, frame, lambda _frame, _ts_recv, _number: self.ignore(label))
        return self.ignore(label)

    def _promote(self, name: str, frame: bytes, parse: Parse) -> None:
        """Let `frame`'s spelling of the name lead straight to `parse`."""
        key = frame.partition(NAME_END)[0]
        if len(self._hot) + len(self._long) >= ROUTES_LIMIT or not key.startswith(PREFIX):
            return
        if wire.same_text(key[len(PREFIX) :], name):
            short = len(key) + len(NAME_END) <= HEAD
            (self._hot if short else self._long)[frame[:HEAD] if short else key] = parse

    def _shutdown(self) -> Sequence[Output]:
        """Announced without lead time: the replacement is to be opened at once. A replay only counts it."""
        if self.learn:
            return self.ignore(SHUTDOWN)
        return (Leave("server_shutdown", "the venue announced that this server is going down"),)

    # Life and silence

    def _end_of_life(self) -> int:
        return self._started + self._life

    def _leave_silent(self, now: int) -> Leave:
        quiet = (now - self._checked_at) // 1_000_000
        if any(s.events for s in self._states.values()):
            return Leave("silence", f"no frame for {quiet} s")
        return Leave("no_first_message", f"no stream sent anything in {quiet} s: wrong path or restricted address")
