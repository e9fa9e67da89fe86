"""What only Bybit's derivatives stream: mark prices out of merged tickers, and forced orders."""

from __future__ import annotations

from collections.abc import Sequence

from collectors.adapters.reading import BAD_FRAME, EARLY, LAST, PAST, all_good, why
from collectors.exchanges.bybit import wire
from collectors.exchanges.bybit.protocol import BybitSession, Parse
from market.kinds import Event, Liquidation, MarkPrice
from market.numbers import is_decimal
from market.session import Output, Rejected, StreamState
from market.times import MS


class _Marks:
    """The fields of a ticker that make a mark, as the newest messages left them; "" is the venue's nothing."""

    __slots__ = ("funding", "index", "mark", "rate")

    def __init__(self, before: Event | None = None) -> None:
        """`before`: the mark that earlier frames made."""
        self.mark = self.index = self.rate = self.funding = ""
        if isinstance(before, MarkPrice):
            self.mark, self.index, self.rate = before.mark, before.index or "", before.predicted_rate or ""
            self.funding = "" if before.next_funding is None else str(before.next_funding // MS)

    def take(self, data: wire.TickerData) -> bool:
        """Whether the message says any of them. Only what it names is changed."""
        said = False
        for name, value in (
            ("mark", data.markPrice), ("index", data.indexPrice), ("rate", data.fundingRate),
            ("funding", data.nextFundingTime),
        ):  # fmt: skip
            if value is not None:
                setattr(self, name, value)
                said = True
        return said


def _wrong(data: wire.TickerData) -> str | None:
    """Why a ticker cannot be merged."""
    prices = [text for text in (data.markPrice, data.indexPrice) if text]
    if not all_good(*prices) or not (not data.fundingRate or is_decimal(data.fundingRate)):
        return "not a decimal number"
    at = data.nextFundingTime
    if at and (not (at.isascii() and at.isdigit()) or len(at) > 15 or int(at) * MS >= LAST):
        return "impossible time"
    return None


def mark_price(session: BybitSession, state: StreamState) -> Parse:
    """`tickers.<s>`: a row where mark, index, rate or the next funding's time is said. The rate is the estimate."""
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id
    held = _Marks(session.before.get((MarkPrice, symbol)))
    decode = wire.ticker

    def parse(frame: bytes, ts_recv: int, number: int) -> Sequence[Output]:
        nonlocal held
        try:
            found = decode(frame)
        except BAD_FRAME as error:
            return session.reject(why(error), name, number)
        data, time = found.data, found.ts * MS
        if found.topic != name or data.symbol != symbol or found.type not in (wire.WHOLE, wire.CHANGE):
            return session.reject("another symbol than its topic's, or no known type", name, number)
        if not EARLY <= ts_recv - time <= PAST:
            return session.reject("impossible time", name, number)
        if (wrong := _wrong(data)) is not None:
            return session.reject(wrong, name, number)
        session.heard(state, ts_recv, time)
        if found.type == wire.WHOLE:
            held = _Marks()
        if not held.take(data):
            return session.ignore("tickers without a mark")
        if not held.mark:
            return session.ignore("tickers before the whole one")
        return (
            MarkPrice(
                symbol, name, time, None, ts_recv, source, number, 0, "ws", held.mark, held.index or None,
                held.rate or None, int(held.funding) * MS if held.funding.strip("0") else None,
            ),
        )  # fmt: skip

    return parse


def liquidation(session: BybitSession, state: StreamState) -> Parse:
    """`allLiquidation.<s>`: all forced orders, without ids; the price is that of bankruptcy, no fill's."""
    symbol, name, source = state.stream.symbol, state.stream.name, session.session_id
    frame_of, item_of, sides = wire.forceds, wire.forced, wire.FORCED

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
            time, side = data.T * MS, sides.get(data.S)
            timed = EARLY <= ts_recv - time <= PAST
            if data.s != symbol or side is None or not timed or not all_good(data.v, data.p):
                reason = "another symbol or side, or no decimal number" if timed else "impossible time"
                out.append(Rejected(reason, number, name))
                continue
            newest = max(newest, time)
            out.append(
                Liquidation(
                    symbol, name, time, publish, ts_recv, source, number, item, "ws", side, data.p, None, data.v
                )
            )
        if newest:
            session.heard(state, ts_recv, newest)
        return out or session.ignore("allLiquidation without orders")

    return parse
