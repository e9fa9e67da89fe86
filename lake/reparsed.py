"""A closed day's rows as today's parsers read its frames: which would change, and the rows of the day with the change.

As `lake.reproduced`, an hour at a time. What frames make takes the place of what they made; rows whose frames were not
read (other sources, frames that are gone, damaged lines) stay as they are. Compared is what a content digest is made
of; provenance and receive times are no change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from lake import identity, merge, tables
from lake.digest import canonical_lines
from lake.manifest_reads import Snapshot
from lake.publish import Placement, publish
from lake.reproduced import HASH, LINE, ROW, Comparison, Reach, ours
from lake.rows import FileRow
from market import kinds
from market.times import DAY, HOUR, Interval

CHANGED, ADDED, REMOVED = "changed", "added", "removed"
OPEN_DAY = "not all of its rows are in daily files: its day is not over, or late rows wait to be merged (dl compact)"
WIDEST = 120
"""Characters of a value that are shown."""
MADE = "#made"
_ASIDE = frozenset({"date", "ts_recv", "ts_publish", "source", "exchange", "market_type", *kinds.PROVENANCE})
"""Columns that are no content."""


class RowChange(msgspec.Struct, frozen=True):
    """One row that is otherwise now. `columns` is name -> [old, new] as text: those that differ."""

    what: str
    symbol: str
    ts_event: str
    session: str
    frame_no: int
    item: int
    columns: dict[str, tuple[str | None, str | None]]


class FileChange(msgspec.Struct):
    """One daily file: how many rows are otherwise, and the hot files with all of its rows as they would be."""

    symbol: str | None
    base: FileRow | None
    rows: int = 0
    changed: int = 0
    added: int = 0
    removed: int = 0
    parts: list[FileRow] = []

    @property
    def any(self) -> bool:
        return bool(self.changed or self.added or self.removed)


class StreamChange(msgspec.Struct, kw_only=True):
    """One stream and day. `rows` are those of the lake: same + changed + removed + kept, of which frames tell nothing.

    `recovered` are added rows in gaps by the gap's cause. `refused` says why nothing of it was looked at; `spared` are
    symbols of which frames tell no row at all: their files stay as they are.
    """

    exchange: str
    market_type: str
    kind: str
    date: str
    rows: int = 0
    same: int = 0
    changed: int = 0
    added: int = 0
    removed: int = 0
    kept: int = 0
    recovered: dict[str, int] = {}
    refused: str = ""
    spared: list[str] = []
    files: list[FileChange] = []
    examples: list[RowChange] = []


class Reparse(Comparison):
    """What `parts` ((Parquet file of made rows, its hour)) change of a day.

    The first `shown` rows are told. Into `out` go the rows of the files that change (None: nowhere). `symbol` limits it
    to one. `elsewhere` is the provenance of rows that frames make of a date that is not re-parsed: what they were made
    into stays here.
    """

    def __init__(
        self,
        root: Path,
        snapshot: Snapshot,
        stream: tuple[str, str, str],
        date: str,
        parts: Sequence[tuple[Path, int]],
        reach: Reach,
        *,
        symbol: str | None,
        shown: int,
        out: Path | None,
        elsewhere: pl.DataFrame,
    ) -> None:
        super().__init__(root, snapshot, stream, date, parts, reach)
        exchange, market_type, kind = stream
        self.date = date
        self.only = symbol
        self.shown = shown
        self.out = out
        self.elsewhere = elsewhere
        waiting = [
            row for row in snapshot.segments(*stream) if row.state == "open" or (row.state == "sealed" and row.rows)
        ]
        self.waits = min((row.period_start for row in waiting), default=None)
        self.sure = reach.holds() & ~reach.unsure(kind)
        """Of which rows frames tell all that is to be said."""
        self.found = StreamChange(exchange=exchange, market_type=market_type, kind=kind, date=date)

    def day(self) -> StreamChange:
        """Raises CorruptFile, StorageFailed."""
        if self.hot or (self.waits is not None and self.waits < self.start + DAY):
            self.found.refused = OPEN_DAY
            return self.found
        made = self.digests([path for path, _ in self.parts])
        for symbol in sorted({*made, *self.days}, key=lambda name: name or ""):
            if self.split and self.only not in (None, symbol):
                continue
            day = self.days.get(symbol)
            told = self.told.get(day.path) if day is not None else None
            if told is not None and told.content_digest in made.get(symbol, ([], 0))[0]:
                self.found.rows += told.rows
                self.found.same += told.rows
                continue
            change = FileChange(symbol, day)
            for hour in range(DAY // HOUR):
                self._hour(change, hour)
            if change.base is not None and change.removed and change.removed == change.rows and not change.added:
                self.found.spared.append(symbol or "")  # that nothing of it ever was is no word to delete by
            elif change.any:
                self.found.files.append(change)
        self.found.recovered = dict(+self.lost)
        return self.found

    def _hour(self, change: FileChange, hour: int) -> None:
        span = Interval(self.start + hour * HOUR, self.start + (hour + 1) * HOUR)
        held = [self.root / change.base.path] if change.base is not None else []
        lake = self.observed(held, change.symbol, span)
        mine = self.observed([path for path, at in self.parts if at == hour], change.symbol, span)
        if not lake.num_rows and not mine.num_rows:
            return
        old = self.keyed(lake)
        new = identity.matched(self.kind, old, self.keyed(mine))
        covered, offered = old.filter(self.sure), new.filter(self.sure)
        if not self.split and self.only is not None:
            covered, offered = (frame.filter(pl.col("symbol") == self.only) for frame in (covered, offered))
        both = covered.join(new.select(HASH, pl.col(LINE).alias(MADE), pl.col(ROW).alias("#new")), on=HASH)
        changed = both.filter(pl.col(LINE) != pl.col(MADE))
        removed = covered.join(new, on=HASH, how="anti").join(self.elsewhere, on=list(kinds.PROVENANCE), how="anti")
        added = offered.join(old, on=HASH, how="anti")
        asked = self._asked(lake, mine, anew=bool(added.height))
        self._count(change, old.height, both.height - changed.height, changed.height, added, removed.height)
        change.changed += asked[0].len()
        self.found.changed += asked[0].len()
        self._show(CHANGED, lake, mine, changed.sort("ts_event", "frame_no"))
        self._show(ADDED, lake, mine, added.sort("ts_event", "frame_no"))
        self._show(REMOVED, lake, mine, removed.sort("ts_event", "frame_no"))
        if self.out is not None:
            gone = pl.concat([changed.get_column(ROW), removed.get_column(ROW), asked[0]])
            come = pl.concat([changed.get_column("#new"), added.get_column(ROW), asked[1]])
            change.parts += self._write(self.out, change.symbol, hour, (lake, gone), (mine, come))

    def _asked(self, lake: pa.Table, mine: pa.Table, *, anew: bool) -> tuple[pl.Series, pl.Series]:
        """Snapshots of a book, which say when we asked: those read otherwise now, by row number on either side.

        New ones come only with new rows (`anew`), none is given up.
        """
        none = pl.Series([], dtype=pl.UInt32)
        if "flags" not in lake.column_names:
            return none, none
        old, new = self._snapshots(lake), self._snapshots(mine)
        old = old.filter(self.sure)
        both = old.join(new.rename({LINE: MADE, ROW: "#new"}), on=list(kinds.PROVENANCE))
        both = both.filter(pl.col(LINE) != pl.col(MADE))
        come = both.get_column("#new")
        if anew:
            known = self._snapshots(lake)
            fresh = new.join(known, on=list(kinds.PROVENANCE), how="anti").filter(self.sure)
            come = pl.concat([come, fresh.get_column(ROW)])
        return both.get_column(ROW), come

    def _snapshots(self, table: pa.Table) -> pl.DataFrame:
        flagged = pl.Series(pl.from_arrow(ours(table))).fill_null(value=False)
        place = pl.int_range(table.num_rows, eager=True, dtype=pl.UInt32).filter(flagged)
        some = table.take(place.to_arrow())
        frame = merge.plain_frame(some.select([*kinds.PROVENANCE, "ts_recv"]))
        lines = canonical_lines(some, self.kind) if some.num_rows else pl.Series([], dtype=pl.String)
        return frame.with_columns(place.alias(ROW), lines.alias(LINE), pl.col("ts_recv").to_physical().cast(pl.Int64))

    def _count(self, change: FileChange, rows: int, same: int, changed: int, added: pl.DataFrame, removed: int) -> None:
        found = self.found
        found.rows += rows
        found.same += same
        change.rows += rows
        found.kept += rows - same - changed - removed
        for place in (found, change):
            place.changed += changed
            place.added += added.height
            place.removed += removed
        self._recovered(added)

    def _recovered(self, added: pl.DataFrame) -> None:
        for gap in self.gaps if added.height else ():
            inside = added.select(self.lost_in(gap)).to_series()
            self.lost[gap.cause] += int(inside.sum())
            added = added.filter(~inside)

    def _write(
        self, out: Path, symbol: str | None, hour: int, old: tuple[pa.Table, pl.Series], new: tuple[pa.Table, pl.Series]
    ) -> list[FileRow]:
        """The rows of an hour with the change, as one hot file: old ones less those numbers, new ones of those."""
        (lake, gone), (mine, come) = old, new
        numbers = pl.int_range(lake.num_rows, eager=True, dtype=pl.UInt32)
        kept = lake.take(numbers.filter(~numbers.is_in(gone.implode())).to_arrow())
        rows = pa.concat_tables([kept, mine.take(come.sort().to_arrow())]).unify_dictionaries().combine_chunks()
        if not rows.num_rows:
            return []
        found = self.found
        place = Placement(
            kind=found.kind, exchange=found.exchange, market_type=found.market_type, level="part", date=self.date,
            hour=hour, symbol=symbol,
        )  # fmt: skip
        return [publish(out, place, [merge.in_order(self.kind, rows)], run="reparse", now=0)]

    def _show(self, what: str, lake: pa.Table, mine: pa.Table, rows: pl.DataFrame) -> None:
        """The first rows of one sort of change, column by column."""
        left = self.shown - sum(one.what == what for one in self.found.examples)
        for row in rows.head(max(0, left)).iter_rows(named=True):
            old = None if what == ADDED else _values(lake, row[ROW])
            new = None if what == REMOVED else _values(mine, row["#new"] if what == CHANGED else row[ROW])
            said = new or old or {}
            columns = {
                name: ((old or {}).get(name), (new or {}).get(name))
                for name in said
                if name not in _ASIDE and (old or {}).get(name) != (new or {}).get(name)
            }
            at = str(said["ts_event"])
            self.found.examples.append(
                RowChange(what, row["symbol"], at, row["session"], row["frame_no"], row["item"], columns)
            )


def _values(table: pa.Table, place: int) -> dict[str, str | None]:
    """A row in words: numbers as the venue wrote them where their floats are not."""
    row: dict[str, Any] = table.slice(place, 1).to_pylist()[0]
    said: dict[str, str | None] = {}
    for name, value in row.items():
        if name.endswith(tables.TEXT_SUFFIX) and name.removesuffix(tables.TEXT_SUFFIX) in row:
            if value is not None and isinstance(value, str):
                said[name.removesuffix(tables.TEXT_SUFFIX)] = value
            continue
        said[name] = None if value is None else _short(value)
    return said


def _short(value: Any) -> str:
    if isinstance(value, list):
        value = " ".join(f"{level['price']}:{level['qty']}" for level in value)
    elif hasattr(value, "isoformat"):
        value = value.isoformat()
    text = str(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
