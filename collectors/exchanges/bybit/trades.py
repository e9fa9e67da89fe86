"""Trades of Bybit frames. The side is the taker's. Ids of no market follow by one, so they are texts in our rows."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, NUMBER, PAST, why
from collectors.exchanges.bybit import wire
from collectors.exchanges.bybit.protocol import BybitSession, Parse
from market.kinds import Trade
from market.session import Output, Rejected, StreamState
from market.times import MS

ID_LIMIT = 64


def _wrong(data: wire.TradeItem, symbol: str, ts_recv: int) -> str | None:
    """Why an item cannot be a row."""
    if data.s != symbol:
        return "another symbol than its topic's"
    if not EARLY <= ts_recv - data.T * MS <= PAST:
        return "impossible time"
    if NUMBER(data.p) is None or NUMBER(data.v) is None:
        return "not a decimal number"
    if data.S not in wire.SIDES:
        return "unknown side S"
    return None if 0 < len(data.i) <= ID_LIMIT and data.i.isascii() and data.i.isprintable() else "no id"


def trade(session: BybitSession, state: StreamState) -> Parse:
    """`publicTrade.<s>`: a bad item is rejected and the others go on."""
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id
    frame_of, item_of, sides = wire.trades, wire.trade, wire.SIDES

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = frame_of(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        publish, newest = found.ts * MS, 0
        if found.topic != name or not EARLY <= ts_recv - publish <= PAST:
            return session.reject("another topic or an impossible time", name, number)
        out: list[Output] = []
        for item, raw in enumerate(found.data):
            try:
                data = item_of(raw)
            except BAD_FRAME as error:
                out.append(Rejected(why(error), number, name))
                continue
            if (wrong := _wrong(data, symbol, ts_recv)) is not None:
                out.append(Rejected(wrong, number, name))
                continue
            time = data.T * MS
            newest = max(newest, time)
            condition = "block" if data.BT else "rpi" if data.RPI else "market"
            out.append(
                Trade(
                    symbol, name, time, publish, ts_recv, source, number, item, "ws", data.p, data.v, sides[data.S],
                    None, condition, data.i,
                )
            )  # fmt: skip
        if newest:
            session.heard(state, ts_recv, newest)
        return out or session.ignore("publicTrade without trades")

    return parse
