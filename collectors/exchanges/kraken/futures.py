"""The protocol state of one Kraken Futures connection: frames in, events and actions out.

Answers carry no number of their request: they name feed and products, errors not even those. Forced orders are fills
of the feed `trade`, so that one subscription serves two kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from collectors.adapters.dated import Dated, chosen
from collectors.adapters.reading import BAD_FRAME, why
from collectors.adapters.streamed_books import StreamedBooking, StreamedBooks
from collectors.adapters.streaming import NAME_LIMIT, StreamingSession
from collectors.adapters.subscribing import SUBSCRIBE, UNSUBSCRIBE, Request
from collectors.exchanges.kraken import futures_wire as wire
from collectors.exchanges.kraken.protocol import Channel
from collectors.exchanges.kraken.subscribing import SymbolSubscriber
from market.session import Connection, Limits, Output, Stream, StreamState

Parse = Callable[["FuturesSession", bytes, int, int], Sequence[Output] | None]
"""(session, frame, ts_recv, frame_no) -> events, rejections; None where the frame is another feed's."""

FEED, EVENT = b'"feed":"', b'"event":"'
SEARCHED = 128
"""Bytes of an answer in which it says what it answers; data has no such word."""
HEARTBEAT = "heartbeat"
ANSWERS = {"subscribed": SUBSCRIBE, "unsubscribed": UNSUBSCRIBE}
REFUSALS = ("error", "alert")
AGAIN = "already subscribed"
"""The venue serves a stream already and begins it anew."""


def feed_of(channel: str) -> str:
    """The venue's feed of a channel: `trade` serves `trade.liquidation` too."""
    return channel.partition(".")[0]


class FeedSubscriber(SymbolSubscriber):
    """One request a feed and group of products, for all streams that it serves."""

    def __init__(
        self,
        streams: Sequence[Stream],
        states: Mapping[str, StreamState],
        limits: Limits,
        write: Callable[[str, Sequence[str], int], str],
    ) -> None:
        super().__init__(streams, states, limits, write)
        if streams:
            self._queue.appendleft(Request((), 0))  # the heartbeats of the connection

    def of_feed(self, feed: str, symbols: Sequence[str], what: str) -> list[tuple[int, str]]:
        """(number of the oldest request, symbol) of those that an answer names."""
        found = []
        if not symbols:
            return [(number, "") for number, request in self._waiting.items() if not request.streams][:1]
        for symbol in symbols:
            for number, request in self._waiting.items():
                held = any(s.symbol == symbol and feed_of(s.channel) == feed for s in request.streams)
                if held and request.what == what:
                    found.append((number, symbol))
                    break
        return found

    def _served_with(self, streams: Sequence[Stream]) -> Sequence[Stream]:
        feeds = {(feed_of(stream.channel), stream.symbol) for stream in streams}
        held = (state.stream for state in self._states.values())
        return [stream for stream in held if (feed_of(stream.channel), stream.symbol) in feeds]

    def _parts(self, streams: Sequence[Stream]) -> Iterable[tuple[Stream, ...]]:
        feeds: dict[str, dict[str, list[Stream]]] = {}
        for stream in streams:
            feeds.setdefault(feed_of(stream.channel), {}).setdefault(stream.symbol, []).append(stream)
        size = self._size // 2
        return (
            tuple(stream for symbol in some for stream in symbols[symbol])
            for symbols in feeds.values()
            for some in (list(symbols)[at : at + size] for at in range(0, len(symbols), size))
        )


class FuturesSession(StreamedBooking, StreamingSession):
    """`market.session.Session` of one connection; with `learn` it sends nothing and takes what it meets."""

    def __init__(
        self,
        connection: Connection,
        session_id: str,
        channels: Mapping[str, Channel],
        readers: Mapping[str, Parse | Dated[Parse]],
        limits: Limits,
        *,
        learn: bool = False,
    ) -> None:
        super().__init__(connection, session_id, limits, None, learn=learn)
        self.subscriber: FeedSubscriber = FeedSubscriber(
            () if learn else connection.streams, self.states, limits, self._write
        )
        self.books = StreamedBooks(self.states.values())
        self._channels = channels
        self._known = readers
        self._readers: dict[bytes, Parse] = {}
        self._commands = 0
        """Requests of a recording."""
        self._lanes = {(state.stream.channel, state.stream.symbol): state for state in self.states.values()}

    # --- for parsers ---

    def lane(self, channel: str, symbol: str, ts_recv: int) -> StreamState | None:
        """The stream of a feed's product."""
        state = self._lanes.get((channel, symbol))
        if state is not None or not self.learn:
            return state
        known = self._channels.get(channel)
        if known is None or not 0 < len(symbol) <= NAME_LIMIT:
            return None
        state = self.met(known.stream(symbol), ts_recv)
        if state is not None:
            self._lanes[channel, symbol] = state
        return state

    # --- collectors.adapters.streaming ---

    def _asked(self, text: str, now: int) -> None:
        found = wire.command(text)
        if found.event != SUBSCRIBE:
            return
        channels = [name for name in self._channels if feed_of(name) == found.feed]
        self._commands += 1
        self.desire(
            self._commands, (self.lane(name, symbol, 0) for name in channels for symbol in found.product_ids), now
        )

    def _frame(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        at = frame.find(FEED)
        if at >= 0 and frame.find(EVENT, 0, SEARCHED) < 0:
            at += len(FEED)
            read = self._readers.get(frame[at : frame.find(b'"', at)])
            if read is not None and (said := read(self, frame, ts_recv, number)) is not None:
                return said
        return self._cold(frame, ts_recv, number)

    def _write(self, what: str, names: Sequence[str], number: int) -> str:
        del number
        if not names:
            return msgspec.json.encode({"event": what, "feed": HEARTBEAT}).decode()
        streams = [self.states[name].stream for name in names]
        products = list(dict.fromkeys(stream.symbol for stream in streams))
        said = {"event": what, "feed": feed_of(streams[0].channel), "product_ids": products}
        return msgspec.json.encode(said).decode()

    def _ping(self, now: int) -> str:
        """None: the transport's control pings are what the venue wants."""
        del now
        return ""

    # --- the cold path ---

    def _cold(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.head(frame)
        except BAD_FRAME as error:
            return self.reject(why(error), None, number)
        if found.event is not None:
            return self._answer(found, ts_recv, number)
        if found.feed is None or not 0 < len(found.feed) <= NAME_LIMIT:
            return self.reject("a frame of no documented shape", None, number)
        said = None
        if (known := self._known.get(found.feed)) is not None:
            read = self._readers.setdefault(found.feed.encode(), chosen(known, ts_recv))
            said = read(self, frame, ts_recv, number)
        return self.ignore(found.feed) if said is None else said

    def _answer(self, found: wire.Head, now: int, number: int) -> Sequence[Output]:
        what = ANSWERS.get(found.event or "")
        if what is not None:
            asked = self.subscriber.of_feed(found.feed or "", found.product_ids or [], what)
            told = [self.subscriber.told(request, symbol or None, now) for request, symbol in asked]
            return self.answered([out for one in told for out in one or ()])
        if found.event not in REFUSALS:
            return self.ignore(found.event or "answer")
        reason = found.message or "refused without a reason"
        held = AGAIN in reason.lower()
        refused = self.subscriber.refused(None, reason, now, held=held)
        return self.answered(refused) if held else self.refused(refused, number)
