"""Which of a symbol's trades bars are made from: `trade`, and `agg_trade` only where trades are not collected.

Pure, and decided a day at a time for each symbol of one (exchange, market_type): who has trade data or trade coverage
that day is *traded*, and nothing of its aggregated trades is looked at.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

import msgspec
import pyarrow as pa

from lake import merge
from lake.bars import EVERY_SYMBOL
from market.session import Coverage, Gap
from market.times import DAY, Interval, floor_to, subtract

TRADE, AGG_TRADE = "trade", "agg_trade"
TRADES = (TRADE, AGG_TRADE)
"""The kinds that bars count, the preferred one first."""
INPUTS = (*TRADES, "quote")
"""The kinds that bars are made from."""


def bar_cursor(exchange: str, market_type: str) -> str:
    """The manifest's cursor up to which (us) this market's provisional bars are written."""
    return f"bars/{exchange}/{market_type}"


class _OfSymbol(Protocol):
    @property
    def kind(self) -> str: ...

    @property
    def symbol(self) -> str | None: ...


R = TypeVar("R", bound=_OfSymbol)
Hole = TypeVar("Hole", Gap, Coverage)
_FAR = 2**62


def traded(coverage: Iterable[Coverage], time: int) -> frozenset[str]:
    """Symbols whose trades were collected on the day (UTC) of `time` (us)."""
    return frozenset(c.symbol for c in coverage if c.kind == TRADE and _days(c).contains(Interval(time, time + 1)))


def _days(row: Coverage) -> Interval:
    return Interval(floor_to(row.ts_from, DAY), -floor_to(-row.ts_to, DAY))


def aggregated(coverage: Iterable[Coverage], without: Collection[str]) -> bool:
    """Whether there may be aggregated trades of symbols that are not in `without` (the traded ones)."""
    symbols = {c.symbol for c in coverage if c.kind == AGG_TRADE}
    return not symbols or not symbols.issubset(without)


def chosen(rows: Iterable[R], symbols: Collection[str]) -> list[R]:
    """Of files, coverage or gaps of TRADES all but those of aggregated trades of `symbols`, which are the traded ones.

    What aggregated trades say of EVERY_SYMBOL counts only where none is traded.
    """
    hidden = {*symbols, EVERY_SYMBOL} if symbols else set()
    return [row for row in rows if row.kind == TRADE or row.symbol not in hidden]


def without_traded(rows: Iterable[Hole], coverage: Iterable[Coverage]) -> list[Hole]:
    """The same for any symbols and days: rows of aggregated trades are cut to the days on which nobody traded them.

    `rows` and `coverage` are of TRADES and of any market; `coverage` reaches over whole days.
    """
    days: dict[tuple[str, str, str], list[Interval]] = defaultdict(list)
    for c in coverage:
        if c.kind == TRADE:
            days[c.exchange, c.market_type, c.symbol].append(_days(c))
    kept: list[Hole] = []
    for row in rows:
        collected = () if row.kind == TRADE else days.get((row.exchange, row.market_type, row.symbol), ())
        if not collected:
            kept.append(row)
            continue
        end = _FAR if row.ts_to is None else max(row.ts_to, row.ts_from + 1)
        kept += [
            msgspec.structs.replace(row, ts_from=left.start, ts_to=None if left.end == _FAR else left.end)
            for left in subtract([Interval(row.ts_from, end)], collected)
        ]
    return kept


def by_symbols(found: Mapping[str, Iterable[pa.Table]], symbols: Collection[str], rows: int) -> Iterator[pa.Table]:
    """Trades for bars, symbols in order: a symbol's trades, or its aggregated ones where it is not traded.

    `found` holds the sorted rows of each of TRADES; `symbols` are traded even where they have no row in it. A table
    holds whole symbols of one kind, as many as make `rows` rows or one more.
    """
    held: list[pa.Table] = []
    last: tuple[str | None, str | None] = (None, None)
    count = 0
    for symbol, kind, pieces in heapq.merge(*(_named(kind, found.get(kind, ())) for kind in TRADES), key=_place):
        if kind == AGG_TRADE and (symbol in symbols or last == (symbol, TRADE)):
            continue
        if held and (count >= rows or kind != last[1]):
            yield pa.concat_tables(held)
            held, count = [], 0
        last = (symbol, kind)
        for piece in pieces:
            held.append(piece)
            count += piece.num_rows
    if held:
        yield pa.concat_tables(held)


def _named(kind: str, pieces: Iterable[pa.Table]) -> Iterator[tuple[str, str, Iterator[pa.Table]]]:
    for symbol, some in merge.by_symbol(pieces):
        yield symbol, kind, some


def _place(run: tuple[str, str, Iterator[pa.Table]]) -> tuple[bytes, int]:
    return run[0].encode(), TRADES.index(run[1])
