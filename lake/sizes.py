"""The columns `qty_base` and `qty_quote` of readers: what the venue counts, as base and as quote currency.

base: qty x multiplier; quote: that x price. Where a unit is money (qty_unit quote, or contracts of an inverse market)
it is the other way round: quote is qty x multiplier exactly, base = quote / price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from market.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

import polars as pl

SIZED = frozenset(
    name for name, kind in KINDS.items() if {"price", "qty", "qty_unit"} <= {column.name for column in kind.columns}
)
"""Kinds that readers and views give `qty_base` and `qty_quote`."""

SIZES = ("qty_base", "qty_quote")
_MADE_OF = ("price", "qty", "multiplier", "qty_unit", "market_type")
MONEY_SQL = "(qty_unit = 'quote' OR (qty_unit = 'contract' AND market_type = 'inverse'))"
SQL = (
    f"CASE WHEN {MONEY_SQL} THEN qty * multiplier / nullif(price, 0) ELSE qty * multiplier END AS qty_base, "
    f"CASE WHEN {MONEY_SQL} THEN qty * multiplier ELSE qty * multiplier * price END AS qty_quote"
)
"""The two columns in DuckDB's words."""


def stored_for(kind: str, names: Iterable[str]) -> list[str]:
    """The columns of the files that an answer with these columns is made of."""
    made = dict.fromkeys((*names, *(_MADE_OF if kind in SIZED else ())))
    return [name for name in made if kind not in SIZED or name not in SIZES]


def with_sizes(rows: pl.LazyFrame) -> pl.LazyFrame:
    """`rows` with float64 columns `qty_base` and `qty_quote`; base is null where a zero price would divide."""
    import polars as pl  # noqa: PLC0415 # what asks DuckDB has no other use for it

    unit = pl.col("qty_unit").cast(pl.String)
    money = (unit == "quote") | ((unit == "contract") & (pl.col("market_type").cast(pl.String) == "inverse"))
    size = pl.col("qty") * pl.col("multiplier")
    priced = pl.when(pl.col("price") != 0).then(size / pl.col("price"))
    return rows.with_columns(
        qty_base=pl.when(money).then(priced).otherwise(size),
        qty_quote=pl.when(money).then(size).otherwise(size * pl.col("price")),
    )
