"""Reading a lake: `Lake(path).read / scan / sql`, each from one manifest snapshot, hot and final rows together.

Reads never wait for the writer and change nothing. A symbol is given in the venue's spelling or in the unified one.
Times are int us, ISO text, date or datetime; `start` is included, `end` is not.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, get_args

import msgspec
import polars as pl
import pyarrow as pa

from lake import bars, book_files, fills, sources, sql, tables
from lake.books import OrderBook
from lake.errors import WrongQuestion
from lake.fills import Fill, Spans, SymbolKey
from lake.listings import Listing, listings, refuse_two_listings, resolve
from lake.manifest import Manifest
from lake.manifest_reads import BATCH, Meta, Snapshot
from lake.reading import EVER, MinState, Selection, Wanted, check, choose, lazy
from lake.rows import FileRow
from lake.sizes import SIZED, with_sizes
from market import times
from market.kinds import kind
from market.session import Coverage, Gap
from market.times import DAY, HOUR, MINUTE, SECOND, Interval, floor_to

Time: TypeAlias = int | str | dt.datetime | dt.date
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_LAST_DAY = 9_000 * 365 * DAY
_PLANS = 16
"""Questions whose files are remembered for as long as the manifest does not change."""
_SMALL = 16_384
"""Rows below which a piece of a column is sooner copied than handed over by itself."""
_BAR = re.compile(r"bar_([1-9][0-9]{0,5})([smhd])")


class BarKind(msgspec.Struct, frozen=True):
    """A bar of any width (us), and the stored kind that it is folded from."""

    stored: str
    width: int

    @property
    def folded(self) -> bool:
        return bars.WIDTHS[self.stored] != self.width


def bar_kind(name: str) -> BarKind | None:
    """`bar_5m`, `bar_1h`, ... as what they are made of; None for what is no bar. Raises WrongQuestion (the width)."""
    match = _BAR.fullmatch(name)
    if match is None:
        return None
    width = int(match[1]) * _UNITS[match[2]]
    if width > DAY or DAY % width:
        raise WrongQuestion(f"{name} does not divide a day", "use for example bar_5m, bar_1h, bar_1d")
    return BarKind("bar_1s" if width % MINUTE else "bar_1m", width)


class _Question(msgspec.Struct, frozen=True):
    """What a read asks for, as far as its files follow from it."""

    kind: str
    bar: BarKind | None
    exchange: str | None
    market_type: str | None
    asked: tuple[Wanted, ...]
    span: Interval
    min_state: MinState
    across_listings: bool


class _Plan(msgspec.Struct, frozen=True):
    """One read, answered by the manifest: nothing after this asks it again."""

    kind: str
    bar: BarKind | None
    span: Interval
    wanted: tuple[Wanted, ...]
    files: tuple[FileRow, ...]
    selection: Selection
    contracts: tuple[FileRow, ...]
    gaps: tuple[Gap, ...]
    coverage: tuple[Coverage, ...]


class Lake:
    """A lake that is read. Close it, or use it in a `with` block; it may be shared between threads."""

    def __init__(self, path: str | Path) -> None:
        """Raises NotALake, UnknownVersion, CorruptFile."""
        self.root = Path(path)
        self.manifest = Manifest.read_only(self.root)
        self._listings: dict[tuple[str, ...], list[Listing]] = {}
        self._plans: dict[_Question, tuple[Meta, _Plan]] = {}

    def read(
        self,
        kind: str,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: str | Sequence[str] | None = None,
        start: Time | None = None,
        end: Time | None = None,
        columns: Sequence[str] | None = None,
        fill: Fill = "none",
        min_state: MinState = "provisional",
        across_listings: bool = False,
    ) -> pa.Table:
        """Rows of a kind in [start, end), sorted by (exchange, market_type, symbol, order).

        `kind` is a declared one or a bar of any width that divides a day (`bar_5m`). A bar over an open gap comes back
        null with `gap`; `fill` ("empty", "previous") asks for windows without a trade too. `min_state` leaves out what
        is not that sure yet: "final" reads closed days only, "verified" those that the venue's own data confirm.
        Kinds with quantities also have `qty_base` and `qty_quote`.
        Raises UnknownKind, Malformed (a time), WrongQuestion (an option, two listings of one ticker), CorruptFile.
        """
        plan = self._plan(kind, exchange, market_type, symbol, start, end, min_state, across_listings)
        if fill not in get_args(Fill) or (fill != "none" and plan.bar is None):
            raise WrongQuestion(f"fill={fill!r} is not possible for {kind}", "bars take none, empty or previous")
        if plan.bar is not None:
            names = _names(tables.schema(plan.kind).names, columns, kind)
            return _arrow(self._bars(plan, plan.bar, fill, names).select(names), plan.kind)
        rows = self._rows(plan)
        return _arrow(rows.select(_names(rows.collect_schema().names(), columns, kind)).collect(), plan.kind)

    def scan(
        self,
        kind: str,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: str | Sequence[str] | None = None,
        start: Time | None = None,
        end: Time | None = None,
        min_state: MinState = "provisional",
        across_listings: bool = False,
    ) -> pl.LazyFrame:
        """The rows that `read` would give, as a polars LazyFrame over the files of this moment.

        Files are hashed now, read later; daily ones stay readable while later revisions are published.
        """
        plan = self._plan(kind, exchange, market_type, symbol, start, end, min_state, across_listings)
        if plan.bar is None:
            return self._rows(plan)
        if plan.bar.folded:
            return self._bars(plan, plan.bar, "none", ()).lazy()
        width, gaps = plan.bar.width, _spans(plan.gaps)
        return self._rows(plan).map_batches(
            lambda frame: fills.hide_gaps(frame, width, gaps), predicate_pushdown=False, projection_pushdown=False
        )

    def sql(self, query: str) -> pa.Table:
        """The answer to one SELECT over a view per kind, and over `gaps`, `coverage`, `certificates` and `files`.

        Raises WrongQuestion: not one SELECT, or what DuckDB says is wrong with it; CorruptFile.
        """
        gathered = self.manifest.run(lambda conn: sql.gather(Snapshot(conn), query))
        return sql.select(self.root, gathered, query)

    def book(
        self,
        symbol: str,
        *,
        at: Time,
        exchange: str | None = None,
        market_type: str | None = None,
        depth: int | None = None,
    ) -> OrderBook:
        """The order book of a symbol at a time, of the best `depth` levels a side (default: all that are known).

        Rebuilt from the last whole book before it and the updates since, by ids and `ts_event` (estimated ones as
        stored), all from one snapshot of the manifest. Raises BookUnknown where the rows do not prove it, with the
        time since when and, on that day, until when; BookCrossed; WrongQuestion (several markets have such a symbol, a
        depth below 1); Malformed (a time); CorruptFile.
        """
        if depth is not None and depth < 1:
            raise WrongQuestion(f"depth={depth} is no number of levels", "ask for at least 1")
        time = times.parse(at)

        def ask(snapshot: Snapshot) -> list[book_files.Held]:
            known = self._known(snapshot.files("contract", exchange=exchange, market_type=market_type))
            return book_files.find(snapshot, Wanted(exchange, market_type, symbol), known, time)

        found = self.manifest.run(lambda conn: ask(Snapshot(conn)))
        return book_files.read(self.root, book_files.one(self.root, found, symbol, time), time, depth)

    def close(self) -> None:
        self.manifest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _plan(  # the arguments of `read`, in its order
        self,
        name: str,
        exchange: str | None,
        market_type: str | None,
        symbol: str | Sequence[str] | None,
        start: Time | None,
        end: Time | None,
        min_state: MinState,
        across_listings: bool,
    ) -> _Plan:
        bar = bar_kind(name)
        stored = kind(bar.stored if bar else name).name
        if min_state not in get_args(MinState):
            raise WrongQuestion(f"min_state={min_state!r} is not known", f"use one of {', '.join(get_args(MinState))}")
        span = Interval(
            EVER.start if start is None else times.parse(start), EVER.end if end is None else times.parse(end)
        )
        asked = _asked(exchange, market_type, symbol)
        question = _Question(
            kind=stored, bar=bar, exchange=exchange, market_type=market_type, asked=tuple(asked), span=span,
            min_state=min_state, across_listings=across_listings,
        )  # fmt: skip
        return self.manifest.run(lambda conn: self._answered(Snapshot(conn), question))

    def _answered(self, snapshot: Snapshot, question: _Question) -> _Plan:
        """The plan of a question, remembered for as long as the manifest says that nothing has changed."""
        now = snapshot.meta()
        held = self._plans.get(question)
        if held is not None and held[0] == now:
            return held[1]
        plan = self._planned(snapshot, question)
        self._plans = {**(self._plans if len(self._plans) < _PLANS else {}), question: (now, plan)}
        return plan

    def _planned(self, snapshot: Snapshot, q: _Question) -> _Plan:
        contracts = snapshot.files("contract", exchange=q.exchange, market_type=q.market_type)
        known = self._known(contracts)
        wanted = [venue for one in q.asked for venue in resolve(one, known)]
        around = q.span
        if q.bar is not None and q.span != EVER:
            around = Interval(floor_to(q.span.start, q.bar.width), -floor_to(-q.span.end, q.bar.width))
        symbols, (first, last) = _symbols(wanted), _dates(around)
        files = snapshot.files(
            q.kind, exchange=q.exchange, market_type=q.market_type, symbol=symbols, date_from=first, date_to=last
        )
        sure: frozenset[str] = frozenset()
        if q.min_state == "verified" and files:
            newest = {c.path: c.verified for c in snapshot.certificates(exchange=q.exchange, kind=q.kind)}
            sure = frozenset(path for path, verified in newest.items() if verified)
        selection = choose(q.kind, files, wanted, around, q.min_state, sure)
        if not q.across_listings:
            refuse_two_listings(known, wanted, _extent(selection, q.span))
        gaps, coverage = _holes(snapshot, q, symbols, around)
        return _Plan(
            kind=q.kind, bar=q.bar, span=q.span, wanted=tuple(wanted), files=tuple(files), selection=selection,
            contracts=tuple(contracts), gaps=tuple(gaps), coverage=tuple(coverage),
        )  # fmt: skip

    def _known(self, contracts: Sequence[FileRow]) -> list[Listing]:
        key = tuple(file.path for file in contracts)
        if key not in self._listings:
            self._listings = {key: listings(self.root, contracts)}
        return self._listings[key]

    def _rows(self, plan: _Plan) -> pl.LazyFrame:
        check(self.root, plan.selection.files)
        rows = lazy(self.root, plan.selection, plan.files)
        return with_sizes(rows) if plan.kind in SIZED else rows

    def _bars(self, plan: _Plan, bar: BarKind, fill: Fill, columns: Sequence[str]) -> pl.DataFrame:
        """Bars as they are shown; at least `columns` of them where nothing needs the others."""
        found = self._rows(plan)
        if fill == "none" and not bar.folded:
            needed = fills.NEEDED if plan.gaps else ("gap",)
            found = found.select(list(dict.fromkeys((*needed, *columns))))
        rows = found.collect()
        if bar.folded:
            rows = _folded(rows, bar.width, plan)
            low, high = (pl.lit(edge).cast(pl.Datetime("us", "UTC")) for edge in (plan.span.start, plan.span.end))
            rows = rows.filter((pl.col("window_start") >= low) & (pl.col("window_start") < high))
        gaps = _spans(plan.gaps)
        shown = fills.hide_gaps(rows, bar.width, gaps)
        if fill == "none":
            return shown
        coverage = _spans(c for c in plan.coverage if any(_takes(w, c) for w in plan.wanted))
        return fills.filled(shown, bar.width, fill, plan.span, coverage, gaps)


def _asked(exchange: str | None, market_type: str | None, symbol: str | Sequence[str] | None) -> list[Wanted]:
    symbols = [symbol] if symbol is None or isinstance(symbol, str) else list(dict.fromkeys(symbol))
    return [Wanted(exchange, market_type, one) for one in symbols]


def _extent(selection: Selection, span: Interval) -> Interval:
    """The part of `span` that the files reach: an open end is no reason to refuse."""
    held = selection.files
    if not held:
        return Interval(0, 0)
    return span.clip(Interval(min(file.ts_min for file in held), max(file.ts_max for file in held) + 1))


def _symbols(wanted: Sequence[Wanted]) -> list[str] | None:
    """What the manifest is asked for: whatever says nothing of these symbols cannot be of use. None for all."""
    names = {one.symbol for one in wanted if one.symbol is not None}
    return None if len(names) > BATCH or any(one.symbol is None for one in wanted) else sorted(names)


def _dates(span: Interval) -> tuple[str | None, str | None]:
    """The first and last day of a span: rows lie in the file of their event's day."""
    edges = (span.start, span.end - 1)
    first, last = (times.date_of(at).isoformat() if 0 <= at < _LAST_DAY else None for at in edges)
    return first, last


