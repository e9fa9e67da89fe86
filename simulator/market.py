"""The market everybody sees: trades and best quotes of every instrument, the same for the same seed.

What happens (symbols, kinds, ids, prices, quantities, sides) depends on the seed and the rate; when it happens is the
given clock's: the n-th event is due n / rate seconds after the start. It goes on whether or not anybody listens.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Collection, Iterable

import msgspec

from simulator import feeds, funding
from simulator.candles import SHORTEST, Candles
from simulator.events import Aggregate, Event, Fill, Forced, Notice, Top
from simulator.instruments import Instrument, activity
from simulator.ladder import Ladder, Side
from simulator.reality import UNIT, Course, Reality

__all__ = ["Aggregate", "Book", "Event", "Fill", "Market", "Top"]

FEWEST_KEPT, MOST_KEPT, ALL_KEPT = 500, 5000, 250_000
"""Trades, and aggregates, kept a symbol for the REST routes; and of all symbols together, where there are many."""
ORDERS = 7
"""Of sixteen things that happen so many are taker orders, the others quotes."""
FORCED_ONE_IN = 20
"""Of so many taker orders on futures one is a liquidation."""
PRINTS = 1000
"""Of the stream of trades that may be told again."""
MIX, MASK = 0x9E3779B97F4A7C15, (1 << 40) - 1
"""Spread a quote's bits once more, for what happens deeper in the book."""
NEAR, FASTEST = 16, 8
"""Ticks: quotes within the first are as near to the price as they are drawn; of the rest a part, at most the second."""
CATCH_UP = 2_000_000
"""us: a machine that slept longer goes on from now instead of sending the whole past at once."""


