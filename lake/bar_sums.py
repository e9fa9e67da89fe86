"""The four sums of bars, exactly: from trades, and from bars that are folded into wider ones.

Pure. Sums are of scaled integers and become a float once, beside its text where that is not the number; what leaves
128 bits, or mixes units, is summed with Python's integers.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from lake import scaled
from lake.ranges import Ranges
from market import numbers

BASE_DECIMALS = 12
"""Where the venue's quantity is money, each trade's base is quote / price rounded half-even to so many decimals."""
SUMS = ("volume_base", "volume_quote", "taker_buy_base", "taker_buy_quote")


def amounts(rows: pl.DataFrame, groups: Ranges) -> list[pl.Series]:
    """The four sums of each group of trades, each as float beside its text where that is not exact."""
    try:
        base, quote = _sizes(rows)
        return _sums(groups, rows["buy"], scaled.summable(base), scaled.summable(quote))
    except scaled.Overflow:
        if rows["symbol"].n_unique() > 1:
            symbols = rows.partition_by("symbol", maintain_order=True)
            parts = [pl.DataFrame(amounts(part, Ranges.of(part["window_start"]))) for part in symbols]
            return pl.concat(parts).get_columns()
        return _by_hand(rows, groups)


def _is_money(qty_unit: str, market_type: str) -> bool:
    """Whether qty x multiplier is an amount of the quote currency."""
    return qty_unit == "quote" or (qty_unit == "contract" and market_type == "inverse")


def _sizes(rows: pl.DataFrame) -> tuple[scaled.Scaled, scaled.Scaled]:
    """(base, quote) of each trade. Raises Overflow, also where the rows mix units."""
    if rows.is_empty():
        nothing = scaled.Scaled(pl.Series([], dtype=pl.Int64), 0)
        return nothing, nothing
    units, markets = rows["qty_unit"].unique(), rows["market_type"].unique()
    if units.len() > 1 or markets.len() > 1:
        raise scaled.Overflow("several units in one column")
    price, size, multiplier = (_exact(rows, name) for name in ("price", "qty", "multiplier"))
    if not (multiplier.exponent == 0 and (multiplier.values == 1).all()):
        size = scaled.product(size, multiplier)
    if _is_money(units[0], markets[0]):
        return scaled.quotient(size, price, BASE_DECIMALS), size
    return size, scaled.product(size, price)


def _sums(groups: Ranges, buy: pl.Series, base: scaled.Scaled, quote: scaled.Scaled) -> list[pl.Series]:
    held = pl.DataFrame({"base": base.values, "quote": quote.values})
    bought = held.select_seq(pl.when(buy).then(pl.all()).otherwise(0))
    exponents = (base.exponent, quote.exponent) * 2
    made = []
    for name, values, exponent in zip(SUMS, (*held, *bought), exponents, strict=True):
        floats, texts = scaled.to_table(scaled.Scaled(groups.sums(values), exponent))
        made += [floats.alias(name), texts.alias(f"{name}_text")]
    return made


def _by_hand(rows: pl.DataFrame, groups: Ranges) -> list[pl.Series]:
    """The same sums with Python's integers, for numbers that leave Int128 and for trades of mixed units."""
    values, exponent = {}, {}
    for name in ("price", "qty", "multiplier"):
        values[name], exponent[name] = scaled.integers(_texts(rows, name))
    size_exponent = exponent["qty"] + exponent["multiplier"]
    exact = size_exponent + exponent["price"] + BASE_DECIMALS
    sums: list[list[int]] = [[], [], [], []]
    keys = zip(rows["buy"], rows["qty_unit"], rows["market_type"], strict=True)
    for (buy, unit, market_type), price, qty, multiplier in zip(keys, *values.values(), strict=True):
        size = qty * multiplier
        if _is_money(unit, market_type):
            quote = size * 10 ** (exact - size_exponent)
            whole, rest = divmod(quote * 10 ** exponent["price"], price * 10 ** (exact - BASE_DECIMALS))
            twice = 2 * rest - price * 10 ** (exact - BASE_DECIMALS)
            base = (whole + (twice > 0 or (twice == 0 and whole % 2 == 1))) * 10 ** (exact - BASE_DECIMALS)
        else:
            base = size * 10 ** (exact - size_exponent)
            quote = size * price * 10**BASE_DECIMALS
        for held, amount in zip(sums, (base, quote, base if buy else 0, quote if buy else 0), strict=True):
            held.append(amount)
    made = []
    for name, held in zip(SUMS, sums, strict=True):
        made += _pair(name, _totals(held, groups, exact))
    return made


def _totals(values: Sequence[int], groups: Ranges, exponent: int) -> list[str]:
    """The texts of the groups' sums."""
    ends = zip(groups.starts, groups.ends, strict=True)
    return [numbers.unscale(sum(values[start:end]), exponent) for start, end in ends]


def _pair(name: str, texts: Sequence[str]) -> list[pl.Series]:
    """A sum's float and its text."""
    floats, kept = scaled.split(pl.Series(texts, dtype=pl.String))
    return [floats.alias(name), kept.alias(f"{name}_text")]


def whole(bars: pl.DataFrame, most: int) -> list[scaled.Scaled]:
    """The sums of bars as integers held in floats, those of them whose totals over `most` bars are exact so."""
    made = []
    for name in SUMS:
        texts = bars.get_column(f"{name}_text", default=None)
        if texts is None or texts.null_count() == texts.len():
            column = scaled.whole_floats(bars[name], scaled.FLOAT_INTEGERS // max(most, 1))
            if column is not None:
                made.append(column)
    return made


def spelt(groups: Iterable[tuple[pl.DataFrame, Mapping[str, int]]]) -> pl.DataFrame:
    """Groups whose totals are whole numbers of so many decimals, one after the other, with those as the table's floats
    and texts where these are not the number. Frames in a row that have the same decimals are done together.
    """
    made = []
    for exponents, run in itertools.groupby(groups, key=operator.itemgetter(1)):
        together = pl.concat([frame for frame, _ in run], how="diagonal")
        for name, exponent in exponents.items():
            total = together[name].cast(pl.Int64)  # beyond 15 digits it is spelt, which a float is not as an integer
            floats, texts = scaled.to_table(scaled.Scaled(total, exponent))
            together = together.with_columns(floats.alias(name), texts.alias(f"{name}_text"))
        made.append(together)
    return pl.concat(made, how="diagonal")


def resummed(rows: pl.DataFrame, groups: Ranges, names: Sequence[str]) -> list[pl.Series]:
    """These sums of groups of bars, each as float beside its text where that is not exact."""
    made = []
    for name in names:
        try:
            column = scaled.summable(_exact(rows, name))
        except scaled.Overflow:
            values, exponent = scaled.integers(_texts(rows, name))
            made += _pair(name, _totals(values, groups, exponent))
        else:
            floats, texts = scaled.to_table(scaled.Scaled(groups.sums(column.values), column.exponent))
            made += [floats.alias(name), texts.alias(f"{name}_text")]
    return made


def _exact(rows: pl.DataFrame, name: str) -> scaled.Scaled:
    return scaled.from_table(rows[name], rows.get_column(f"{name}_text", default=None))


def _texts(rows: pl.DataFrame, name: str) -> pl.Series:
    return scaled.texts_of(rows[name], rows.get_column(f"{name}_text", default=None))
