"""The snapshots that Binance books begin from: when one is wanted, its request, and what the answer becomes. Pure.

A book is asked for when its stream has sent something (so that the updates around the snapshot are held), or was
acknowledged and stays quiet, unless the stored rows of other sessions tell it already: then it goes on from those.
Every answer is stored as a `book_snapshot`; one that joins the updates is also a `book_delta` row with the flag
`snapshot`, from which the book can be rebuilt. One that is too old, and a book whose chain broke, is asked for again,
more and more patiently; the other books go on. A book in sync is asked for at an interval too, since updates say
nothing of the levels beyond its snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import quote

import msgspec

from collectors.adapters.skew import Skew
from collectors.exchanges.binance import wire
from collectors.exchanges.binance.payloads import good_levels
from collectors.exchanges.binance.sync import BookSync, rule
from collectors.exchanges.binance.wire import BAD_FRAME, EARLY, PAST
from market.kinds import BookDelta, BookSnapshot
from market.session import Connection, Fetch, Output, Rejected, StreamState
from market.times import MINUTE, MS, SECOND

KIND = "book_delta"
TAG = "depth"
"""A request's tag is `depth <levels> <stream>`: a replay needs to know both."""
CHANNEL = "depth snapshot"
FIRST_PAUSE = SECOND
LONGEST_PAUSE = MINUTE
SETTLED = MINUTE
"""A book in sync for this long is asked for at once when it breaks."""
AWAITED = 5 * SECOND
"""For how long another session's word that it has asked keeps this one from asking."""
QUIET = 2 * SECOND
"""A stream acknowledged this long ago without an event is asked for all the same."""
FUTURES_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
FUTURES_POOL = "binance-futures"
"""USD-M and COIN-M share what one address may ask."""
NO_FLAGS: tuple[str, ...] = ()
GAP_BEFORE = ("gap_before",)
SNAPSHOT = ("snapshot",)
Chain = Callable[[int, int, "int | None"], tuple[str, ...]]
"""(U, u, pu) of the next update -> its flags."""


class Depth(msgspec.Struct, frozen=True):
    """A market's REST route for books: `weights` is levels -> weight for every number of levels it gives."""

    path: str
    weights: Mapping[int, int]

    def levels(self, wanted: int) -> int:
        """The number of levels to ask for: the most the route gives that is not above `wanted`, at least its least."""
        return max((given for given in self.weights if given <= wanted), default=min(self.weights))


class BookAnswer(msgspec.Struct, gc=False):
    """A book as the REST route gives it; spot without any time."""

    lastUpdateId: wire.Id  # noqa: N815 -- the venue's spelling
    bids: msgspec.Raw
    asks: msgspec.Raw
    E: wire.Time | None = None
    T: wire.Time | None = None

    @property
    def time(self) -> int | None:
        """The matching engine's time, us."""
        return None if self.T is None else self.T * MS

    @property
    def publish(self) -> int | None:
        """The gateway's time, us."""
        return None if self.E is None else self.E * MS


_answer = msgspec.json.Decoder(BookAnswer).decode


def read_book(body: bytes, ts_recv: int) -> BookAnswer | str:
    """The book of an answer with status 200, or why it is none."""
    try:
        answer = _answer(body)
    except BAD_FRAME as error:
        return f"status 200 without a book: {wire.why(error)}"
    if not good_levels(answer.bids, answer.asks):
        return "levels that are no [price, quantity] texts"
    if not all(time is None or EARLY <= ts_recv - time <= PAST for time in (answer.time, answer.publish)):
        return "impossible time"
    return answer


class _Held:
    """One book of the session."""

    def __init__(self, state: StreamState, sync: BookSync) -> None:
        self.state = state
        self.sync = sync
        self.asked = False
        self.pause = FIRST_PAUSE
        self.answered = 0
        self.known: int | None = None
        """Up to which id the stored rows tell the book, as of now."""
        self.awaited = 0
        """When another session's snapshot is no longer waited for."""
        self.renew: int | None = None
        """When to ask although it is in sync."""
        self.given_up = False
        """Whether its updates are not stored now."""
        self.lost = 0
        """The id of the last update that was not stored: a snapshot before it begins no book."""

    def due(self) -> int | None:
        """When to ask: None where it is known for long, asked already, or not heard of yet."""
        if self.asked or self.given_up:
            return None
        if self.sync.in_sync:
            return self.renew
        if self.answered:
            return max(self.awaited, self.answered + self.pause)
        if self.state.events:
            return self.awaited
        return max(self.awaited, self.state.acknowledged_at + QUIET) if self.state.acknowledged_at else None

    def goes_on(self, now: int) -> bool:
        """Whether it is in sync from now on because its updates join what is stored."""
        known, self.known = self.known, None
        heard = self.state.events or (self.state.acknowledged_at and now >= self.state.acknowledged_at + QUIET)
        return known is not None and bool(heard) and not self.sync.in_sync and self.sync.snapshot(known)


