"""The lines of a file of data.binance.vision as rows of their kind, each line looked at. Pure, a block at a time.

Numbers stay the venue's texts; times become us, ids integers. A file whose lines are not what its name says, or that
contradicts itself, is refused as a whole: see `Reading`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import msgspec
import polars as pl
import pyarrow as pa
from pyarrow import csv

from collectors.files.archive import kinds_of
from collectors.files.archive.kinds_of import UNITS
from collectors.files.archive.refused import Refused
from collectors.files.archive.vision import ArchiveFile
from market.times import Interval, text, union

MICROSECONDS_FROM = 1_735_689_600_000_000
"""2025-01-01: spot files of this day and later say microseconds, all others milliseconds."""
MOST_HOLES = 10_000
BATCH_ROWS = 250_000
SMALL = 64 * 1024 * 1024
_ROW = re.compile(r"Row #(\d+)")
_INTEGER = r"^(?:0|[1-9][0-9]{0,17})$"
_AGAIN = "fetch it again; if it stays so, the publisher's file is broken"
_HOLES = "--holes takes it all the same: the missing ids are then an open gap"
_UNIT = "--any-unit takes times by their size, if the publisher has changed the unit"


class Allowed(msgspec.Struct, frozen=True):
    """What is taken although it is not as documented: `holes` in the ids, times in `any_unit`."""

    holes: bool = False
    any_unit: bool = False
    contract_size: str | None = None
    """What one contract is worth (inverse markets)."""


NOTHING = Allowed()


class Hole(msgspec.Struct, frozen=True):
    """Ids [id_from, id_to) that are not there, between two rows' times."""

    id_from: int
    id_to: int
    ts_from: int
    ts_to: int


class Facts(msgspec.Struct):
    """What the lines of a file were. `unit` is ms, us or seconds; ids where the kind has them; times in us."""

    rows: int = 0
    lines: int = 0
    header: bool = False
    unit: str = ""
    first_id: int | None = None
    last_id: int | None = None
    first: int = 0
    last: int = 0
    repeated: int = 0
    """Lines that the publisher wrote twice, each counted once (forced orders)."""
    holes: list[Hole] = []


