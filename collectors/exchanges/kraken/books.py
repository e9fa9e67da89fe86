"""Books of Kraken spot: each message is proven by its checksum before it is a row.

A message by which the checksum does not hold is no row, nor is anything behind it until the next whole: a row `clear`
says that the book is lost from there on, and the stream is subscribed to anew. Levels that fall out of the subscribed
depth are told by nobody: a row `truncated` behind the message takes them away, by the venue's rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLIEST, EARLY, PAST, why
from collectors.adapters.streamed_books import CLEAR, NO_FLAGS, SNAPSHOT, StreamedBook
from collectors.exchanges.kraken import texts, wire
from collectors.exchanges.kraken.ladder import Ladder, Level
from collectors.exchanges.kraken.protocol import BOOK, KrakenSession
from market.kinds import BookDelta
from market.session import Output, Rejected, StreamState

EMPTY = msgspec.Raw(b"[]")
TRUNCATED = ("truncated",)
IMPOSSIBLE = "impossible time"


def _pairs(levels: Sequence[wire.Level]) -> list[Level] | None:
    """Levels as (price, quantity) texts; None where one is no number."""
    found = [(texts.number(level.price), texts.number(level.qty)) for level in levels]
    made = [(price, qty) for price, qty in found if price is not None and qty is not None]
    return made if len(made) == len(found) else None


def _raw(levels: Sequence[Level]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(levels))


def delta(
    session: KrakenSession, found: wire.Frame, raw: msgspec.Raw, ts_recv: int, number: int, place: int
) -> Sequence[Output]:
    """One item of the book channel."""
    try:
        data = wire.book(raw)
    except BAD_FRAME as error:
        return (*unread(session, ts_recv, number, place), Rejected(why(error), number))
    shown = next((depth for depth in wire.DEPTHS if depth >= max(len(data.bids), len(data.asks))), wire.DEPTHS[-1])
    state = session.lane(BOOK, data.symbol, ts_recv, f"{BOOK}.{shown}")
    if state is None:
        return ()
    name, time = state.stream.name, texts.time(data.timestamp)
    whole = found.type == wire.WHOLE
    silent = data.timestamp is None
    if whole and time is not None and EARLIEST <= time < ts_recv - PAST:
        time, silent = None, True  # nothing has changed for long
    if (time is None and not (whole and silent)) or (time is not None and not EARLY <= ts_recv - time <= PAST):
        return (*unread(session, ts_recv, number, place, data.symbol), Rejected(IMPOSSIBLE, number, name))
    bids, asks = _pairs(data.bids), _pairs(data.asks)
    if bids is None or asks is None:
        wrong = Rejected("levels that are no price and quantity", number, name)
        return (*unread(session, ts_recv, number, place, data.symbol), wrong)
    book, ladder = session.books.follow(state), _ladder(session, state)
    row = BookDelta(
        data.symbol, name, time, None, ts_recv, session.session_id, number, 2 * place, "ws", _raw(bids), _raw(asks),
        None, None, None, data.checksum, NO_FLAGS,
    )  # fmt: skip
    if whole:
        return _whole(session, state, book, ladder, row, (bids, asks))
    session.heard(state, ts_recv, time or ts_recv)
    return _change(session, book, ladder, row, (bids, asks)) if book.known else ()


def unread(
    session: KrakenSession, ts_recv: int, number: int, place: int = 0, symbol: str | None = None
) -> Sequence[Output]:
    """Something was said of a book, or of any, that cannot be taken: it is lost, since what changed behind the levels
    of the checksum no later message tells.
    """
    rows = []
    for book in session.books.known_of(symbol):
        name, time = book.state.stream.name, min(session.as_of(ts_recv), ts_recv)
        row = BookDelta(
            book.state.stream.symbol, name, None, None, ts_recv, session.session_id, number, 2 * place, "ws", EMPTY,
            EMPTY, None, None, None, None, CLEAR,
        )  # fmt: skip
        row.skew_us = ts_recv - time or None
        book.update(book.last or 0, follows=False, now=ts_recv)
        rows.append(row)
    return rows


def _ladder(session: KrakenSession, state: StreamState) -> Ladder:
    held = session.kept.get(state.stream.name)
    if not isinstance(held, Ladder):
        held = session.kept[state.stream.name] = Ladder(int(state.stream.channel.partition(".")[2]))
    return held


def _whole(
    session: KrakenSession,
    state: StreamState,
    book: StreamedBook,
    ladder: Ladder,
    row: BookDelta,
    sides: tuple[list[Level], list[Level]],
) -> Sequence[Output]:
    """A whole book. One that says no time is as of the newest that the venue has shown, an estimate as its row says."""
    time = row.ts_event
    if time is None:
        time = min(session.as_of(row.ts_recv), row.ts_recv)
        row.skew_us = row.ts_recv - time or None
    session.heard(state, row.ts_recv, time)
    before = ladder.last if book.known else None
    ladder.load(*sides)
    if not ladder.proven(row.checksum or 0, session.precisions.get(row.symbol)):
        if book.known:
            return _lost(book, row, before)
        book.update(ladder.last, follows=False, now=row.ts_recv)
        return (Rejected("a whole book whose checksum does not hold", row.frame_no, row.stream),)
    row.last_id, row.flags = ladder.place(time, whole=True), SNAPSHOT
    book.begin(row.last_id, row.ts_recv)
    return (row,)


def _change(
    session: KrakenSession, book: StreamedBook, ladder: Ladder, row: BookDelta, sides: tuple[list[Level], list[Level]]
) -> Sequence[Output]:
    """A change of a book that is known so far: a row, and one for what it pushed out of the depth."""
    assert row.ts_event is not None
    before = ladder.last
    bids, asks = ladder.apply(*sides)
    if not ladder.proven(row.checksum or 0, session.precisions.get(row.symbol)):
        return _lost(book, row, before)
    row.prev_id, row.last_id = before, ladder.place(row.ts_event)
    if not bids and not asks:
        return (row,)
    cut = msgspec.structs.replace(
        row, item=row.item + 1, bids=_raw([(price, "0") for price in bids]), asks=_raw([(p, "0") for p in asks]),
        prev_id=row.last_id, last_id=ladder.place(row.ts_event), flags=TRUNCATED,
    )  # fmt: skip
    return (row, cut)


def _lost(book: StreamedBook, row: BookDelta, before: int | None) -> Sequence[Output]:
    """The checksum does not hold: what the book is nobody knows until the next whole, which is asked for."""
    book.update(before or 0, follows=False, now=row.ts_recv)
    return (msgspec.structs.replace(row, bids=EMPTY, asks=EMPTY, flags=CLEAR),)
