"""Trades and aggregate trades of Binance frames; the side is the taker's (`m`: the buyer was the maker)."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.exchanges.binance import wire
from collectors.exchanges.binance.protocol import Parse, Parsed, StreamSession
from collectors.exchanges.binance.wire import BAD_FRAME, EARLY, MICROSECONDS_FROM, PAST, TWO_NUMBERS
from market.kinds import AggTrade, Trade
from market.session import Output, StreamState
from market.times import MS

CONDITIONS = {"MARKET": "market", "INSURANCE_FUND": "insurance_fund", "ADL": "adl", "NA": "void"}
"""Futures `X` -> condition. NA marks prints that are no fill at all; the venue's candles count MARKET only, and of
these none without price or quantity.
"""


def refuse(
    session: StreamSession, state: StreamState, number: int, symbol: str, texts: Sequence[str]
) -> Sequence[Output]:
    """Why a decoded payload is refused, as a Rejected; asked only when it is."""
    stream = state.stream
    if symbol != stream.symbol:
        reason = "another symbol than its stream's"
    elif not wire.all_good(*texts):
        reason = "not a decimal number"
    else:
        reason = "impossible time"
    return session.reject(reason, stream.name, number)


def spot_trade(session: StreamSession, state: StreamState) -> Parse:
    """`<s>@trade` of spot. Its times feed the session's skew."""
    decode, skew = wire.spot_trade, session.skew.add
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Parsed:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        price, qty, time, publish = data.p, data.q, data.T, data.E
        if time < MICROSECONDS_FROM:
            time *= MS
            publish *= MS
        delay = ts_recv - time
        if (
            data.s != symbol
            or not (EARLY <= delay <= PAST and EARLY <= ts_recv - publish <= PAST)
            or TWO_NUMBERS(f"{price} {qty}") is None
        ):
            return refuse(session, state, number, data.s, (price, qty))
        skew(ts_recv, delay)
        if time > session.venue_time:  # noqa: PLR1730 -- calling max costs a tenth of the frame
            session.venue_time = time
        state.events += 1
        state.last_recv = ts_recv
        side = "sell" if data.m else "buy"
        return Trade(symbol, name, time, publish, ts_recv, source, number, 0, "ws", price, qty, side, data.t, "market")

    return parse


def futures_trade(session: StreamSession, state: StreamState) -> Parse:
    """`<s>@trade` of USD-M and COIN-M: fills of the insurance fund and deleveraging come too, named by `X`."""
    decode, sizes, conditions = wire.futures_trade, session.sizes, CONDITIONS
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Parsed:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        price, qty, time, publish = data.p, data.q, data.T * MS, data.E * MS
        if (
            data.s != symbol
            or not (EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST)
            or TWO_NUMBERS(f"{price} {qty}") is None
        ):
            return refuse(session, state, number, data.s, (price, qty))
        condition = "market" if data.X == "MARKET" else conditions.get(data.X)
        if condition is None:
            return session.reject("unknown trade type X", name, number)
        if (price[0] == "0" and not price.strip("0.")) or (qty[0] == "0" and not qty.strip("0.")):
            condition = "void"
        if time > session.venue_time:  # noqa: PLR1730 -- calling max costs a tenth of the frame
            session.venue_time = time
        state.events += 1
        state.last_recv = ts_recv
        side = "sell" if data.m else "buy"
        return Trade(
                symbol, name, time, publish, ts_recv, source, number, 0, "ws", price, qty, side, data.t, condition,
                None, None, None if sizes is None else sizes[symbol],
        )  # fmt: skip

    return parse


def agg_trade(session: StreamSession, state: StreamState) -> Parse:
    """`<s>@aggTrade` of any market: market trades only. On spot its times feed the session's skew."""
    decode, sizes = wire.agg_trade, session.sizes
    skew = session.skew.add if session.market_type == "spot" else None  # elsewhere every frame has its time
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Parsed:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        price, qty, time, publish = data.p, data.q, data.T, data.E
        if time < MICROSECONDS_FROM:
            time *= MS
            publish *= MS
        delay = ts_recv - time
        if (
            data.s != symbol
            or not (EARLY <= delay <= PAST and EARLY <= ts_recv - publish <= PAST)
            or TWO_NUMBERS(f"{price} {qty}") is None
        ):
            return refuse(session, state, number, data.s, (price, qty))
        if data.f > data.l:
            return session.reject("first trade id after the last", name, number)
        if skew is not None:
            skew(ts_recv, delay)
        if time > session.venue_time:  # noqa: PLR1730 -- calling max costs a tenth of the frame
            session.venue_time = time
        state.events += 1
        state.last_recv = ts_recv
        side = "sell" if data.m else "buy"
        return AggTrade(
                symbol, name, time, publish, ts_recv, source, number, 0, "ws", price, qty, side, data.a, "market",
                None, None, None if sizes is None else sizes[symbol], data.f, data.l,
        )  # fmt: skip

    return parse
