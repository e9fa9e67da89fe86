"""From the manifest's rows to one lazy frame: which files, which rows of them, hot and final together, none twice.

A day of a symbol that has a daily file is read from it alone. Whatever else is live is hot: parts and hours that may
hold a row twice until they are merged, so of rows with one identity the first received stays (of open_interest the
last, of bars the highest revision).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import polars as pl
from polars.io.plugins import register_io_source

from lake import identity, joined, tables
from lake.feature_rows import FeatureRow
from lake.parquet import check_sha256
from lake.rows import FileRow
from market.kinds import BARS, PROVENANCE, kind
from market.session import EVERY_SYMBOL
from market.times import DAY, HOUR, MINUTE, Interval, floor_to

Market: TypeAlias = tuple[str, str]
MinState: TypeAlias = Literal["provisional", "final", "verified"]
EVER = Interval(-(2**62), 2**62)
_MARKET = ("exchange", "market_type", "symbol")
_RUNS = 8
"""Scans that one frame is put together of."""
_TURN_ROWS = 200_000
"""Rows of hot files, of all symbols, that are put in order together."""
AROUND = MINUTE
"""Copies of a hot row from two connections may differ by so much in an estimated time: each slice looks beyond it."""


class Wanted(msgspec.Struct, frozen=True):
    """One symbol of one market, None meaning any."""

    exchange: str | None = None
    market_type: str | None = None
    symbol: str | None = None

    def takes(self, file: FileRow) -> bool:
        return (
            self.exchange in (None, file.exchange)
            and self.market_type in (None, file.market_type)
            and (self.symbol is None or file.symbol in (None, self.symbol))
        )

    def means(self, exchange: str, market_type: str, symbol: str) -> bool:
        """Whether what is said of a symbol, or of every one, says something of what is wanted."""
        return (
            self.exchange in (None, exchange)
            and self.market_type in (None, market_type)
            and (self.symbol in (None, symbol) or symbol == EVERY_SYMBOL)
        )

    def rows(self) -> pl.Expr:
        """Which rows of a file that holds several symbols."""
        named = {"exchange": self.exchange, "market_type": self.market_type, "symbol": self.symbol}
        wanted = [pl.col(name) == value for name, value in named.items() if value is not None]
        return pl.all_horizontal(wanted) if wanted else pl.lit(value=True)


class Selection(msgspec.Struct, frozen=True):
    """Files that answer one read: daily ones in the order of their rows, and hot ones."""

    kind: str
    wanted: tuple[Wanted, ...]
    span: Interval
    final: tuple[FileRow, ...]
    hot: tuple[FileRow, ...]

    @property
    def files(self) -> tuple[FileRow, ...]:
        return self.final + self.hot

    def narrowed(self, span: Interval, wanted: tuple[Wanted, ...]) -> Selection:
        """The same for a part of the span and some of the symbols."""

        def some(files: tuple[FileRow, ...]) -> tuple[FileRow, ...]:
            inside = (file for file in files if file.ts_max >= span.start and file.ts_min < span.end)
            return tuple(file for file in inside if any(one.takes(file) for one in wanted))

        return Selection(self.kind, wanted, span, some(self.final), some(self.hot))


def time_column(name: str) -> str:
    """The column that `start` and `end` of a read limit."""
    return "window_start" if name in BARS else "ts_event"


def choose(
    name: str,
    files: Sequence[FileRow],
    wanted: Sequence[Wanted],
    span: Interval,
    min_state: MinState = "provisional",
    verified: frozenset[str] = frozenset(),
) -> Selection:
    """The files of `files` (live ones of the kind) that can hold wanted rows. `verified` are certified paths."""
    mine = [f for f in files if f.ts_max >= span.start and f.ts_min < span.end and any(w.takes(f) for w in wanted)]
    final = [f for f in mine if f.level == "day" and (min_state != "verified" or f.path in verified)]
    final.sort(key=lambda f: (f.exchange, f.market_type, f.symbol or "", f.date, f.hour or 0))
    hot = [f for f in mine if f.level != "day"] if min_state == "provisional" else []
    closed = {(f.exchange, f.market_type, f.date) for f in files if f.level == "day" and f.symbol is None}
    hot = [f for f in hot if (f.exchange, f.market_type, f.date) not in closed]
    return Selection(name, tuple(wanted), span, tuple(final), tuple(hot))


def lazy(
    root: Path, selection: Selection, files: Sequence[FileRow], columns: Sequence[str] | None = None
) -> pl.LazyFrame:
    """All wanted rows, sorted by (exchange, market_type, symbol, order). `files` are the live ones of the kind.

    Who needs some `columns` only may say so: the others need not be there.
    """
    name = selection.kind
    if in_turn(selection):
        return pl.concat(turns(root, selection, files))
    frames: list[pl.LazyFrame] = []
    if selection.final:
        frames.append(_scan(root, selection.final, selection, columns if _ordered(selection) else None))
    if selection.hot:
        frames.append(_hot(root, selection, files))
    if not frames:
        return _nothing(name)
    whole = pl.concat(frames) if len(frames) > 1 else frames[0]
    return whole if _ordered(selection) else whole.sort(_order(name), nulls_last=False, maintain_order=True)


def _nothing(name: str) -> pl.LazyFrame:
    empty = pl.from_arrow(tables.empty(name))
    assert isinstance(empty, pl.DataFrame)
    return empty.lazy()


def streamed(frames: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """The rows of frames that follow each other, each read when the rows of those before it did not suffice."""

    def give(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        left = rows
        for frame in frames:
            some = frame if predicate is None else frame.filter(predicate)
            some = some if columns is None else some.select(columns)
            held = (some if left is None else some.head(left)).collect()
            yield held
            if left is not None:
                left -= held.height
                if left <= 0:
                    return

    return register_io_source(give, schema=frames[0].collect_schema())


def in_turn(selection: Selection) -> bool:
    """Whether hot rows are among what is wanted, all of one symbol: their order is first of all that of time."""
    if not selection.hot:
        return False
    markets = {(file.exchange, file.market_type) for file in selection.files}
    symbols = {wanted.symbol for wanted in selection.wanted}
    return len(markets) == 1 and len(symbols) == 1 and None not in symbols


def turns(root: Path, selection: Selection, files: Sequence[FileRow]) -> list[pl.LazyFrame]:
    """The rows of one symbol, hot ones among them, in frames that follow each other.

    A day is closed, or hot, and hot rows are put in order some hours at a time.
    """
    order = _order(selection.kind)
    found: list[tuple[int, FileRow | Interval]] = [(file.ts_min, file) for file in selection.final]
    found += [(span.start, span) for span in _spans(selection)]
    found.sort(key=lambda turn: turn[0])
    frames: list[pl.LazyFrame] = []
    for closed, some in itertools.groupby(found, lambda turn: isinstance(turn[1], FileRow)):
        held = [one for _, one in some]
        if closed:
            frames.append(_scan(root, [one for one in held if isinstance(one, FileRow)], selection))
            continue
        for span in held:
            assert isinstance(span, Interval)
            around = Interval(span.start - AROUND, span.end + AROUND)
            mine = tuple(file for file in selection.hot if file.ts_max >= around.start and file.ts_min < around.end)
            part = msgspec.structs.replace(selection, span=around, final=(), hot=mine)
            rows = _hot(root, part, files).filter(_during(selection.kind, span))
            frames.append(rows.sort(order, nulls_last=False, maintain_order=True))
    return frames or [_nothing(selection.kind)]


def _spans(selection: Selection) -> Iterator[Interval]:
    """The time that hot files hold, in spans of whole hours, each with about _TURN_ROWS rows or of one hour; a day ends
    one.
    """
    hot = selection.hot
    last = max(file.ts_max for file in hot) + 1
    start: int | None = None
    rows = 0
    for low in range(floor_to(min(file.ts_min for file in hot), HOUR), last, HOUR):
        mine = [file for file in hot if file.ts_max >= low and file.ts_min < low + HOUR]
        if mine and start is None:
            start, rows = low, 0
        rows += sum(file.rows for file in mine)
        if start is not None and (rows >= _TURN_ROWS or (low + HOUR) % DAY == 0 or low + HOUR >= last):
            span = selection.span.clip(Interval(start, low + HOUR))
            if not span.empty:
                yield span
            start = None


def collected(root: Path, selection: Selection, files: Sequence[FileRow], columns: Sequence[str]) -> pl.DataFrame:
    """The rows of `lazy` with just these columns."""
    if _joinable(selection):
        cut = not all(_wanted_whole(file, selection) for file in selection.final)
        time = time_column(selection.kind)
        needed = list(dict.fromkeys((*columns, time))) if cut else list(columns)
        try:
            frame = joined.read(selection.kind, [f"{root}/{file.path}" for file in selection.final], needed)
        except joined.Unjoined:
            pass  # a column that holds lists, another writer's encoding: polars reads the files as they are
        else:
            return frame.filter(_during(selection.kind, selection.span)).select(columns) if cut else frame
    return lazy(root, selection, files, columns).select(columns).collect()


def _joinable(selection: Selection) -> bool:
    """Whether these are small daily files of one symbol each, and nothing else."""
    held = selection.final
    size = sum(file.bytes for file in held)
    return (
        not selection.hot and len(held) >= joined.FEWEST and size <= min(joined.MOST_BYTES, joined.SMALL * len(held))
        and all(file.symbol is not None for file in held)
    )  # fmt: skip


def _during(name: str, span: Interval) -> pl.Expr:
    """Rows of a kind inside a span."""
    time = pl.col(time_column(name))
    low, high = (pl.lit(edge).cast(pl.Datetime("us", "UTC")) for edge in (span.start, span.end))
    return (time >= low) & (time < high)


def _scan(
    root: Path, files: Sequence[FileRow], selection: Selection, columns: Sequence[str] | None = None
) -> pl.LazyFrame:
    """The wanted rows of these files; a file that holds nothing else is read without looking at each row."""
    runs = [
        (plain, list(held)) for plain, held in itertools.groupby(files, lambda file: _wanted_whole(file, selection))
    ]
    if len(runs) > _RUNS:
        runs = [(False, list(files))]
    if columns is not None:
        filtered = () if all(plain for plain, _ in runs) else (*_MARKET, time_column(selection.kind))
        columns = list(dict.fromkeys((*columns, *filtered)))
    frames = [_scanned(root, held, None if plain else selection, columns) for plain, held in runs]
    return pl.concat(frames) if len(frames) > 1 else frames[0]


def _wanted_whole(file: FileRow, selection: Selection) -> bool:
    """Whether every row of a file is asked for: one of all symbols tells nothing of whose rows it holds."""
    inside = selection.span.start <= file.ts_min and file.ts_max < selection.span.end
    return inside and (file.symbol is not None or Wanted() in selection.wanted)


def _scanned(
    root: Path, files: Sequence[FileRow], selection: Selection | None, columns: Sequence[str] | None
) -> pl.LazyFrame:
    paths = [f"{root}/{file.path}" for file in files]
    if columns is None:
        frame = pl.scan_parquet(paths, hive_partitioning=False, glob=False)
    else:  # told which columns there are, polars looks at those of each footer only
        schema = polars_schema(files[0].kind)
        some = {name: schema[name] for name in columns}
        frame = pl.scan_parquet(paths, hive_partitioning=False, glob=False, schema=some, extra_columns="ignore")
    if selection is None:
        return frame
    if selection.span != EVER:
        frame = frame.filter(_during(selection.kind, selection.span))
    if Wanted() not in selection.wanted:
        frame = frame.filter(pl.any_horizontal([wanted.rows() for wanted in selection.wanted]))
    return frame


@cache
def polars_schema(name: str) -> pl.Schema:
    """The columns of the kind's files, as polars has them."""
    held = pl.from_arrow(tables.empty(name))
    assert isinstance(held, pl.DataFrame)
    return held.schema


