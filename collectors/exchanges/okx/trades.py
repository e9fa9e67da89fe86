"""Trades of OKX frames. The side is the taker's. Ids of an instrument follow each other by one.

`trades-all` tells every fill: those are trades. `trades` puts the fills of one taker order at one price together, the
last id and their count: those are aggregates of the ids `tradeId` - `count` + 1 to `tradeId`.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, TWO_NUMBERS, why
from collectors.exchanges.okx import wire
from collectors.exchanges.okx.protocol import OkxSession, Parse
from market.kinds import AggTrade, Trade
from market.session import Output, Rejected, StreamState
from market.times import SECOND

CONDITIONS = {"0": "market", "1": "rpi"}
"""`source` -> condition."""
HISTORY = "history"
LAST_ID = 2**62
UNSIZED = "what one contract is worth is not known yet"


def _id(text: str) -> int:
    """-1 for what is no id."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1


def _wrong(data: wire.TradeItem, symbol: str, ts_recv: int) -> str | None:
    """Why an item cannot be a row."""
    if data.instId != symbol:
        return "another symbol than its stream's"
    if not EARLY <= ts_recv - wire.time_of(data.ts) <= PAST:
        return "impossible time"
    if TWO_NUMBERS(f"{data.px} {data.sz}") is None:
        return "not a decimal number"
    if data.side not in wire.SIDES:
        return "unknown side"
    if data.source not in CONDITIONS:
        return "unknown source"
    return None if 0 < _id(data.count) <= _id(data.tradeId) < LAST_ID else "no id, or a count that is none"


def trade(session: OkxSession, state: StreamState) -> Parse:
    """`trades-all`: every fill.

    The first frame may tell the last trade before the subscription: it is history, which no bar counts, unless the
    merger has seen the symbol before.
    """
    return _parser(session, state, aggregated=False)


def agg_trade(session: OkxSession, state: StreamState) -> Parse:
    """`trades`: the id of an aggregate is that of its last trade, which follows that of the one before by its count.

    The first frame tells the last one again, as with `trade`.
    """
    return _parser(session, state, aggregated=True)


def _parser(session: OkxSession, state: StreamState, *, aggregated: bool) -> Parse:
    """A bad item is rejected and the others go on."""
    stream, source, sizes = state.stream, session.session_id, session.sizes
    symbol, name, conditions = stream.symbol, stream.name, CONDITIONS

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.trades(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        if found.arg.channel != stream.channel or found.arg.instId != symbol:
            return session.reject("another symbol than its stream's", name, number)
        size = None if sizes is None else sizes.get(symbol)
        if size is None and sizes is not None:
            return (Rejected(UNSIZED, number, name),)
        unit = None if size is None else "contract"
        before = 0 if state.events else (state.acknowledged_at or state.desired_at) - SECOND
        out: list[Output] = []
        newest = 0
        for item, data in enumerate(found.data):
            if (wrong := _wrong(data, symbol, ts_recv)) is not None:
                out.append(Rejected(wrong, number, name))
                continue
            time, last = wire.time_of(data.ts), int(data.tradeId)
            newest = max(newest, time)
            condition = HISTORY if time < before else conditions[data.source]
            if aggregated:
                row: Output = AggTrade(
                    symbol, name, time, None, ts_recv, source, number, item, "ws", data.px, data.sz, data.side, None,
                    condition, data.tradeId, unit, size, last - int(data.count) + 1, last,
                )  # fmt: skip
            else:
                row = Trade(
                    symbol, name, time, None, ts_recv, source, number, item, "ws", data.px, data.sz, data.side, last,
                    condition, None, unit, size,
                )  # fmt: skip
            out.append(row)
        if newest:
            session.begun(state, ts_recv, newest)
        return out or session.ignore(f"{stream.channel} without trades")

    return parse
