"""What USD-M and COIN-M share: mark prices, forced orders, contract changes, and the table of their channels."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from collectors.exchanges.binance import books, klines, payloads, quotes, trades, wire
from collectors.exchanges.binance.protocol import Channel, Parse, StreamSession
from collectors.exchanges.binance.wire import BAD_FRAME, EARLY, PAST
from market.instruments import MARKET_SIZING
from market.kinds import Contract, Liquidation, MarkPrice
from market.numbers import is_decimal
from market.session import EVERY_SYMBOL, Output, Rejected, StreamState
from market.times import MINUTE, MS

PUBLIC, MARKET = "public", "market"
"""The two routed paths: each serves its channels, and acknowledges the others' without ever sending them."""
SIDES = {"BUY": "buy", "SELL": "sell"}
PERPETUAL_DELIVERY = 4_000_000_000_000
"""A delivery date (ms) at or above this is the venue's way to say never."""


_COIN_M = re.compile(r".+USD_(?:PERP|[0-9]{6})").fullmatch
_LONGEST_SYMBOL = 64


def of_market(session: StreamSession, symbol: str) -> bool:
    """Whether a symbol of an all-market stream is this market's: since 2026-06 both hosts send those of both."""
    if symbol in session.contracts:
        return True
    return (_COIN_M(symbol) is not None) == (session.market_type == "inverse")


def _good_symbol(symbol: str) -> bool:
    return 0 < len(symbol) <= _LONGEST_SYMBOL and symbol == symbol.upper()


def _mark(
    session: StreamSession, name: str, data: payloads.MarkPrice, ts_recv: int, number: int, item: int
) -> MarkPrice | Rejected:
    """A mark price of a symbol that is known to be right."""
    time, index, rate = data.E * MS, data.i or None, data.r or None
    if not EARLY <= ts_recv - time <= PAST:
        return Rejected("impossible time", number, name)
    good = wire.all_good(data.p) and (index is None or wire.all_good(index))
    if not good or not (rate is None or is_decimal(rate)):
        return Rejected("not a decimal number", number, name)
    funding = wire.to_us(data.T) if data.T else None
    if funding is not None and funding >= wire.LAST:
        return Rejected("impossible time", number, name)
    return MarkPrice(
        data.s, name, time, None, ts_recv, session.session_id, number, item, "ws", data.p, index, rate, funding
    )


def mark_price(session: StreamSession, state: StreamState) -> Parse:
    """`<s>@markPrice[@1s]`. The rate is the current estimate; `T` is the next funding's time, no time of the event."""
    decode, symbol, name = payloads.mark_price, state.stream.symbol, state.stream.name

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        if data.s != symbol:
            return session.reject("another symbol than its stream's", name, number)
        made = _mark(session, name, data, ts_recv, number, 0)
        if isinstance(made, Rejected):
            return session.reject(made.reason, name, number)
        session.heard(state, ts_recv, data.E * MS)
        return (made,)

    return parse


def mark_prices(session: StreamSession, state: StreamState) -> Parse:
    """`!markPrice@arr[@1s]`: all symbols together; a bad item is rejected and the others go on."""
    name = state.stream.name

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            items = payloads.mark_prices(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        out: list[Output] = []
        for item, raw in enumerate(items):
            try:
                data = payloads.one_mark(raw)
            except BAD_FRAME as error:
                out.append(Rejected(wire.why(error), number, name))
                continue
            if not _good_symbol(data.s):
                out.append(Rejected("no symbol", number, name))
            elif of_market(session, data.s):
                out.append(_mark(session, name, data, ts_recv, number, item))
        good = [made for made in out if isinstance(made, MarkPrice)]
        if good:
            session.heard(state, ts_recv, max(made.ts_event or 0 for made in good))
        return out or session.ignore(f"{name} of another market")

    return parse


def liquidation(session: StreamSession, state: StreamState) -> Parse:
    """`<s>@forceOrder`, `!forceOrder@arr`: at most one order a symbol and second, none with an id; the order's side."""
    decode, all_good, sizes = payloads.force_order, wire.all_good, session.sizes
    own, name, source = state.stream.symbol, state.stream.name, session.session_id

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        order = data.o
        symbol = own if own != EVERY_SYMBOL else order.s
        time, publish, side = order.T * MS, data.E * MS, SIDES.get(order.S)
        numbers = (order.q, order.p) if order.ap is None else (order.q, order.p, order.ap)
        timed = EARLY <= ts_recv - time <= PAST and EARLY <= ts_recv - publish <= PAST
        if order.s != symbol or not _good_symbol(symbol):
            return session.reject("another symbol than its stream's", name, number)
        if not timed or not all_good(*numbers):
            return session.reject("not a decimal number" if timed else "impossible time", name, number)
        if side is None:
            return session.reject("unknown side S", name, number)
        if own == EVERY_SYMBOL and not of_market(session, symbol):
            return session.ignore(f"{name} of another market")
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
        listed = data.ot * MS if data.ot else None
        if not EARLY <= ts_recv - time <= PAST or (listed or 0) >= wire.LAST:
            return session.reject("impossible time", name, number)
        if not _good_symbol(data.s) or not data.cs:
            return session.reject("a contract without symbol or status", name, number)
        if not of_market(session, data.s):
            return session.ignore(f"{name} of another market")
        session.heard(state, ts_recv, time)
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
                Channel(f"!markPrice@arr{speed}", "mark_price", contiguous=False, max_silence=MINUTE, maker=mark_prices)
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
                "!forceOrder@arr", "liquidation", contiguous=False, max_silence=None, maker=liquidation, sparse=True
            ),
            Channel(
                "!contractInfo", "contract", contiguous=False, max_silence=None, maker=contract_info, sparse=True
            ),
        ],
    }  # fmt: skip
    paths = {channel.name: path for path, held in served.items() for channel in held}
    return {channel.name: channel for held in served.values() for channel in held}, paths


CHANNELS, PATHS = _channels()
