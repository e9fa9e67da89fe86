"""The venue's own candles of spot. No message says that a candle is closed: the next one's first message does.

A message holds the whole candle so far, and empty minutes are told too, so the newest message before the next candle
is the closed one. `ts_event` is the candle's last millisecond, so that a candle lies in the day and hour that it is of.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, all_good, why
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.protocol import KucoinSession, Parse
from market.kinds import Kline
from market.session import Output, StreamState
from market.times import MS, SECOND

FIELDS = 7
"""start, open, close, high, low, volume (base), turnover (quote)."""


def kline(session: KucoinSession, state: StreamState) -> Parse:
    """`/market/candles:<s>_<interval>`."""
    stream, source = state.stream, session.session_id
    symbol, name, spelt = stream.symbol, stream.name, stream.channel.rpartition("_")[2]
    interval, length, forming = wire.INTERVALS[spelt], wire.SECONDS[spelt] * SECOND, f"{stream.channel} forming"
    held: tuple[int, list[str]] | None = None

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        nonlocal held
        try:
            found = wire.candle(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data, candle = found.data, found.data.candles
        publish = data.time // 1000
        if found.topic != name or data.symbol != symbol or len(candle) != FIELDS or not all_good(*candle[1:]):
            return session.reject("another symbol, or no candle of decimal numbers", name, number)
        start = int(candle[0]) * SECOND if candle[0].isascii() and candle[0].isdigit() and len(candle[0]) <= 10 else 0
        if not EARLY <= ts_recv - publish <= PAST or not EARLY <= ts_recv - start <= PAST + length:
            return session.reject("impossible time", name, number)
        session.heard(state, ts_recv, publish)
        before = held
        if before is None or start >= before[0]:
            held = (start, candle)
            if before is None or before[0] == start:
                return session.ignore(forming)
            opened, (_, first, close, high, low, volume, turnover) = before
        else:  # told again after the next one began: a copy, or a new revision
            opened, (_, first, close, high, low, volume, turnover) = start, candle
        return (
            Kline(
                symbol, name, opened + length - MS, None, ts_recv, source, number, 0, "ws", interval, opened, first,
                high, low, close, volume, turnover, None, None, None,
            ),
        )  # fmt: skip

    return parse
