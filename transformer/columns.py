"""The fields of a segment's lines on their way to the table: the rules that they must pass, then typed columns.

Both ways of reading lines end here, so that good lines give the same table either way.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from lake import scaled, tables
from lake.field_rules import Rule, rules
from lake.rows import SegmentRow
from market.instruments import MARKET_SIZING
from market.times import DAY
from transformer.cutting import Texts, Values, repeated
from transformer.levels import Levels


class Columns:
    """Rows of one stream, given as a column for each key of the lines; keys that are not there are null."""

    def __init__(self, row: SegmentRow, found: dict[str, Values]) -> None:
        self.row = row
        self.kind = row.kind
        self.found = found
        self.rows = _ints(found["ts_recv"]).len()
        if "multiplier" in tables.schema(self.kind).names and self.kind != "contract":
            sizing = MARKET_SIZING[row.market_type]
            for name, value in (("qty_unit", sizing.qty_unit), ("multiplier", sizing.multiplier)):
                held = found.get(name)
                filled = held._replace(values=held.values.fill_null(value)) if isinstance(held, Texts) else None
                found[name] = filled or repeated(value, self.rows)
        self.levels = {name: Levels(_texts(found[name]).rows()) for name in tables.level_columns(self.kind)}

    def sound(self) -> bool:
        """Whether no row breaks a rule. The texts of numbers are proven already: they are `number_pattern`."""
        if not self.rows:
            return True
        held = rules(self.kind, tuple(self.found), numbers=False)
        # a rule looks at one value alone, and one of times at its size: the different values speak for all rows
        seen = {rule.name: _different(self.found[rule.name]) for rule in held}
        frame = pl.concat([values.to_frame(name) for name, values in seen.items()], how="horizontal_extend")
        return not frame.select_seq(pl.any_horizontal(rule.broken.any() for rule in held)).item()

    def faults(self) -> pl.Series:
        """For each row the first rule it breaks, null where it breaks none."""
        if not self.rows:
            return pl.Series([], dtype=pl.String)
        frame = pl.DataFrame({name: _each(column) for name, column in self.found.items()})
        broken = [rule.reason() for rule in rules(self.kind, tuple(self.found), numbers=True)]
        for name, parsed in self.levels.items():
            wrong = pl.lit(pl.Series([reason is not None for reason in parsed.wrong], dtype=pl.Boolean))
            broken.append(Rule(wrong, name, "no list of [price, quantity, ...] texts").reason())
        return frame.select(pl.coalesce(broken)).to_series()

    def keep(self, wanted: pl.Series) -> None:
        """Go on with these rows only."""
        self.found = {
            name: Texts(column.rows().filter(wanted)) if isinstance(column, Texts) else column.filter(wanted)
            for name, column in self.found.items()
        }
        self.rows = int(wanted.sum())
        for parsed in self.levels.values():
            parsed.keep(wanted)

    def table(self) -> pa.Table:
        """The rows in the schema of their kind. All of them have passed the rules."""
        made: dict[str, pa.Array] = {}
        event, received = _ints(self.found["ts_event"]), _ints(self.found["ts_recv"])
        made["ts_estimated"] = _arrow(event.is_null())
        if event.has_nulls():
            skew = _ints(self.found["skew_us"]).fill_null(0) if "skew_us" in self.found else 0
            event = pl.select(pl.coalesce(event, received - skew)).to_series()
        self.found["ts_event"] = event
        made["date"] = _arrow((event // DAY).cast(pl.Int32)).view(pa.date32())
        numbers = self._numbers(made)
        if "condition" in self.found:
            nothing = (numbers["price"] == 0) | (numbers["qty"] == 0)
            if nothing.any():
                condition = _each(self.found["condition"])
                self.found["condition"] = Texts(condition.set(nothing, "void"))
        wanted = tables.schema(self.kind)
        for name, column in self.found.items():
            if name not in wanted.names or name in made or name in self.levels:
                continue
            to = wanted.field(name).type
            if not isinstance(column, Texts):
                made[name] = _arrow(column).cast(to)
            else:
                made[name] = _dictionary(column) if to == tables.DICT else _arrow(column.rows()).cast(to)
        for name, parsed in self.levels.items():
            made[name], made[tables.text_name(name)] = parsed.columns()
        constants = {"exchange": self.row.exchange, "market_type": self.row.market_type}
        return tables.conform(pa.table(made), self.kind, constants)

    def _numbers(self, made: dict[str, pa.Array]) -> dict[str, pl.Series]:
        """The floats of the decimal columns; they and their texts, where there are any, are added to `made`."""
        numbers: dict[str, pl.Series] = {}
        for name in tables.decimal_columns(self.kind):
            if name in self.found:
                column = _texts(self.found[name])
                floats, texts = scaled.split(column.values)
                numbers[name] = column.rows(floats)
                made[name] = _arrow(numbers[name])
                if texts.null_count() < texts.len():
                    made[tables.text_name(name)] = _arrow(column.rows(texts)).cast(pa.string())
        return numbers


def _ints(column: Values) -> pl.Series:
    assert not isinstance(column, Texts)
    return column


def _texts(column: Values) -> Texts:
    assert isinstance(column, Texts)
    return column


def _different(column: Values) -> pl.Series:
    """The different texts of a column, the least and the greatest of its integers."""
    return column.values if isinstance(column, Texts) else pl.Series([column.min(), column.max()], dtype=pl.Int64)


def _each(column: Values) -> pl.Series:
    return column.rows() if isinstance(column, Texts) else column


def _dictionary(column: Texts) -> pa.DictionaryArray:
    """The texts as a dictionary in the order of their first rows."""
    values, places = column
    if places is None or values.has_nulls() or values.n_unique() < values.len():
        coded = _arrow(column.rows()).dictionary_encode()
        return pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string()))
    return pa.DictionaryArray.from_arrays(_arrow(places).cast(pa.int32()), _arrow(values).cast(pa.string()))


def _arrow(values: pl.Series) -> pa.Array:
    return values.to_arrow(compat_level=pl.CompatLevel.oldest())
