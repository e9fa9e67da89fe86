"""Trades of KuCoin frames. The side is the taker's. Ids ascend and do not follow by one, so our rows hold texts."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, all_good, why
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.protocol import KucoinSession, Parse
from market.kinds import Trade
from market.session import Output, StreamState

ID_LIMIT = 64


def _wrong(symbol: str, wanted: str, delay: int, side: str, name: str) -> str | None:
    """Why a fill cannot be a row."""
    if symbol != wanted:
        return "another symbol than its topic's"
    if not EARLY <= delay <= PAST:
        return "impossible time"
    if side not in wire.SIDES:
        return "unknown side"
    return None if 0 < len(name) <= ID_LIMIT and name.isascii() and name.isprintable() else "no id"


def match(session: KucoinSession, state: StreamState) -> Parse:
    """`/market/match:<s>`: quantities in base."""
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id
    decode = wire.match

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data = found.data
        time = wire.nanos(data.time)
        if found.topic != name or not all_good(data.price, data.size):
            return session.reject("another topic, or not a decimal number", name, number)
        wrong = _wrong(data.symbol, symbol, ts_recv - time, data.side, data.tradeId)
        if wrong is not None:
            return session.reject(wrong, name, number)
        session.heard(state, ts_recv, time)
        return (
            Trade(
                symbol, name, time, None, ts_recv, source, number, 0, "ws", data.price, data.size, data.side, None,
                "market", data.tradeId,
            ),
        )  # fmt: skip

    return parse


def execution(session: KucoinSession, state: StreamState) -> Parse:
    """`/contractMarket/execution:<s>`: quantities in lots, whose worth is the listing's."""
    symbol, name, source, worth = state.stream.symbol, state.stream.name, session.session_id, session.multipliers
    decode = wire.execution

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data = found.data
        time, price, size = data.ts // 1000, wire.amount(data.price), wire.amount(data.size)
        if found.topic != name or price is None or size is None:
            return session.reject("another topic, or not a decimal number", name, number)
        wrong = _wrong(data.symbol, symbol, ts_recv - time, data.side, data.tradeId)
        if wrong is not None:
            return session.reject(wrong, name, number)
        multiplier = worth.get(symbol)
        if multiplier is None:
            return session.reject("what a lot is worth is not known", name, number)
        session.heard(state, ts_recv, time)
        return (
            Trade(
                symbol, name, time, None, ts_recv, source, number, 0, "ws", price, size, data.side, None, "market",
                data.tradeId, "contract", multiplier,
            ),
        )  # fmt: skip

    return parse
