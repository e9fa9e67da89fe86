"""What USD-M and COIN-M share: mark prices, forced orders, contract changes, and the table of their channels."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collectors.exchanges.binance import books, klines, payloads, quotes, trades, wire
from collectors.exchanges.binance.protocol import Channel, Parse, StreamSession
from collectors.exchanges.binance.wire import BAD_FRAME, EARLY, PAST
from market.instruments import MARKET_SIZING
from market.kinds import Contract, Liquidation, MarkPrice
from market.numbers import is_decimal
from market.session import Output, StreamState
from market.times import MINUTE, MS

PUBLIC, MARKET = "public", "market"
"""The two routed paths: each serves its channels, and acknowledges the others' without ever sending them."""
SIDES = {"BUY": "buy", "SELL": "sell"}
PERPETUAL_DELIVERY = 4_000_000_000_000
"""A delivery date (ms) at or above this is the venue's way to say never."""


def mark_price(session: StreamSession, state: StreamState) -> Parse:
    """`<s>@markPrice[@1s]`. The rate is the current estimate; `T` is the next funding's time, no time of the event."""
    decode, all_good = payloads.mark_price, session.texts.all_good
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        time, index, rate = data.E * MS, data.i or None, data.r or None
        if data.s != symbol or not EARLY <= ts_recv - time <= PAST:
            return trades.refuse(session, state, number, data.s, ())
        if not all_good(data.p) or (index and not is_decimal(index)) or (rate and not is_decimal(rate)):
            return session.reject("not a decimal number", name, number)
        session.heard(state, ts_recv, time)
        funding = wire.to_us(data.T) if data.T else None
        return (MarkPrice(symbol, name, time, None, ts_recv, source, number, 0, "ws", data.p, index, rate, funding),)

    return parse


def liquidation(session: StreamSession, state: StreamState) -> Parse:
    """`<s>@forceOrder`: at most one order a symbol and second, none with an id. The side is the order's."""
    decode, all_good, sizes = payloads.force_order, session.texts.all_good, session.sizes
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        order = data.o
        time, publish, side = order.T * MS, data.E * MS, SIDES.get(order.S)
        numbers = (order.q, order.p) if order.ap is None else (order.q, order.p, order.ap)
        timed = EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST
        if order.s != symbol or not timed or not all_good(*numbers):
            return trades.refuse(session, state, number, order.s, numbers)
        if side is None:
            return session.reject("unknown side S", name, number)
        session.heard(state, ts_recv, time)
        size = None if sizes is None else sizes[symbol]
        return (
            Liquidation(
                symbol, name, time, publish, ts_recv, source, number, 0, "ws", side, order.p, order.ap, order.q,
                None, None, size,
            ),
        )  # fmt: skip

    return parse


def contract_info(session: StreamSession, state: StreamState) -> Parse:
    """`!contractInfo`: a change of one contract, over what the reference data said of it.

    The frame itself names no currencies and no steps: where the instrument is not known they stay null.
    """
    decode, name, source, market = payloads.contract_info, state.stream.name, session.session_id, session.market_type

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        time = data.E * MS
        if not EARLY <= ts_recv - time <= PAST:
            return session.reject("impossible time", name, number)
        if not data.s or not data.cs:
            return session.reject("a contract without symbol or status", name, number)
        session.heard(state, ts_recv, time)
        listed = data.ot * MS if data.ot else None
        expiry = data.dt * MS if data.dt and data.dt < PERPETUAL_DELIVERY else None
        known = session.contracts.get(data.s)
        if known is not None:
            changed = msgspec.structs.replace(
                known, stream=name, ts_event=time, ts_recv=ts_recv, session=source, frame_no=number, item=0,
                source="ws", status=data.cs, listed=listed or known.listed, expiry=expiry, known_from=ts_recv,
            )  # fmt: skip
            return (changed,)
        return (
            Contract(
                data.s, name, time, None, ts_recv, source, number, 0, "ws", contract_uid(market, data.s, listed),
                unified=None, base=None, quote=None, settle=None, tick=None, lot=None,
                multiplier=MARKET_SIZING[market].multiplier if session.sizes is None else session.sizes.get(data.s),
                contract_size=None, status=data.cs, listed=listed, expiry=expiry, funding_interval_s=None,
                valid_from=listed, valid_to=None, known_from=ts_recv, known_to=None,
            ),
        )  # fmt: skip

    return parse


def contract_uid(market_type: str, symbol: str, listed: int | None) -> str:
    """What tells a listing of a ticker from the next one: its time of listing (us), where the venue says it."""
    return f"binance:{market_type}:{symbol}" + (f":{listed}" if listed else "")


def _channels() -> tuple[dict[str, Channel], dict[str, str]]:
    """(channels by name, channel -> path). Of the channels of one kind the first is the one offered."""
    served = {
        PUBLIC: [
            Channel("trade", "trade", contiguous=True, max_silence=None, maker=trades.futures_trade),
            Channel("bookTicker", "quote", contiguous=False, max_silence=MINUTE, maker=quotes.futures_quote),
            *(
                Channel(f"depth{speed}", "book_delta", contiguous=True, max_silence=MINUTE, maker=books.futures_delta)
                for speed in ("@100ms", "", "@500ms", "@0ms")
            ),
            *(
                Channel(
                    f"depth{levels}{speed}", "book_snapshot", contiguous=False, max_silence=MINUTE,
                    maker=books.futures_book,
                )
                for levels in (20, 10, 5)
                for speed in ("@100ms", "", "@500ms")
            ),
        ],
        MARKET: [
            Channel("aggTrade", "agg_trade", contiguous=True, max_silence=None, maker=trades.agg_trade),
            *(
                Channel(f"markPrice{speed}", "mark_price", contiguous=False, max_silence=MINUTE, maker=mark_price)
                for speed in ("@1s", "")
            ),
            *(
                Channel(f"kline_{interval}", "kline", contiguous=False, max_silence=None, maker=klines.kline)
                for interval in klines.INTERVALS
                if interval != "1s"
            ),
            Channel(
                "forceOrder", "liquidation", contiguous=False, max_silence=None, maker=liquidation, sparse=True,
                symbol_at="order",
            ),
            Channel(
                "!contractInfo", "contract", contiguous=False, max_silence=None, maker=contract_info, sparse=True
            ),
        ],
    }  # fmt: skip
    paths = {channel.name: path for path, held in served.items() for channel in held}
    return {channel.name: channel for held in served.values() for channel in held}, paths


CHANNELS, PATHS = _channels()
