"""The protocol state of one OKX WebSocket connection: frames in, events and actions out.

A frame finds its parser by the bytes of its `arg`. The heartbeat is the text `ping`, answered by the text `pong`. One
address serves all markets, so a connection knows whose instruments it carries, and what a contract of each is worth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from collectors.adapters.counting import NOTHING
from collectors.adapters.dated import Dated, reader
from collectors.adapters.reading import BAD_FRAME, why
from collectors.adapters.streamed_books import StreamedBooking, StreamedBooks
from collectors.adapters.streaming import NAME_LIMIT, StreamingSession
from collectors.adapters.subscribing import SUBSCRIBE, number_of
from collectors.exchanges.okx import wire
from market.kinds import Contract
from market.session import EVERY_SYMBOL, Connection, Leave, Limits, Output, Stream, StreamState
from market.times import HOUR, SECOND

Parse = Callable[[bytes, int, int], Sequence[Output]]
"""(frame, ts_recv, frame_no) -> events, rejections."""
Maker = Callable[["OkxSession", StreamState], Parse]

PING, PONG = "ping", b"pong"
PING_EVERY = 20 * SECOND
ARG = b'{"arg":{'
"""How a push begins; an answer has its `arg` later on."""
UPGRADE = "64008"
LATER = frozenset({"60014", "64007"})
"""Codes that refuse nothing: asked too often, or asked to come again. The request counts as not answered."""
RENEWALS_AN_HOUR = 180
"""Books that are begun anew, each with two of the 480 commands that a connection may send in an hour."""
SIZES_WITHIN = 2 * SECOND
"""So long a connection of contracts waits for what they are worth before it subscribes."""
SIZED = frozenset({"trade", "agg_trade", "liquidation"})
"""Kinds whose quantities are contracts on derivatives."""


class Channel(msgspec.Struct, frozen=True):
    """A collected channel: its kind, path, whether its ids follow each other, `max_silence` (us) and parser."""

    name: str
    kind: str
    path: str
    contiguous: bool
    max_silence: int | None
    maker: Maker | Dated[Maker]
    sparse: bool = False
    of_type: bool = False
    """Whether it tells of all instruments of a type at once."""

    def stream(self, whom: str) -> Stream:
        """The stream of one symbol, or of one type of instruments."""
        symbol = EVERY_SYMBOL if self.of_type else whom
        return Stream(
            f"{self.name}:{whom}", self.name, symbol, self.kind, self.contiguous, self.max_silence, self.sparse
        )


class _Argument(msgspec.Struct, omit_defaults=True):
    channel: str
    instId: str = ""  # noqa: N815 -- the venue's spelling
    instType: str = ""  # noqa: N815


class _Command(msgspec.Struct, omit_defaults=True):
    """A frame of ours."""

    op: str
    args: list[_Argument] = []
    id: str = ""


_command = msgspec.json.Decoder(_Command).decode


class OkxSession(StreamedBooking, StreamingSession):
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
        self.books = StreamedBooks(self.states.values())
        self.sizes: dict[str, str] | None = None if self.market_type == "spot" else {}
        """Symbol -> what one contract is worth; None where quantities are base units."""
        self.rates: dict[str, tuple[str, int]] = {}
        """Perpetual -> the estimated funding rate, and when it will be settled (us)."""
        self._channels = channels
        self._parsers: dict[bytes, Parse] = {}
        self._answers: dict[int, set[str]] = {}
        """Number of a request -> the arguments that no answer has named yet."""
        self._renewed: deque[int] = deque(maxlen=RENEWALS_AN_HOUR)
        """When books were begun anew."""

    # --- market.session.Informed ---

    def know(self, contract: Contract) -> None:
        """What the market's reference data says of an instrument."""
        if self.sizes is not None and contract.multiplier is not None:
            self.sizes[contract.symbol] = contract.multiplier

    # --- for parsers ---

    def begun(self, state: StreamState, ts_recv: int, time: int) -> None:
        """As `heard`, of a channel that begins with what is old: nothing is covered before it was taken on."""
        asked = 0 if state.events else state.acknowledged_at or state.desired_at
        self.heard(state, ts_recv, max(time, asked))

    # --- collectors.adapters.streaming ---

    def _subscribes_at(self) -> int:
        if self.sizes is None:
            return 0
        named = (state.stream for state in self.states.values() if state.stream.kind in SIZED)
        unknown = any(one.symbol not in self.sizes for one in named if one.symbol != EVERY_SYMBOL)
        return self._started + SIZES_WITHIN if unknown else 0

    def _asked(self, text: str, now: int) -> None:
        command = _command(text)
        if command.op != SUBSCRIBE:
            return
        named = (self._named(arg.channel, arg.instId or arg.instType) for arg in command.args)
        number = number_of(command.id) or 0
        self._answers[number] = {f"{arg.channel}:{arg.instId or arg.instType}" for arg in command.args}
        self.desire(number, (self.met(stream, 0) for stream in named if stream is not None), now)

    def _frame(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        if frame.startswith(ARG):
            parse = self._parsers.get(frame[8 : frame.find(b"}", 8)])
            if parse is not None:
                return parse(frame, ts_recv, number)
        return self._cold(frame, ts_recv, number)

    def _write(self, what: str, names: Sequence[str], number: int) -> str:
        args = []
        for stream in (self.states[name].stream for name in names):
            whom = stream.name.partition(":")[2]
            every = stream.symbol == EVERY_SYMBOL
            args.append(_Argument(stream.channel, instType=whom) if every else _Argument(stream.channel, whom))
        self._answers[number] = set(names)
        return msgspec.json.encode(_Command(what, args, str(number))).decode()

    def _ping(self, now: int) -> str:
        del now
        return PING

    def _more(self, now: int) -> Sequence[Output]:
        if now >= self._renewable() and (streams := self.books.anew(now)):
            self._renewed.extend([now] * len(streams))
            self.subscriber.renew(streams)
        return NOTHING

    def _more_at(self) -> int | None:
        due = self.books.deadline()
        return None if due is None else max(due, self._renewable())

    def _renewable(self) -> int:
        """From when on another book may be begun anew."""
        full = len(self._renewed) == RENEWALS_AN_HOUR
        return self._renewed[0] + HOUR if full else 0

    # --- the cold path ---

    def _cold(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        if frame == PONG:
            return self.ignore("pong")
        try:
            found = wire.head(frame)
        except BAD_FRAME as error:
            return self.reject(why(error), None, number)
        if found.event is not None:
            return self._answer(found, ts_recv, number)
        if found.arg is not None and bytes(found.data):
            return self._route(found.arg, frame, ts_recv, number)
        return self.reject("a frame of no documented shape", None, number)

    def _answer(self, found: wire.Head, now: int, number: int) -> Sequence[Output]:
        asked = number_of(found.id)
        if found.event in ("subscribe", "unsubscribe"):
            return self._acknowledged(found.arg, asked, now)
        if found.event == "notice":
            if found.code != UPGRADE or self.learn:
                return self.ignore(f"notice {found.code}")
            return (Leave("server_shutdown", "the venue announced a service upgrade of this connection"),)
        if found.event != "error":
            return self.ignore(f"event {found.event}")
        reason = f"{found.code}: {found.msg}"[:300]
        if found.code in LATER:
            return self.ignore(f"error {found.code}")
        self._answers.pop(asked or 0, None)
        return self.refused(self.subscriber.refused(asked, reason, now), number)

    def _acknowledged(self, arg: wire.Arg | None, asked: int | None, now: int) -> Sequence[Output]:
        """One answer an argument: a request is answered when each of its arguments was. Data may come before that."""
        waiting = self._answers.get(asked or 0)
        if waiting is not None:
            name = "" if arg is None else f"{arg.channel}:{arg.instId or arg.instType}"
            if name in waiting and (state := self.states.get(name)) is not None:
                state.acknowledged_at = state.acknowledged_at or now
            waiting.discard(name)
            if waiting and arg is not None:
                return self.ignore("answer")
            del self._answers[asked or 0]
        return self.answered(self.subscriber.accepted(asked, now))

    def _route(self, arg: wire.Arg, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        """Parse a frame of an `arg`, met for the first time or spelled in an unusual way."""
        key, whom = ("instId", arg.instId) if arg.instId else ("instType", arg.instType)
        if not 0 < len(arg.channel) + len(whom) < NAME_LIMIT:
            return self.reject("a channel of impossible length", None, number)
        state = self.states.get(f"{arg.channel}:{whom}")
        if state is None and self.learn and (stream := self._named(arg.channel, whom)) is not None:
            state = self.met(stream, ts_recv)
        if state is None:
            return self.ignore(arg.channel)
        place = f'"channel":"{arg.channel}","{key}":"{whom}"'.encode()
        parse = self._parsers.get(place)
        if parse is None:
            maker = self._channels[state.stream.channel].maker
            parse = self._parsers[place] = reader(maker, ts_recv, self, state)
        return parse(frame, ts_recv, number)

    def _named(self, channel: str, whom: str) -> Stream | None:
        """The stream of an `arg`, where we collect its channel."""
        known = self._channels.get(channel)
        if known is None or not whom or len(channel) + len(whom) >= NAME_LIMIT or whom != whom.upper():
            return None
        return known.stream(whom) if not known.of_type or whom in wire.TYPES else None
