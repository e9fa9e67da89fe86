"""The integrity checks of `market.kinds`, vectorised: what a table's rows violate, and which ids are not there.

Pure. Every accumulator takes a table in pieces, sorted by `tables.sort_columns(kind)`, and holds little: counts, one
row, runs of ids. A violation is counted with its first example; rows are never dropped or changed here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from lake import heard, scaled, tables
from lake.merge import plain_frame, plain_series
from market import kinds, numbers, times

OUT_OF_ORDER = "out_of_order"
CROSSED = "not_crossed"
CONTIGUOUS = "contiguous"
DUPLICATE = "duplicate"
"""Rows left out because their identity is there already: counted by whoever leaves them out."""
DIFFERS = "differs"
"""Rows of an import whose id the lake has with other values: counted by the import."""
BOOK_CROSSED = "book_crossed"
"""An order book whose best bid is not below its best ask: counted by whoever rebuilds it."""
SEAL = "seal"
"""A segment that is not what its seal says."""
REPARSES = REPARSED, REPARSED_ADDED, REPARSED_REMOVED = "reparsed", "reparsed_added", "reparsed_removed"
"""Rows of a daily file that were made otherwise of their frames than when they came; that came or went by it, so that
no line in raw/ tells of them, or of which one still does.
"""

_OHLC = ("open", "high", "low", "close")


class Finding(msgspec.Struct):
    """`count` rows (for `contiguous`: jumps) of `symbol` break `check`; `detail` is the first of them."""

    check: str
    symbol: str
    count: int
    detail: str = ""


class Hole(msgspec.Struct, frozen=True):
    """Ids [id_from, id_to) are not there; the events around them have the times `ts_from` and `ts_to` (us)."""

    id_from: int
    id_to: int
    ts_from: int
    ts_to: int


class Checks:
    """Counts violations of the checks that the kind declares, and rows that came before their predecessor: of those
    that were received live, since when a file was taken in says nothing of order.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.declared = kinds.kind(kind).checks
        self._found: dict[tuple[str, str], Finding] = {}
        self._last: pa.Table | None = None
        self._heard: pa.Table | None = None
        """The last row that was received live."""
        wanted = ["symbol", "ts_event", "ts_recv"]
        for check in self.declared:
            wanted += [name for name in (*_columns(check), "condition") if name in tables.schema(kind).names]
        self.columns = list(dict.fromkeys(wanted))

    def add(self, table: pa.Table) -> None:
        """One more piece of the table."""
        if table.num_rows == 0:
            return
        live = heard.live(table)
        table = table.select(self.columns)
        rows = table if live is None else table.filter(live.to_arrow())
        frame = None if self._sound(table, all_heard=live is None) else _frame(table)
        if live is not None:
            self._order(_frame(rows))
        elif frame is not None:
            self._order(frame)
        if frame is not None:
            self._closer(frame)
        self._last = _last_row(table)
        if rows.num_rows:
            self._heard = self._last if live is None else _last_row(rows)

    def _closer(self, frame: pl.DataFrame) -> None:
        for check in self.declared:
            match check:
                case kinds.Positive(column):
                    self._count(f"positive_{column}", frame.filter(~(pl.col(column) > 0) & ~_void(frame)), (column,))
                case kinds.NotCrossed(bid, ask):
                    self._count(CROSSED, frame.filter(pl.col(bid) >= pl.col(ask)), (bid, ask))
                case kinds.OhlcSane():
                    self._count("ohlc_sane", frame.filter(~_sane()), _OHLC)
                case kinds.Contiguous(column):
                    self._jumps(frame, column)

    def _sound(self, table: pa.Table, *, all_heard: bool) -> bool:
        """Whether one look at the numbers of one symbol tells that nothing is broken; if not, a closer one tells."""
        if table.column("symbol").num_chunks != 1 or len(table.column("symbol").chunk(0).dictionary) > 1:
            return False
        # of another symbol the row before is above nothing, which is for the closer look
        if all_heard and any(_doubtful(steps < 0) for steps in _steps(table, self._heard, "ts_recv")):
            return False
        for check in self.declared:
            match check:
                case kinds.Positive(column):
                    least = plain_series(table.column(column)).min()
                    doubt = least is not None and not least > 0  # type: ignore[operator] # a number
                case kinds.NotCrossed(bid, ask):
                    doubt = _doubtful(plain_series(table.column(bid)) >= plain_series(table.column(ask)))
                case kinds.OhlcSane():
                    doubt = not plain_frame(table.select(_OHLC)).select_seq(_sane().all()).item()
                case kinds.Contiguous(column):
                    doubt = any(_doubtful(steps != 1) for steps in _steps(table, self._last, column))
            if doubt:
                return False
        return True

    def _order(self, frame: pl.DataFrame) -> None:
        joined = frame if self._heard is None else pl.concat([_frame(self._heard), frame])
        before = (pl.col("ts_recv") < pl.col("ts_recv").shift(1)) & (pl.col("symbol") == pl.col("symbol").shift(1))
        self._count(OUT_OF_ORDER, joined.filter(before), ("ts_recv",))

    def _jumps(self, frame: pl.DataFrame, column: str) -> None:
        joined = frame if self._last is None else pl.concat([_frame(self._last), frame])
        step = pl.col(column) - pl.col(column).shift(1)
        jump = (step != 1) & (pl.col("symbol") == pl.col("symbol").shift(1))
        self._count(CONTIGUOUS, joined.filter(jump), (column,))

    def _count(self, check: str, rows: pl.DataFrame, shown: tuple[str, ...]) -> None:
        if rows.is_empty():
            return
        firsts = rows.group_by("symbol", maintain_order=True).agg(
            pl.len().alias("#count"), pl.col("ts_event", *shown).first()
        )
        for row in firsts.iter_rows(named=True):
            symbol = row["symbol"]
            detail = f"{times.text(row['ts_event'])} " + " ".join(f"{name}={row[name]}" for name in shown)
            found = self._found.setdefault((check, symbol), Finding(check, symbol, 0, detail))
            found.count += row["#count"]

    def findings(self) -> list[Finding]:
        """What was found, by check and symbol."""
        return [self._found[key] for key in sorted(self._found)]

    def count(self, check: str, symbol: str | None = None) -> int:
        """Rows that break `check`, of one symbol or of all."""
        return sum(f.count for (name, of), f in self._found.items() if name == check and symbol in (None, of))


