"""Trades of Coinbase frames; the side is turned into the taker's.

Ids of spot follow each other by one for each product. That those of US futures do is said nowhere: they are names.
Inside a message the newest comes first: rows come in the order of ids, or the other way round. The 100 trades that a
subscription begins with are history where nothing of the product was collected before; after an interruption they fill
it, as ordinary trades.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, NUMBER, PAST, why
from collectors.exchanges.coinbase import wire
from collectors.exchanges.coinbase.protocol import UNSIZED, CoinbaseSession, Parse
from market.kinds import Trade
from market.session import Output, Rejected

CHANNEL = "market_trades"
ID_DIGITS, ID_LENGTH = 18, 64


def _read(raw: bytes, ts_recv: int, *, numbered: bool) -> tuple[wire.TradeItem, int] | str:
    """(item, its time), or why it cannot be a row."""
    try:
        found = wire.trade(raw)
    except BAD_FRAME as error:
        return why(error)
    time = wire.micros(found.time)
    if time is None or ts_recv - time < EARLY:
        return "impossible time"
    if NUMBER(found.price) is None or NUMBER(found.size) is None:
        return "not a decimal number"
    if found.side not in wire.TAKER:
        return "unknown side"
    name = found.trade_id
    if numbered:
        good = name.isascii() and name.isdigit() and len(name) <= ID_DIGITS
    else:
        good = 0 < len(name) <= ID_LENGTH and name.isascii() and name.isprintable()
    return (found, time) if good else "no id"


def trade(session: CoinbaseSession) -> Parse:
    """`market_trades` of all products of the connection: a bad item is rejected and the others go on."""
    source, channel, sizes = session.session_id, session.channel(CHANNEL), session.sizes

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.trades(frame)
        except BAD_FRAME as error:
            return session.not_read(frame, error, number)
        after = session.follow(found.sequence_num, number)
        publish = wire.micros(found.timestamp)
        if found.channel != CHANNEL or publish is None or not EARLY <= ts_recv - publish <= PAST:
            session.losses += 1
            return [*session.reject("another channel or an impossible time", None, number), *after]
        rows: list[tuple[int, Trade]] = []
        out: list[Output] = []
        item = -1
        for event in found.events:
            for raw in event.trades:
                item += 1
                read = _read(raw, ts_recv, numbered=sizes is None)
                if isinstance(read, str):
                    out.append(Rejected(read, number, CHANNEL))
                    continue
                data, time = read
                state = session.state_of(channel, data.product_id, ts_recv)
                if state is None:
                    continue
                if ts_recv - time > PAST:
                    if event.type != wire.WHOLE:
                        out.append(Rejected("impossible time", number, state.stream.name))
                    continue  # of a product that hardly trades, the history goes back for weeks
                size = session.size(data.product_id)
                if size is None:
                    out.append(Rejected(UNSIZED, number, state.stream.name))
                    continue
                old = event.type == wire.WHOLE and session.history(state)
                session.heard(state, ts_recv, publish)
                seq = int(data.trade_id) if sizes is None else None
                row = Trade(
                    data.product_id, state.stream.name, time, publish, ts_recv, source, number, item, "ws", data.price,
                    data.size, wire.TAKER[data.side], seq, "history" if old else "market",
                    *((None, None, None) if sizes is None else (data.trade_id, "contract", size)),
                )  # fmt: skip
                rows.append((-item if seq is None else seq, row))
        rows.sort(key=lambda one: one[0])
        return session.said([*(row for _, row in rows), *out], after, f"{CHANNEL} without trades")

    return parse
