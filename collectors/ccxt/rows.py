"""From what ccxt understood to rows: one function a kind, each item by itself. Pure.

A reader is given one item and returns its event, or why it is none: a text that begins with SKIP names what is counted
and no defect, any other is a rejection. Nothing that is missing is made up: no quantity, no side, no contract's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from collectors.adapters.reading import EARLY, PAST, all_good, good_levels
from collectors.adapters.skew import Skew
from collectors.ccxt import tables, wire
from market.kinds import BookSnapshot, Event, Kline, Liquidation, MarkPrice, Quote, Trade
from market.session import Stream
from market.times import MS

SKIP = "- "
"""How the name of something begins that is no row and no defect."""
SIDES = ("buy", "sell")
CONTRACT = "contract"


class Place(msgspec.Struct, gc=False):
    """Whose row it is, and where it stands; `pushed` before this time (us) are trades of before the subscription."""

    stream: Stream
    session: str
    ts_recv: int
    number: int
    item: int
    size: str | None
    market_type: str
    pushed: int
    skew: Skew


Read = Callable[[msgspec.Raw, Place], "Event | str"]


def _time(millis: int | None, at: Place) -> int | str:
    """A venue time in us, or why it is none."""
    if millis is None:
        return "no time"
    time = millis * MS
    delay = at.ts_recv - time
    if delay > PAST:
        return f"{SKIP}older than seven days"
    if delay < EARLY:
        return "impossible time"
    at.skew.add(at.ts_recv, delay)
    return time


def _estimated(millis: int | None, at: Place) -> tuple[int | None, int | None] | str:
    """(venue time, None), or (None, the skew) where ccxt gives no time."""
    if millis is None:
        return None, at.skew.at(at.ts_recv) or None
    time = _time(millis, at)
    return time if isinstance(time, str) else (time, None)


def _sized(at: Place) -> tuple[str | None, str | None] | None:
    """(qty_unit, multiplier) of a row, None where the size of its contract is not known."""
    if at.market_type == "spot":
        return None, None
    return (CONTRACT, at.size) if at.size is not None and all_good(at.size) and float(at.size) > 0 else None


def _trade(raw: msgspec.Raw, at: Place) -> Event | str:
    told = wire.trade(raw)
    if told.price is None or told.amount is None or not all_good(told.price, told.amount):
        return "no decimal number"
    if (sized := _sized(at)) is None:
        return "a contract of unknown size"
    time = _time(told.timestamp, at)
    if isinstance(time, str):
        return time
    condition = "market" if float(told.price) > 0 and float(told.amount) > 0 else "void"
    if condition == "market" and time < at.pushed:
        condition = "history"
    side = told.side if told.side in SIDES else None
    return Trade(
        at.stream.symbol, at.stream.name, time, None, at.ts_recv, at.session, at.number, at.item, "ws", told.price,
        told.amount, side, None, condition, told.id or None, *sized,
    )  # fmt: skip


def _quote(raw: msgspec.Raw, at: Place) -> Event | str:
    told = wire.quote(raw)
    found = (told.bid, told.bidVolume, told.ask, told.askVolume)
    bid, bid_qty, ask, ask_qty = found
    if bid is None or bid_qty is None or ask is None or ask_qty is None:
        return f"{SKIP}quote without both sides"
    if not all_good(bid, bid_qty, ask, ask_qty):
        return "no decimal number"
    time = _estimated(told.timestamp, at)
    if isinstance(time, str):
        return time
    return Quote(
        at.stream.symbol, at.stream.name, time[0], None, at.ts_recv, at.session, at.number, at.item, "ws", bid, bid_qty,
        ask, ask_qty, None, time[1],
    )  # fmt: skip


def _book(raw: msgspec.Raw, at: Place) -> Event | str:
    told = wire.book(raw)
    if not good_levels(told.bids, told.asks):
        return "no levels of decimal numbers"
    time = _estimated(told.timestamp, at)
    if isinstance(time, str):
        return time
    depth = max(len(msgspec.json.decode(side, type=list[msgspec.Raw])) for side in (told.bids, told.asks))
    return BookSnapshot(
        at.stream.symbol, at.stream.name, time[0], None, at.ts_recv, at.session, at.number, at.item, "ws",
        told.bids, told.asks, told.nonce, depth, time[1],
    )  # fmt: skip


def candle(raw: msgspec.Raw, at: Place) -> Kline | str:
    """A candle as if it were closed; whether it is, is the session's to tell."""
    told = wire.candle(raw)
    texts = (told.open, told.high, told.low, told.close, told.volume)
    if not all_good(*texts):
        return "no decimal number"
    interval = tables.BY_NAME[at.stream.channel].timeframe
    opened = told.opened * MS
    length = tables.INTERVALS[interval]
    if opened % length or at.ts_recv - opened < EARLY:
        return "impossible time"
    return Kline(
        at.stream.symbol, at.stream.name, opened + length - MS, None, at.ts_recv, at.session, at.number, at.item, "ws",
        interval, opened, *texts, None, None, None, None,
    )  # fmt: skip


def _liquidation(raw: msgspec.Raw, at: Place) -> Event | str:
    told = wire.liquidation(raw)
    if told.side not in SIDES:
        return "a liquidation without a side"
    if told.price is None or told.contracts is None or not all_good(told.price, told.contracts):
        return "no decimal number"
    if (sized := _sized(at)) is None:
        return "a contract of unknown size"
    time = _time(told.timestamp, at)
    if isinstance(time, str):
        return time
    return Liquidation(
        at.stream.symbol, at.stream.name, time, None, at.ts_recv, at.session, at.number, at.item, "ws", told.side,
        told.price, None, told.contracts, None, *sized,
    )  # fmt: skip


def _mark(raw: msgspec.Raw, at: Place) -> Event | str:
    told = wire.mark(raw)
    if told.markPrice is None:
        return f"{SKIP}ticker without a mark price"
    index = told.indexPrice
    if not all_good(told.markPrice, *(() if index is None else (index,))):
        return "no decimal number"
    time = _time(told.timestamp, at)
    if isinstance(time, str):
        return time
    return MarkPrice(
        at.stream.symbol, at.stream.name, time, None, at.ts_recv, at.session, at.number, at.item, "ws", told.markPrice,
        index, None, None,
    )  # fmt: skip


READERS: Mapping[str, Read] = {
    tables.TRADES: _trade,
    tables.BIDS_ASKS: _quote,
    tables.TICKER: _quote,
    tables.BOOK: _book,
    tables.CANDLES: candle,
    tables.LIQUIDATIONS: _liquidation,
    tables.MARKS: _mark,
}
"""ccxt's method -> what reads one item of it."""
