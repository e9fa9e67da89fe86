"""Parsers of Kraken spot's channels: trades, best levels, candles and pairs. What each yields is a row, or counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from collectors.adapters.reading import BAD_FRAME, EARLIEST, EARLY, PAST, why
from collectors.adapters.streaming import StreamingSession
from collectors.exchanges.kraken import instruments, texts, wire
from collectors.exchanges.kraken.protocol import INSTRUMENT, KrakenSession
from market.kinds import Kline, Quote, Trade
from market.session import EVERY_SYMBOL, Output, Rejected
from market.times import MINUTE, MS

Item = Callable[[KrakenSession, wire.Frame, msgspec.Raw, int, int, int], Sequence[Output]]
"""(session, frame, item, ts_recv, frame_no, place in the frame) -> rows, rejections. Raises BAD_FRAME."""
NOT_COLLECTED: Sequence[Output] = ()


Unread = Callable[[KrakenSession, int, int], Sequence[Output]]
"""(session, ts_recv, frame_no) -> what a frame is to its channel that cannot be read."""


def each(
    item_of: Item, channel: str, unread: Unread = lambda *_: ()
) -> Callable[[KrakenSession, bytes, int, int], Sequence[Output]]:
    """The reader of a channel's frames: a bad item is rejected and the others go on."""

    def read(session: KrakenSession, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.frame(frame)
        except BAD_FRAME as error:
            return [*unread(session, ts_recv, number), *session.reject(why(error), None, number)]
        if found.channel != channel or found.type not in (wire.WHOLE, wire.CHANGE):
            refused = session.reject("another channel, or no known type", None, number)
            return [*unread(session, ts_recv, number), *refused]
        out: list[Output] = []
        for place, raw in enumerate(found.data):
            try:
                out += item_of(session, found, raw, ts_recv, number, place)
            except BAD_FRAME as error:
                out.append(Rejected(why(error), number))
        if out and all(isinstance(one, Rejected) for one in out):
            first = out[0]
            assert isinstance(first, Rejected)
            return [*session.reject(first.reason, first.stream, number), *out[1:]]
        return out or session.ignore(f"{channel} without rows")

    return read


def trade(
    session: KrakenSession, found: wire.Frame, raw: msgspec.Raw, ts_recv: int, number: int, place: int
) -> Sequence[Output]:
    """One trade; those of the whole that a subscription begins with happened before it: their condition is history."""
    data = wire.trade(raw)
    state = session.lane("trade", data.symbol, ts_recv)
    if state is None:
        return NOT_COLLECTED
    name, time = state.stream.name, texts.time(data.timestamp)
    price, qty = texts.number(data.price), texts.number(data.qty)
    past = found.type == wire.WHOLE
    if past and time is not None and EARLIEST <= time < ts_recv - PAST:
        return NOT_COLLECTED  # the last trades of a quiet pair
    if time is None or not EARLY <= ts_recv - time <= PAST:
        return (Rejected("impossible time", number, name),)
    if price is None or qty is None or data.side not in wire.SIDES:
        return (Rejected("not a decimal number, or an unknown side", number, name),)
    (texts.heard_past if past else StreamingSession.heard)(session, state, ts_recv, time)
    condition = "history" if past else "market"
    return (
        Trade(
            data.symbol, name, time, None, ts_recv, session.session_id, number, place, "ws", price, qty, data.side,
            data.trade_id, condition,
        ),
    )  # fmt: skip


def quote(
    session: KrakenSession, found: wire.Frame, raw: msgspec.Raw, ts_recv: int, number: int, place: int
) -> Sequence[Output]:
    """The best levels. The venue numbers no tickers: the id is made of its time, which several may share."""
    data = wire.ticker(raw)
    state = session.lane("ticker", data.symbol, ts_recv)
    if state is None:
        return NOT_COLLECTED
    name, time = state.stream.name, texts.time(data.timestamp)
    if found.type == wire.WHOLE and time is not None and EARLIEST <= time < ts_recv - PAST:
        return NOT_COLLECTED  # nothing has changed for long
    if time is None or not EARLY <= ts_recv - time <= PAST:
        return (Rejected("impossible time", number, name),)
    held = [texts.number(one) for one in (data.bid, data.bid_qty, data.ask, data.ask_qty)]
    numbers = [one for one in held if one is not None]
    if len(numbers) < len(held):
        return (Rejected("not a decimal number", number, name),)
    session.heard(state, ts_recv, time)
    if not all(one.strip("0.") for one in numbers):
        return NOT_COLLECTED  # one side is empty
    bid, bid_qty, ask, ask_qty = numbers
    return (
        Quote(
            data.symbol, name, time, None, ts_recv, session.session_id, number, place, "ws", bid, bid_qty, ask,
            ask_qty, session.stamped.number(name, time),
        ),
    )  # fmt: skip


def kline(
    session: KrakenSession, found: wire.Frame, raw: msgspec.Raw, ts_recv: int, number: int, place: int
) -> Sequence[Output]:
    """The candle before, once the next one of its pair begins: no message says that a candle has closed.

    Its row is of the frame that begins the next one; the values are those that were said last before. What of a whole
    lies further back than live rows may is left out.
    """
    del found
    data = wire.candle(raw)
    spelt = str(data.interval)
    state = session.lane(f"ohlc.{spelt}", data.symbol, ts_recv)
    if state is None or spelt not in wire.INTERVALS:
        return NOT_COLLECTED
    name, opened = state.stream.name, texts.time(data.interval_begin)
    prices = [texts.number(one) for one in (data.open, data.high, data.low, data.close, data.volume)]
    numbers = [one for one in prices if one is not None]
    if opened is None or ts_recv - opened < EARLY:
        return (Rejected("impossible time", number, name),)
    if len(numbers) < len(prices):
        return (Rejected("not a decimal number", number, name),)
    closes = opened + data.interval * MINUTE - MS
    first, high, low, last, volume = numbers
    row = Kline(
        data.symbol, name, closes, None, ts_recv, session.session_id, number, place, "ws", wire.INTERVALS[spelt],
        opened, first, high, low, last, volume, None, data.trades, None, None,
    )  # fmt: skip
    held = session.kept.get(name)
    if isinstance(held, Kline) and opened < held.open_time:
        return NOT_COLLECTED
    session.kept[name] = row
    texts.heard_past(session, state, ts_recv, min(opened, ts_recv))
    closed = isinstance(held, Kline) and held.open_time < opened
    if not closed or not isinstance(held, Kline) or ts_recv - opened > PAST:
        return NOT_COLLECTED
    assert held.ts_event is not None
    if not EARLY <= ts_recv - held.ts_event <= PAST:
        return NOT_COLLECTED
    held.ts_recv, held.frame_no, held.item = ts_recv, number, place
    return (held,)


def pairs(session: KrakenSession, frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
    """The instrument channel: contracts of the pairs that the connection carries, of all where it carries none."""
    try:
        found = wire.instruments(frame)
    except BAD_FRAME as error:
        return session.reject(why(error), INSTRUMENT, number)
    state = session.lane(INSTRUMENT, EVERY_SYMBOL, ts_recv)
    if found.channel != INSTRUMENT or state is None:
        return session.ignore(INSTRUMENT)
    out: list[Output] = []
    for place, raw in enumerate(found.data.pairs):
        try:
            made = instruments.told(session, state, wire.pair(raw), ts_recv, number, place)
        except BAD_FRAME as error:
            out.append(Rejected(why(error), number, INSTRUMENT))
            continue
        out += [made] if made is not None else []
    session.heard(state, ts_recv, session.as_of(ts_recv))
    return out or session.ignore("instrument without rows")
