"""What only KuCoin's futures stream: mark and index price once a second, the estimated funding rate once a minute."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, why
from collectors.exchanges.kucoin import wire
from collectors.exchanges.kucoin.protocol import KucoinSession, Parse
from market.kinds import MarkPrice
from market.session import Output, StreamState
from market.times import HOUR, MS

MARK, FUNDING = "mark.index.price", "funding.rate"
SETTLED = HOUR // MS
"""A rate of such a `granularity` (documented: 28800000) is the one that is paid, no estimate of the next one."""


def mark_price(session: KucoinSession, state: StreamState) -> Parse:
    """`/contract/instrument:<s>`: a row a mark; the rate is the newest estimate that was told before it."""
    name, source, symbol, channel = state.stream.name, session.session_id, state.stream.symbol, state.stream.channel
    decode = wire.instrument
    before = session.before.get((MarkPrice, symbol))
    rate = before.predicted_rate if isinstance(before, MarkPrice) else None

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        nonlocal rate
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data, time = found.data, found.data.timestamp * MS
        if found.topic != name or not EARLY <= ts_recv - time <= PAST:
            return session.reject("another topic" if found.topic != name else "impossible time", name, number)
        if found.subject == FUNDING:
            said = wire.figure(data.fundingRate)
            if said is None:
                return session.reject("not a decimal number", name, number)
            session.heard(state, ts_recv, time)
            if data.granularity >= SETTLED:
                return session.ignore(f"{channel} {FUNDING} settled")
            rate = said
            return session.ignore(f"{channel} {FUNDING}")
        if found.subject != MARK:
            return session.ignore(f"{channel} {found.subject}")
        mark, index = wire.amount(data.markPrice), wire.amount(data.indexPrice)
        if mark is None or (index is None and data.indexPrice != wire.NOTHING):
            return session.reject("not a decimal number", name, number)
        session.heard(state, ts_recv, time)
        return (MarkPrice(symbol, name, time, None, ts_recv, source, number, 0, "ws", mark, index, rate, None),)

    return parse
