"""The venue's own candles. Only the closing message becomes a row; the forming ones stay in the frames, counted.

`volume` is in base and `turnover` in quote, on inverse markets the other way round. `ts_event` is the candle's last
millisecond, so that a candle lies in the day and hour that it is of.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, all_good, why
from collectors.exchanges.bybit import wire
from collectors.exchanges.bybit.protocol import BybitSession, Parse
from market.kinds import Kline
from market.session import Output, Rejected, StreamState
from market.times import MS


def kline(session: BybitSession, state: StreamState) -> Parse:
    """`kline.<interval>.<s>` of any market."""
    stream, source, inverse = state.stream, session.session_id, session.market_type == "inverse"
    symbol, name, spelt = stream.symbol, stream.name, stream.channel.removeprefix("kline.")
    interval, forming = wire.INTERVALS[spelt], f"{stream.channel} forming"

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.candles(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        publish = found.ts * MS
        if found.topic != name or not EARLY <= ts_recv - publish <= PAST:
            return session.reject("another topic or an impossible time", name, number)
        out: list[Output] = []
        heard = False
        for item, candle in enumerate(found.data):
            opened, closed = candle.start * MS, candle.end * MS
            values = (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.turnover)
            if candle.interval != spelt or not all_good(*values):
                out.append(Rejected("another interval than its topic's, or no decimal number", number, name))
                continue
            if (
                opened > closed
                or ts_recv - opened < EARLY
                or (candle.confirm and not EARLY <= ts_recv - closed <= PAST)
            ):
                out.append(Rejected("impossible time", number, name))
                continue
            heard = True
            if candle.confirm:
                base, quote = (candle.turnover, candle.volume) if inverse else (candle.volume, candle.turnover)
                out.append(
                    Kline(
                        symbol, name, closed, publish, ts_recv, source, number, item, "ws", interval, opened,
                        *values[:4], base, quote, None, None, None,
                    )
                )  # fmt: skip
        if heard:
            session.heard(state, ts_recv, publish)
        return out or session.ignore(forming)

    return parse