class Books:
    """The books of one session. Without a `rest` address of the connection (a replay) nothing is asked for."""

    def __init__(self, connection: Connection, session_id: str, depth: Depth, skew: Skew) -> None:
        self._rule = rule(connection.market_type)
        self._session_id = session_id
        self._depth = depth
        self._levels = depth.levels(connection.book_levels)
        self._url = connection.rest.rstrip("/") + depth.path if connection.rest else None
        self._skew = skew
        self._every = connection.book_refresh
        self._held: dict[str, _Held] = {}
        self._of: dict[str, _Held] = {}
        """By symbol."""
        self._began = 0

    def follow(self, state: StreamState) -> Chain:
        """What takes the ids of each update of a stream and says with which flags its row is stored."""
        step = self._book(state).sync.step

        def chain(first: int, last: int, before: int | None) -> tuple[str, ...]:
            return NO_FLAGS if step(first, last, before) else GAP_BEFORE

        return chain

    def desire(self, state: StreamState) -> None:
        """A stream that is subscribed to: its book is out of sync until a snapshot joins it."""
        if state.stream.kind == KIND:
            self._book(state)

    def out_of_sync(self) -> list[str]:
        """Symbols whose book is not known."""
        return [held.state.stream.symbol for held in self._held.values() if not held.sync.in_sync]

    def asked(self) -> list[str]:
        """Symbols whose snapshot has been asked for and is not here."""
        return [held.state.stream.symbol for held in self._held.values() if held.asked]

    def known(self, symbol: str, last_id: int) -> None:
        """The stored rows tell a book up to `last_id`."""
        if symbol in self._of:
            self._of[symbol].known = last_id

    def awaited(self, symbols: Iterable[str], now: int) -> None:
        """Another session has asked for these books."""
        for held in (self._of[symbol] for symbol in symbols if symbol in self._of):
            held.awaited = now + AWAITED
            if held.renew is not None:
                held.renew = self._slot(held, now)

    def given_up(self, symbols: Iterable[str]) -> None:
        """Updates of these books are not stored."""
        for held in (self._of[symbol] for symbol in symbols if symbol in self._of):
            held.given_up = True
            held.sync.lose()

    def stored_again(self, symbols: Iterable[str]) -> None:
        """Updates of these books are stored again."""
        for held in (self._of[symbol] for symbol in symbols if symbol in self._of):
            held.given_up, held.lost, held.answered = False, held.sync.seen, 0
            held.sync.lose()

    def tick(self, now: int) -> list[Output]:
        """The requests that are due."""
        if self._url is None:
            return []
        out: list[Output] = []
        for name, held in self._held.items():
            if held.goes_on(now):
                held.renew = self._slot(held, now)
            due = held.due()
            if due is not None and now >= due:
                held.asked = True
                symbol = quote(held.state.stream.symbol, safe="")
                url = f"{self._url}?symbol={symbol}&limit={self._levels}"
                weight = self._depth.weights[self._levels]
                out.append(Fetch(f"{TAG} {self._levels} {name}", "GET", url, weight))
            elif held.sync.in_sync and now >= held.answered + SETTLED:
                held.pause = FIRST_PAUSE
        return out

    def deadline(self) -> int | None:
        """When `tick` has something to ask."""
        if self._url is None:
            return None
        return min((due for held in self._held.values() if (due := held.due()) is not None), default=None)

    def _slot(self, held: _Held, now: int) -> int | None:
        """When a book that is known now is asked for again: each has its own place in the interval, so that they are
        spread over it; the first that is not sooner than half of it.
        """
        every = self._every
        if not every:
            return None
        self._began = self._began or now
        place = self._began + every * list(self._held.values()).index(held) // len(self._held)
        return place - (place - now - every // 2) // every * every

    def respond(self, tag: str, status: int, body: bytes, ts_recv: int, number: int) -> Sequence[Output] | None:
        """The rows of an answer; a Rejected where it is no data; None where nothing was asked by that tag."""
        word, _, rest = tag.partition(" ")
        levels, _, name = rest.partition(" ")
        held = self._held.get(name)
        if word != TAG or held is None or not (levels.isascii() and levels.isdigit() and len(levels) <= 5):
            return None
        if self._url is not None and not held.asked:
            return None
        held.asked, held.answered = False, ts_recv
        held.pause = min(held.pause * 2, LONGEST_PAUSE)
        if held.renew is not None:
            held.renew = ts_recv + held.pause
        if status != 200:
            return (Rejected(f"{CHANNEL}: status {status}", number, name),)
        answer = read_book(body, ts_recv)
        if isinstance(answer, str):
            return (Rejected(f"{CHANNEL}: {answer}"[:300], number, name),)
        return self._rows(held, answer, int(levels), ts_recv, number)

    def _rows(self, held: _Held, answer: BookAnswer, levels: int, ts_recv: int, number: int) -> list[Output]:
        symbol, name = held.state.stream.symbol, held.state.stream.name
        time, publish = answer.time, answer.publish
        skew = None if time is not None else self._skew.at(ts_recv) or None
        last, bids, asks = answer.lastUpdateId, answer.bids, answer.asks
        rows: list[Output] = [
            BookSnapshot(
                symbol, CHANNEL, time, publish, ts_recv, self._session_id, number, 0, "rest", bids, asks, last, levels,
                skew,
            )
        ]  # fmt: skip
        if held.sync.snapshot(last):
            held.renew = self._slot(held, ts_recv)
            rows.append(
                BookDelta(
                    symbol, name, time, publish, ts_recv, self._session_id, number, 0, "rest", bids, asks, None, last,
                    None, None, SNAPSHOT, skew,
                )
            )  # fmt: skip
            if held.given_up or last < held.lost:
                held.sync.lose()
        return rows

    def _book(self, state: StreamState) -> _Held:
        held = self._held.get(state.stream.name)
        if held is None:
            held = _Held(state, BookSync(self._rule))
            self._held[state.stream.name] = self._of[state.stream.symbol] = held
        return held