def _holes(
    snapshot: Snapshot, q: _Question, symbols: list[str] | None, span: Interval
) -> tuple[list[Gap], list[Coverage]]:
    """Gaps and coverage of what the bars were made from: trades, or aggregated ones where trades are not collected."""
    if q.bar is None:
        return [], []
    days = Interval(floor_to(span.start, DAY), -floor_to(-span.end, DAY))
    gaps: list[Gap] = []
    coverage: list[Coverage] = []
    named = None if symbols is None else [*symbols, bars.EVERY_SYMBOL]
    for source in sources.TRADES:
        gaps += snapshot.gaps(
            q.exchange, q.market_type, source, named, state=("open", "unrepairable"), overlapping=span
        )
        coverage += snapshot.coverage(q.exchange, q.market_type, source, named, overlapping=days)
    inside = [c for c in coverage if c.ts_from < span.end and c.ts_to > span.start]
    return sources.without_traded(gaps, coverage), sources.without_traded(inside, coverage)


def _spans(rows: Iterable[Gap | Coverage]) -> Spans:
    """Intervals by symbol. A gap that still grows has no end, and one between two ids of one us is one us wide."""
    held: dict[SymbolKey, list[Interval]] = {}
    for row in rows:
        end = EVER.end if row.ts_to is None else max(row.ts_to, row.ts_from + 1)
        held.setdefault((row.exchange, row.market_type, row.symbol), []).append(Interval(row.ts_from, end))
    return held


