"""The venue's own candles. Only the closing message becomes a row; the forming ones stay in the frames, counted.

Spot and USD-M say volumes in base (`v`) and quote (`q`); COIN-M says contracts (`v`) and base (`q`), and its quote
volume is contracts x contract size, exactly. `ts_event` is the candle's last millisecond, so that a candle lies in the
day and hour that it is of.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import TOO_LONG
from collectors.exchanges.binance import payloads, wire
from collectors.exchanges.binance.protocol import Parse, StreamSession
from collectors.exchanges.binance.wire import BAD_FRAME, EARLY, PAST
from market.kinds import Kline
from market.numbers import product
from market.session import Output, StreamState
from market.times import MS

INTERVALS = ("1m", "1s", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
"""Of every market but `1s`, which spot alone offers; the first is the one collected where nothing else is said."""
FORMING = "forming"


def kline(session: StreamSession, state: StreamState) -> Parse:
    """`<s>@kline_<interval>` of any market."""
    decode, sizes = payloads.kline, session.sizes
    stream, source = state.stream, session.session_id
    symbol, name, interval = stream.symbol, stream.name, stream.channel.removeprefix("kline_")
    forming = f"{stream.channel} {FORMING}"

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            data = decode(frame).data
        except BAD_FRAME as error:
            return session.reject(wire.why(error), name, number)
        candle, publish = data.k, wire.to_us(data.E)
        if data.s != symbol or candle.s != symbol or candle.i != interval:
            return session.reject("another symbol or interval than its stream's", name, number)
        opened, closed = wire.to_us(candle.t), wire.to_us(candle.T)
        if not EARLY <= ts_recv - publish <= PAST or opened > closed or not ts_recv - opened >= EARLY:
            return session.reject("impossible time", name, number)
        values = (candle.o, candle.h, candle.l, candle.c, candle.v, candle.q, candle.V, candle.Q)
        if not wire.all_good(*values):
            return session.reject("not a decimal number", name, number)
        if candle.x and not EARLY <= ts_recv - closed <= PAST:
            return session.reject("a closed candle of another time", name, number)
        base, quote, bought_base, bought_quote = candle.v, candle.q, candle.V, candle.Q
        if sizes is not None and candle.x:
            size = sizes[symbol]
            paid, bought_paid = product(candle.v, size), product(candle.V, size)
            if paid is None or bought_paid is None:
                return session.reject(TOO_LONG, name, number)
            base, quote, bought_base, bought_quote = candle.q, paid, candle.Q, bought_paid
        session.heard(state, ts_recv, publish)
        if not candle.x:
            return session.ignore(forming)
        return (
            Kline(
                symbol, name, closed - closed % MS, publish, ts_recv, source, number, 0, "ws", interval, opened,
                candle.o, candle.h, candle.l, candle.c, base, quote, candle.n, bought_base, bought_quote,
            ),
        )  # fmt: skip

    return parse
