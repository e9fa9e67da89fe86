"""Parsers of the feed Exchange: trades, best levels at trades, and books in batches of 50 ms.

A lost trade shows as a leap of the ids that follow by one. Where heartbeats name an id that never came the product's
trades are subscribed to anew, and the newest, which is told then, proves the hole. Batches of books have no number:
the venue says that their delivery is guaranteed, and a connection delivers in order; more is not known of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLY, NUMBER, PAST, all_good, why
from collectors.adapters.streamed_books import SNAPSHOT, StreamedBook
from collectors.exchanges.coinbase import exchange_wire as flat
from collectors.exchanges.coinbase import wire
from collectors.exchanges.coinbase.protocol import CoinbaseSession, Parse
from market.kinds import BookDelta, Quote, Trade
from market.session import Output, StreamState

MATCHES, TICKER, BOOK = f"{wire.EXCHANGE}matches", f"{wire.EXCHANGE}ticker", f"{wire.EXCHANGE}level2_batch"
NO_TIME = "0001-"
"""A change that knows no time is of the year 1: it is of the newest time that the connection has told, an estimate."""
PATIENCE = 3
"""Heartbeats, a second apart, that name a trade which has not come."""


class _Behind(msgspec.Struct):
    """A trade that heartbeats name and that has not come; `asked`: the product was subscribed to anew for it."""

    trade_id: int
    beats: int = 0
    asked: bool = False


class Matches:
    """The trades of one connection."""

    def __init__(self, session: CoinbaseSession) -> None:
        self._session, self._channel = session, session.channel(MATCHES)
        self._newest: dict[str, int] = {}
        self._behind: dict[str, _Behind] = {}
        session.hearts.append(self)

    def parse(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        """`match` and `last_match`."""
        session = self._session
        try:
            data = flat.match(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), MATCHES, number)
        state, time = session.state_of(self._channel, data.product_id, ts_recv), wire.micros(data.time)
        if state is None:
            return session.ignore(MATCHES)
        name, last = state.stream.name, data.type == flat.LAST_MATCH
        if time is not None and ts_recv - time > PAST and last:
            return session.ignore(f"{wire.EXCHANGE}{flat.LAST_MATCH} of long ago")
        if time is None or not EARLY <= ts_recv - time <= PAST:
            return session.reject("impossible time", name, number)
        if NUMBER(data.price) is None or NUMBER(data.size) is None or data.side not in flat.TAKER:
            return session.reject("not a decimal number, or an unknown side", name, number)
        old = last and session.history(state)
        session.heard(state, ts_recv, time)
        self._newest[data.product_id] = max(data.trade_id, self._newest.get(data.product_id, 0))
        return (
            Trade(
                data.product_id, name, time, None, ts_recv, session.session_id, number, 0, "ws", data.price, data.size,
                flat.TAKER[data.side], data.trade_id, "history" if old else "market",
            ),
        )  # fmt: skip

    def beat(self, found: flat.Beat, time: int, ts_recv: int) -> list[Output]:
        """A heartbeat of a product names its newest trade."""
        del time, ts_recv
        product, newest = found.product_id, self._newest.get(found.product_id)
        state = self._session.states.get(f"{MATCHES}:{product}")
        if state is None or newest is None or found.last_trade_id <= newest:
            self._behind.pop(product, None)
            return []
        behind = self._behind.get(product)
        if behind is None or behind.trade_id <= newest:
            behind = self._behind[product] = _Behind(found.last_trade_id)
        behind.beats += 1
        if behind.beats >= PATIENCE and not behind.asked and not self._session.learn:
            behind.asked = True
            self._session.subscriber.renew([state.stream])
        return []


def trade(session: CoinbaseSession) -> Parse:
    """`matches` of all products of the connection."""
    return Matches(session).parse


def quote(session: CoinbaseSession) -> Parse:
    """`ticker` of all products of the connection; `sequence` is the row's `update_id`."""
    source, channel = session.session_id, session.channel(TICKER)

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            data = flat.ticker(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), TICKER, number)
        state, time = session.state_of(channel, data.product_id, ts_recv), wire.micros(data.time)
        if state is None:
            return session.ignore(TICKER)
        name, sides = state.stream.name, (data.best_bid, data.best_bid_size, data.best_ask, data.best_ask_size)
        if time is None or not EARLY <= ts_recv - time <= PAST:
            return session.reject("impossible time", name, number)
        if "" in sides:
            return session.ignore(f"{TICKER} without sizes, or of one side")
        if not all_good(*sides):
            return session.reject("not a decimal number", name, number)
        session.heard(state, ts_recv, time)
        return (Quote(data.product_id, name, time, None, ts_recv, source, number, 0, "ws", *sides, data.sequence),)

    return parse