def _hot(root: Path, selection: Selection, files: Sequence[FileRow]) -> pl.LazyFrame:
    """Hot rows without those whose day is closed, and without duplicates."""
    frame = _scan(root, selection.hot, selection)
    dates = {file.date for file in selection.hot}
    closed = [
        (f.exchange, f.market_type, f.symbol, f.date)
        for f in files
        if f.level == "day" and f.symbol is not None and f.date in dates
    ]
    if closed:
        days = pl.DataFrame(closed, schema=["exchange", "market_type", "symbol", "#date"], orient="row").lazy()
        keys = ["exchange", "market_type", "symbol"]
        texts = [pl.col(key).cast(pl.String) for key in keys]
        days = days.with_columns(pl.col("#date").str.to_date())
        frame = frame.join(days, left_on=[*texts, pl.col("date")], right_on=[*keys, "#date"], how="anti")
    return deduplicated(frame, selection.kind)


def deduplicated(frame: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """One row of each identity, by the rule of the kind."""
    declared = kind(name)
    market = ("exchange", "market_type", "symbol")
    if name in BARS:
        ranked = frame.sort("revision", "trade_count", descending=True, nulls_last=True, maintain_order=True)
        return ranked.unique([*market, "window_start"], keep="first", maintain_order=True)
    latest = declared.keep == "last"
    ranked = frame.sort("ts_recv", *PROVENANCE, descending=latest, nulls_last=latest, maintain_order=True)
    places = [pl.when(identity.anonymous(name)).then(pl.col(column)).alias(f"#{column}") for column in PROVENANCE]
    told = [*identity.beside(name), *places]
    keys = [*market[:2], *identity.key(name), *(f"#{column}" for column in PROVENANCE)]
    unlike = ranked.with_columns(told).unique(keys, keep="first", maintain_order=True)
    return unlike.drop([one.meta.output_name() for one in told])


def _order(name: str) -> list[pl.Expr]:
    """Sort keys; names by their text, since categories have an order of their own."""
    market = [pl.col(column).cast(pl.String) for column in ("exchange", "market_type", "symbol")]
    return [*market, *(pl.col(column).cast(pl.String) if column == "session" else pl.col(column)
                       for column in kind(name).order)]  # fmt: skip


def _ordered(selection: Selection) -> bool:
    """Whether reading the daily files one after the other is the order already."""
    if selection.hot:
        return False
    names = {(file.exchange, file.market_type, file.symbol) for file in selection.final}
    return None not in {symbol for _, _, symbol in names} or len(selection.final) == 1


_checked: dict[str, tuple[str, int, int]] = {}


def check(root: Path, files: Sequence[FileRow | FeatureRow]) -> None:
    """Hash each file the first time it is opened here, or when it changed. Raises CorruptFile.

    Only pyarrow verifies page checksums, and a flipped bit mostly reads back silently wrong.
    """
    for file in files:
        path = f"{root}/{file.path}"  # a Path costs as much as the look at the file
        try:
            stat = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            stat = None
        seen = (file.sha256, stat.st_size, stat.st_mtime_ns) if stat else None
        if seen is None or _checked.get(path) != seen:
            check_sha256(Path(path), file.sha256)
            if seen is not None:
                _checked[path] = seen
