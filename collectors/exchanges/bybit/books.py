"""Books of Bybit frames: changes as `book_delta`, whole books in the stream as rows with the flag `snapshot`.

`u` counts the messages of a topic: the next change has the next number (measured; no page promises it). A whole book
replaces what was there; with `u` = 1 the service has begun anew, and nothing joins what was before.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, all_good, good_levels, why
from collectors.adapters.streamed_books import CLEAR, SNAPSHOT
from collectors.exchanges.bybit import wire
from collectors.exchanges.bybit.protocol import BybitSession, Parse
from market.kinds import BookDelta, Quote
from market.session import Output, StreamState
from market.times import MS

RESTART = 1
"""The `u` of the first message of a service that was started anew."""
EMPTY = msgspec.Raw(b"[]")


def _times(found: wire.Depth | wire.Best) -> tuple[int, int]:
    """(engine's, gateway's) time in us; before 2023-05 there was the gateway's only."""
    return (found.ts if found.cts is None else found.cts) * MS, found.ts * MS


def delta(session: BybitSession, state: StreamState) -> Parse:
    """`orderbook.<levels>.<s>`."""
    symbol, name, source, book = state.stream.symbol, state.stream.name, session.session_id, session.books.follow(state)
    decode, repeated = wire.depth, f"{state.stream.channel} repeated"
    begun: tuple[bytes, bytes] | None = None
    """The levels of the last restart."""

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        nonlocal begun
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data, (time, publish) = found.data, _times(found)
        timed = EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST
        if found.topic != name or data.s != symbol or not timed:
            return session.reject("another symbol or an impossible time" if timed else "impossible time", name, number)
        if found.type not in (wire.WHOLE, wire.CHANGE) or not good_levels(data.b, data.a):
            return session.reject("no known type, or levels that are no [price, quantity] texts", name, number)
        session.heard(state, ts_recv, time)
        last = data.u
        if found.type == wire.CHANGE:
            flags = book.update(last, follows=last - 1 == book.last, now=ts_recv)
            return (
                BookDelta(
                    symbol, name, time, publish, ts_recv, source, number, 0, "ws", data.b, data.a, last, last, None,
                    None, flags,
                ),
            )  # fmt: skip
        before, begun = begun, (bytes(data.b), bytes(data.a)) if last == RESTART else None
        if not book.begin(last, ts_recv, anew=begun not in (None, before)):
            return session.ignore(repeated)
        row = BookDelta(
            symbol, name, time, publish, ts_recv, source, number, 0, "ws", data.b, data.a, None, last, None, None,
            SNAPSHOT,
        )  # fmt: skip
        return (row,) if last != RESTART else _anew(row)

    return parse


def _anew(row: BookDelta) -> Sequence[Output]:
    """A book after a restart of the service: nothing of the numbering before it is known any more."""
    forgotten = msgspec.structs.replace(row, bids=EMPTY, asks=EMPTY, last_id=None, flags=CLEAR)
    row.item = 1
    return (forgotten, row)


class _Best:
    """The best levels as they stand."""

    __slots__ = ("ask", "bid", "told")

    def __init__(self) -> None:
        self.bid: tuple[str, str] | None = None
        self.ask: tuple[str, str] | None = None
        self.told: int | None = None
        """The `u` of the newest message."""

    def take(self, data: wire.Top, *, whole: bool) -> None:
        """A whole tells both sides; a change takes a level away with quantity 0."""
        self.told = data.u
        self.bid = _side(None if whole else self.bid, data.b)
        self.ask = _side(None if whole else self.ask, data.a)


def _side(held: tuple[str, str] | None, levels: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    for price, qty in levels:
        if qty.strip("0."):
            held = (price, qty)
        elif held is not None and held[0] == price:
            held = None
    return held


def quote(session: BybitSession, state: StreamState) -> Parse:
    """`orderbook.1.<s>`: repeated every few seconds with the same `u`, which says that the stream is alive."""
    symbol, name, source, best = state.stream.symbol, state.stream.name, session.session_id, _Best()
    decode, channel = wire.best, state.stream.channel

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data, (time, publish) = found.data, _times(found)
        timed = EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST
        if found.topic != name or data.s != symbol or not timed:
            return session.reject("another symbol or an impossible time" if timed else "impossible time", name, number)
        if found.type not in (wire.WHOLE, wire.CHANGE) or not all(all_good(*level) for level in (*data.b, *data.a)):
            return session.reject("no known type, or levels that are no [price, quantity] texts", name, number)
        session.heard(state, ts_recv, time)
        if data.u == best.told:
            return session.ignore(f"{channel} repeated")
        best.take(data, whole=found.type == wire.WHOLE)
        bid, ask = best.bid, best.ask
        if bid is None or ask is None:
            return session.ignore(f"{channel} of one side")
        return (Quote(symbol, name, time, publish, ts_recv, source, number, 0, "ws", *bid, *ask, data.u),)

    return parse
