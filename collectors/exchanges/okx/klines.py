"""The venue's own candles. Only the closing message becomes a row; the forming ones stay in the frames, counted.

On spot `vol` is in base and `volCcy` in quote; elsewhere `vol` counts contracts, `volCcy` is in base and `volCcyQuote`
in quote. `ts_event` is the candle's last millisecond, so that a candle lies in the day and hour that it is of.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, all_good, why
from collectors.exchanges.okx import wire
from collectors.exchanges.okx.protocol import OkxSession, Parse
from market import times
from market.kinds import Kline
from market.session import Output, Rejected, StreamState
from market.times import DAY, HOUR, MINUTE, MS, SECOND

FIELDS = 9
CLOSED, FORMING = "1", "0"
_WIDTHS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def end_of(opened: int, interval: str) -> int:
    """When the candle after one that opened then begins (us)."""
    if not interval.endswith("M"):
        return opened + int(interval[:-1]) * _WIDTHS[interval[-1]]
    first = times.to_datetime(opened).replace(day=1)
    months = first.month - 1 + int(interval[:-1])
    return times.from_datetime(first.replace(year=first.year + months // 12, month=months % 12 + 1))


def kline(session: OkxSession, state: StreamState) -> Parse:
    """`candle<interval>` of any market."""
    stream, source, spot = state.stream, session.session_id, session.market_type == "spot"
    symbol, name = stream.symbol, stream.name
    interval, forming = wire.INTERVALS[stream.channel.removeprefix("candle")], f"{stream.channel} forming"

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.candles(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        if found.arg.channel != stream.channel or found.arg.instId != symbol:
            return session.reject("another symbol than its stream's", name, number)
        out: list[Output] = []
        heard = 0
        for item, row in enumerate(found.data):
            if len(row) < FIELDS or row[8] not in (CLOSED, FORMING) or not all_good(*row[1:8]):
                out.append(Rejected("no candle, or no decimal number", number, name))
                continue
            opened, closing = wire.time_of(row[0]), row[8] == CLOSED
            closed = end_of(opened, interval) - MS if opened else 0
            if ts_recv - opened < EARLY or not closed or (closing and not EARLY <= ts_recv - closed <= PAST):
                out.append(Rejected("impossible time", number, name))
                continue
            heard = max(heard, closed if closing else opened)
            if closing:
                _, first, high, low, last, volume, coins, worth, _ = row[:FIELDS]
                base, quote = (volume, coins) if spot else (coins, worth)
                out.append(
                    Kline(
                        symbol, name, closed, None, ts_recv, source, number, item, "ws", interval, opened,
                        first, high, low, last, base, quote, None, None, None,
                    )
                )  # fmt: skip
        if heard:
            session.begun(state, ts_recv, heard)
        return out or session.ignore(forming)

    return parse