class Book:
    """The state of one instrument, with its recent trades and candles."""

    def __init__(self, instrument: Instrument, tag: str, seed: object, history: int = MOST_KEPT) -> None:
        self.instrument = instrument
        self.market = instrument.market
        self.symbol = instrument.symbol
        self.tag = tag
        """`"market","symbol"` as JSON text, for the log."""
        self.seed = f"{seed}/{self.market}/{self.symbol}"
        """What its chances come from."""
        self.status, self.delivery = "TRADING", 0
        self.listed = True
        """False for what the venue will list later, and says nothing of until then."""
        self.forced: Forced | None = None
        self.told: dict[str, int] = {}
        """Stream of the book whose messages are counted -> the number of its newest."""
        self.bid = instrument.start_ticks
        self.spread = 1
        self.trade_id = instrument.first_id
        self.agg_id = instrument.first_id // 2
        self.update_id = instrument.first_id * 7
        self.ts = 0
        self.top: Top | None = None
        self.trades: deque[Fill] = deque(maxlen=history)
        self.aggregates: deque[Aggregate] = deque(maxlen=history)
        self.prints: deque[Fill] = deque(maxlen=PRINTS)
        """Trades and what else the stream of trades told."""
        self.amount_decimals = 8 if instrument.contract_size else instrument.price_decimals + instrument.qty_decimals
        worth = instrument.contract_size * 10 ** (8 + instrument.price_decimals)
        self.candles = Candles(worth, max(history, SHORTEST))
        self.course: Course | None = None
        """Where the price of its base goes; `quote` follows."""
        self._floor = instrument.start_ticks // 2
        self._price = _pattern(instrument.price_decimals, 8 if instrument.market == "spot" else None)
        self._qty = _pattern(instrument.qty_decimals, 8 if instrument.market == "spot" else None)
        self._padding = 10 ** (8 - instrument.qty_decimals) if instrument.market == "spot" else 1
        self.ladder = Ladder(self.price, self.qty, self.bid, self.bid + self.spread, self.seed, self.update_id)

    def restart(self) -> None:
        """Trades and aggregates are numbered from 1 again; the REST routes forget those before."""
        self.trade_id = self.agg_id = 0
        self.trades.clear()
        self.prints.clear()
        self.aggregates.clear()

    def price(self, ticks: int) -> str:
        """Price text as the venue pads it."""
        pattern, unit = self._price
        return pattern % (ticks // unit, ticks % unit) if unit > 1 else pattern % ticks

    def qty(self, lots: int) -> str:
        """Quantity text as the venue pads it."""
        pattern, unit = self._qty
        return pattern % (lots // unit, lots % unit) if unit > 1 else pattern % lots

    @property
    def last(self) -> str:
        """The price of the newest trade; the best bid before the first."""
        return self.trades[-1].price if self.trades else self.price(self.bid)

    def _lots(self, qty: str) -> int:
        return int(qty.replace(".", "")) // self._padding

    def amount(self, value: int) -> str:
        """A product of price and quantity as text, with all its decimals, at least eight of them."""
        decimals = self.amount_decimals
        if decimals == 0:
            return f"{value}.00000000"
        unit: int = 10**decimals
        return f"{value // unit}.{value % unit:0{decimals}d}".ljust(len(str(value // unit)) + 9, "0")

    def reference(self, now: int) -> tuple[int, int]:
        """(mark, index) price in units of 10^-8 at `now`, near the middle of the book."""
        mid = (2 * self.bid + self.spread) * funding.UNIT // (2 * 10**self.instrument.price_decimals)
        return funding.prices(self.seed, mid, now)

    def order(self, bits: int, ts: int) -> list[Event]:
        """A taker order eats 1 to 4 makers at the best price, and no more than is there; then that is told as a quote.
        Rarely the linear market prints a non-market fill.
        """
        maker = bool(bits & 1)
        side = self.ladder.bids if maker else self.ladder.asks
        ticks = self.bid if maker else self.bid + self.spread
        count = 1 + (bits >> 1 & 3 if bits & 8 else 0)
        first, left, total = self.trade_id + 1, self._lots(side.top()[1]), 0
        events: list[Event] = []
        for n in range(count):
            lots = min(1 + ((bits >> (7 * n + 8)) % 997 >> (bits >> n & 7)), left)
            if not lots:
                break
            left -= lots
            total += lots
            events.append(self._fill(ticks, lots, maker, "MARKET", ts))
        self.agg_id += 1
        whole = Aggregate(self, self.agg_id, self.price(ticks), self.qty(total), maker, first, self.trade_id, ts)
        self.aggregates.append(whole)
        events.append(whole)
        if self.market != "spot" and (bits >> 33) % FORCED_ONE_IN == 0:
            self._force(whole, ticks)
        if self.market == "linear" and self.instrument.odd_prints and (bits >> 40) % 250 == 0:
            events.append(self._odd(bits >> 52, ts))
        events.append(self._taken(side, left, bits >> 60 & 15, ts))
        return events

    def _taken(self, side: Side, left: int, skipped: int, ts: int) -> Top:
        """The best prices where an order has left so much at one of them."""
        self.update_id += 1 + skipped
        ladder = self.ladder
        ladder.take(side, left, self.update_id, ts)
        self.bid = ladder.bids.ticks[-1]
        self.spread = ladder.asks.ticks[0] - self.bid
        self.top = Top(self, self.update_id, *ladder.bids.top(), *ladder.asks.top(), ts)
        return self.top

    def _force(self, whole: Aggregate, ticks: int) -> None:
        """The order was a liquidation: its limit is a percent behind the price it got."""
        count = 1 + (self.forced.id if self.forced is not None else 0)
        side, limit = ("SELL", ticks - ticks // 100) if whole.maker else ("BUY", ticks + ticks // 100)
        self.forced = Forced(self, "", count, side, self.price(limit), whole.price, whole.qty, whole.ts, self.market)

    def _fill(self, ticks: int, lots: int, maker: bool, condition: str, ts: int) -> Fill:
        self.trade_id += 1
        fill = Fill(self, self.trade_id, self.price(ticks), self.qty(lots), maker, condition, ts, ticks, lots)
        self.prints.append(fill)
        if condition == "MARKET":
            self.trades.append(fill)
            self.candles.add(ts, ticks, lots, fill.id, maker)
        return fill

    def _odd(self, bits: int, ts: int) -> Fill:
        """A print that is no market trade: insurance fund or ADL far off the market, or NA with zeros."""
        kind = bits % 3
        if kind == 2:
            self.trade_id += 1
            self.prints.append(Fill(self, self.trade_id, "0", "0", bool(bits & 4), "NA", ts, 0, 0))
            return self.prints[-1]
        ticks = self.bid * (9 if bits & 4 else 11) // 10
        return self._fill(ticks, 1 + bits % 50, bool(bits & 4), ("INSURANCE_FUND", "ADL")[kind], ts)

    def quote(self, bits: int, ts: int, elapsed: int = 0) -> Top:
        """The best prices move by up to two ticks and towards the price of the base, or only their quantities do."""
        step = (-2, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2)[bits & 15]
        if self.course is not None:
            far = self.instrument.start_ticks * self.course.at(elapsed) // UNIT - self.bid
            if far > NEAR or far < -NEAR:
                step += min(far // NEAR, FASTEST) if far > 0 else max(-(-far // NEAR), -FASTEST)
        self.bid = max(self.bid + step, self._floor)
        self.spread = (1, 1, 1, 1, 1, 2, 2, 3)[bits >> 4 & 7]
        self.update_id += 1 + (bits >> 7 & 15)
        top = Top(
            self,
            self.update_id,
            self.price(self.bid),
            self.qty(1 + (bits >> 11) % 99991 // (1 + (bits >> 28 & 63))),
            self.price(self.bid + self.spread),
            self.qty(1 + (bits >> 34) % 99991 // (1 + (bits >> 51 & 63))),
            ts,
        )
        self.top = top
        self.ladder.move(
            self.bid,
            f'["{top.bid}","{top.bid_qty}"]',
            self.bid + self.spread,
            f'["{top.ask}","{top.ask_qty}"]',
            (bits * MIX) >> 40 & MASK,
            self.update_id,
            ts,
        )
        return top


class Market:
    """All instruments on one time line. `rate` counts trades and quotes a second; aggregates come on top.

    Those of `dormant`, (market, symbol), are not listed until their status is TRADING for the first time. Prices follow
    a `reality`, which several markets may share: then they move together.
    """

    def __init__(
        self,
        instruments: list[Instrument],
        seed: object,
        rate: float,
        start: int,
        dormant: Collection[tuple[str, str]] = (),
        reality: Reality | None = None,
    ) -> None:
        reality = reality or Reality(seed)
        history = min(MOST_KEPT, max(FEWEST_KEPT, ALL_KEPT // max(1, len(instruments))))
        self.books = [Book(one, _tag(one), seed, history) for one in _by_activity(instruments)]
        for book in self.books:
            if (book.market, book.symbol) in dormant:
                book.status, book.listed = "PENDING_TRADING", False
            book.course = reality.course(book.instrument.base)
        self.named = {(book.market, book.symbol.lower()): book for book in self.books}
        self.rate = rate
        self.produced = 0
        self._start = start
        self._step = 1
        self._schedule = feeds.Schedule()
        self._notices: list[Event] = []
        self._told = 0
        self._chance = random.Random(f"{seed}/market").getrandbits
        listed = [book for book in self.books if book.listed]
        self._slots = [listed[index] for index in activity(len(listed))]

    def watch(self, market: str, stream: str, wanted: feeds.Wanted) -> bool:
        """Let a stream begin, for good; False where its symbol does not exist. Without symbol it is of all futures."""
        now = self._start + (self._step - 1) * feeds.STEP
        if not wanted.symbol:
            futures = [book for book in self.books if book.market != "spot"]
            begun = feeds.make_for_all(futures, stream, market, wanted)
        else:
            book = self.named.get((market, wanted.symbol))
            begun = [] if book is None else [feeds.make(book, stream, wanted, now)]
        for feed in begun:
            self._schedule.add(feed, wanted.period, self._step)
        return bool(begun)

    def change(self, book: Book, status: str, delivery: int, now: int, streams: Iterable[tuple[str, str]]) -> None:
        """A symbol's status changes; `delivery` in us, 0 for never. The next `advance` tells it.

        Only TRADING ones trade. `streams` are the (market, stream) that tell it.
        """
        book.status, book.delivery = status, delivery
        if status != "TRADING":
            self._slots = [one for one in self._slots if one is not book]
        elif book not in self._slots:
            book.listed = True
            self._slots += [book] * max(1, len(self._slots) // len(self.books))
        self._told += 1
        at = now - now % 1000
        self._notices += [Notice(book, name, self._told, status, delivery, at, market) for market, name in streams]

    def _spoken(self, until: int) -> list[Event]:
        """What the feeds say at the ends of their intervals up to `until`."""
        out: list[Event] = []
        last = (until - self._start) // feeds.STEP
        for step, feed in self._schedule.due(last):
            end = self._start + step * feeds.STEP
            out += feed.flush(end - end % 1000)
        self._step = max(self._step, last + 1)
        return out

    def advance(self, now: int) -> list[Event]:
        """Everything that happened up to `now` (us), oldest first."""
        next_one = (self.produced + 1) / self.rate * 1_000_000 if self.rate else math.inf
        if (late := now - self._start - next_one - CATCH_UP) > 0:
            self._start += int(late)
        due = int((now - self._start) * self.rate / 1_000_000) - self.produced
        events, self._notices = self._notices, []
        chance, slots, count = self._chance, self._slots, len(self._slots)
        made, end = 0, self._start + self._schedule.next * feeds.STEP
        while made < due and count:
            bits = chance(96)
            book = slots[(bits & 0xFFFFF) % count]
            ts = self._start + int((self.produced + made + 1) * 1_000_000 / self.rate)
            if ts >= end:
                events += self._spoken(ts)
                end = self._start + self._schedule.next * feeds.STEP
            ts = book.ts = max(book.ts, ts - ts % 1000)
            if bits >> 20 & 15 < ORDERS:
                order = book.order(bits >> 24, ts)
                events += order
                made += len(order) - 1
            else:
                events.append(book.quote(bits >> 24, ts, ts - self._start))
                made += 1
        self.produced += made
        events += self._spoken(now)
        return events


def _pattern(decimals: int, padded: int | None) -> tuple[str, int]:
    zeros = "0" * (padded - decimals) if padded else ""
    if decimals == 0:
        return ("%d." + zeros if zeros else "%d"), 1
    return f"%d.%0{decimals}d{zeros}", 10**decimals


def _tag(instrument: Instrument) -> str:
    return msgspec.json.encode([instrument.market, instrument.symbol]).decode()[1:-1]


def _by_activity(instruments: list[Instrument]) -> list[Instrument]:
    """The first symbol of each market, then the second of each, ...: markets are equally busy."""
    per_market: dict[str, list[Instrument]] = {}
    for one in instruments:
        per_market.setdefault(one.market, []).append(one)
    ranks = max((len(held) for held in per_market.values()), default=0)
    return [held[rank] for rank in range(ranks) for held in per_market.values() if rank < len(held)]
