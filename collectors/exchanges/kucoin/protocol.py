"""The protocol state of one KuCoin WebSocket connection: frames in, events and actions out.

Nothing is sent before the venue's `welcome`. A request names one channel and many symbols; its answer has its `id`. A
frame finds its parser by the bytes of its topic. On futures a lot's worth is the listing's: trades are subscribed to
once it is known, from the reference data or, where that has not said it yet, from the list that the session asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from collectors.adapters.booking import Booking
from collectors.adapters.counting import NOTHING
from collectors.adapters.reading import BAD_FRAME, why
from collectors.adapters.subscribing import number_of
from collectors.adapters.topics import TopicSession
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.joining import Books
from collectors.exchanges.kucoin.snapshots import Snapshots
from collectors.exchanges.kucoin.snapshots import parted as book_of
from collectors.exchanges.kucoin.topics import ByTopic, Channel, Worth, parted
from market.kinds import Contract
from market.session import Connection, Leave, Limits, Output, Refused, Stream
from market.times import SECOND

Parse = Callable[[bytes, int, int], Sequence[Output]]
"""(frame, ts_recv, frame_no) -> events, rejections."""
PING_EVERY = 18 * SECOND
"""Where the venue has not said it."""
WELCOME_WITHIN = 10 * SECOND


class _Command(msgspec.Struct):
    """A frame of ours, as a recording has it."""

    type: str
    id: str | int | None = None
    topic: str = ""


_command = msgspec.json.Decoder(_Command).decode


class KucoinSession(Booking, TopicSession):
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
        every = (connection.ping_every or PING_EVERY) * 5 // 6
        super().__init__(connection, session_id, channels, limits, every, learn=learn)
        self.books: Books = Books(refresh=connection.book_refresh)
        self.multipliers: dict[str, str] = {}
        """Symbol -> what a lot is worth, on futures."""
        self._greeted = False
        self._asker = Snapshots(connection, session_id, self.books)
        self._worth = Worth(connection, self.multipliers)
        self._waiting = [] if learn else list(connection.streams)
        """Streams that are not asked for yet."""
        self._refused_streams: set[Stream] = set()
        self.subscriber: ByTopic = ByTopic((), self.states, limits, self._write)
        for state in self.states.values():
            if state.stream.kind == "book_delta":
                self.books.follow(state)

    def know(self, contract: Contract) -> None:
        """What the market's reference data says of an instrument (`market.session.Informed`)."""
        if contract.multiplier is not None and self.market_type != "spot":
            self.multipliers[contract.symbol] = contract.multiplier

    # --- collectors.adapters.streaming ---

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        """Snapshots of books, and on futures the list of instruments."""
        self._checked_frame += self._checked_frame == self.frame_no  # no sign of life of the socket
        self.frame_no += 1
        if tag == Worth.TAG:
            wrong = self._worth.respond(status, headers, body, ts_recv)
            return self._unlisted() or self.ignore(tag) if wrong is None else self.reject(wrong, None, self.frame_no)
        if self.learn:
            self._learn_book(tag, ts_recv)
        out = self._asker.respond(tag, status, headers, body, ts_recv, self.frame_no)
        return self.reject("an answer to nothing that was asked", None, self.frame_no) if out is None else out

    def _asked(self, text: str, now: int) -> None:
        command = _command(text)
        prefix, _, symbols = command.topic.partition(":")
        if command.type != "subscribe" or not symbols:
            return
        named = (self._named(f"{prefix}:{symbol}") for symbol in symbols.split(","))
        states = (self.met(stream, 0) for stream in named if stream is not None)
        self.desire(number_of(str(command.id)) or 0, states, now)

    def _learn_book(self, tag: str, ts_recv: int) -> None:
        """The book of an answer in a recording: it was asked for before its first update where that took its time."""
        asked = book_of(tag)
        stream = self._named(asked[1]) if asked is not None else None
        state = self.met(stream, ts_recv) if stream is not None and stream.kind == "book_delta" else None
        if state is not None:
            self.books.follow(state)

    def _parted(self, topic: str) -> tuple[str, str]:
        return parted(topic)

    def _label(self, topic: str) -> str:
        return topic.partition(":")[0]

    def _write(self, what: str, names: Sequence[str], number: int) -> str:
        prefix = names[0].partition(":")[0]
        topic = f"{prefix}:{','.join(name.partition(':')[2] for name in names)}"
        said = {"id": str(number), "type": what, "topic": topic, "privateChannel": False, "response": True}
        return msgspec.json.encode(said).decode()

    def _ping(self, now: int) -> str:
        del now
        self._pings += 1
        return msgspec.json.encode({"id": f"ping-{self._pings}", "type": "ping"}).decode()

    def _more(self, now: int) -> Sequence[Output]:
        if not self._greeted:
            late = now >= self._started + WELCOME_WITHIN
            return (Leave("unacknowledged", "no welcome came"),) if late else NOTHING
        fetches = list(self._asker.tick(now))
        if self._waiting:
            fetches += self._worth.tick([s.symbol for s in self._waiting if s.kind == "trade"], now)
            self._ask_for_more()
        return fetches

    def _more_at(self) -> int | None:
        if not self._greeted:
            return self._started + WELCOME_WITHIN
        worth = self._worth.deadline() if self._waiting else None
        return min((at for at in (self._asker.deadline(), worth) if at is not None), default=None)

    def _ask_for_more(self) -> None:
        """Subscribe to what need not wait any more."""
        held = [] if self.market_type == "spot" else [s for s in self._waiting if s.kind == "trade"]
        held = [stream for stream in held if self._worth.missing(stream.symbol)]
        ready = [stream for stream in self._waiting if stream not in held]
        if ready:
            self._waiting = held
            self.subscriber.ask(ready)

    def _unlisted(self) -> Sequence[Output]:
        """Streams that wait for a symbol that the venue's list lacks, said once."""
        missing = [s for s in self._waiting if s.kind == "trade" and s.symbol not in self.multipliers]
        news = tuple(stream for stream in missing if stream not in self._refused_streams)
        self._refused_streams.update(news)
        return (Refused(news, "not in the venue's list of instruments"),) if news else NOTHING

    # --- the cold path ---

    def _cold(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.head(frame)
        except BAD_FRAME as error:
            return self.reject(why(error), None, number)
        if found.topic is not None:
            return self._route(found.topic, frame, ts_recv, number)
        if found.type == wire.WELCOME:
            return self._welcomed(ts_recv)
        if found.type == wire.PONG:
            return self.ignore("pong")
        if found.type == wire.ACK:
            return self.answered(self.subscriber.accepted(number_of(found.id), ts_recv))
        if found.type == wire.ERROR:
            return self._refused(found, ts_recv, number)
        return self.reject("a frame of no documented shape", None, number)

    def _welcomed(self, now: int) -> Sequence[Output]:
        """From now on things may be sent."""
        if self.learn or self._greeted:
            return self.ignore("welcome")
        self._greeted = True
        self._ask_for_more()
        return self.subscriber.tick(now) or self.ignore("welcome")

    def _refused(self, found: wire.Head, now: int, number: int) -> Sequence[Output]:
        try:
            said = bytes(found.data).decode().strip('"')
        except UnicodeDecodeError as error:
            return self.reject(why(error), None, number)
        reason = f"code {found.code}: {said}"[:300]
        return self.refused(self.subscriber.refused(number_of(found.id), reason, now), number)
