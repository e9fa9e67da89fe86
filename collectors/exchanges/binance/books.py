"""Order books of Binance frames: diffs as `book_delta`, partial depth as `book_snapshot`; levels stay verbatim.

Spot diffs chain by `U` = `u` + 1 of the event before, futures diffs by `pu` = its `u` only. A futures snapshot looks
like a diff, so only the stream's name tells them apart; a spot snapshot has neither symbol nor time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from collectors.exchanges.binance import payloads, wire
from collectors.exchanges.binance.payloads import good_levels
from collectors.exchanges.binance.protocol import Parse, Parsed, StreamSession
from collectors.exchanges.binance.wire import BAD_FRAME, EARLY, MICROSECONDS_FROM, PAST
from market.kinds import BookDelta, BookSnapshot
from market.session import Output, StreamState
from market.times import MS

_DEPTH = re.compile(r"depth([0-9]{1,4})(?:@.*)?")


def _refuse(session: StreamSession, state: StreamState, number: int, symbol: str, *, levels: bool) -> Sequence[Output]:
    """Why a decoded book is refused; asked only when it is."""
    if symbol != state.stream.symbol:
        reason = "another symbol than its stream's"
    else:
        reason = "impossible time" if levels else "levels that are no [price, quantity] texts"
    return session.reject(reason, state.stream.name, number)


def spot_delta(session: StreamSession, state: StreamState) -> Parse:
    """Spot `<s>@depth[@100ms]`. Its one clock is the publisher's; it feeds the session's skew."""
    decode, skew, chain = payloads.spot_depth, session.skew.add, session.books.follow(state)
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Parsed:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        time = data.E
        if time < MICROSECONDS_FROM:
            time *= MS
        delay = ts_recv - time
        good = good_levels(data.b, data.a)
        if data.s != symbol or not good or not EARLY <= delay <= PAST:
            return _refuse(session, state, number, data.s, levels=good)
        if data.u < data.U:
            return session.reject("first update id after the last", name, number)
        skew(ts_recv, delay)
        if time > session.venue_time:  # noqa: PLR1730 -- as `heard`, without two calls
            session.venue_time = time
        state.events += 1
        state.last_recv = ts_recv
        return BookDelta(
            symbol, name, time, None, ts_recv, source, number, 0, "ws", data.b, data.a, data.U, data.u, None, None,
            chain(data.U, data.u, None),
        )  # fmt: skip

    return parse


def futures_delta(session: StreamSession, state: StreamState) -> Parse:
    """Futures `<s>@depth[@…ms]`, with both clocks and the id of the event before."""
    decode, chain = payloads.futures_depth, session.books.follow(state)
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Parsed:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        time, publish = data.T * MS, data.E * MS
        good = good_levels(data.b, data.a)
        timed = EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST
        if data.s != symbol or not good or not timed:
            return _refuse(session, state, number, data.s, levels=good)
        if data.u < data.U:  # `pu` may be anything: a real frame was seen whose `pu` lies after its `u`
            return session.reject("first update id after the last", name, number)
        session.heard(state, ts_recv, time)
        return BookDelta(
            symbol, name, time, publish, ts_recv, source, number, 0, "ws", data.b, data.a, data.U, data.u, data.pu,
            None, chain(data.U, data.u, data.pu),
        )  # fmt: skip

    return parse


def _levels_of(channel: str) -> int:
    """How many levels a side a partial-depth channel promises: 20 for `depth20@100ms`."""
    match = _DEPTH.fullmatch(channel)
    assert match is not None, f"{channel} is no channel of partial depth"
    return int(match[1])


def spot_book(session: StreamSession, state: StreamState) -> Parse:
    """Spot `<s>@depth<N>[@100ms]`: its symbol is the stream's, its time the receive time less the session's skew."""
    decode, skew, depth = payloads.spot_book, session.skew.at, _levels_of(state.stream.channel)
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Parsed:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        if not good_levels(data.bids, data.asks):
            return _refuse(session, state, number, symbol, levels=False)
        session.heard(state, ts_recv, 0)
        return BookSnapshot(
            symbol, name, None, None, ts_recv, source, number, 0, "ws", data.bids, data.asks, data.lastUpdateId,
            depth, skew(ts_recv) or None,
        )  # fmt: skip

    return parse


def futures_book(session: StreamSession, state: StreamState) -> Parse:
    """Futures `<s>@depth<N>[@…ms]`: the shape of a diff, the meaning of a snapshot."""
    decode, depth = payloads.futures_depth, _levels_of(state.stream.channel)
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Parsed:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        time, publish = data.T * MS, data.E * MS
        good = good_levels(data.b, data.a)
        timed = EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST
        if data.s != symbol or not good or not timed:
            return _refuse(session, state, number, data.s, levels=good)
        session.heard(state, ts_recv, time)
        return BookSnapshot(
            symbol, name, time, publish, ts_recv, source, number, 0, "ws", data.b, data.a, data.u, depth
        )  # fmt: skip

    return parse
