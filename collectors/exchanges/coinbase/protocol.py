"""The protocol state of one Coinbase WebSocket connection: frames in, events and actions out.

A message finds its parser by the bytes of its channel and may tell of several products. `sequence_num` counts the
messages of the connection over all channels (measured; the documents say of a product): a number that is left out is a
message of we do not know which stream. So the connection is left: every stream of it has its interruption, whose end
ids of trades prove, and every book begins anew. A number that goes back shows that they do not count the connection's
messages after all: they are looked at no more, and the fact is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from collectors.adapters.dated import Dated, reader
from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, why
from collectors.adapters.streamed_books import StreamedBooking, StreamedBooks
from collectors.adapters.streaming import NAME_LIMIT, StreamingSession
from collectors.adapters.subscribing import SUBSCRIBE
from collectors.exchanges.coinbase import exchange_wire, wire
from collectors.exchanges.coinbase.asked import ListedSubscriber
from market.kinds import Contract
from market.session import Connection, Leave, Limits, Output, Rejected, Stream, StreamState
from market.times import SECOND

Parse = Callable[[bytes, int, int], Sequence[Output]]
"""(frame, ts_recv, frame_no) -> events, rejections."""
Maker = Callable[["CoinbaseSession"], Parse]
BEGINS = b'{"channel":"'
TYPED = b'{"type":"'
"""How a message of Exchange begins."""
MISSING = "messages_missing"
SPOT = "spot"
SIZED = frozenset({"trade", "kline"})
"""Kinds whose rows say what a contract is worth, or are in base units."""
SIZES_WITHIN = 2 * SECOND
"""So long a connection of contracts waits for what they are worth before it subscribes, of the five that it has."""
UNSIZED = "what one contract is worth is not known yet"
ADVANCED, EXCHANGE = "advanced", "exchange"
"""The venue's two feeds, as their addresses are called."""


class Channel(msgspec.Struct, frozen=True):
    """A collected channel: its kind, whether its ids follow each other, its `max_silence` (us) and its parser.

    Those of the feed Exchange (`wire.EXCHANGE`) name the `types` of their messages.
    """

    name: str
    kind: str
    contiguous: bool
    max_silence: int | None
    maker: Maker | Dated[Maker]
    types: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The address that serves it."""
        return EXCHANGE if self.name.startswith(wire.EXCHANGE) else ADVANCED

    def stream(self, symbol: str) -> Stream:
        """The stream of one product."""
        return Stream(f"{self.name}:{symbol}", self.name, symbol, self.kind, self.contiguous, self.max_silence)


class Waiting(Protocol):
    """What waits for the venue's clock."""

    def closed(self, publish: int) -> list[Output]:
        """What is over by the venue's time `publish` (us)."""
        ...

    def told(self, symbol: str) -> int:
        """Until when (us) nothing of a product waits any more."""
        ...

    def anew(self, now: int) -> list[Stream]:
        """Streams that are to be subscribed to anew."""
        ...

    def deadline(self) -> int | None:
        """When `anew` has something (us)."""
        ...


class Heartened(Protocol):
    """What listens to the heartbeats of Exchange, one a product and second."""

    def beat(self, found: exchange_wire.Beat, time: int, ts_recv: int) -> list[Output]:
        """What follows from one; `time` is the venue's (us)."""
        ...


