"""What tells that two rows are one event: the kind's key, the venue's time of books and quotes, and what wholes are.

Pure. A venue begins the numbering of its books anew when it restarts a service (Bybit: `u` = 1), be it several times a
day: an id alone would then name another update too. Both connections, and whoever asks again, are told the same time of
an update; where the venue tells none, the id alone counts. An update and the whole book that ends with it have one id,
and are two events: neither is a copy of the other. A row without any id is told by its provenance.
"""

from __future__ import annotations

from functools import cache

import polars as pl

from lake import tables
from market import kinds

HASH, ANONYMOUS, TIME, WHOLE = "#hash", "#anonymous", "#time", "#whole"
_NUMBER = "#number"
_FLAGS, SNAPSHOT = "flags", "snapshot"


def has_wholes(kind: str) -> bool:
    """Whether some rows of a kind are whole books among updates."""
    return any(column.name == _FLAGS for column in kinds.kind(kind).columns)


@cache
def columns(kind: str) -> tuple[str, ...]:
    """Columns that tell the identity of a row."""
    declared = kinds.kind(kind)
    more = (*(("ts_event", "ts_estimated") if declared.renumbered else ()), *((_FLAGS,) if has_wholes(kind) else ()))
    return tuple(dict.fromkeys(("symbol", *declared.key, *more, *kinds.PROVENANCE)))


def _times(kind: str) -> list[pl.Expr]:
    told = pl.when(~pl.col("ts_estimated")).then(pl.col("ts_event")).alias(TIME)
    return [told] if kinds.kind(kind).renumbered else []


def _wholes(kind: str) -> list[pl.Expr]:
    told = pl.col(_FLAGS).cast(pl.String).str.contains(SNAPSHOT, literal=True).alias(WHOLE)
    return [told] if has_wholes(kind) else []


def beside(kind: str) -> list[pl.Expr]:
    """What belongs to the key: `#time`, null where the venue told none, and `#whole`. Empty where it needs neither."""
    return [*_times(kind), *_wholes(kind)]


def key(kind: str) -> list[str]:
    """Columns of a named row's identity in a frame with the columns `beside`."""
    return ["symbol", *kinds.kind(kind).key, *(one.meta.output_name() for one in beside(kind))]


def anonymous(kind: str) -> pl.Expr:
    """`#anonymous`: whether a row is told by its provenance, for want of an id."""
    ids = tables.identity_columns(kind)
    told = pl.all_horizontal(pl.col(name).is_null() for name in ids) if ids else pl.lit(value=False)
    return told.alias(ANONYMOUS)


def in_sql(kind: str, table: str) -> list[str]:
    """The identity in SQL, of the rows of `table` of one market: what is equal in all of these is one event."""
    declared = kinds.kind(kind)
    nameless = " AND ".join(f"{table}.{name} IS NULL" for name in tables.identity_columns(kind)) or "false"
    told = [f"{table}.{name}" for name in ("symbol", *declared.key)]
    told += [f"CASE WHEN NOT {table}.ts_estimated THEN {table}.ts_event END"] if declared.renumbered else []
    told += [f"contains({table}.{_FLAGS}, '{SNAPSHOT}')"] if has_wholes(kind) else []
    return told + [f"CASE WHEN {nameless} THEN {table}.{name} END" for name in kinds.PROVENANCE]


def hashed(kind: str) -> pl.Expr:
    """`#hash` of a row's identity."""
    return _hashed(kind, beside(kind)).alias(HASH)


def _hashed(kind: str, more: list[pl.Expr]) -> pl.Expr:
    named = pl.struct("symbol", *kinds.kind(kind).key, *more).hash()
    placed = pl.struct("symbol", *kinds.PROVENANCE).hash(1)
    return pl.when(anonymous(kind)).then(placed).otherwise(named)


def matched(kind: str, old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """`new`, made of the same lines as `old`, with the `#hash` of the event of `old` that each row is.

    That is its own, or where an event's time is read otherwise now, that of the row with its id.
    """
    if not kinds.kind(kind).renumbered:
        return new
    number = _hashed(kind, _wholes(kind)).alias(_NUMBER)
    gone, come = (
        one.join(other, on=HASH, how="anti").select(HASH, number).unique(_NUMBER, keep="first", maintain_order=True)
        for one, other in ((old, new), (new, old))
    )
    moved = come.join(gone.rename({HASH: "#was"}), on=_NUMBER).select(HASH, "#was")
    return new.join(moved, on=HASH, how="left").with_columns(pl.coalesce("#was", HASH).alias(HASH)).drop("#was")
