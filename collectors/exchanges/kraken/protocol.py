"""The protocol state of one Kraken spot connection (WebSocket v2): frames in, events and actions out.

A frame finds its parser by the word of its channel, an item of it its stream by its symbol. The venue sends a heartbeat
a second; our pings keep an idle connection open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from collectors.adapters.dated import Dated, chosen
from collectors.adapters.reading import BAD_FRAME, why
from collectors.adapters.stamped import Stamped
from collectors.adapters.streamed_books import StreamedBooking, StreamedBooks
from collectors.adapters.streaming import NAME_LIMIT, StreamingSession
from collectors.exchanges.kraken import texts, wire
from collectors.exchanges.kraken.subscribing import SymbolSubscriber
from market.session import EVERY_SYMBOL, Connection, Limits, Output, Stream, StreamState
from market.times import SECOND

Read = Callable[["KrakenSession", bytes, int, int], Sequence[Output]]
"""(session, frame, ts_recv, frame_no) -> events, rejections; nothing where a frame says nothing."""

PING_EVERY = 30 * SECOND
CHANNEL = b'{"channel":"'
BOOK, INSTRUMENT = "book", "instrument"
SAID = ("heartbeat", "status")


class Channel(msgspec.Struct, frozen=True):
    """A collected channel: `book.100` is the venue's `book` of 100 levels, `ohlc.5` its candles of five minutes."""

    name: str
    kind: str
    contiguous: bool = False
    sparse: bool = False
    max_silence: int | None = None

    @property
    def word(self) -> str:
        """The venue's name of it."""
        return self.name.partition(".")[0]

    def stream(self, symbol: str) -> Stream:
        """The stream of one symbol; instruments are told of the whole market."""
        if self.word == INSTRUMENT:
            return Stream(INSTRUMENT, INSTRUMENT, EVERY_SYMBOL, self.kind, contiguous=False, sparse=True)
        return Stream(
            f"{self.name}.{symbol}", self.name, symbol, self.kind, self.contiguous, self.max_silence, self.sparse
        )


def _lane(stream: Stream) -> tuple[str, str]:
    """How a frame names a stream: its word (with the interval of a candle) and its symbol."""
    word = stream.channel.partition(".")[0]
    return (word if word == BOOK else stream.channel), stream.symbol


