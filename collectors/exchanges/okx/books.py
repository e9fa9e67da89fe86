"""Books of OKX frames: changes as `book_delta`, whole books in the stream as rows with the flag `snapshot`.

Each change names the one before it (`prevSeqId`). One whose ids are the same and that changes nothing says that the
book is alive; one whose `seqId` is below `prevSeqId` is a change like others, behind which the numbering goes on lower.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, all_good, good_levels, why
from collectors.adapters.streamed_books import CLEAR, SNAPSHOT, StreamedBook
from collectors.exchanges.okx import summed, wire
from collectors.exchanges.okx.protocol import OkxSession, Parse
from market.kinds import BookDelta, Quote
from market.session import Output, StreamState

EMPTY = msgspec.Raw(b"[]")


def _good(data: wire.Depth) -> bool:
    compact = wire.COMPACT(data.bids) is not None and wire.COMPACT(data.asks) is not None
    return compact or good_levels(data.bids, data.asks)


def _anew(row: BookDelta) -> Sequence[Output]:
    """A row behind which ids are lower than before: of the book so far readers know nothing any more."""
    forgotten = msgspec.structs.replace(
        row, bids=EMPTY, asks=EMPTY, first_id=None, last_id=None, prev_id=None, flags=CLEAR
    )
    row.item = 1
    return (forgotten, row)


def delta(session: OkxSession, state: StreamState) -> Parse:
    """`books`."""
    stream, source, book = state.stream, session.session_id, session.books.follow(state)
    symbol, name, decode = stream.symbol, stream.name, wire.depths

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        if found.arg.channel != stream.channel or found.arg.instId != symbol or len(found.data) != 1:
            return session.reject("another symbol than its stream's, or not one change", name, number)
        data = found.data[0]
        time, last, before = wire.time_of(data.ts), data.seqId, data.prevSeqId
        if not EARLY <= ts_recv - time <= PAST:
            return session.reject("impossible time", name, number)
        if found.action not in (wire.WHOLE, wire.CHANGE) or not _good(data):
            return session.reject("no known action, or levels that are no [price, quantity] texts", name, number)
        row = BookDelta(
            symbol, name, time, None, ts_recv, source, number, 0, "ws", data.bids, data.asks, None, last, None, None
        )
        if found.action == wire.WHOLE:
            session.heard(state, ts_recv, time)
            return _whole(session, book, row)
        if not 0 <= before < 2**62 or (before == last and not data.bids == data.asks == EMPTY):
            return session.reject("a change without the one before it, or one that has its id", name, number)
        session.heard(state, ts_recv, time)
        if before == last:
            if book.last is not None and last != book.last:
                book.lose(ts_recv)
            return session.ignore(f"{stream.channel} unchanged")
        row.prev_id = before
        row.flags = book.update(last, follows=before == book.last, now=ts_recv)
        if last > before:
            return (row,)
        book.lose(ts_recv)
        return _anew(row)

    return parse


def summed_delta(session: OkxSession, state: StreamState) -> Parse:
    """`books` while checksums lived: a row says its message's, of which 0 is none. Those of before 2023 have no ids."""
    parse_levels, unnumbered, decode = delta(session, state), summed.delta(session, state), wire.sums

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            (said,) = decode(frame).data
        except (*BAD_FRAME, ValueError) as error:
            return session.reject(why(error), state.stream.name, number)
        if not bytes(said.seqId):
            return unnumbered(frame, ts_recv, number)
        out = parse_levels(frame, ts_recv, number)
        for row in out:
            if isinstance(row, BookDelta) and row.last_id is not None:
                row.checksum = said.checksum or None
        return out

    return parse


def _whole(session: OkxSession, book: StreamedBook, row: BookDelta) -> Sequence[Output]:
    """A whole book: the first, one that was asked for, or one that repeats."""
    last, newest = row.last_id or 0, book.last or 0
    if last < newest <= 2 * (last + 1):
        book.lose(row.ts_recv)
        return session.ignore(f"{row.stream.partition(':')[0]} behind")  # no new numbering lies so near
    if not book.begin(last, row.ts_recv):
        return session.ignore(f"{row.stream.partition(':')[0]} repeated")
    row.flags = SNAPSHOT
    return (row,) if last >= newest else _anew(row)


def quote(session: OkxSession, state: StreamState) -> Parse:
    """`bbo-tbt`: sent again after a minute without a change."""
    stream, source = state.stream, session.session_id
    symbol, name, decode = stream.symbol, stream.name, wire.best
    told: int | None = None

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        nonlocal told
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        if found.arg.channel != stream.channel or found.arg.instId != symbol or len(found.data) != 1:
            return session.reject("another symbol than its stream's, or not one quote", name, number)
        data = found.data[0]
        time = wire.time_of(data.ts)
        if not EARLY <= ts_recv - time <= PAST:
            return session.reject("impossible time", name, number)
        levels = [*data.bids[:1], *data.asks[:1]]
        if not all(len(level) >= 2 and all_good(*level[:2]) for level in levels):
            return session.reject("levels that are no [price, quantity] texts", name, number)
        session.heard(state, ts_recv, time)
        if data.seqId == told:
            return session.ignore(f"{stream.channel} repeated")
        told = data.seqId
        if not data.bids or not data.asks:
            return session.ignore(f"{stream.channel} of one side")
        bid, ask = levels
        return (
            Quote(
                symbol, name, time, None, ts_recv, source, number, 0, "ws", bid[0], bid[1], ask[0], ask[1], data.seqId
            ),
        )  # fmt: skip

    return parse
