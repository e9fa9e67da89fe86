"""Best bid and ask of Coinbase frames: the channel `ticker`, told when something trades, some 0.3 s behind the book.

It has one time only, that of the message; in microseconds it is the row's `update_id` too, for the venue gives no id
(`collectors.adapters.stamped`).
"""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, PAST, all_good, why
from collectors.adapters.stamped import Stamped
from collectors.exchanges.coinbase import wire
from collectors.exchanges.coinbase.protocol import CoinbaseSession, Parse
from market.kinds import Quote
from market.session import Output, Rejected

CHANNEL = "ticker"


def quote(session: CoinbaseSession) -> Parse:
    """`ticker` of all products of the connection."""
    source, channel, ids = session.session_id, session.channel(CHANNEL), Stamped()

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        try:
            found = wire.tickers(frame)
        except BAD_FRAME as error:
            return session.not_read(frame, error, number)
        after = session.follow(found.sequence_num, number)
        publish = wire.micros(found.timestamp)
        if found.channel != CHANNEL or publish is None or not EARLY <= ts_recv - publish <= PAST:
            return [*session.reject("another channel or an impossible time", None, number), *after]
        out: list[Output] = []
        for item, raw in enumerate(raw for event in found.events for raw in event.tickers):
            try:
                data = wire.ticker(raw)
            except BAD_FRAME as error:
                out.append(Rejected(why(error), number, CHANNEL))
                continue
            state = session.state_of(channel, data.product_id, ts_recv)
            if state is None:
                continue
            sides = (data.best_bid, data.best_bid_quantity, data.best_ask, data.best_ask_quantity)
            if "" in sides:
                continue  # one side of the book is empty
            if not all_good(*sides):
                out.append(Rejected("not a decimal number", number, state.stream.name))
                continue
            session.heard(state, ts_recv, publish)
            out.append(
                Quote(
                    data.product_id, state.stream.name, publish, publish, ts_recv, source, number, item, "ws", *sides,
                    ids.number(data.product_id, publish),
                )
            )  # fmt: skip
        return session.said(out, after, f"{CHANNEL} of one side")

    return parse