def _last_row(table: pa.Table) -> pa.Table:
    """A copy, which holds nothing else of the table."""
    return table.take(pa.array([table.num_rows - 1]))


def _steps(table: pa.Table, above: pa.Table | None, name: str) -> Iterator[pl.Series]:
    """How far each row is above the row before it: the first one above that of `above`, and those behind it."""
    values = plain_series(table.column(name)).cast(pl.Int64)
    if above is not None:
        yield values.head(1) - plain_series(above.column(name)).cast(pl.Int64)
    yield values.slice(1) - values.slice(0, len(values) - 1)


def _doubtful(doubts: pl.Series) -> bool:
    """Whether there is one; a null tells nothing."""
    return bool(doubts.any())


def _frame(table: pa.Table) -> pl.DataFrame:
    times = [name for name in ("ts_event", "ts_recv") if name in table.column_names]
    return plain_frame(table).with_columns(pl.col(times).to_physical())


def _columns(check: kinds.Check) -> tuple[str, ...]:
    match check:
        case kinds.Positive(column) | kinds.Contiguous(column):
            return (column,)
        case kinds.NotCrossed(bid, ask):
            return (bid, ask)
        case _:
            return _OHLC


def _void(frame: pl.DataFrame) -> pl.Expr:
    """Rows that say themselves that they are no trade: the venue numbers them, no bar counts them."""
    return (pl.col("condition") == "void") if "condition" in frame.columns else pl.lit(value=False)


