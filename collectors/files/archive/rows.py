"""The lines of a file of an archive as rows of their kind, each line looked at. Pure, a block at a time.

Numbers stay the venue's texts; times become us, ids integers. A file whose lines are not what its name says, or that
contradicts itself, is refused as a whole: see `Reading`. What a line means is its data set's `read`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import csv

from collectors.files import proven, quick
from collectors.files.archive.facts import NOTHING, Allowed, Facts
from collectors.files.archive.ids import AGAIN, IdRules
from collectors.files.archive.series import ArchiveFile
from lake import scaled
from market.numbers import unscale
from market.times import SECOND, Interval, text, union

UNITS = {"s": (10**9, 10**11, SECOND), "ms": (10**12, 10**14, 1000), "us": (10**15, 10**17, 1)}
"""Unit -> its times lie in [low, high), and how many us one is."""
BATCH_ROWS = 250_000
SMALL = 64 * 1024 * 1024
_NONE = "\x01"
"""What stands in no line of JSON: a line is one column."""
_ROW = re.compile(r"Row #(\d+)")
_INTEGER = r"^(?:0|[1-9][0-9]{0,17})$"
_TIME = r"^(?:[1-9][0-9]{0,17}|[1-8][0-9]{18})(?:\.[0-9]{1,9})?$"
_SCIENTIFIC = r"^-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]{1,2}$"
_INTEGERS = frozenset((
    "id", "time", "agg_trade_id", "first_trade_id", "last_trade_id", "transact_time", "update_id", "transaction_time",
    "event_time", "open_time", "close_time", "count", "timestamp",
))  # fmt: skip
"""Columns that hold integers, if their first line says so."""
_UNIT = "--any-unit takes times by their size, if the publisher has changed the unit"


class Reading(IdRules):
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
        self._runs: list[tuple[int, int, int, int]] = []
        self._dataset = file.series.dataset
        self._columns = tuple(self._dataset.header[file.series.market_type].split(","))

    def batches(self, blocks: Iterable[bytes]) -> Iterator[pl.DataFrame]:
        """Columns as `lake.adopting` takes them, from whole lines. Raises Refused."""
        for block in [self._small(blocks)] if self._dataset.whole else blocks:
            begun = self._begin(block) if not self.facts.lines else block
            frame = self._texts(begun)
            for start in range(0, frame.height, BATCH_ROWS):
                piece = frame.slice(start, BATCH_ROWS)
                made = self._dataset.read(piece, self)
                self.facts.rows += made.height
                if made.height:
                    yield made
        if not self.facts.rows and not self.facts.others:
            raise self.refuse("columns", "it has no rows", AGAIN)
        self._joined()

    def _small(self, blocks: Iterable[bytes]) -> bytes:
        """All of a file whose lines must be seen together."""
        whole = b""
        for block in blocks:
            whole += block
            if len(whole) > SMALL:
                raise self.refuse("size", f"more than {SMALL:,} bytes of {self._dataset.kind}", "look at what it is")
        return whole

    @property
    def coverage(self) -> list[Interval]:
        """What the rows prove: from the first to the last one without holes; of what comes at intervals, these. A file
        that holds rows of others only proves that there is none in all of its time.
        """
        if self._covered:
            return union(self._covered)
        if not self.facts.rows:
            return [self.file.span]
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

    @property
    def allowed(self) -> Allowed:
        return self._allowed

    def integers(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """A column of ids or counts."""
        if frame[name].dtype == pl.Int64:  # proven as it was read
            return frame[name]
        self.all_of(frame, name, frame[name].str.contains(_INTEGER), "no integer")
        return frame[name].cast(pl.Int64)

    def truths(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """True, False, true, false."""
        given = frame[name]
        true, false = ((given == word) | (given == word.title()) for word in ("true", "false"))
        self.all_of(frame, name, true | false, "neither true nor false")
        return true

    def times(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """Times in us; their unit by their size, the same all through the file, and a documented one."""
        integers = frame[name].dtype == pl.Int64 or bool(frame[name].str.contains(_INTEGER).all())
        if integers:
            given = frame[name].cast(pl.Int64)
        else:
            self.all_of(frame, name, frame[name].str.contains(_TIME), "no time")
            given = frame[name].str.extract(r"^([0-9]+)").cast(pl.Int64)
        unit = next((name for name, (low, high, _) in UNITS.items() if low <= given[0] < high), "")
        if not unit:
            raise self.refuse("unit", f"line {frame['frame_no'][0]}: {name} {given[0]} is no time in s, ms or us")
        self._one_unit(unit)
        low, high, scale = UNITS[unit]
        what = f"no time in {unit}, as the lines before it"
        self.all_of(frame, name, given.is_between(low, high, closed="left"), what, "unit")
        if integers:
            return given * scale
        rest = frame[name].str.extract(r"\.([0-9]+)$")
        if unit != "s":
            self.all_of(frame, name, rest.is_null(), "no integer")
        return given * scale + rest.fill_null("").str.pad_end(6, "0").str.head(6).cast(pl.Int64)

    def _one_unit(self, unit: str) -> None:
        if self.facts.unit not in ("", unit):
            raise self.refuse("unit", f"its times change from {self.facts.unit} to {unit}")
        market, start = self.file.series.market_type, self.file.span.start
        documented = self._dataset.units(market, start)
        if unit not in documented and not self._allowed.any_unit:
            what = f"its times are in {unit}; those of {market} {self.file.date} are in {' or '.join(documented)}"
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

    def candles(
        self, frame: pl.DataFrame, name: str, opened: pl.Series, *, offset: int = 0, aligned: bool = True
    ) -> None:
        """Candles of the file's interval, rising, each once; `aligned`: they begin at multiples of it from `offset`."""
        width = self.file.series.width
        self.inside(frame, name, opened)
        self.rising(frame, name, opened, self.facts.last if self.facts.rows else None, equal=False)
        if aligned:
            what = f"no beginning of a candle of {self.file.series.interval}"
            self.all_of(frame, name, (opened - offset) % width == 0, what, "period")
        self.timed(opened)
        self.covered(opened, width)

    def objects(self, frame: pl.DataFrame, shape: pl.Struct) -> pl.DataFrame:
        """The lines of a file of JSON, with the fields of `shape`; what a line lacks is null."""
        try:
            return frame["line"].str.json_decode(shape).struct.unnest()
        except pl.exceptions.PolarsError as error:
            said = str(error).partition("\n")[0][:150]
            raise self.refuse(
                "columns", f"a line after line {frame['frame_no'][0] - 1} is no such JSON: {said}"
            ) from error

    @staticmethod
    def levels(lists: pl.Series) -> pl.Series:
        """[[price, quantity, …], …] as levels of a book."""
        price, qty = (pl.element().list.get(place, null_on_oob=True) for place in (0, 1))
        return lists.to_frame("levels").select(pl.col("levels").list.eval(pl.struct(price=price, qty=qty))).to_series()

    def numbers(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """Decimals as plain text: `1.2e-05` is 0.000012. What is no number stays, and goes to quarantine."""
        texts = frame[name]
        written = texts.str.contains(_SCIENTIFIC)
        if not written.any():
            return texts
        odd = texts.filter(written).unique()
        plain = pl.Series([format(Decimal(each), "f") for each in odd], dtype=pl.String)
        return texts.replace(odd, plain)

    def sized(self, rows: int) -> dict[str, pl.Series]:
        """What a quantity counts, where the market alone does not say it."""
        if self.file.series.market_type not in self._dataset.sized:
            return {}
        return {
            "qty_unit": pl.repeat("contract", rows, eager=True),
            "multiplier": pl.repeat(self._allowed.contract_size, rows, dtype=pl.String, eager=True),
        }

    def worth(self, frame: pl.DataFrame, contracts: pl.Series) -> pl.Series:
        """Contracts x what one is worth, exactly; unknown where that is not known. What no column holds goes to
        quarantine, with all its digits.
        """
        size = self._allowed.contract_size
        if size is None:
            return pl.repeat(None, frame.height, dtype=pl.String, eager=True)
        self.all_of(frame, contracts.name, scaled.valid(contracts), "no plain decimal")
        factors = pl.repeat(size, frame.height, eager=True)
        try:
            return scaled.unscale(scaled.product(scaled.scale(contracts), scaled.scale(factors)))
        except scaled.Overflow:
            (counts, places), (worths, more) = scaled.integers(contracts), scaled.integers(factors)
            products = map(operator.mul, counts, worths)
            return pl.Series(contracts.name, [unscale(each, places + more) for each in products], dtype=pl.String)

    @staticmethod
    def constant(frame: pl.DataFrame, value: str) -> pl.Series:
        return pl.repeat(value, frame.height, dtype=pl.String, eager=True)

    def made(self, frame: pl.DataFrame, columns: dict[str, pl.Series]) -> pl.DataFrame:
        """Rows of the file's symbol, each with the number of its line."""
        symbol = self.constant(frame, self.file.series.symbol)
        return pl.DataFrame({"symbol": symbol, "frame_no": frame["frame_no"], **columns})

    def timed(self, times: pl.Series) -> None:
        """Remember the ends of the times."""
        low, high = int(times.min()), int(times.max())  # type: ignore[arg-type]
        facts = self.facts
        facts.first, facts.last = (low, high) if not facts.rows else (min(facts.first, low), max(facts.last, high))

    def _begin(self, block: bytes) -> bytes:
        """The first block without its line of names. A file begins with those of its data set, or with data."""
        if self._dataset.lines == "json":
            return block
        line, _, rest = block.partition(b"\n")
        first = line.rstrip(b"\r").decode("utf-8", "replace")
        cells, known = first.lower().split(","), [name.lower() for name in self._columns]
        least = len(known) - self._dataset.optional
        if least <= len(cells) < len(known):
            self._columns, known = self._columns[: len(cells)], known[: len(cells)]
        if cells == known:
            self.facts.header, self.facts.lines = True, 1
            held = rest.partition(b"\n")[0].count(b",") + 1
            if least <= held < len(known):
                self._columns = self._columns[:held]  # named, and in no row
            return rest
        names = cells[0] == known[0] or not first[:1].isdigit()
        if names or self._dataset.headed:
            said = f"its header is {first[:150]!r}" if names else "it has no header"
            raise self.refuse("header", f"{said}; {','.join(self._columns)!r} is known", "a new version may know it")
        return block

    def _texts(self, block: bytes) -> pl.DataFrame:
        """Every value as text (numbers may be numbers), the columns' own names, `frame_no` the line's number."""
        done = self.facts.lines
        if not block:
            return pl.DataFrame(schema=dict.fromkeys((*self._columns, "frame_no"), pl.String))
        frame = self._proven(block)
        if frame is None:
            frame = quick.columns(block, self._columns, _INTEGERS)
        if frame is None:
            frame = self._slowly(block, done)
        self.facts.lines += frame.height
        return frame.with_columns(pl.int_range(done + 1, done + 1 + pl.len(), dtype=pl.Int64).alias("frame_no"))

    def _proven(self, block: bytes) -> pl.DataFrame | None:
        """The columns that are read, numbers as such, where the bytes prove that nothing is lost by that."""
        dataset = self._dataset
        if not dataset.decimals:
            return None
        wanted: dict[str, Any] = {name: pl.String for name in self._columns if name not in dataset.unread}
        wanted |= {name: pl.Int64 for name in wanted if name in _INTEGERS}
        wanted |= {name: pl.Float64 for name in wanted if name in dataset.decimals}
        return proven.columns(block, self._columns, wanted)

    def _slowly(self, block: bytes, done: int) -> pl.DataFrame:
        """The same, every value as text."""
        try:
            table = csv.read_csv(
                pa.BufferReader(block),
                csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=list(self._columns)),
                csv.ParseOptions(
                    delimiter="," if self._dataset.lines == "csv" else _NONE,
                    quote_char=False,
                    escape_char=False,
                    ignore_empty_lines=False,
                ),
                csv.ConvertOptions(column_types=dict.fromkeys(self._columns, pa.string()), strings_can_be_null=False),
            )
        except pa.ArrowInvalid as error:
            said = _ROW.sub(lambda match: f"line {int(match[1]) + done}", str(error).removeprefix("CSV parse error: "))
            raise self.refuse("columns", said[:200]) from error
        return pl.DataFrame(pl.from_arrow(table))
