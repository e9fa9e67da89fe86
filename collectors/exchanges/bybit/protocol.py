"""The protocol state of one Bybit WebSocket connection: frames in, events and actions out.

A frame finds its parser by the bytes of its topic, wherever its keys put that. What is no push is an answer: of a
request (by its number), or of a ping. One market has one address, so a connection knows whose symbols it carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from collectors.adapters.dated import Dated, reader
from collectors.adapters.reading import BAD_FRAME, why
from collectors.adapters.streamed_books import StreamedBooks
from collectors.adapters.streaming import NAME_LIMIT, NOTHING, StreamingSession
from collectors.exchanges.bybit import wire
from market.session import Connection, Limits, Output, Stream, StreamState
from market.times import SECOND

Parse = Callable[[bytes, int, int], Sequence[Output]]
"""(frame, ts_recv, frame_no) -> events, rejections."""
Maker = Callable[["BybitSession", StreamState], Parse]

PING_EVERY = 20 * SECOND
TOPIC = b'"topic":"'
SEARCHED = 64
"""Bytes of a frame in which its topic begins, where the venue wrote it."""
HELD = "already subscribed"
PING = "ping"


class Channel(msgspec.Struct, frozen=True):
    """A collected channel: its kind, whether its ids follow each other, its `max_silence` (us) and its parser."""

    name: str
    kind: str
    contiguous: bool
    max_silence: int | None
    maker: Maker | Dated[Maker]
    sparse: bool = False

    def stream(self, symbol: str) -> Stream:
        """The stream of one symbol."""
        return Stream(
            f"{self.name}.{symbol}", self.name, symbol, self.kind, self.contiguous, self.max_silence, self.sparse
        )


class _Command(msgspec.Struct):
    """A frame of ours, as a recording has it."""

    op: str
    args: list[str] = []
    req_id: str | None = None


_command = msgspec.json.Decoder(_Command).decode


class BybitSession(StreamingSession):
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
        super().__init__(connection, session_id, limits, PING_EVERY, learn=learn)
        self.books = StreamedBooks()
        self._channels = channels
        self._parsers: dict[bytes, Parse] = {}
        self._pings = 0
        for state in self.states.values():
            if state.stream.kind == "book_delta":
                self.books.follow(state)

    # --- market.session.Booked: books begin in the stream, so that nobody has to be told of any ---

    def books_out_of_sync(self) -> list[str]:
        """Symbols whose book is not known."""
        return self.books.out_of_sync()

    def books_asked(self) -> list[str]:
        """Nothing is asked for that would serve another session."""
        return []

    def book_known(self, symbol: str, last_id: int) -> None:
        """Each session is sent a whole book when it subscribes."""

    def books_awaited(self, symbols: Iterable[str], now: int) -> None:
        """Another session's book is not this one's."""

    def books_given_up(self, symbols: Iterable[str]) -> None:
        """Updates of these are not stored: their books are out of sync, and not asked for yet."""
        self.books.given_up(symbols)

    def books_stored_again(self, symbols: Iterable[str]) -> None:
        """Updates of these are stored again: their streams are begun anew with the next `tick`."""
        self.books.stored_again(symbols)

    # --- collectors.adapters.streaming ---

    def sent(self, text: str, now: int) -> None:
        """A frame that a recorded session sent: the streams it asked for (`market.session.Heeding`)."""
        if not self.learn:
            return
        try:
            command = _command(text)
        except BAD_FRAME:
            return
        if command.op != "subscribe":
            return
        found = tuple(stream for name in command.args if (stream := self._named(name)) is not None)
        states = [state for stream in found if (state := self.met(stream, 0)) is not None]
        for state in states:
            state.desired_at = state.desired_at or now
        self.subscriber.sent(_number(command.req_id) or 0, tuple(state.stream for state in states), now)

    def _frame(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        at = frame.find(TOPIC, 0, SEARCHED)
        if at >= 0:
            parse = self._parsers.get(frame[at + 9 : frame.find(b'"', at + 9)])
            if parse is not None:
                return parse(frame, ts_recv, number)
        return self._cold(frame, ts_recv, number)

    def _write(self, what: str, names: Sequence[str], number: int) -> str:
        return msgspec.json.encode({"req_id": str(number), "op": what, "args": list(names)}).decode()

    def _ping(self, now: int) -> str:
        del now
        self._pings += 1
        return msgspec.json.encode({"req_id": f"{PING}-{self._pings}", "op": PING}).decode()

    def _more(self, now: int) -> Sequence[Output]:
        if streams := self.books.anew(now):
            self.subscriber.renew(streams)
        return NOTHING

    def _more_at(self) -> int | None:
        return self.books.deadline()

    # --- the cold path ---

    def _cold(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.head(frame)
        except BAD_FRAME as error:
            return self.reject(why(error), None, number)
        if found.topic is not None:
            return self._route(found.topic, frame, ts_recv, number)
        if found.success is not None or found.op is not None or found.type == "COMMAND_RESP":
            return self._answer(found, ts_recv, number)
        return self.reject("a frame of no documented shape", None, number)

    def _answer(self, found: wire.Head, now: int, number: int) -> Sequence[Output]:
        if found.op in (PING, "pong"):
            return self.ignore("pong")
        if found.op not in ("subscribe", "unsubscribe"):
            return self.ignore("answer")
        asked = _number(found.req_id)
        if found.success:
            return self.answered(self.subscriber.accepted(asked, now))
        reason = found.ret_msg or "refused without a reason"
        refused = self.subscriber.refused(asked, reason, now, held=HELD in reason)
        if refused is None and not self.learn:
            return self.reject("the venue reports an error that no request explains", None, number)
        return self.answered(refused)

    def _route(self, name: str, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        """Parse a frame of topic `name`, met for the first time or spelled in an unusual way."""
        if not 0 < len(name) <= NAME_LIMIT:
            return self.reject("a topic of impossible length", None, number)
        state = self.states.get(name)
        if state is None and self.learn and (stream := self._named(name)) is not None:
            state = self.met(stream, ts_recv)
        if state is None:
            return self.ignore(name.rpartition(".")[0] or name)
        key = name.encode()
        parse = self._parsers.get(key)
        if parse is None:
            maker = self._channels[state.stream.channel].maker
            parse = self._parsers[key] = reader(maker, ts_recv, self, state)
        return parse(frame, ts_recv, number)

    def _named(self, name: str) -> Stream | None:
        """The stream of a topic, where we collect its channel."""
        channel, _, symbol = name.rpartition(".")
        known = self._channels.get(channel)
        if known is None or not symbol or len(name) > NAME_LIMIT or symbol != symbol.upper():
            return None
        return known.stream(symbol)


def _number(text: str | None) -> int | None:
    """The number of a request, None where an answer names none of ours."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None
