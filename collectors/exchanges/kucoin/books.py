"""Books and best prices of KuCoin frames.

A spot update covers `sequenceStart`..`sequenceEnd`, a futures update one number and one level. Rows hold [price, size]
pairs; a level with price 0 only moves the sequence on and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, all_good, why
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.protocol import KucoinSession, Parse
from market.kinds import BookDelta, Quote
from market.session import Output, StreamState
from market.times import MS

EMPTY = msgspec.Raw(b"[]")
_encode = msgspec.json.encode


def _side(levels: list[tuple[str, str, str]]) -> msgspec.Raw | None:
    """The levels of a side in the order of their sequence, as pairs; None where one is no number."""
    if not levels:
        return EMPTY
    if not all(all_good(price, size) and number.isdigit() for price, size, number in levels):
        return None
    if len(levels) > 1:
        levels.sort(key=lambda level: int(level[2]))
    return msgspec.Raw(_encode([level[:2] for level in levels if level[0].strip("0.")]))


def level2(session: KucoinSession, state: StreamState) -> Parse:
    """`/market/level2:<s>` of spot."""
    symbol, name, source, book = state.stream.symbol, state.stream.name, session.session_id, session.books.follow(state)
    decode = wire.level2

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data = found.data
        time = None if data.time is None else data.time * MS
        timed = time is None or EARLY <= ts_recv - time <= PAST
        if found.topic != name or data.symbol != symbol or not timed:
            return session.reject("another symbol or an impossible time" if timed else "impossible time", name, number)
        bids, asks = _side(data.changes.bids), _side(data.changes.asks)
        if bids is None or asks is None or data.sequenceStart > data.sequenceEnd:
            return session.reject("levels that are no texts of numbers, or a sequence that ends early", name, number)
        session.heard(state, ts_recv, time or ts_recv)
        flags = book.update(data.sequenceStart, data.sequenceEnd, ts_recv)
        return (
            BookDelta(
                symbol, name, time, None, ts_recv, source, number, 0, "ws", bids, asks, data.sequenceStart,
                data.sequenceEnd, None, None, flags,
            ),
        )  # fmt: skip

    return parse


def change(session: KucoinSession, state: StreamState) -> Parse:
    """`/contractMarket/level2:<s>` of futures: "price,side,size" with the lots that are there now."""
    symbol, name, source, book = state.stream.symbol, state.stream.name, session.session_id, session.books.follow(state)
    decode = wire.change

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data = found.data
        time, fields = data.timestamp * MS, data.change.split(",")
        if found.topic != name or not EARLY <= ts_recv - time <= PAST:
            return session.reject("another topic" if found.topic != name else "impossible time", name, number)
        price, size = (wire.amount(fields[0]), wire.amount(fields[2])) if len(fields) == 3 else (None, None)
        if price is None or size is None or fields[1] not in wire.SIDES:
            return session.reject("a change that is no price, side and size", name, number)
        session.heard(state, ts_recv, time)
        flags = book.update(data.sequence, data.sequence, ts_recv)
        level = msgspec.Raw(f'[["{price}","{size}"]]'.encode()) if price.strip("0.") else EMPTY
        bids, asks = (level, EMPTY) if fields[1] == "buy" else (EMPTY, level)
        return (
            BookDelta(
                symbol, name, time, None, ts_recv, source, number, 0, "ws", bids, asks, data.sequence, data.sequence,
                None, None, flags,
            ),
        )  # fmt: skip

    return parse


def level1(session: KucoinSession, state: StreamState) -> Parse:
    """`/spotMarket/level1:<s>`: nothing numbers it, and the topic alone names the symbol."""
    symbol, name, source, channel = state.stream.symbol, state.stream.name, session.session_id, state.stream.channel
    decode = wire.level1

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data = found.data
        time, bid, ask = data.timestamp * MS, data.bids, data.asks
        if found.topic != name or not EARLY <= ts_recv - time <= PAST:
            return session.reject("another topic" if found.topic != name else "impossible time", name, number)
        if not {len(bid), len(ask)} <= {0, 2} or not all_good(*bid, *ask):
            return session.reject("sides that are no price and size", name, number)
        session.heard(state, ts_recv, time)
        if not bid or not ask:
            return session.ignore(f"{channel} of one side")
        sides = (bid[0], bid[1], ask[0], ask[1])
        return (Quote(symbol, name, time, None, ts_recv, source, number, 0, "ws", *sides, None),)

    return parse


def spot_ticker(session: KucoinSession, state: StreamState) -> Parse:
    """`/market/ticker:<s>`: the number is the book's, and is told again with every trade at the same prices."""
    symbol, name, source, channel = state.stream.symbol, state.stream.name, session.session_id, state.stream.channel
    decode = wire.spot_ticker

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data = found.data
        time = ((data.time if data.Time is None else data.Time) or 0) * MS
        if found.topic != name or not EARLY <= ts_recv - time <= PAST:
            return session.reject("another topic" if found.topic != name else "impossible time", name, number)
        sides = (data.bestBid, data.bestBidSize, data.bestAsk, data.bestAskSize)
        text = data.sequence
        if not (text.isascii() and text.isdigit()) or len(text) > 18 or not all_good(*sides):
            return session.reject("not a decimal number", name, number)
        session.heard(state, ts_recv, time)
        if not data.bestBid.strip("0.") or not data.bestAsk.strip("0."):
            return session.ignore(f"{channel} of one side")
        return (Quote(symbol, name, time, None, ts_recv, source, number, 0, "ws", *sides, int(text)),)

    return parse


def ticker(session: KucoinSession, state: StreamState) -> Parse:
    """`/contractMarket/tickerV2:<s>`: sizes in lots, the number is the book's."""
    symbol, name, source, channel = state.stream.symbol, state.stream.name, session.session_id, state.stream.channel
    decode = wire.ticker

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data = found.data
        time = data.ts // 1000
        if found.topic != name or data.symbol != symbol or not EARLY <= ts_recv - time <= PAST:
            return session.reject("another symbol, or an impossible time", name, number)
        bid, bid_qty = wire.amount(data.bestBidPrice), wire.amount(data.bestBidSize)
        ask, ask_qty = wire.amount(data.bestAskPrice), wire.amount(data.bestAskSize)
        if bid is None or bid_qty is None or ask is None or ask_qty is None:
            return session.reject("not a decimal number", name, number)
        session.heard(state, ts_recv, time)
        if not bid.strip("0.") or not ask.strip("0."):
            return session.ignore(f"{channel} of one side")
        return (
            Quote(
                symbol, name, time, None, ts_recv, source, number, 0, "ws", bid, bid_qty, ask, ask_qty, data.sequence
            ),
        )

    return parse
