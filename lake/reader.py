"""Reading a lake: `Lake(path).read / scan / bars / book / sql`, each from one snapshot, hot and final rows together.

Reads never wait for the writer and change nothing. A symbol is given in the venue's spelling or in the unified one.
Times are int us, ISO text, date or datetime; `start` is included, `end` is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, get_args

import msgspec
import polars as pl
import pyarrow as pa

from lake import asking, batching, book_files, completeness, plans, tables, wide_bars
from lake.answers import arrow, names_of
from lake.asking import BarKind, Duration, Question, Symbols, Time, asked, bar_kind, bar_of, question_of, time_of
from lake.books import OrderBook
from lake.completeness import Completeness
from lake.errors import MissingFile, WrongQuestion
from lake.feature_reads import FeatureReads
from lake.fill_pieces import Filling
from lake.fills import Fill
from lake.manifest import Manifest
from lake.manifest_reads import Meta, Snapshot
from lake.plans import Plan
from lake.reading import MinState, Wanted, check, collected, in_turn, lazy, streamed, turns
from lake.sizes import SIZED, SIZES, stored_for, with_sizes
from lake.telling import Telling
from market.times import Interval

if TYPE_CHECKING:
    from lake.sql import Asking

T = TypeVar("T")
_PLANS = 16
"""Questions whose files are remembered for as long as the manifest does not change."""


class Lake(Telling):
    """A lake that is read. Close it, or use it in a `with` block; it may be shared between threads."""

    def __init__(self, path: str | Path) -> None:
        """Raises NotALake, UnknownVersion, CorruptFile, WrongQuestion (what is no path)."""
        if not isinstance(path, str | PathLike):
            raise WrongQuestion(f"path={path!r} is no path", "it is a text or a Path: the lake's folder")
        root = Path(path)
        super().__init__(root, Manifest.read_only(root))
        self._plans: dict[Question, tuple[Meta, Plan]] = {}
        self.features = FeatureReads(self)

    def read(
        self,
        kind: str,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
        columns: Sequence[str] | None = None,
        fill: Fill = "none",
        min_state: MinState = "provisional",
        version: int | None = None,
        as_of: Time | None = None,
        across_listings: bool = False,
    ) -> pa.Table:
        """Rows of a kind in [start, end), sorted by (exchange, market_type, symbol, order).

        `kind` is a declared one or a bar of any width that divides a day (`bar_5m`). A bar over an open gap comes back
        null with `gap`; `fill` ("empty", "previous") asks for windows without a trade too, as far as the answer is
        complete. `min_state` leaves out what is not that sure yet: "final" reads closed days only, "verified" those
        that the venue's own data confirm.
        `version` reads that revision of closed days, `as_of` what was live at a time (and the gaps known then).
        Kinds with quantities also have `qty_base` and `qty_quote`. `lake.completeness.of(table)` says how complete the
        answer is. Raises UnknownKind, Malformed (a time), WrongQuestion (an option, two listings of one ticker),
        NotHeld (an earlier answer that is no longer kept), CorruptFile.
        """
        bar = bar_kind(kind)
        question = question_of(
            kind, bar, exchange, market_type, symbol, start, end, min_state, version, as_of, across_listings
        )
        return self._table(question, columns, fill, kind)

    def bars(
        self,
        interval: Duration = "1m",
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
        offset: Duration = 0,
        columns: Sequence[str] | None = None,
        fill: Fill = "none",
        min_state: MinState = "provisional",
        version: int | None = None,
        as_of: Time | None = None,
        across_listings: bool = False,
    ) -> pa.Table:
        """Bars of any interval of whole seconds (`90s`, `15m`, `4h`, `1d`, `1w`, us, a timedelta), as `read` has them.

        Windows begin at 1970-01-01T00:00Z plus whole intervals plus `offset` (weeks on Mondays); those that start in
        [start, end) are given, each folded from all of its stored bars. Sums are exact. A window that was not covered
        whole, or is not over yet, is `partial`; one over an open gap is null with `gap`. Bid and ask are of the last
        stored bar with a trade (`ts_quote` says when). Raises what `read` raises.
        """
        bar = bar_of(interval, offset)
        question = question_of(
            bar.stored, bar, exchange, market_type, symbol, start, end, min_state, version, as_of, across_listings
        )
        return self._table(question, columns, fill, bar.stored)

    def scan(
        self,
        kind: str,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
        min_state: MinState = "provisional",
        version: int | None = None,
        as_of: Time | None = None,
        across_listings: bool = False,
    ) -> pl.LazyFrame:
        """The rows that `read` would give, as a polars LazyFrame over the files of this moment.

        Files are hashed now, read later: of bars with the columns that are needed then, from a new snapshot where some
        are gone; other kinds by polars itself, which wants them to be there still (`compactor.grace_seconds`).
        """
        bar = bar_kind(kind)
        question = question_of(
            kind, bar, exchange, market_type, symbol, start, end, min_state, version, as_of, across_listings
        )

        if bar is None:
            return self._planned(question, self._lazily)

        def checked(plan: Plan) -> Plan:
            check(self.root, plan.selection.files)
            return plan

        now = self._planned(question, checked)

        def answer(names: Sequence[str]) -> pl.DataFrame:
            def made(plan: Plan) -> pl.DataFrame:
                return wide_bars.shown(self.root, plan, bar, names)

            try:
                return made(now)
            except (MissingFile, FileNotFoundError):
                return self._planned(question, made)

        return wide_bars.lazily(question.kind, answer)

    def batches(
        self,
        kind: str,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
        columns: Sequence[str] | None = None,
        fill: Fill = "none",
        min_state: MinState = "provisional",
        version: int | None = None,
        as_of: Time | None = None,
        across_listings: bool = False,
        batch_rows: int = batching.BATCH_ROWS,
    ) -> pa.RecordBatchReader:
        """The rows of `read` as Arrow record batches of at most `batch_rows` rows: memory does not grow with them.

        One symbol comes in the order of `read`; several come day by day, with `fill` symbol by symbol, as `read` has
        them. `lake.completeness.of(reader)` says how complete they are. What is deleted before its turn (an iteration
        may take longer than `compactor.grace_seconds`) is read from a new snapshot. Raises what `read` raises;
        CorruptFile may come with any batch.
        """
        question = question_of(
            kind, bar_kind(kind), exchange, market_type, symbol, start, end, min_state, version, as_of, across_listings
        )
        return self._batches(question, columns, fill, batch_rows, kind)

    def bar_batches(
        self,
        interval: Duration = "1m",
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
        offset: Duration = 0,
        columns: Sequence[str] | None = None,
        fill: Fill = "none",
        min_state: MinState = "provisional",
        version: int | None = None,
        as_of: Time | None = None,
        across_listings: bool = False,
        batch_rows: int = batching.BATCH_ROWS,
    ) -> pa.RecordBatchReader:
        """The rows of `bars`, as `batches` gives those of `read`."""
        bar = bar_of(interval, offset)
        question = question_of(
            bar.stored, bar, exchange, market_type, symbol, start, end, min_state, version, as_of, across_listings
        )
        return self._batches(question, columns, fill, batch_rows, bar.stored)

    def completeness(
        self,
        kind: str,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: Symbols = None,
        start: Time | None = None,
        end: Time | None = None,
        min_state: MinState = "provisional",
        version: int | None = None,
        as_of: Time | None = None,
        across_listings: bool = False,
    ) -> Completeness:
        """How complete `read` would be if it were asked now: up to when it has everything, and the gaps it meets."""
        bar = bar_kind(kind)
        question = question_of(
            kind, bar, exchange, market_type, symbol, start, end, min_state, version, as_of, across_listings
        )
        return self._planned(question, lambda plan: plan.told)

    def sql(self, query: str, *, limit: int | None = None, timeout: float | None = None) -> pa.Table:
        """The answer to one SELECT over a view per kind and the tables of the manifest: docs/sql.md.

        At most `limit` rows, in at most `timeout` seconds. Raises WrongQuestion: not one SELECT, or what DuckDB says is
        wrong with it; TooMuch; CorruptFile.
        """
        from lake.sql import Limits  # noqa: PLC0415 # as in `_sql`

        if not isinstance(query, str):
            raise WrongQuestion(f"query={query!r} is no query", "it is a text: one SELECT")
        asking.number("limit", limit, 0)
        asking.seconds("timeout", timeout)
        return self._sql.ask(query, Limits(seconds=timeout, rows=limit)).table

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
        asking.number("depth", depth, 1)
        if not isinstance(symbol, str):
            raise WrongQuestion(f"symbol={symbol!r} is no name", "a book is of one symbol, and that a text")
        (wanted,) = asked(exchange, market_type, symbol)
        time = time_of(at, "at")

        def ask(snapshot: Snapshot) -> tuple[int, list[book_files.Held]]:
            known = self._names.listings(snapshot, exchange, market_type)
            return snapshot.version, book_files.find(snapshot, wanted, known, time)

        def rebuilt(found: list[book_files.Held]) -> OrderBook:
            return book_files.read(self.root, book_files.one(self.root, found, symbol, time), time, depth)

        return self._fresh(ask, rebuilt)

    @cached_property
    def _sql(self) -> Asking:
        from lake.sql import Asking  # noqa: PLC0415 # DuckDB is 30 MB and a quarter of a second: for who asks in SQL

        return Asking(self.root, self.manifest)

    def close(self) -> None:
        if "_sql" in self.__dict__:
            self._sql.close()
        self.manifest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _table(self, question: Question, columns: Sequence[str] | None, fill: Fill, name: str) -> pa.Table:
        bar = question.bar
        _check_fill(fill, bar, name)

        def answer(plan: Plan) -> pa.Table:
            if bar is None:
                names = names_of((*tables.schema(name).names, *(SIZES if name in SIZED else ())), columns, name)
                frame = self._collected(plan, names)
            else:
                names = names_of(tables.schema(plan.kind).names, columns, name)
                if fill != "none":
                    return completeness.attach(self._filled(plan, bar, fill, names), plan.told)
                frame = wide_bars.shown(self.root, plan, bar, names)
            return completeness.attach(arrow(frame, plan.kind).select(names), plan.told)

        return self._planned(question, answer)

    def _filled(self, plan: Plan, bar: BarKind, fill: Fill, names: Sequence[str]) -> pa.Table:
        """Bars with a row for every window, of which nothing but these columns is held whole."""
        every = tables.schema(plan.kind).names
        frames = Filling(self.root, plan, bar, fill).pieces(
            lambda part: wide_bars.shown(self.root, part, bar, every)
        )  # fmt: skip
        pieces = [arrow(frame.select(names), plan.kind) for frame in frames]
        pieces = pieces or [arrow(_empty(plan.kind).select(names).collect(), plan.kind)]
        return pa.concat_tables(pieces).unify_dictionaries()

    def _batches(
        self, question: Question, columns: Sequence[str] | None, fill: Fill, batch_rows: int, name: str
    ) -> pa.RecordBatchReader:
        asking.number("batch_rows", batch_rows, 1)
        bar = question.bar
        _check_fill(fill, bar, name)

        def begun(plan: Plan) -> tuple[Plan, Filling | None]:
            return plan, None if fill == "none" or bar is None else Filling(self.root, plan, bar, fill)

        plan, filling = self._planned(question, begun)
        empty = arrow(_empty(plan.kind).collect(), plan.kind)
        names = names_of(empty.column_names, columns, name)
        schema = empty.select(names).schema.with_metadata(completeness.metadata(plan.told))

        def again(span: Interval, wanted: Sequence[Wanted], use: Callable[[Plan], pl.DataFrame]) -> pl.DataFrame:
            part = msgspec.structs.replace(question, span=span, asked=tuple(wanted), across_listings=True)
            return self._planned(part, use)

        found = batching.batches(self.root, plan, names, batch_rows, again, filling)
        return pa.RecordBatchReader.from_batches(schema, found)

    def _planned(self, question: Question, use: Callable[[Plan], T]) -> T:
        def ask(snapshot: Snapshot) -> tuple[int, Plan]:
            plan = self._answered(snapshot, question)
            return plan.told.manifest_version, plan

        return self._fresh(ask, use)

    def _answered(self, snapshot: Snapshot, question: Question) -> Plan:
        """The plan of a question, remembered for as long as the manifest says that nothing has changed."""
        now = snapshot.meta()
        held = self._plans.get(question)
        if held is not None and held[0] == now:
            return held[1]
        plan = plans.plan(self._names, snapshot, question, now.version)
        self._plans = {**(self._plans if len(self._plans) < _PLANS else {}), question: (now, plan)}
        return plan

    def _lazily(self, plan: Plan) -> pl.LazyFrame:
        """The rows of a plan, of which hot ones of one symbol are read some hours at a time."""
        if not in_turn(plan.selection):
            return self._rows(plan)
        check(self.root, plan.selection.files)
        rows = streamed(turns(self.root, plan.selection, plan.files))
        return with_sizes(rows) if plan.kind in SIZED else rows

    def _collected(self, plan: Plan, names: Sequence[str]) -> pl.DataFrame:
        """The rows of a plan with just these columns."""
        if plan.kind in SIZED:
            return self._rows(plan, names).select(names).collect()
        check(self.root, plan.selection.files)
        return collected(self.root, plan.selection, plan.files, names)

    def _rows(self, plan: Plan, names: Sequence[str] | None = None) -> pl.LazyFrame:
        """The rows of a plan, of which the columns `names` are there at least."""
        check(self.root, plan.selection.files)
        needed = None if names is None else stored_for(plan.kind, names)
        rows = lazy(self.root, plan.selection, plan.files, needed)
        return with_sizes(rows) if plan.kind in SIZED else rows


def _check_fill(fill: Fill, bar: BarKind | None, name: str) -> None:
    if fill not in get_args(Fill) or (fill != "none" and bar is None):
        raise WrongQuestion(f"fill={fill!r} is not possible for {name}", "bars take none, empty or previous")


def _empty(name: str) -> pl.LazyFrame:
    """No rows, in the columns of an answer."""
    held = pl.from_arrow(tables.empty(name))
    assert isinstance(held, pl.DataFrame)
    return with_sizes(held.lazy()) if name in SIZED else held.lazy()
