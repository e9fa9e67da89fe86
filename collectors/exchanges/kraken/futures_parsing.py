"""Parsers of Kraken Futures' feeds: trades with the forced ones among them, books, tickers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLIEST, EARLY, PAST, why
from collectors.adapters.streamed_books import CLEAR, NO_FLAGS, SNAPSHOT
from collectors.exchanges.kraken import futures_wire as wire
from collectors.exchanges.kraken import texts
from collectors.exchanges.kraken.futures import FuturesSession
from collectors.exchanges.kraken.wire import Level
from market.kinds import BookDelta, Liquidation, MarkPrice, Quote, Trade
from market.session import Output, Rejected, StreamState
from market.times import MS

TRADE, FORCED, BOOK, TICKER, BEST = "trade", "trade.liquidation", "book", "ticker", "ticker.best"
ID_LIMIT = 64
LIQUIDATION = "liquidation"
EMPTY = msgspec.Raw(b"[]")
PERPETUAL = "perpetual"


def _row(
    session: FuturesSession, state: StreamState, data: wire.Trade | wire.LiveTrade, at: tuple[int, int, int], past: bool
) -> Trade | str:
    """The row of a trade (`at`: ts_recv, frame_no, item), or why it is none; `past`: told when subscribing."""
    ts_recv, number, item = at
    time, price, qty = data.time * MS, texts.number(data.price), texts.number(data.qty)
    if not EARLY <= ts_recv - time <= PAST:
        return "impossible time"
    if price is None or qty is None or data.side not in wire.SIDES:
        return "not a decimal number, or an unknown side"
    condition = wire.CONDITIONS.get(data.type)
    if condition is None or not (0 < len(data.uid) <= ID_LIMIT and data.uid.isascii() and data.uid.isprintable()):
        return "an unknown type, or no id"
    return Trade(
        data.product_id, state.stream.name, time, None, ts_recv, session.session_id, number, item, "ws", price, qty,
        data.side, None, "history" if past and condition == "market" else condition, data.uid,
    )  # fmt: skip


def trade(session: FuturesSession, frame: bytes, ts_recv: int, number: int) -> Sequence[Output] | None:
    """One trade; a forced one is a liquidation beside it, where those are wanted."""
    try:
        data = wire.live_trade(frame)
    except BAD_FRAME as error:
        return session.reject(why(error), TRADE, number)
    if data.feed != TRADE:
        return None
    state, forced = (session.lane(name, data.product_id, ts_recv) for name in (TRADE, FORCED))
    known = state or forced
    if known is None:
        return session.ignore(TRADE)
    row = _row(session, known, data, (ts_recv, number, 0), past=False)
    if isinstance(row, str):
        return session.reject(row, known.stream.name, number)
    out: list[Output] = []
    assert row.ts_event is not None
    if state is not None:
        session.heard(state, ts_recv, row.ts_event)
        out.append(row)
    if forced is not None and data.type == LIQUIDATION:
        session.heard(forced, ts_recv, row.ts_event)
        out.append(
            Liquidation(
                row.symbol, forced.stream.name, row.ts_event, None, ts_recv, row.session, number, 0, "ws",
                data.side, row.price, None, row.qty,
            )
        )  # fmt: skip
    return out or session.ignore("trade of no kind that is wanted")


def past_trades(session: FuturesSession, frame: bytes, ts_recv: int, number: int) -> Sequence[Output] | None:
    """What was traded before the subscription, newest first: rows oldest first, of condition history."""
    try:
        found = wire.trades(frame)
    except BAD_FRAME as error:
        return session.reject(why(error), TRADE, number)
    if found.feed != "trade_snapshot":
        return None
    state = session.lane(TRADE, found.product_id, ts_recv)
    if state is None:
        return session.ignore(found.feed)
    name, out = state.stream.name, list[Output]()
    for item, raw in reversed(list(enumerate(found.trades))):
        try:
            data = wire.trade(raw)
        except BAD_FRAME as error:
            out.append(Rejected(why(error), number, name))
            continue
        if EARLIEST <= data.time * MS < ts_recv - PAST:
            continue  # the last trades of a quiet product
        row = _row(session, state, data, (ts_recv, number, item), past=True)
        if data.product_id != found.product_id:
            row = "another product than its frame's"
        if isinstance(row, str):
            out.append(Rejected(row, number, name))
            continue
        assert row.ts_event is not None
        texts.heard_past(session, state, ts_recv, row.ts_event)
        out.append(row)
    return out or session.ignore("trade_snapshot without trades")


def _levels(levels: Sequence[Level]) -> msgspec.Raw | None:
    found = [(texts.number(level.price), texts.number(level.qty)) for level in levels]
    if any(price is None or qty is None for price, qty in found):
        return None
    return msgspec.Raw(msgspec.json.encode(found))


def whole(session: FuturesSession, frame: bytes, ts_recv: int, number: int) -> Sequence[Output] | None:
    """The whole book that a subscription begins with; where the numbers went back nothing joins what was before."""
    try:
        data = wire.whole(frame)
    except BAD_FRAME as error:
        return session.reject(why(error), BOOK, number)
    if data.feed != "book_snapshot":
        return None
    state = session.lane(BOOK, data.product_id, ts_recv)
    if state is None:
        return session.ignore(data.feed)
    name, time = state.stream.name, data.timestamp * MS
    if not EARLY <= ts_recv - time <= PAST:
        return session.reject("impossible time", name, number)
    bids, asks = _levels(data.bids), _levels(data.asks)
    if bids is None or asks is None:
        return session.reject("levels that are no price and quantity", name, number)
    session.heard(state, ts_recv, time)
    book = session.books.follow(state)
    back = book.last is not None and data.seq < book.last
    if not book.begin(data.seq, ts_recv):
        return session.ignore("book_snapshot repeated")
    row = BookDelta(
        data.product_id, name, time, None, ts_recv, session.session_id, number, 0, "ws", bids, asks, None, data.seq,
        None, None, SNAPSHOT,
    )  # fmt: skip
    if not back:
        return (row,)
    forgotten = msgspec.structs.replace(row, bids=EMPTY, asks=EMPTY, last_id=None, flags=CLEAR)
    row.item = 1
    return (forgotten, row)


def change(session: FuturesSession, frame: bytes, ts_recv: int, number: int) -> Sequence[Output] | None:
    """One level of a book; the next one has the next number."""
    try:
        data = wire.change(frame)
    except BAD_FRAME as error:
        return session.reject(why(error), BOOK, number)
    if data.feed != BOOK:
        return None
    state = session.lane(BOOK, data.product_id, ts_recv)
    if state is None:
        return session.ignore(BOOK)
    name, time = state.stream.name, data.timestamp * MS
    price, qty = texts.number(data.price), texts.number(data.qty)
    if not EARLY <= ts_recv - time <= PAST:
        return session.reject("impossible time", name, number)
    if price is None or qty is None or data.side not in wire.SIDES:
        return session.reject("not a decimal number, or an unknown side", name, number)
    session.heard(state, ts_recv, time)
    level = msgspec.Raw(f'[["{price}","{qty}"]]'.encode())
    bids, asks = (level, EMPTY) if data.side == "buy" else (EMPTY, level)
    book = session.books.follow(state)
    if book.last is not None and data.seq <= book.last:
        return _back(session, state, data.seq, ts_recv)
    flags = book.update(data.seq, follows=data.seq - 1 == book.last, now=ts_recv)
    return (
        BookDelta(
            data.product_id, name, time, None, ts_recv, session.session_id, number, 0, "ws", bids, asks, data.seq,
            data.seq, None, None, flags or NO_FLAGS,
        ),
    )  # fmt: skip


def _back(session: FuturesSession, state: StreamState, seq: int, now: int) -> Sequence[Output]:
    """A number that was there, or one of a numbering of which no whole was told: the book is asked for anew."""
    book = session.books.follow(state)
    if seq != book.last:
        known = book.last
        book.update(known or 0, follows=False, now=now)
    return session.ignore("book repeated" if seq == book.last else "book numbers that went back")


def ticker(session: FuturesSession, frame: bytes, ts_recv: int, number: int) -> Sequence[Output] | None:
    """Mark and index, and the best levels, as far as either is wanted; both are 1 to 4 s behind the book (measured)."""
    try:
        data = wire.ticker(frame)
    except BAD_FRAME as error:
        return session.reject(why(error), TICKER, number)
    if data.feed != TICKER:
        return None
    marked, best = (session.lane(name, data.product_id, ts_recv) for name in (TICKER, BEST))
    known = marked or best
    if known is None:
        return session.ignore(TICKER)
    if not EARLY <= ts_recv - data.time * MS <= PAST:
        return session.reject("impossible time", known.stream.name, number)
    out: list[Output] = []
    wrong = ""
    for state, read in ((marked, _mark), (best, _best)):
        row = None if state is None else read(session, state, data, ts_recv, number)
        if isinstance(row, str):
            wrong = row
        elif row is not None:
            out.append(row)
    if out:
        return [*out, Rejected(wrong, number, TICKER)] if wrong else out
    return session.reject(wrong, known.stream.name, number) if wrong else session.ignore(f"{TICKER} of one side")


def _mark(session: FuturesSession, state: StreamState, data: wire.Ticker, ts_recv: int, number: int) -> MarkPrice | str:
    """The rate is the one predicted for the next hour. A perpetual's rate that is left out is zero."""
    said, time = bytes(data.relative_funding_rate_prediction), data.time * MS
    mark, index = texts.number(data.markPrice), texts.number(data.index)
    rate = texts.signed(data.relative_funding_rate_prediction) if said else "0" if data.tag == PERPETUAL else None
    if mark is None or (bytes(data.index) and index is None) or (said and rate is None):
        return "not a decimal number"
    session.heard(state, ts_recv, time)
    to_come = data.next_funding_rate_time
    return MarkPrice(
        data.product_id, state.stream.name, time, None, ts_recv, session.session_id, number, 0, "ws", mark, index, rate,
        to_come * MS if to_come else None,
    )  # fmt: skip


def _best(
    session: FuturesSession, state: StreamState, data: wire.Ticker, ts_recv: int, number: int
) -> Quote | str | None:
    """The best levels; nothing numbers them, so their time (us) does. A side that is empty is zero, or left out."""
    time, said = data.time * MS, (data.bid, data.bid_size, data.ask, data.ask_size)
    sides = [texts.number(one) for one in said]
    if any(side is None and bytes(one) for side, one in zip(sides, said, strict=True)):
        return "not a decimal number"
    session.heard(state, ts_recv, time)
    bid, bid_qty, ask, ask_qty = (side or "" for side in sides)
    if not (bid.strip("0.") and ask.strip("0.") and bid_qty and ask_qty):
        return None
    return Quote(
        data.product_id, state.stream.name, time, None, ts_recv, session.session_id, number, 0, "ws", bid, bid_qty, ask,
        ask_qty, time,
    )  # fmt: skip