class KrakenSession(StreamedBooking, StreamingSession):
    """`market.session.Session` of one connection; with `learn` it sends nothing and takes what it meets."""

    def __init__(
        self,
        connection: Connection,
        session_id: str,
        channels: Mapping[str, Channel],
        readers: Mapping[str, Read | Dated[Read]],
        limits: Limits,
        *,
        learn: bool = False,
    ) -> None:
        super().__init__(connection, session_id, limits, PING_EVERY, learn=learn)
        # instruments last: a replay then knows of whom they are wanted
        streams = () if learn else sorted(connection.streams, key=lambda stream: stream.channel == INSTRUMENT)
        self.subscriber: SymbolSubscriber = SymbolSubscriber(streams, self.states, limits, self._write)
        self.books = StreamedBooks(self.states.values())
        self.wanted = {stream.symbol for stream in connection.streams} - {EVERY_SYMBOL}
        """Symbols that the connection carries."""
        self.precisions: dict[str, tuple[int, int]] = {}
        """Symbol -> decimals of (price, quantity), where the instrument channel has said them."""
        self.stamped = Stamped()
        self.kept: dict[str, object] = {}
        """Name of a stream -> what its parser keeps of it."""
        self._channels = channels
        self._known = readers
        self._readers: dict[bytes, Read] = {}
        self._lanes = {_lane(state.stream): state for state in self.states.values()}
        self._pings = 0

    # --- for parsers ---

    def lane(self, word: str, symbol: str, ts_recv: int, learnt: str = "") -> StreamState | None:
        """The stream of an item; `learnt` is the channel that a recording shows, its word where that says it."""
        state = self._lanes.get((word, symbol))
        if state is not None or not self.learn:
            return state
        channel = self._channels.get(learnt or word)
        if channel is None or not 0 < len(symbol) <= NAME_LIMIT:
            return None
        state = self.met(channel.stream(symbol), ts_recv)
        if state is not None:
            self._lanes[_lane(state.stream)] = state
        return state

    # --- collectors.adapters.streaming ---

    def _asked(self, text: str, now: int) -> None:
        found = wire.command(text)
        asked = found.params
        if found.method != "subscribe" or asked is None:
            return
        parameter = asked.depth if asked.channel == BOOK else asked.interval
        channel = self._channels.get(asked.channel if parameter is None else f"{asked.channel}.{parameter}")
        if channel is None:
            return
        symbols = asked.symbol or ([EVERY_SYMBOL] if channel.word == INSTRUMENT else [])
        streams = [channel.stream(symbol) for symbol in symbols if len(symbol) <= NAME_LIMIT]
        self.wanted |= set(asked.symbol)
        for state in self.desire(found.req_id or 0, (self.met(stream, 0) for stream in streams), now):
            self._lanes[_lane(state.stream)] = state

    def _frame(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        if frame.startswith(CHANNEL):
            read = self._readers.get(frame[len(CHANNEL) : frame.find(b'"', len(CHANNEL))])
            if read is not None:
                return read(self, frame, ts_recv, number)
        return self._cold(frame, ts_recv, number)

    def _write(self, what: str, names: Sequence[str], number: int) -> str:
        streams = [self.states[name].stream for name in names]
        word, _, parameter = streams[0].channel.partition(".")
        params: dict[str, object] = {"channel": word}
        if word != INSTRUMENT:
            params["symbol"] = [stream.symbol for stream in streams]
        if parameter:
            params["depth" if word == BOOK else "interval"] = int(parameter)
        if word == "ticker":
            params["event_trigger"] = "bbo"
        if what == "subscribe":
            params["snapshot"] = True
        return msgspec.json.encode({"method": what, "params": params, "req_id": number}).decode()

    def _ping(self, now: int) -> str:
        del now
        self._pings += 1
        return msgspec.json.encode({"method": "ping", "req_id": 1_000_000 + self._pings}).decode()

    # --- the cold path ---

    def _cold(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.head(frame)
        except BAD_FRAME as error:
            return self.reject(why(error), None, number)
        if found.channel is not None:
            if not 0 < len(found.channel) <= NAME_LIMIT:
                return self.reject("a channel of impossible length", None, number)
            if (known := self._known.get(found.channel)) is not None:
                read = self._readers.setdefault(found.channel.encode(), chosen(known, ts_recv))
                return read(self, frame, ts_recv, number)
            return self.ignore(found.channel if found.channel != "status" else self._system(frame))
        if found.method is not None or found.success is not None:
            return self._answer(found, ts_recv, number)
        return self.reject("a frame of no documented shape", None, number)

    @staticmethod
    def _system(frame: bytes) -> str:
        """What the venue says of itself: online, cancel_only, post_only, maintenance."""
        try:
            return f"status {' '.join(one.system for one in wire.statuses(frame).data)}"
        except BAD_FRAME:
            return "status"

    def _answer(self, found: wire.Head, now: int, number: int) -> Sequence[Output]:
        if found.method == "pong":
            return self.ignore("pong")
        if found.method not in ("subscribe", "unsubscribe"):
            return self.ignore("answer")
        asked = texts.time(found.time_in)
        if asked is not None and abs(now - asked) < 3600 * SECOND:
            self.venue_time = max(self.venue_time, asked)
        symbol = found.symbol if found.result is None else found.result.symbol
        if found.success:
            return self.answered(self.subscriber.told(found.req_id, symbol, now))
        reason = found.error or "refused without a reason"
        return self.refused(self.subscriber.told(found.req_id, symbol, now, reason), number)
