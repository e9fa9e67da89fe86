"""A session whose frames find their parser by the bytes of their topic, wherever their keys put that. Pure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from collectors.adapters.dated import Dated, reader
from collectors.adapters.streaming import NAME_LIMIT, StreamingSession
from market.kinds import Event
from market.session import Connection, Limits, Output, Stream

Parse = Callable[[bytes, int, int], Sequence[Output]]
"""(frame, ts_recv, frame_no) -> events, rejections."""

TOPIC = b'"topic":"'
SEARCHED = 64
"""Bytes of a frame in which its topic begins, where the venue wrote it."""


class Channel(Protocol):
    """A collected channel."""

    @property
    def maker(self) -> Callable[..., Parse] | Dated[Callable[..., Parse]]:
        """What makes the parser of a stream, told of the session and the stream's state."""
        ...

    def stream(self, symbol: str) -> Stream:
        """The stream of one symbol."""
        ...


class TopicSession(StreamingSession):
    """A member says what a topic names (`_parted`), and reads what has none (`_cold`), or one not met before."""

    def __init__(
        self,
        connection: Connection,
        session_id: str,
        channels: Mapping[str, Channel],
        limits: Limits,
        ping_every: int,
        *,
        learn: bool,
    ) -> None:
        super().__init__(connection, session_id, limits, ping_every, learn=learn)
        self._channels = channels
        self._parsers: dict[bytes, Parse] = {}
        self._pings = 0
        self.before: dict[tuple[type[Event], str], Event] = {}
        """(sort of event, symbol) -> the last event that earlier frames told of, where those here are not the first."""

    def remind(self, event: Event) -> None:
        """See `collectors.links.Reminded`."""
        self.before[type(event), event.symbol] = event

    @abstractmethod
    def _parted(self, topic: str) -> tuple[str, str]:
        """(channel, symbol) of a topic."""

    @abstractmethod
    def _label(self, topic: str) -> str:
        """What a frame of a topic that is not collected is counted as."""

    @abstractmethod
    def _cold(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        """What a frame says that has no parser yet."""

    def _frame(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        at = frame.find(TOPIC, 0, SEARCHED)
        if at >= 0:
            parse = self._parsers.get(frame[at + 9 : frame.find(b'"', at + 9)])
            if parse is not None:
                return parse(frame, ts_recv, number)
        return self._cold(frame, ts_recv, number)

    def _route(self, name: str, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        """Parse a frame of topic `name`, met for the first time or spelled in an unusual way."""
        if not 0 < len(name) <= NAME_LIMIT:
            return self.reject("a topic of impossible length", None, number)
        state = self.states.get(name)
        if state is None and self.learn and (stream := self._named(name)) is not None:
            state = self.met(stream, ts_recv)
        if state is None:
            return self.ignore(self._label(name) or name)
        key = name.encode()
        parse = self._parsers.get(key)
        if parse is None:
            maker = self._channels[state.stream.channel].maker
            parse = self._parsers[key] = reader(maker, ts_recv, self, state)
        return parse(frame, ts_recv, number)

    def _named(self, name: str) -> Stream | None:
        """The stream of a topic, where we collect its channel."""
        channel, symbol = self._parted(name)
        known = self._channels.get(channel)
        if known is None or not symbol or len(name) > NAME_LIMIT or symbol != symbol.upper():
            return None
        return known.stream(symbol)
