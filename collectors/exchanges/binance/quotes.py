"""Best bid and ask of Binance frames. Spot gives no time, so its quotes carry the session's clock skew instead."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.exchanges.binance import wire
from collectors.exchanges.binance.protocol import Parse, StreamSession
from collectors.exchanges.binance.trades import refuse
from collectors.exchanges.binance.wire import BAD_FRAME, EARLY, PAST
from market.kinds import Quote
from market.session import Output, StreamState
from market.times import MS


def spot_quote(session: StreamSession, state: StreamState) -> Parse:
    """Spot `<s>@bookTicker`: `ts_event` is null and `skew_us` says what to take off the receive time."""
    decode, known, all_good, skew = wire.spot_quote, session.texts.known, session.texts.all_good, session.skew.at
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        bid, bid_qty, ask, ask_qty = data.b, data.B, data.a, data.A
        if data.s != symbol or not (
            (bid in known and ask in known and bid_qty in known and ask_qty in known)
            or all_good(bid, bid_qty, ask, ask_qty)
        ):
            return refuse(session, state, number, data.s, (bid, bid_qty, ask, ask_qty))
        state.events += 1
        state.last_recv = ts_recv
        off = skew(ts_recv) or None
        return (
            Quote(
                symbol, name, None, None, ts_recv, source, number, 0, "ws", bid, bid_qty, ask, ask_qty, data.u, off
            ),
        )  # fmt: skip

    return parse


def futures_quote(session: StreamSession, state: StreamState) -> Parse:
    """Futures `<s>@bookTicker`, with both of the venue's clocks."""
    decode, known, all_good = wire.futures_quote, session.texts.known, session.texts.all_good
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        bid, bid_qty, ask, ask_qty, time, publish = data.b, data.B, data.a, data.A, data.T * MS, data.E * MS
        if (
            data.s != symbol
            or not (EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST)
            or not (
                (bid in known and ask in known and bid_qty in known and ask_qty in known)
                or all_good(bid, bid_qty, ask, ask_qty)
            )
        ):
            return refuse(session, state, number, data.s, (bid, bid_qty, ask, ask_qty))
        if time > session.venue_time:  # noqa: PLR1730 -- calling max costs a tenth of the frame
            session.venue_time = time
        state.events += 1
        state.last_recv = ts_recv
        return (
            Quote(symbol, name, time, publish, ts_recv, source, number, 0, "ws", bid, bid_qty, ask, ask_qty, data.u),
        )

    return parse
