"""Which of a symbol's trades bars are made from: `trade`, and `agg_trade` only where trades are not collected.

Pure, and decided a day at a time for each symbol of one (exchange, market_type): who has trade data or trade coverage
that day is *traded*, and nothing of its aggregated trades is looked at.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeAlias, TypeVar

import msgspec
import polars as pl
import pyarrow as pa

from lake import merge
from lake.bars import EVERY_SYMBOL
from lake.rows import FileRow
from market.session import Coverage, Gap
from market.times import DAY, Interval, floor_to, subtract, union

TRADE, AGG_TRADE = "trade", "agg_trade"
TRADES = (TRADE, AGG_TRADE)
"""The kinds that bars count, the preferred one first."""
INPUTS = (*TRADES, "quote")
"""The kinds that bars are made from."""


def bar_cursor(exchange: str, market_type: str) -> str:
    """The manifest's cursor up to which (us) this market's provisional bars are written."""
    return f"bars/{exchange}/{market_type}"


BARS_DUE = "compactor/bars/"


def bars_due(exchange: str, market_type: str, date: str) -> str:
    """The cursor that is 1 while the bars of a closed day are to be made from its trades, and 0 once that is done."""
    return f"{BARS_DUE}{exchange}/{market_type}/{date}"


Hole = TypeVar("Hole", Gap, Coverage)
Market: TypeAlias = tuple[str, str]
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


def untraded(coverage: Iterable[Coverage], time: int) -> frozenset[str]:
    """Symbols of which only aggregated trades were collected on the day (UTC) of `time` (us)."""
    held = list(coverage)
    day = Interval(time, time + 1)
    symbols = frozenset(c.symbol for c in held if c.kind == AGG_TRADE and _days(c).contains(day))
    return symbols - traded(held, time)


def files_of(rows: Iterable[FileRow], symbols: Collection[str]) -> list[FileRow]:
    """Of files of TRADES all but those of aggregated trades of `symbols`, which are the traded ones."""
    return [row for row in rows if row.kind == TRADE or row.symbol not in symbols]


def chosen(rows: Iterable[Hole], symbols: Collection[str], others: Collection[str]) -> list[Hole]:
    """Of coverage and gaps of TRADES, of one day, those that say something of what bars are made from.

    `symbols` are traded, of `others` there are aggregated trades only: neither kind says anything of the other's
    symbols. Where there are both, what is said of EVERY_SYMBOL is said of each of them whose bars it concerns.
    """
    kept: list[Hole] = []
    for row in rows:
        spared, concerned = (others, symbols) if row.kind == TRADE else (symbols, others)
        if row.symbol == EVERY_SYMBOL and spared:
            kept += [msgspec.structs.replace(row, symbol=symbol) for symbol in sorted(concerned)]
        elif row.symbol not in spared:
            kept.append(row)
    return kept


def of_bars(rows: Iterable[Hole], coverage: Iterable[Coverage], asked: Collection[str] = ()) -> list[Hole]:
    """The same for any markets and days: rows are cut to the days on which bars were made from their kind.

    `rows` and `coverage` are of TRADES; `coverage` reaches over whole days. `asked` are symbols that may have bars
    without being in it.
    """
    held, told = list(rows), list(coverage)
    if all(row.kind == TRADE for row in held) and all(row.kind == TRADE for row in told):
        return held  # as nearly everywhere
    days, kept = _Days(told), list[Hole]()
    for row in held:
        everyone = row.symbol == EVERY_SYMBOL
        symbols = days.symbols(row, asked) if everyone else [row.symbol]
        spared = {symbol: days.spared(row, symbol) for symbol in symbols}
        span = Interval(row.ts_from, _FAR if row.ts_to is None else max(row.ts_to, row.ts_from + 1))
        mixed = union(span.clip(one) for one in itertools.chain.from_iterable(spared.values()))
        if not mixed:
            kept.append(row)
            continue
        kept += _cut(row, row.symbol, subtract([span], mixed))
        for symbol in symbols if everyone else ():
            kept += _cut(row, symbol, subtract(mixed, spared[symbol]))
    return kept


class _Days:
    """Which days of whom are told by which kind."""

    def __init__(self, coverage: Iterable[Coverage]) -> None:
        self._held: dict[str, dict[Market, dict[str, list[Interval]]]] = {kind: {} for kind in TRADES}
        for c in coverage:
            self._held[c.kind].setdefault((c.exchange, c.market_type), {}).setdefault(c.symbol, []).append(_days(c))
        self._made: dict[tuple[str, Market, str], list[Interval]] = {}

    def spared(self, row: Gap | Coverage, symbol: str) -> list[Interval]:
        """The days on which a row says nothing of the bars of a symbol."""
        return self._from(AGG_TRADE if row.kind == TRADE else TRADE, (row.exchange, row.market_type), symbol)

    def _from(self, kind: str, market: Market, symbol: str) -> list[Interval]:
        """The days on which a symbol's bars are made from a kind."""
        key = (kind, market, symbol)
        if key not in self._made:
            days = self._held[kind].get(market, {}).get(symbol, ())
            traded = self._from(TRADE, market, symbol) if days and kind == AGG_TRADE else ()
            self._made[key] = subtract(days, traded)
        return self._made[key]

    def symbols(self, row: Gap | Coverage, asked: Collection[str]) -> list[str]:
        """All that are known in the row's market, and those that are asked for."""
        market = (row.exchange, row.market_type)
        known = set(asked).union(*(self._held[kind].get(market, ()) for kind in TRADES))
        return sorted(known - {EVERY_SYMBOL})


def _cut(row: Hole, symbol: str, pieces: Iterable[Interval]) -> list[Hole]:
    """The row as one of this symbol, for each of these pieces of it."""
    return [
        msgspec.structs.replace(row, symbol=symbol, ts_from=one.start, ts_to=None if one.end == _FAR else one.end)
        for one in pieces
    ]


def by_symbols(
    found: Mapping[str, Iterable[pa.Table]], symbols: Collection[str], rows: int, width: int | None = None
) -> Iterator[pa.Table]:
    """Trades for bars, symbols in order: a symbol's trades, or its aggregated ones where it is not traded.

    `found` holds the sorted rows of each of TRADES; `symbols` are traded even where they have no row in it. A table
    holds whole symbols of one kind, as many as make `rows` rows or one more; where a `width` (us) is given it may also
    end inside a symbol, between two windows of that width.
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
            if width is not None and count >= rows and (open_rows := _unfinished(piece, width)) < piece.num_rows:
                yield pa.concat_tables(held).slice(0, count - open_rows)
                held, count = [piece.slice(piece.num_rows - open_rows)], open_rows
    if held:
        yield pa.concat_tables(held)


def _unfinished(piece: pa.Table, width: int) -> int:
    """How many rows of a symbol's piece are in the window of its last one: more of it may follow."""
    times = pl.Series(pl.from_arrow(piece.column("ts_event"))).to_physical()
    return len(times) - int(times.search_sorted(times[-1] - times[-1] % width))


def _named(kind: str, pieces: Iterable[pa.Table]) -> Iterator[tuple[str, str, Iterator[pa.Table]]]:
    for symbol, some in merge.by_symbol(pieces):
        yield symbol, kind, some


def _place(run: tuple[str, str, Iterator[pa.Table]]) -> tuple[bytes, int]:
    return run[0].encode(), TRADES.index(run[1])
