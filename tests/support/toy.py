"""A toy exchange: the smallest adapter there can be, so that the shell is tested without any venue's protocol.

A frame is `t <symbol> <id> <time us>` for a trade, `q <symbol> <update id> <time us>` for a quote, `ack`, `leave
<cause>`, `x ...` for a channel nobody collects, `boom` for a defect of ours; anything else is rejected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from market.kinds import Contract, Quote, Trade
from market.session import (
    SERVER_TIME,
    Acknowledged,
    Connection,
    Endpoint,
    Fetch,
    Leave,
    Limits,
    Output,
    Poll,
    Polled,
    Rejected,
    Send,
    Stream,
    StreamState,
)
from market.times import SECOND

NAME = "binance"
T0 = 1_700_000_000_000_000
LIMITS = {"spot": Limits(100, 100, 10.0, 300, 300 * SECOND, None, 60 * SECOND, 60 * SECOND)}
ENDPOINTS = {"spot": Endpoint("http://toy.test", {"stream": "ws://toy.test/stream"})}
OFFERS = {"spot": {"trade": "trade", "quote": "quote"}}
POLLS = {"spot": {"contract": Poll("info", each=False), SERVER_TIME: Poll("time", each=False)}}
TRADING = frozenset({"TRADING"})
ENDED = frozenset({"CLOSE"})
KINDS = {b"t": "trade", b"q": "quote"}


def t(number: int, at: int, symbol: str = "AAA") -> bytes:
    """A trade's frame; `at` in ms after T0."""
    return b"t %s %d %d" % (symbol.encode(), number, T0 + at * 1000)


def q(number: int, at: int, symbol: str = "AAA") -> bytes:
    return b"q %s %d %d" % (symbol.encode(), number, T0 + at * 1000)


class ToySession:
    def __init__(self, session_id: str, streams: Sequence[Stream] = (), *, learn: bool = False) -> None:
        self.session_id = session_id
        self.frame_no = 0
        self.venue_time = 0
        self.ignored: Counter[str] = Counter()
        self._learn = learn
        self._states = {(s.kind, s.symbol): StreamState(s) for s in streams}

    def start(self, now: int) -> Sequence[Output]:
        for state in self._states.values():
            state.desired_at = now
        return () if self._learn else [Send("subscribe")]

    def receive(self, frame: bytes, ts_recv: int) -> Sequence[Output]:
        self.frame_no += 1
        word, *rest = frame.split(b" ")
        if word == b"boom":
            raise ZeroDivisionError("a defect of ours")
        if word == b"ack":
            for state in self._states.values():
                state.acknowledged_at = ts_recv
            return [Acknowledged(tuple(state.stream for state in self._states.values()))]
        if word == b"leave":
            return [Leave(rest[0].decode(), "so it was said")]
        if word == b"x":
            self.ignored["x"] += 1
            return ()
        if word not in KINDS or len(rest) != 3:
            return [Rejected("not understood", self.frame_no)]
        return [self._event(KINDS[word], rest[0].decode(), int(rest[1]), int(rest[2]), ts_recv)]

    def _event(self, kind: str, symbol: str, number: int, time: int, ts_recv: int) -> Output:
        state = self._states.get((kind, symbol))
        if state is None:
            state = self._states[kind, symbol] = StreamState(stream(kind, symbol), ts_recv, ts_recv)
        if not state.events:
            state.first_recv = ts_recv
            state.first_event = time
        state.last_recv = ts_recv
        state.events += 1
        self.venue_time = max(self.venue_time, time)
        place = (symbol, kind, time, None, ts_recv, self.session_id, self.frame_no, 0, "ws")
        if kind == "trade":
            return Trade(*place, price="1.5", qty="2", side="buy", seq=number, condition="market")
        return Quote(*place, bid="1", bid_qty="1", ask="2", ask_qty="1", update_id=number)

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        self.frame_no += 1
        return ()

    def tick(self, now: int) -> Sequence[Output]:
        return ()

    def next_deadline(self) -> int | None:
        return None

    def streams(self) -> list[StreamState]:
        return list(self._states.values())


LISTED: dict[str, str] = {}
"""Symbol -> status: what a session that asks for all instruments is answered."""


class ToyReference(ToySession):
    """Asks every so often, and again a second after anything but status 200."""

    def __init__(self, session_id: str, polled: Polled, url: str) -> None:
        super().__init__(session_id)
        self._polled = polled
        self._what = "time" if polled.kind == SERVER_TIME else "info"
        self._url = url
        self._again: int | None = None

    def start(self, now: int) -> Sequence[Output]:
        return [Fetch("info", "GET", f"{self._url}/{self._what}")]

    def respond(self, tag: str, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int) -> Sequence[Output]:
        self.frame_no += 1
        if status != 200:
            self._again = ts_recv + SECOND
            return [Rejected(f"status {status}", self.frame_no)]
        if self._what == "time":
            return ()
        self._again = ts_recv + self._polled.every
        listed = {symbol: LISTED.get(symbol, "TRADING") for symbol in self._polled.symbols} or LISTED
        return [
            Contract(
                symbol, "info", ts_recv, None, ts_recv, self.session_id, self.frame_no, item, "rest", uid=symbol,
                unified=symbol, base="A", quote="B", settle=None, tick="1", lot="1", multiplier="1",
                contract_size=None, status=state, listed=None, expiry=None, funding_interval_s=None,
                valid_from=None, valid_to=None, known_from=ts_recv, known_to=None,
            )
            for item, (symbol, state) in enumerate(listed.items())
        ]  # fmt: skip

    def tick(self, now: int) -> Sequence[Output]:
        if self._again is None or now < self._again:
            return ()
        self._again = None
        return self.start(now)

    def next_deadline(self) -> int | None:
        return self._again


def stream(kind: str, symbol: str) -> Stream:
    quiet = None if kind in ("trade", "liquidation") else 60 * SECOND
    return Stream(f"{symbol}@{kind}", kind, symbol, kind, kind == "trade", quiet, sparse=kind == "liquidation")


def streams(
    market_type: str, kinds: Sequence[str], symbols: Sequence[str], channels: Mapping[str, str] | None = None
) -> list[Stream]:
    return [stream(kind, symbol) for kind in kinds for symbol in symbols]


def connections(market_type: str, streams: Sequence[Stream], endpoint: Endpoint) -> list[Connection]:
    return [Connection(NAME, market_type, "toy-1", endpoint.ws["stream"], tuple(streams))]


def session(connection: Connection, session_id: str, learn: bool = False) -> ToySession:
    return ToySession(session_id, connection.streams, learn=learn)


def poller(market_type: str, session_id: str, polled: Polled, endpoint: Endpoint) -> ToyReference:
    return ToyReference(session_id, polled, endpoint.rest)