class CoinbaseSession(StreamedBooking, StreamingSession):
    """`market.session.Session` of one connection; with `learn` it sends nothing and takes what it meets."""

    def __init__(
        self,
        connection: Connection,
        session_id: str,
        channels: Mapping[str, Channel],
        limits: Limits,
        *,
        learn: bool = False,
    ) -> None:
        super().__init__(connection, session_id, limits, None, learn=learn)
        asked = () if learn else connection.streams
        beats = not any(stream.channel.startswith(wire.EXCHANGE) for stream in asked)
        self.subscriber: ListedSubscriber = ListedSubscriber(asked, self.states, limits, self._write, heartbeats=beats)
        self.books = StreamedBooks(self.states.values())
        self.sizes: dict[str, str] | None = None if connection.market_type == SPOT else {}
        """Product -> what one contract is worth in base; None where quantities are base units."""
        self.losses = 0
        """How often messages of this connection were missing or not understood."""
        self.forming: Waiting | None = None
        self._channels = channels
        self.hearts: list[Heartened] = []
        """Whom the heartbeats of Exchange are told to."""
        self._parsers: dict[bytes, Parse] = {}
        self._typed: dict[bytes, Parse] = {}
        self._read_from(0)
        self._last: int | None = None
        """The newest `sequence_num`, None before any."""
        self._counts = True
        """Whether `sequence_num` counts this connection's messages."""
        self._commands = 0
        self._begun: Callable[[str, str], bool] = _nothing_begun

    # --- collectors.links.Recalling ---

    def recall(self, begun: Callable[[str, str], bool]) -> None:
        """How to learn whether anything of (kind, symbol) was collected before."""
        self._begun = begun

    # --- collectors.links.Holding ---

    def told(self, kind: str, symbol: str) -> int:
        """Until when (us) nothing of a candle's stream waits to be a row; 0 where that cannot be said."""
        mine = (one for one in self.states.values() if (one.stream.kind, one.stream.symbol) == (kind, symbol))
        if self.forming is None or self.losses or not any(one.first_recv for one in mine):
            return 0
        return self.forming.told(symbol)

    # --- market.session.Informed ---

    def know(self, contract: Contract) -> None:
        """What the market's reference data says of an instrument."""
        if self.sizes is not None and contract.multiplier is not None:
            self.sizes[contract.symbol] = contract.multiplier

    # --- collectors.adapters.streaming ---

    def start(self, now: int) -> Sequence[Output]:
        self._read_from(now)
        return super().start(now)

    def _read_from(self, now: int) -> None:
        """The parsers that hold from `now` (us) on."""
        self.hearts.clear()
        self._parsers = {wire.ACK.encode(): self._ack, wire.BEAT.encode(): self._beat}
        self._typed = {wire.ACK.encode(): self._listed, exchange_wire.BEAT.encode(): self._pulse}
        for name, channel in self._channels.items():
            parse = reader(channel.maker, now, self)
            self._typed |= {word.encode(): parse for word in channel.types}
            if not channel.types:
                self._parsers[wire.SAYS.get(name, name).encode()] = parse

    def _asked(self, text: str, now: int) -> None:
        asked = exchange_wire.asked(text)
        if asked is None:
            return
        what, named = asked
        pairs = [(self._channels[name], one) for name, one in named if name in self._channels and _named(one)]
        found = [channel.stream(one) for channel, one in pairs]
        if what == SUBSCRIBE:
            for state in (state for stream in found if (state := self.met(stream, 0)) is not None):
                state.desired_at = state.desired_at or now
        held = tuple(stream for stream in found if stream.name in self.states and what == SUBSCRIBE)
        self._commands += 1
        self.subscriber.sent(self._commands, held, now)

    def _frame(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        if frame.startswith(BEGINS):
            parse = self._parsers.get(frame[12 : frame.find(b'"', 12, 64)])
            if parse is not None:
                return parse(frame, ts_recv, number)
        elif frame.startswith(TYPED):
            parse = self._typed.get(frame[9 : frame.find(b'"', 9, 64)])
            if parse is not None:
                return parse(frame, ts_recv, number)
        return self._cold(frame, ts_recv, number)

    def _write(self, what: str, names: Sequence[str], number: int) -> str:
        del number
        if not names:
            return msgspec.json.encode({"type": what, "channel": wire.BEAT}).decode()
        channel, symbols = names[0].partition(":")[0], [name.partition(":")[2] for name in names]
        if channel.startswith(wire.EXCHANGE):
            return exchange_wire.request(what, channel, symbols)
        return msgspec.json.encode({"type": what, "product_ids": symbols, "channel": channel}).decode()

    def _ping(self, now: int) -> str:
        """Never due: the heartbeats are a channel."""
        del now
        return self._write(SUBSCRIBE, (), 0)

    def _more(self, now: int) -> Sequence[Output]:
        if self.forming is not None and (streams := self.forming.anew(now)):
            self.subscriber.renew(streams)
        return super()._more(now)

    def _more_at(self) -> int | None:
        times = [super()._more_at(), None if self.forming is None else self.forming.deadline()]
        return min((at for at in times if at is not None), default=None)

    def _subscribes_at(self) -> int:
        if self.sizes is None:
            return 0
        sized = (state.stream for state in self.states.values() if state.stream.kind in SIZED)
        return self._started + SIZES_WITHIN if any(one.symbol not in self.sizes for one in sized) else 0

    # --- for parsers ---

    def state_of(self, channel: Channel, symbol: str, ts_recv: int) -> StreamState | None:
        """The state of a product's stream; None where it is not collected here."""
        state = self.states.get(f"{channel.name}:{symbol}")
        if state is None and self.learn and _named(symbol):
            state = self.met(channel.stream(symbol), ts_recv)
        return state

    def channel(self, name: str) -> Channel:
        """A channel by the name that it is subscribed to under."""
        return self._channels[name]

    def size(self, symbol: str) -> str | None:
        """What one of the units that a product is counted in is worth in base; None where that is not known yet."""
        return "1" if self.sizes is None else self.sizes.get(symbol)

    def history(self, state: StreamState) -> bool:
        """Whether what is pushed of the past lies before everything that was ever collected of a stream."""
        return not self._begun(state.stream.kind, state.stream.symbol)

    def follow(self, sequence: int, number: int) -> list[Output]:
        """A message with its `sequence_num`: what is to be said of those that should have been there before it."""
        last, self._last = self._last, sequence
        if last is None or sequence == last + 1 or not self._counts:
            return []
        self.losses += 1
        if sequence <= last:
            self._counts = False
            return [Rejected(f"sequence_num went from {last} to {sequence}: no count of messages", number)]
        if self.learn:
            return []
        return [Leave(MISSING, f"sequence_num went from {last} to {sequence}")]

    def not_read(self, frame: bytes, error: Exception, number: int) -> Sequence[Output]:
        """A message of a known channel that is not what the documentation says: whatever it told is lost."""
        self.losses += 1
        try:
            sequence = wire.head(frame).sequence_num
        except BAD_FRAME:
            sequence = None
        self._last = sequence if sequence is not None or self._last is None else self._last + 1
        return self.reject(why(error), None, number)

    def said(self, out: list[Output], after: list[Output], label: str) -> Sequence[Output]:
        """What came of a message, and then what there is to be said of those missing before it."""
        return [*out, *after] or self.ignore(label)

    # --- the cold path ---

    def _cold(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.head(frame)
        except BAD_FRAME as error:
            self.losses += 1
            self._last = None
            return self.reject(why(error), None, number)
        if found.channel is None:
            return self._flat(found, frame, ts_recv, number)
        parse = self._parsers.get(found.channel.encode("utf-8", "replace"))
        if parse is not None:
            return parse(frame, ts_recv, number)
        after = [] if found.sequence_num is None else self.follow(found.sequence_num, number)
        return self.said([], after, found.channel)

    def _flat(self, found: wire.Head, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        """A message without a channel: an error, or one of Exchange."""
        if found.type == "error":
            said = " ".join(text for text in (found.message, found.reason) if text)
            return self._error(said or "an error without a message", ts_recv, number)
        parse = None if found.type is None else self._typed.get(found.type.encode("utf-8", "replace"))
        if parse is not None:
            return parse(frame, ts_recv, number)
        if found.type in exchange_wire.OTHERS:
            return self.ignore(f"{wire.EXCHANGE}{found.type}")
        return self.reject("a frame of no documented shape", None, number)

    def _error(self, message: str, now: int, number: int) -> Sequence[Output]:
        """The venue closes the socket behind most of them."""
        refused = self.subscriber.refused(None, message, now)
        if refused is None:
            return self.reject(f"the venue reports: {message}", None, number)
        return self.answered(refused)

    def _ack(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.ack(frame)
        except BAD_FRAME as error:
            return self.not_read(frame, error, number)
        after = self.follow(found.sequence_num, number)
        names = {
            f"{name}:{one}" for event in found.events for name, held in event.subscriptions.items() for one in held
        }
        said = self.subscriber.listed(names, ts_recv)
        return [*self.answered(said), *after] if said else self.said([], after, "answer")

    def _listed(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        """An answer of Exchange."""
        try:
            names = exchange_wire.held(frame)
        except BAD_FRAME as error:
            return self.reject(why(error), None, number)
        return self.answered(self.subscriber.listed(names, ts_recv))

    def _pulse(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        """A heartbeat of Exchange."""
        try:
            found = exchange_wire.beat(frame)
        except BAD_FRAME as error:
            return self.reject(why(error), None, number)
        time = wire.micros(found.time)
        if time is None or not EARLY <= ts_recv - time <= PAST:
            return self.reject("impossible time", None, number)
        self.venue_time = max(self.venue_time, time)
        out = [one for heart in self.hearts for one in heart.beat(found, time, ts_recv)]
        return out or self.ignore(f"{wire.EXCHANGE}{exchange_wire.BEAT}")

    def _beat(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.beat(frame)
        except BAD_FRAME as error:
            return self.not_read(frame, error, number)
        after, publish = self.follow(found.sequence_num, number), wire.micros(found.timestamp)
        if publish is None or not EARLY <= ts_recv - publish <= PAST:
            return [*self.reject("impossible time", None, number), *after]
        return self.said([] if self.forming is None else self.forming.closed(publish), after, wire.BEAT)


def _nothing_begun(kind: str, symbol: str) -> bool:
    del kind, symbol
    return False


def _named(symbol: str) -> bool:
    """Whether a text can be a product's name."""
    return 0 < len(symbol) <= NAME_LIMIT // 2 and symbol == symbol.upper() and symbol.isascii() and symbol.isprintable()