def _takes(wanted: Wanted, row: Coverage) -> bool:
    return (
        wanted.exchange in (None, row.exchange)
        and wanted.market_type in (None, row.market_type)
        and wanted.symbol in (None, row.symbol)
    )


def _folded(rows: pl.DataFrame, width: int, plan: _Plan) -> pl.DataFrame:
    """Wider bars, market by market; `partial` where coverage does not contain the wide window."""
    made: list[pl.DataFrame] = []
    for key, part in rows.group_by("exchange", "market_type", maintain_order=True):
        market = tuple(str(name) for name in key)
        mine = [c for c in plan.coverage if (c.exchange, c.market_type) == market]
        covered = bars.by_symbol((c.symbol, c.ts_from, c.ts_to) for c in mine)
        folded = pl.from_arrow(bars.fold(part, width, coverage=covered))
        assert isinstance(folded, pl.DataFrame)
        made.append(folded)
    return pl.concat(made) if made else rows


def _names(held: Sequence[str], columns: Sequence[str] | None, name: str) -> list[str]:
    if columns is None:
        return list(held)
    unknown = [column for column in columns if column not in held]
    if unknown:
        raise WrongQuestion(f"{name} has no column {', '.join(unknown)}", f"it has {', '.join(held)}")
    return list(columns)


def _arrow(frame: pl.DataFrame, name: str) -> pa.Table:
    """In the types of the files: names as dictionary<int32, string>, times as timestamp[us, UTC]."""
    schema = tables.schema(name)
    if frame.height < _SMALL * frame.n_chunks():
        frame = frame.rechunk()
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields: list[pa.Field] = []
    made: list[Any] = []
    for column in table.column_names:
        values = table.column(column)
        if column in schema.names:
            wanted = schema.field(column).type
            if pa.types.is_dictionary(wanted) and not pa.types.is_dictionary(values.type):
                values = values.cast(pa.string()).dictionary_encode()
            values = values if values.type == wanted else values.cast(wanted)
        fields.append(pa.field(column, values.type))
        made.append(values)
    return pa.table(made, schema=pa.schema(fields))
