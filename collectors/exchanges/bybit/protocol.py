"""The protocol state of one Bybit WebSocket connection: frames in, events and actions out.

A frame finds its parser by the bytes of its topic, wherever its keys put that. What is no push is an answer: of a
request (by its number), or of a ping. One market has one address, so a connection knows whose symbols it carries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from collectors.adapters.dated import Dated
from collectors.adapters.reading import BAD_FRAME, why
from collectors.adapters.streamed_books import StreamedBooking, StreamedBooks
from collectors.adapters.subscribing import number_of
from collectors.adapters.topics import TopicSession
from collectors.exchanges.bybit import wire
from market.session import Connection, Limits, Output, Stream, StreamState
from market.times import SECOND

Parse = Callable[[bytes, int, int], Sequence[Output]]
"""(frame, ts_recv, frame_no) -> events, rejections."""
Maker = Callable[["BybitSession", StreamState], Parse]

PING_EVERY = 20 * SECOND
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


class BybitSession(StreamedBooking, TopicSession):
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
        super().__init__(connection, session_id, channels, limits, PING_EVERY, learn=learn)
        self.books = StreamedBooks(self.states.values())

    # --- collectors.adapters.streaming ---

    def _asked(self, text: str, now: int) -> None:
        command = _command(text)
        if command.op == "subscribe":
            found = (stream for name in command.args if (stream := self._named(name)) is not None)
            self.desire(number_of(command.req_id) or 0, (self.met(stream, 0) for stream in found), now)

    def _parted(self, topic: str) -> tuple[str, str]:
        channel, _, symbol = topic.rpartition(".")
        return channel, symbol

    def _label(self, topic: str) -> str:
        return topic.rpartition(".")[0]

    def _write(self, what: str, names: Sequence[str], number: int) -> str:
        return msgspec.json.encode({"req_id": str(number), "op": what, "args": list(names)}).decode()

    def _ping(self, now: int) -> str:
        del now
        self._pings += 1
        return msgspec.json.encode({"req_id": f"{PING}-{self._pings}", "op": PING}).decode()

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
        asked = number_of(found.req_id)
        if found.success:
            return self.answered(self.subscriber.accepted(asked, now))
        reason = found.ret_msg or "refused without a reason"
        return self.refused(self.subscriber.refused(asked, reason, now, held=HELD in reason), number)
