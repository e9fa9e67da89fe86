"""Best bid and ask of Binance frames. Spot gives no time, so its quotes carry the session's clock skew instead."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.exchanges.binance import wire
from collectors.exchanges.binance.protocol import Parse, StreamSession
from collectors.exchanges.binance.trades import refuse
from collectors.exchanges.binance.wire import BAD_FRAME, EARLY, NUMBER, PAST
from market.kinds import Quote
from market.session import Output, StreamState
from market.times import MS


def spot_quote(session: StreamSession, state: StreamState) -> Parse:
    """Spot `<s>@bookTicker`: `ts_event` is null and `skew_us` says what to take off the receive time."""
    decode, number_of, skew = wire.spot_quote, NUMBER, session.skew
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id
    before: tuple[str | None, str | None, str | None, str | None] = (None, None, None, None)

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        nonlocal before
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        bid, bid_qty, ask, ask_qty = data.b, data.B, data.a, data.A
        was_bid, was_bid_qty, was_ask, was_ask_qty = (
            before  # mostly one side changes, and a match costs five times the question
        )
        if (
            data.s != symbol
            or (bid != was_bid and number_of(bid) is None)
            or (bid_qty != was_bid_qty and number_of(bid_qty) is None)
            or (ask != was_ask and number_of(ask) is None)
            or (ask_qty != was_ask_qty and number_of(ask_qty) is None)
        ):
            return refuse(session, state, number, data.s, (bid, bid_qty, ask, ask_qty))
        before = bid, bid_qty, ask, ask_qty
        state.events += 1
        state.last_recv = ts_recv
        off = (skew.value if skew.start <= ts_recv < skew.end else skew.at(ts_recv)) or None
        return (
            Quote(
                symbol, name, None, None, ts_recv, source, number, 0, "ws", bid, bid_qty, ask, ask_qty, data.u, off
            ),
        )  # fmt: skip

    return parse


def futures_quote(session: StreamSession, state: StreamState) -> Parse:
    """Futures `<s>@bookTicker`, with both of the venue's clocks."""
    decode, number_of = wire.futures_quote, NUMBER
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id
    before: tuple[str | None, str | None, str | None, str | None] = (None, None, None, None)

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        nonlocal before
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        bid, bid_qty, ask, ask_qty, time, publish = data.b, data.B, data.a, data.A, data.T * MS, data.E * MS
        was_bid, was_bid_qty, was_ask, was_ask_qty = before
        if (
            data.s != symbol
            or not (EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST)
            or (bid != was_bid and number_of(bid) is None)
            or (bid_qty != was_bid_qty and number_of(bid_qty) is None)
            or (ask != was_ask and number_of(ask) is None)
            or (ask_qty != was_ask_qty and number_of(ask_qty) is None)
        ):
            return refuse(session, state, number, data.s, (bid, bid_qty, ask, ask_qty))
        before = bid, bid_qty, ask, ask_qty
        if time > session.venue_time:  # noqa: PLR1730 -- calling max costs a tenth of the frame
            session.venue_time = time
        state.events += 1
        state.last_recv = ts_recv
        return (
            Quote(symbol, name, time, publish, ts_recv, source, number, 0, "ws", bid, bid_qty, ask, ask_qty, data.u),
        )

    return parse
