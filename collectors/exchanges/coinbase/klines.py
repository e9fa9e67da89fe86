"""The venue's own candles of five minutes. Nothing in them says that one is closed: the next one's beginning does.

A candle becomes a row when a later one of its product was told, with what was told of it last and under the frame that
told it; one that is told again later with other values (the channel lags behind the trades) is a new revision. The
newest of a product stays in the frames. `ts_event` is the candle's last millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, LAST, PAST, all_good, why
from collectors.exchanges.coinbase import wire
from collectors.exchanges.coinbase.protocol import CoinbaseSession, Parse
from market.kinds import Kline
from market.session import Output, Rejected
from market.times import MINUTE, MS, SECOND

CHANNEL = "candles"
INTERVAL, LENGTH = "5m", 5 * MINUTE


def _opened(text: str) -> int | None:
    """When a candle opened (us); None for what is no such time."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    time = int(text) * SECOND
    return time if 0 < time < LAST and time % LENGTH == 0 else None


def kline(session: CoinbaseSession) -> Parse:
    """`candles` of all products of the connection."""
    source, channel = session.session_id, session.channel(CHANNEL)
    newest: dict[str, Kline] = {}

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.candles(frame)
        except BAD_FRAME as error:
            return session.not_read(frame, error, number)
        after = session.follow(found.sequence_num, number)
        publish = wire.micros(found.timestamp)
        if found.channel != CHANNEL or publish is None or not EARLY <= ts_recv - publish <= PAST:
            return [*session.reject("another channel or an impossible time", None, number), *after]
        out: list[Output] = []
        for item, raw in enumerate(raw for event in found.events for raw in event.candles):
            try:
                data = wire.candle(raw)
            except BAD_FRAME as error:
                out.append(Rejected(why(error), number, CHANNEL))
                continue
            state = session.state_of(channel, data.product_id, ts_recv)
            if state is None:
                continue
            name, opened = state.stream.name, _opened(data.start)
            if opened is None or ts_recv - opened < EARLY:
                out.append(Rejected("impossible time", number, name))
                continue
            values = (data.open, data.high, data.low, data.close, data.volume)
            if not all_good(*values):
                out.append(Rejected("not a decimal number", number, name))
                continue
            session.heard(state, ts_recv, publish)
            row = Kline(
                data.product_id, name, opened + LENGTH - MS, publish, ts_recv, source, number, item, "ws", INTERVAL,
                opened, *values, None, None, None, None,
            )  # fmt: skip
            held = newest.get(data.product_id)
            if held is None or opened >= held.open_time:
                newest[data.product_id] = row
                row = held if held is not None and opened > held.open_time else None  # type: ignore[assignment]
            if row is not None and ts_recv - row.ts_event <= PAST:  # type: ignore[operator]
                out.append(row)
        return session.said(out, after, f"{CHANNEL} forming")

    return parse