def _pairs(levels: Iterable[tuple[str, str]]) -> msgspec.Raw | None:
    """[price, quantity] of the venue's texts; None where one is no number."""
    told = list(levels)
    if not all(all_good(price, qty) for price, qty in told):
        return None
    return msgspec.Raw(msgspec.json.encode(told))


class _Placed:
    """One product's book. `waiting` is its whole, where nothing has told its time yet; `losses` as of its last row."""

    __slots__ = ("book", "losses", "state", "waiting")

    def __init__(self, state: StreamState, book: StreamedBook, losses: int) -> None:
        self.state, self.book, self.losses = state, book, losses
        self.waiting: BookDelta | None = None


class Books:
    """The books of one connection. A whole says no time: it is of the time that the product's next message tells,
    and is stored then, under its own frame.
    """

    def __init__(self, session: CoinbaseSession) -> None:
        self._session, self._channel = session, session.channel(BOOK)
        self._placed: dict[str, _Placed] = {}
        session.hearts.append(self)

    def parse(self, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        """`snapshot` and `l2update`."""
        session = self._session
        try:
            data = flat.book(frame)
        except BAD_FRAME as error:
            session.losses += 1  # it may have been of any product
            return session.reject(why(error), BOOK, number)
        at = self._of(data.product_id, ts_recv)
        if at is None:
            return session.ignore(BOOK)
        name, silent = at.state.stream.name, data.time is None or data.time.startswith(NO_TIME)
        time = None if silent or data.time is None else wire.micros(data.time)
        if not silent and (time is None or not EARLY <= ts_recv - time <= PAST):
            at.losses = -1
            return session.reject("impossible time", name, number)
        if isinstance(data, flat.Whole):
            bids, asks = _pairs(data.bids), _pairs(data.asks)
        elif all(side in flat.BOOK_SIDES for side, _, _ in data.changes):
            bids, asks = (
                _pairs((price, qty) for said, price, qty in data.changes if said == side) for side in flat.BOOK_SIDES
            )
        else:
            bids = asks = None
        if bids is None or asks is None:
            at.losses = -1
            return session.reject("levels that are no side, price and size", name, number)
        row = BookDelta(
            data.product_id, name, time, None, ts_recv, session.session_id, number, 0, "ws", bids, asks, None, None,
            None, None, (),
        )  # fmt: skip
        if isinstance(data, flat.Whole):
            at.waiting = row
            return session.ignore(f"{BOOK} waiting for its time") if time is None else self._begun(at, time)
        told = time or session.as_of(ts_recv)
        return [*self._begun(at, told - 1), self._changed(at, row, told)]

    def beat(self, found: flat.Beat, time: int, ts_recv: int) -> list[Output]:
        """A heartbeat of a product tells the time of a whole that waits for it."""
        del ts_recv
        at = self._placed.get(found.product_id)
        return [] if at is None else self._begun(at, time)

    def _of(self, symbol: str, ts_recv: int) -> _Placed | None:
        held = self._placed.get(symbol)
        if held is None:
            state = self._session.state_of(self._channel, symbol, ts_recv)
            if state is None:
                return None
            held = self._placed[symbol] = _Placed(state, self._session.books.follow(state), self._session.losses)
        return held

    def _begun(self, at: _Placed, time: int) -> list[Output]:
        """The whole that waits, as of a time of the venue's (us)."""
        row, at.waiting = at.waiting, None
        if row is None:
            return []
        session, before = self._session, at.book.last
        session.heard(at.state, row.ts_recv, time)
        row.ts_event = time
        row.last_id = time if before is None or time > before else before + 1
        row.flags = SNAPSHOT
        at.losses = session.losses
        at.book.begin(row.last_id, row.ts_recv)
        return [row]

    def _changed(self, at: _Placed, row: BookDelta, time: int) -> BookDelta:
        """The next batch of changes."""
        session, before = self._session, at.book.last
        session.heard(at.state, row.ts_recv, time)
        follows, at.losses = at.losses == session.losses, session.losses
        row.last_id = time if before is None or time > before else before + 1
        row.prev_id = before if follows or before is None else row.last_id - 1
        row.flags = at.book.update(row.last_id, follows=follows, now=row.ts_recv)
        return row


def delta(session: CoinbaseSession) -> Parse:
    """`level2_batch` of all products of the connection."""
    return Books(session).parse
