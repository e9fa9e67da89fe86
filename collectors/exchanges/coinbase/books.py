"""Books of Coinbase frames: changes as `book_delta`, whole books as rows with the flag `snapshot`.

Books have no ids. Each message tells the levels as they were at the engine's time `event_time`, which rises from one
message of a product to the next (213 of 213 recorded ones) and is the same on every connection: in microseconds it is
the row's `last_id`, and where it does not rise the id is one above the one before it. `prev_id` is that of the
product's message before on the same connection, whose messages are counted, so that nothing lies between them. After a
loss it is `last_id` - 1: the hole in the ids is then the hole in time.

A whole stands a microsecond before its time: a change of that time may have been on its way when the connection
subscribed, and is the row that another connection tells, which no whole takes the place of.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, all_good
from collectors.adapters.streamed_books import SNAPSHOT, StreamedBook
from collectors.exchanges.coinbase import wire
from collectors.exchanges.coinbase.protocol import CoinbaseSession, Parse
from market.kinds import BookDelta
from market.session import Output, Rejected, StreamState

CHANNEL = "level2"
SAID = wire.SAYS[CHANNEL]
BROKEN = -1
"""In place of a number of losses: a message of this product was not understood."""


def _levels(updates: Sequence[wire.Level]) -> tuple[msgspec.Raw, msgspec.Raw] | None:
    """(bids, asks) as arrays of [price, quantity] of the venue's texts; None where one is no level."""
    sides: tuple[list[str], list[str]] = ([], [])
    for level in updates:
        place = wire.BOOK_SIDES.get(level.side)
        if place is None or not all_good(level.price_level, level.new_quantity):
            return None
        sides[place].append(f'["{level.price_level}","{level.new_quantity}"]')
    bids, asks = (msgspec.Raw(f"[{','.join(side)}]".encode()) for side in sides)
    return bids, asks


def _newest(updates: Sequence[wire.Level], publish: int) -> int | None:
    """The engine's time of a message (us): that of its newest level, or of its publication where none is told (1970)
    or the book has stood still for longer than a row may be old. None where a level's time is no time.
    """
    newest = 0
    for text in {level.event_time for level in updates}:
        time = wire.micros(text)
        if time is None:
            return None
        newest = max(newest, time)
    return newest if newest >= publish - PAST // 2 else publish


class _Placed:
    """One product's book, up to which loss of its connection it was told, and the time (us) of its newest message."""

    __slots__ = ("book", "losses", "state", "told")

    def __init__(self, state: StreamState, book: StreamedBook, losses: int) -> None:
        self.state, self.book, self.losses = state, book, losses
        self.told = 0


class _Books:
    """The books of one connection."""

    def __init__(self, session: CoinbaseSession) -> None:
        self._session = session
        self._channel = session.channel(CHANNEL)
        self._placed: dict[str, _Placed] = {}

    def of(self, symbol: str, ts_recv: int) -> _Placed | None:
        """The book of a product; None where it is not collected here."""
        held = self._placed.get(symbol)
        if held is None:
            state = self._session.state_of(self._channel, symbol, ts_recv)
            if state is None:
                return None
            held = self._placed[symbol] = _Placed(state, self._session.books.follow(state), self._session.losses)
        return held

    def row(
        self, event: wire.BookEvent, at: _Placed, publish: int, ts_recv: int, number: int, item: int
    ) -> BookDelta | Rejected | None:
        """What one event says; None where it repeats."""
        session, name, book = self._session, at.state.stream.name, at.book
        levels, time = _levels(event.updates), _newest(event.updates, publish)
        timed = time is not None and EARLY <= ts_recv - time <= PAST
        if levels is None or time is None or not timed or event.type not in (wire.WHOLE, wire.CHANGE):
            at.losses = BROKEN
            reason = "no known type, or levels that are no [price, quantity] texts" if timed else "impossible time"
            return Rejected(reason, number, name)
        session.heard(at.state, ts_recv, publish)
        follows, at.losses, before = at.losses == session.losses, session.losses, book.last
        flags: tuple[str, ...] = SNAPSHOT
        previous, newest = None, -1 if before is None else max(before, at.told)
        if event.type == wire.WHOLE:
            if time == newest and book.known:
                return None
            last = max(time - 1, newest + 1)
            book.begin(last, ts_recv)
        else:
            last = time if before is None or time > before else newest + 1
            previous = before if follows or before is None else last - 1
            flags = book.update(last, follows=follows, now=ts_recv)
        at.told = max(at.told, time)
        return BookDelta(
            event.product_id, name, time, publish, ts_recv, session.session_id, number, item, "ws", *levels, None,
            last, previous, None, flags,
        )  # fmt: skip


def delta(session: CoinbaseSession) -> Parse:
    """`l2_data` of all products of the connection."""
    books = _Books(session)

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.books(frame)
        except BAD_FRAME as error:
            return session.not_read(frame, error, number)
        after = session.follow(found.sequence_num, number)
        publish = wire.micros(found.timestamp)
        if found.channel != SAID or publish is None or not EARLY <= ts_recv - publish <= PAST:
            session.losses += 1
            return [*session.reject("another channel or an impossible time", None, number), *after]
        out: list[Output] = []
        for item, event in enumerate(found.events):
            at = books.of(event.product_id, ts_recv)
            made = None if at is None else books.row(event, at, publish, ts_recv, number, item)
            if made is not None:
                out.append(made)
        return session.said(out, after, f"{CHANNEL} repeated")

    return parse
