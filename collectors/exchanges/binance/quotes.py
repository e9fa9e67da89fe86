"""Best bid and ask of Binance frames. Spot gives no time, so its quotes carry the session's clock skew instead."""

from __future__ import annotations

from collectors.exchanges.binance import wire
from collectors.exchanges.binance.protocol import Parse, Parsed, StreamSession
from collectors.exchanges.binance.trades import refuse
from collectors.exchanges.binance.wire import BAD_FRAME, EARLY, FOUR_NUMBERS, PAST
from market.kinds import Quote
from market.session import StreamState
from market.times import MS


def spot_quote(session: StreamSession, state: StreamState) -> Parse:
    """Spot `<s>@bookTicker`: `ts_event` is null and `skew_us` says what to take off the receive time."""
    decode, skew = wire.spot_quote, session.skew
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Parsed:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        bid, bid_qty, ask, ask_qty = data.b, data.B, data.a, data.A
        if data.s != symbol or FOUR_NUMBERS(f"{bid} {bid_qty} {ask} {ask_qty}") is None:
            return refuse(session, state, number, data.s, (bid, bid_qty, ask, ask_qty))
        state.events += 1
        state.last_recv = ts_recv
        off = (skew.value if skew.start <= ts_recv < skew.end else skew.at(ts_recv)) or None
        return Quote(
            symbol, name, None, None, ts_recv, source, number, 0, "ws", bid, bid_qty, ask, ask_qty, data.u, off
        )

    return parse


def futures_quote(session: StreamSession, state: StreamState) -> Parse:
    """Futures `<s>@bookTicker`, with both of the venue's clocks."""
    decode = wire.futures_quote
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Parsed:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        bid, bid_qty, ask, ask_qty, time, publish = data.b, data.B, data.a, data.A, data.T * MS, data.E * MS
        if (
            data.s != symbol
            or not (EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST)
            or FOUR_NUMBERS(f"{bid} {bid_qty} {ask} {ask_qty}") is None
        ):
            return refuse(session, state, number, data.s, (bid, bid_qty, ask, ask_qty))
        if time > session.venue_time:  # noqa: PLR1730 -- calling max costs a tenth of the frame
            session.venue_time = time
        state.events += 1
        state.last_recv = ts_recv
        return Quote(symbol, name, time, publish, ts_recv, source, number, 0, "ws", bid, bid_qty, ask, ask_qty, data.u)

    return parse