class Reading:
    """One file: `batches` gives its rows, `facts` what they were once that is through, `coverage` what they prove.

    Refused are: a header or a number of columns that are not the data set's, values that are no integers, times or
    truth values where these stand, times outside of the file's period or of another unit, rows out of order, ids that
    repeat, and (unless allowed) ids that are missing.
    """

    def __init__(self, file: ArchiveFile, allowed: Allowed = NOTHING) -> None:
        self.file = file
        self.facts = Facts(holes=[])
        self._allowed = allowed
        self._covered: list[Interval] = []
        series = file.series
        self._columns = series.dataset.columns(series.market_type)
        self._convert: Callable[[pl.DataFrame, Reading], pl.DataFrame] = getattr(kinds_of, series.kind)

    def batches(self, blocks: Iterable[bytes]) -> Iterator[pl.DataFrame]:
        """Columns as `lake.adopting` takes them, from whole lines. Raises Refused."""
        twice = self.file.series.kind == "liquidation"
        for block in [self._small(blocks)] if twice else blocks:
            begun = self._begin(block) if not self.facts.lines else block
            frame = self._texts(begun)
            for start in range(0, frame.height, BATCH_ROWS):
                piece = frame.slice(start, BATCH_ROWS)
                made = self._convert(piece, self)
                self.facts.rows += made.height
                yield made
        if not self.facts.rows:
            raise self.refuse("columns", "it has no rows", _AGAIN)

    def _small(self, blocks: Iterable[bytes]) -> bytes:
        """All of a file whose lines must be seen together."""
        whole = b""
        for block in blocks:
            whole += block
            if len(whole) > SMALL:
                raise self.refuse("size", f"more than {SMALL:,} bytes of forced orders in a day", "look at what it is")
        return whole

    @property
    def coverage(self) -> list[Interval]:
        """What the rows prove: from the first to the last one without holes; of what comes at intervals, these."""
        if self._covered:
            return union(self._covered)
        holes = self.facts.holes
        starts = [self.facts.first, *(hole.ts_to for hole in holes)]
        ends = [*(hole.ts_from + 1 for hole in holes), self.facts.last + 1]
        return union([Interval(a, b) for a, b in zip(starts, ends, strict=True) if a < b])

    def covered(self, starts: pl.Series, lasts: pl.Series | int) -> None:
        """Each row holds from its start for so long (us)."""
        frame = pl.DataFrame({"a": starts, "b": starts + lasts})
        begins = (pl.col("a") > pl.col("b").cum_max().shift(1)).fill_null(value=True).cum_sum()
        runs = frame.group_by(begins.alias("run")).agg(pl.col("a").min(), pl.col("b").max())
        self._covered = union([*self._covered, *(Interval(a, b) for _, a, b in runs.iter_rows())])

    def refuse(self, rule: str, what: str, fix: str = _AGAIN) -> Refused:
        return Refused(self.file.name, rule, what, fix)

    @property
    def allowed(self) -> Allowed:
        return self._allowed

    def integers(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """A column of ids or counts."""
        self.all_of(frame, name, frame[name].str.contains(_INTEGER), "no integer")
        return frame[name].cast(pl.Int64)

    def all_of(self, frame: pl.DataFrame, name: str, good: pl.Series, what: str, rule: str = "value") -> None:
        """Refuses the file where a row is not good."""
        bad = ~good.fill_null(value=False)
        if bad.any():
            row = frame.filter(bad).row(0, named=True)
            raise self.refuse(rule, f"line {row['frame_no']}: {name} is {what}: {str(row[name])[:60]!r}")

    def truths(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """True, False, true, false."""
        lower = frame[name].str.to_lowercase()
        self.all_of(frame, name, lower.is_in(["true", "false"]), "neither true nor false")
        return lower == "true"

    def times(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """Times in us; their unit by their size, the same all through the file, and the documented one."""
        given = self.integers(frame, name)
        unit = next((name for name, (low, high, _) in UNITS.items() if low <= given[0] < high), "")
        if not unit:
            raise self.refuse("unit", f"line {frame['frame_no'][0]}: {name} {given[0]} is no time in ms or us")
        self._one_unit(unit)
        low, high, scale = UNITS[unit]
        what = f"no time in {unit}, as the lines before it"
        self.all_of(frame, name, given.is_between(low, high, closed="left"), what, "unit")
        return given * scale

    def _one_unit(self, unit: str) -> None:
        if self.facts.unit not in ("", unit):
            raise self.refuse("unit", f"its times change from {self.facts.unit} to {unit}")
        spot, start = self.file.series.market_type == "spot", self.file.span.start
        documented = "us" if spot and start >= MICROSECONDS_FROM else "ms"
        if unit != documented and not self._allowed.any_unit:
            what = (
                f"its times are in {unit}; those of {self.file.series.market_type} {self.file.date} are in {documented}"
            )
            raise self.refuse("unit", what, _UNIT)
        self.facts.unit = unit

    def inside(self, frame: pl.DataFrame, name: str, times: pl.Series, *, late: int = 0) -> None:
        """Rows lie in the day or month that the file's name says; `late` us after it are of it still."""
        span = self.file.span
        good = times.is_between(span.start, span.end + late, closed="left")
        if not good.all():
            at = times.filter(~good)[0]
            line = frame.filter(~good)["frame_no"][0]
            what = f"line {line}: {name} {text(at)} is not in {self.file.date}"
            raise self.refuse("period", what, "it is another period's file, or one with wrong times: fetch it again")

    def rising(self, frame: pl.DataFrame, name: str, values: pl.Series, last: int | None, *, equal: bool) -> None:
        """Values go up from line to line, over blocks too."""
        before = values.shift(1, fill_value=last) if last is not None else values.shift(1)
        good = (values >= before if equal else values > before).fill_null(value=True)
        if not good.all():
            line = frame.filter(~good)["frame_no"][0]
            raise self.refuse("order", f"line {line}: {name} {values.filter(~good)[0]} is not after the line before it")

    def contiguous(self, frame: pl.DataFrame, name: str, ids: pl.Series, times: pl.Series) -> None:
        """Ids go up by one from line to line; missing ones are holes where these are allowed."""
        facts = self.facts
        self.rising(frame, name, ids, facts.last_id, equal=False)
        before = ids.shift(1, fill_value=facts.last_id) if facts.last_id is not None else ids.shift(1)
        jumps = (ids - before > 1).fill_null(value=False)
        if jumps.any():
            earlier = times.shift(1, fill_value=facts.last) if facts.last_id is not None else times.shift(1)
            table = pl.DataFrame({"a": before + 1, "b": ids, "c": earlier, "d": times}).filter(jumps)
            if not self._allowed.holes:
                first, after = table["a"][0], table["b"][0]
                what = f"line {frame.filter(jumps)['frame_no'][0]}: ids [{first}, {after}) are missing"
                raise self.refuse("ids", what, _HOLES)
            facts.holes += [Hole(*row) for row in table.iter_rows()]
            if len(facts.holes) > MOST_HOLES:
                raise self.refuse("ids", f"more than {MOST_HOLES:,} holes in its ids", "take it from elsewhere")
        self.identified(ids)

    def identified(self, ids: pl.Series) -> None:
        """Remember the ends of the ids."""
        if self.facts.first_id is None:
            self.facts.first_id = int(ids[0])
        self.facts.last_id = int(ids[-1])

    def timed(self, times: pl.Series) -> None:
        """Remember the ends of the times."""
        low, high = int(times.min()), int(times.max())  # type: ignore[arg-type]
        facts = self.facts
        facts.first, facts.last = (low, high) if not facts.rows else (min(facts.first, low), max(facts.last, high))

    def _begin(self, block: bytes) -> bytes:
        """The first block without its line of names. A file begins with those of its data set, or with data."""
        line, _, rest = block.partition(b"\n")
        first = line.rstrip(b"\r").decode("utf-8", "replace")
        dataset = self.file.series.dataset
        wanted = dataset.header[self.file.series.market_type]
        if first.lower() == wanted:
            self.facts.header, self.facts.lines = True, 1
            return rest
        names = first.split(",")[0].lower() == self._columns[0] or not first[:1].isdigit()
        if names or dataset.headed:
            said = f"its header is {first[:150]!r}" if names else "it has no header"
            raise self.refuse("header", f"{said}; {wanted!r} is known", "a new version may know it")
        return block

    def _texts(self, block: bytes) -> pl.DataFrame:
        """Every value as text, the columns' own names, `frame_no` the line's number."""
        done = self.facts.lines
        if not block:
            return pl.DataFrame(schema=dict.fromkeys((*self._columns, "frame_no"), pl.String))
        try:
            table = csv.read_csv(
                pa.BufferReader(block),
                csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=list(self._columns)),
                csv.ParseOptions(quote_char=False, escape_char=False, ignore_empty_lines=False),
                csv.ConvertOptions(column_types=dict.fromkeys(self._columns, pa.string()), strings_can_be_null=False),
            )
        except pa.ArrowInvalid as error:
            said = _ROW.sub(lambda match: f"line {int(match[1]) + done}", str(error).removeprefix("CSV parse error: "))
            raise self.refuse("columns", said[:200]) from error
        frame = pl.DataFrame(pl.from_arrow(table))
        self.facts.lines += frame.height
        return frame.with_columns(pl.int_range(done + 1, done + 1 + pl.len(), dtype=pl.Int64).alias("frame_no"))