def _sane() -> pl.Expr:
    """Null prices (a bar over a gap) break nothing."""
    sane = pl.all_horizontal(
        (pl.col("low") <= pl.col("open")), (pl.col("open") <= pl.col("high")),
        (pl.col("low") <= pl.col("close")), (pl.col("close") <= pl.col("high")), pl.col("low") > 0,
    )  # fmt: skip
    return sane | pl.any_horizontal(pl.col(name).is_null() for name in _OHLC)


def check_table(table: pa.Table, kind: str) -> list[Finding]:
    """The findings of one sorted table."""
    checks = Checks(kind)
    checks.add(table)
    return checks.findings()


class Ids:
    """Which ids of one symbol are there, as runs without a hole, each with the times of its first and last event.

    Fed in any order; ids may repeat. Memory is one entry a run, and an ordinary day has few.
    """

    _PENDING = 4096

    def __init__(self) -> None:
        self._runs: list[pl.DataFrame] = []
        self._merged = _no_runs()

    def add(self, ids: pl.Series, at: pl.Series) -> None:
        """Ids with the event times (us) they have; null ids count nothing."""
        if ids.has_nulls():
            ids, at = ids.drop_nulls(), at.filter(ids.is_not_null())
        if ids.is_empty():
            return
        ids, at = ids.cast(pl.Int64), at.cast(pl.Int64)
        if _one_run(ids):
            self._keep(pl.DataFrame([(ids[0], ids[-1] + 1, at[0], at[-1])], _no_runs().schema, orient="row"))
            return
        frame = pl.DataFrame({"id": ids, "at": at})
        if not frame.get_column("id").is_sorted():
            frame = frame.sort("id", "at", maintain_order=True)
        starts = (pl.col("id").diff() > 1).fill_null(value=True).cum_sum()
        runs = frame.group_by(starts.alias("run"), maintain_order=True).agg(
            pl.col("id").first().alias("start"), (pl.col("id").last() + 1).alias("end"),
            pl.col("at").first().alias("ts_start"), pl.col("at").last().alias("ts_end"),
        )  # fmt: skip
        self._keep(runs.drop("run"))

    def _keep(self, runs: pl.DataFrame) -> None:
        self._runs.append(runs)
        if len(self._runs) >= self._PENDING:
            self._merge()

    def _merge(self) -> pl.DataFrame:
        if self._runs:
            every = pl.concat([self._merged, *self._runs]).sort("start", "end", maintain_order=True)
            fresh = (pl.col("start") > pl.col("end").cum_max().shift(1)).fill_null(value=True).cum_sum()
            grouped = every.group_by(fresh.alias("run"), maintain_order=True).agg(
                pl.col("start").first(), pl.col("end").max(), pl.col("ts_start").first(),
                pl.col("ts_end").sort_by("end").last(),
            )  # fmt: skip
            self._merged, self._runs = grouped.drop("run"), []
        return self._merged

    @property
    def first(self) -> int | None:
        """The lowest id, None where there is none."""
        return self._bound("start", 0)

    @property
    def last(self) -> int | None:
        """The highest id, None where there is none."""
        end = self._bound("end", -1)
        return None if end is None else end - 1

    def _bound(self, column: str, place: int) -> int | None:
        runs = self._merge()
        return None if runs.is_empty() else int(runs.get_column(column)[place])

    @property
    def stored(self) -> int:
        """Number of distinct ids."""
        return sum(run.length for run in self.runs())

    def runs(self) -> list[times.Interval]:
        """The ids that are there."""
        return [times.Interval(*row) for row in self._merge().select("start", "end").iter_rows()]

    def holes(self) -> list[Hole]:
        """The ids between the first and the last that are not there."""
        runs = list(self._merge().iter_rows(named=True))
        return [
            Hole(before["end"], after["start"], before["ts_end"], max(before["ts_end"], after["ts_start"]))
            for before, after in itertools.pairwise(runs)
        ]


