"""What only OKX's derivatives stream: mark prices with the estimated funding rate, open interest, forced orders."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, TWO_NUMBERS, all_good, why
from collectors.exchanges.okx import wire
from collectors.exchanges.okx.protocol import OkxSession, Parse
from market.kinds import Liquidation, MarkPrice, OpenInterest
from market.numbers import is_decimal
from market.session import Output, Rejected, StreamState

CONTRACT = "contract"
ONE_SIDE = 1
"""A contract is counted once."""


def mark_price(session: OkxSession, state: StreamState) -> Parse:
    """`mark-price`, with what `funding-rate` has said of a perpetual: the estimate, until its time has come."""
    stream, source = state.stream, session.session_id
    symbol, name, decode = stream.symbol, stream.name, wire.marks

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        out: list[Output] = []
        for item, data in enumerate(found.data):
            time = wire.time_of(data.ts)
            if found.arg.channel != stream.channel or found.arg.instId != symbol or data.instId != symbol:
                return session.reject("another symbol than its stream's", name, number)
            if not EARLY <= ts_recv - time <= PAST:
                return session.reject("impossible time", name, number)
            if not all_good(data.markPx):
                return session.reject("not a decimal number", name, number)
            session.heard(state, ts_recv, time)
            rate, due = session.rates.get(symbol, (None, None))
            if due is not None and due <= time:
                rate = due = None
            out.append(
                MarkPrice(symbol, name, time, None, ts_recv, source, number, item, "ws", data.markPx, None, rate, due)
            )
        return out or session.ignore(f"{stream.channel} without marks")

    return parse


def funding_rate(session: OkxSession, state: StreamState) -> Parse:
    """`funding-rate`: what will be settled, and when. It is told with the next mark; settled rates are asked for."""
    stream = state.stream
    symbol, name, decode = stream.symbol, stream.name, wire.rates

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        for data in found.data:
            due, time = wire.time_of(data.fundingTime), wire.time_of(data.ts)
            if found.arg.channel != stream.channel or found.arg.instId != symbol or data.instId != symbol:
                return session.reject("another symbol than its stream's", name, number)
            if not EARLY <= ts_recv - time <= PAST or not -PAST <= due - ts_recv <= PAST:
                return session.reject("impossible time", name, number)
            if not is_decimal(data.fundingRate):
                return session.reject("not a decimal number", name, number)
            session.heard(state, ts_recv, time)
            session.rates[symbol] = (data.fundingRate, due)
        return session.ignore(f"{stream.channel} kept for the mark")

    return parse


def open_interest(session: OkxSession, state: StreamState) -> Parse:
    """`open-interest`: contracts, each counted once; what they are worth in USD is the quote of inverse ones only."""
    stream, source, inverse = state.stream, session.session_id, session.market_type == "inverse"
    symbol, name, decode = stream.symbol, stream.name, wire.interests

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        out: list[Output] = []
        for item, data in enumerate(found.data):
            time = wire.time_of(data.ts)
            if found.arg.channel != stream.channel or found.arg.instId != symbol or data.instId != symbol:
                return session.reject("another symbol than its stream's", name, number)
            if not EARLY <= ts_recv - time <= PAST:
                return session.reject("impossible time", name, number)
            if not all_good(data.oi, data.oiCcy) or (data.oiUsd and not all_good(data.oiUsd)):
                return session.reject("not a decimal number", name, number)
            session.heard(state, ts_recv, time)
            worth = data.oiUsd or None
            out.append(
                OpenInterest(
                    symbol, name, time, None, ts_recv, source, number, item, "ws", data.oi, CONTRACT, ONE_SIDE,
                    data.oiCcy, worth if inverse else None,
                )
            )  # fmt: skip
        return out or session.ignore(f"{stream.channel} without rows")

    return parse


def liquidation(session: OkxSession, state: StreamState) -> Parse:
    """`liquidation-orders` of a type: of instruments that are not known here, other markets' among them, nothing.

    No ids, and not all orders. The first frame repeats what happened before.
    """
    stream = state.stream
    name, kind = stream.name, stream.name.partition(":")[2]

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.forceds(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        if found.arg.channel != stream.channel or found.arg.instType != kind:
            return session.reject("another type than its stream's", name, number)
        out: list[Output] = []
        newest = 0
        for raw in found.data:
            try:
                told = wire.forced_of(raw)
            except BAD_FRAME as error:
                out.append(Rejected(why(error), number, name))
                continue
            size = (session.sizes or {}).get(told.instId)
            if size is None:
                continue
            for one in told.details:
                made = _forced(session, state, told.instId, size, bytes(one), (ts_recv, number, len(out)))
                out.append(made)
                if isinstance(made, Liquidation):
                    newest = max(newest, made.ts_event or 0)
        if newest:
            session.begun(state, ts_recv, newest)
        return out or session.ignore(f"{stream.channel} of others")

    return parse


def _forced(
    session: OkxSession, state: StreamState, symbol: str, size: str, raw: bytes, place: tuple[int, int, int]
) -> Liquidation | Rejected:
    ts_recv, number, item = place
    name = state.stream.name
    try:
        data = wire.forced(raw)
    except BAD_FRAME as error:
        return Rejected(why(error), number, name)
    time = wire.time_of(data.ts)
    if not EARLY <= ts_recv - time <= PAST:
        return Rejected("impossible time", number, name)
    if data.side not in wire.SIDES or TWO_NUMBERS(f"{data.bkPx} {data.sz}") is None:
        return Rejected("unknown side, or no decimal number", number, name)
    return Liquidation(
        symbol, name, time, None, ts_recv, session.session_id, number, item, "ws", data.side, data.bkPx, None, data.sz,
        None, CONTRACT, size,
    )  # fmt: skip
