"""Point-in-time joins: beside each row what was known of a feature set at that row's time, and never more. Pure.

At a time t the rows with `known_at` <= t are known; of these the one with the greatest `ts_event` is the newest, and
where that was told several times the one told last. So a value of yesterday that is corrected today does not hide
today's.
"""

from __future__ import annotations

import polars as pl

from lake.feature_rows import KNOWN_AT, OWN_TIME

AT = "#at"
"""The column of the time that is asked for."""


def newest_first_known(features: pl.DataFrame) -> pl.DataFrame:
    """The rows of a set that ever are the newest known one, in the order in which they become that."""
    told = features.sort(KNOWN_AT, OWN_TIME, maintain_order=True)
    return told.filter(pl.col(OWN_TIME) >= pl.col(OWN_TIME).cum_max())


def join(rows: pl.DataFrame, features: pl.DataFrame, prefix: str, max_age: int | None = None) -> pl.DataFrame:
    """`rows` (with AT, us UTC, in its order) and beside them the values of `features`, as `<prefix>__<column>`.

    `<prefix>__ts_event` and `<prefix>__known_at` say which row of the set that was. Null where nothing was known yet,
    or where what was known is of a time more than `max_age` us before.
    """
    names = [name for name in features.columns if name not in (OWN_TIME, KNOWN_AT)]
    told = newest_first_known(features).rename({name: f"{prefix}__{name}" for name in features.columns})
    order = rows.with_row_index("#row")
    found = order.sort(AT).join_asof(
        told.with_columns(pl.col(f"{prefix}__{KNOWN_AT}").alias("#known")).sort("#known", maintain_order=True),
        left_on=AT, right_on="#known", strategy="backward",
    )  # fmt: skip
    made = [f"{prefix}__{name}" for name in (OWN_TIME, KNOWN_AT, *names)]
    if max_age is not None:
        young = pl.col(f"{prefix}__{OWN_TIME}") >= pl.col(AT) - pl.duration(microseconds=max_age)
        found = found.with_columns(pl.when(young).then(pl.col(name)).alias(name) for name in made)
    return found.sort("#row").select(*rows.columns, *made)