def _one_run(ids: pl.Series) -> bool:
    """Whether each id is one more than that above it."""
    return bool(ids[-1] - ids[0] == len(ids) - 1 and (ids.slice(1) - ids.slice(0, len(ids) - 1) == 1).all())


def _no_runs() -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(("start", "end", "ts_start", "ts_end"), pl.Int64))


class Sums:
    """Exact sums of the decimal columns of a kind (of book levels: of every price and quantity), whatever the order.

    Two tables that hold the same rows have equal sums; conservation is checked with them.
    """

    _ENOUGH = 32 * 1024
    """Rows that are summed at once: a call costs as much for a few rows as for thousands."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rows = 0
        self.columns = [
            name
            for column in tables.columns(kind)
            if column.type in ("decimal", "levels")
            for name in (column.name, tables.text_name(column.name))
        ]
        self._totals: dict[str, tuple[int, int]] = {}
        self._held: list[pa.Table] = []
        self._held_rows = 0

    def add(self, table: pa.Table, sign: int = 1) -> None:
        """Adds a table's rows; with `sign` -1 takes them off again."""
        self.rows += sign * table.num_rows
        if sign < 0 or tables.level_columns(self.kind):
            self._sum(table, sign)
            return
        self._held.append(table.select(self.columns))
        self._held_rows += table.num_rows
        if self._held_rows >= self._ENOUGH:
            self._settle()

    def _settle(self) -> None:
        if self._held:
            self._sum(pa.concat_tables(self._held), 1)
        self._held, self._held_rows = [], 0

    def _sum(self, table: pa.Table, sign: int) -> None:
        for name, floats, texts in _decimals(table, self.kind):
            value, exponent = _total(floats, texts)
            total, used = self._totals.get(name, (0, 0))
            most = max(used, exponent)
            total = total * 10 ** (most - used) + sign * value * 10 ** (most - exponent)
            self._totals[name] = (total, most)

    def texts(self) -> dict[str, str]:
        """The sums as plain decimals; columns without a value are zero."""
        self._settle()
        return {name: numbers.unscale(*total) for name, total in sorted(self._totals.items()) if total[0]}

    def same(self, other: Sums) -> bool:
        """Whether rows and all sums are equal."""
        return self.rows == other.rows and self.texts() == other.texts()


def _total(floats: pl.Series, texts: pl.Series | None) -> tuple[int, int]:
    """The exact sum as an integer and its exponent."""
    if texts is None and len(floats) > 1 and scaled.single(floats):
        value, exponent = _total(floats.head(1), None)
        return value * len(floats), exponent
    whole = scaled.whole_floats(floats, scaled.FLOAT_INTEGERS // max(len(floats), 1)) if texts is None else None
    if whole is not None:
        return int(whole.values.sum() or 0), whole.exponent
    try:
        column = scaled.from_table(floats, texts)
        return numbers.scale(scaled.total(column), column.exponent), column.exponent
    except scaled.Overflow:
        most, total = 60, 0
        for text in scaled.texts_of(floats, texts).drop_nulls():
            whole, _, fraction = text.partition(".")
            total += int(whole + fraction.ljust(most, "0"))
        return total, most


def _decimals(table: pa.Table, kind: str) -> Iterator[tuple[str, pl.Series, pl.Series | None]]:
    for name in tables.decimal_columns(kind):
        texts = table.column(tables.text_name(name))
        yield name, _series(table.column(name)), _series(texts) if texts.null_count < len(texts) else None
    for name, floats, texts in tables.flat_levels(table, kind):
        yield name, _series(floats), _series(texts) if texts.null_count < len(texts) else None


def _series(column: Any) -> pl.Series:
    made = pl.from_arrow(column)
    assert isinstance(made, pl.Series)
    return made


def totals(pieces: Iterable[pa.Table], kind: str) -> Sums:
    """The exact sums over the pieces of a table."""
    sums = Sums(kind)
    for piece in pieces:
        sums.add(piece)
    return sums
