"""Which trades a venue's candle may be made of, where it is not those that our bar counts. Pure."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from lake import scaled
from lake.bar_sums import BASE_DECIMALS
from lake.merge import plain_frame
from market.kinds import COUNTED_CONDITIONS
from market.numbers import plain

_NUMBERS = ("price", "qty", "multiplier")
_UNIT = Decimal(1).scaleb(-BASE_DECIMALS)
Agrees = Callable[[Sequence["Fill"]], bool]


class Fill(NamedTuple):
    """One trade (or aggregate of `fills` trades) with what it adds to a bar; `key` is its place."""

    key: tuple[str, int, int]
    at: int
    seq: int
    recv: int
    condition: str
    counted: bool
    fills: int
    price: Decimal
    base: Decimal
    quote: Decimal
    buy: bool


def fills_of(table: pa.Table, since: int) -> list[Fill]:
    """Rows of `trade` or `agg_trade` by (time, id, place); what was told of the past counts from `since` (us) on."""
    frame = plain_frame(table)
    frame = frame.with_columns(pl.col("ts_event", "ts_recv").to_physical())
    for name in _NUMBERS:
        frame = frame.with_columns(scaled.texts_of(frame[name], frame[f"{name}_text"]).alias(f"#{name}"))
    frame = frame.sort("ts_event", "seq", "session", "frame_no", "item", nulls_last=False)
    made: list[Fill] = []
    for row in frame.iter_rows(named=True):
        condition = row["condition"]
        if condition == "void":
            continue
        price, qty, multiplier = (Decimal(row[f"#{name}"]) for name in _NUMBERS)
        size = qty * multiplier
        if row["qty_unit"] == "quote" or (row["qty_unit"] == "contract" and row["market_type"] == "inverse"):
            base, quote = (size / price).quantize(_UNIT, ROUND_HALF_EVEN), size
        else:
            base, quote = size, size * price
        counted = condition in COUNTED_CONDITIONS or (condition == "history" and row["ts_event"] >= since)
        first, last = row.get("first_id"), row.get("last_id")
        count = 1 if first is None or last is None else last - first + 1
        key = (row["session"] or "", row["frame_no"] or 0, row["item"] or 0)
        buy = row["side"] == "buy"
        made.append(
            Fill(key, row["ts_event"], row["seq"] or 0, row["ts_recv"] or 0, condition, counted, count, price, base,
                 quote, buy)
        )  # fmt: skip
    return made


def book_of(fills: Sequence[Fill]) -> dict[str, str | None]:
    """The values of a candle of these trades, in their order; as plain decimal text."""
    prices = [fill.price for fill in fills]
    bought = [fill for fill in fills if fill.buy]
    made = {
        "open": prices[0], "high": max(prices), "low": min(prices), "close": prices[-1],
        "volume_base": sum((fill.base for fill in fills), Decimal(0)),
        "volume_quote": sum((fill.quote for fill in fills), Decimal(0)),
        "taker_buy_base": sum((fill.base for fill in bought), Decimal(0)),
        "taker_buy_quote": sum((fill.quote for fill in bought), Decimal(0)),
    }  # fmt: skip
    texts: dict[str, str | None] = {name: plain(format(value, "f")) for name, value in made.items()}
    texts["trade_count"] = str(sum(fill.fills for fill in fills))
    return texts


def off_book(inside: Sequence[Fill], agrees: Agrees) -> str | None:
    """Which conditions count the other way in the candle, where that makes it what it is."""
    here = sorted({fill.condition for fill in inside})
    uncounted = [name for name in here if not any(f.counted for f in inside if f.condition == name)]
    counted = [name for name in here if name not in uncounted and name != "market"]
    sets: list[tuple[str, ...]] = [(name,) for name in (*uncounted, *counted)]
    if len(uncounted) > 1:
        sets.append(tuple(uncounted))
    for names in sets:
        chosen = [fill for fill in inside if fill.counted != (fill.condition in names)]
        if agrees(chosen):
            verb = "counts" if names[0] in uncounted else "does not count"
            return f"the candle {verb} {' and '.join(names)}"
    return None


_ORDERS: tuple[Callable[[Fill], tuple[int, ...]], ...] = (
    lambda fill: (fill.at, fill.seq),
    lambda fill: (fill.seq, fill.at),
    lambda fill: (fill.recv, fill.at, fill.seq),
)
"""By time, by id, by when they came."""


def moved(
    near: Sequence[Fill],
    own: Sequence[Fill],
    theirs: Mapping[str, str | None],
    agrees: Callable[[Sequence[Fill]], bool],
) -> list[Fill] | None:
    """The run of trades, in one of the orders that venues print in, that makes the candle; None where none does.

    The candle of a window whose trades are all in others is one of none: that is an empty run.
    """
    for order in _ORDERS:
        line = sorted(near, key=order)
        for start, end in _runs(line, theirs):
            if agrees(line[start:end]):
                return line[start:end]
    return [] if own and _nothing(theirs) else None


def _nothing(theirs: Mapping[str, str | None]) -> bool:
    return "0" in (theirs["volume_base"], theirs["volume_quote"], theirs["trade_count"])


def _runs(line: Sequence[Fill], theirs: Mapping[str, str | None]) -> list[tuple[int, int]]:
    """Runs of as many trades as the candle counts, or else of its size."""
    if theirs["trade_count"] is not None:
        weights: list[Decimal] = [Decimal(fill.fills) for fill in line]
        wanted = Decimal(theirs["trade_count"])
    elif theirs["volume_base"] is not None:
        weights, wanted = [fill.base for fill in line], Decimal(theirs["volume_base"])
    elif theirs["volume_quote"] is not None:
        weights, wanted = [fill.quote for fill in line], Decimal(theirs["volume_quote"])
    else:
        return []
    sums = [Decimal(0), *itertools.accumulate(weights)]
    first, last = Decimal(theirs["open"] or 0), Decimal(theirs["close"] or 0)
    made: list[tuple[int, int]] = []
    for start, fill in enumerate(line):
        if fill.price != first:
            continue
        end = bisect_left(sums, sums[start] + wanted, start + 1)
        if end < len(sums) and sums[end] == sums[start] + wanted and line[end - 1].price == last:
            made.append((start, end))
    return made
