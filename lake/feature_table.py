"""The feature store's part of the manifest: its statements, and questions to it.

A manifest before version 5 has none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.dialects.sqlite import insert

from lake import input_sets, schema
from lake.errors import CommitConflict, CorruptManifest
from lake.feature_rows import FeatureRow
from lake.manifest_reads import Reads, check_inside, equal

_JSON = ("columns", "computed_on", "inputs")
_PLAIN = [name for name in FeatureRow.__struct_fields__ if name != "inputs"]


def check(conn: Connection, rows: Sequence[FeatureRow]) -> None:
    """Raises CommitConflict where a version is there with other values: it never changes."""
    t = schema.featured
    for row in rows:
        held = conn.execute(select(t.c.content_digest).where(t.c.feature_id == row.feature_id)).scalar_one_or_none()
        if held not in (None, row.content_digest):
            named = f"{row.feature_set} {row.version} of {row.exchange} {row.market_type} {row.symbol}"
            raise CommitConflict(f"expected no {named}, found one with other values")


def upsert(conn: Connection, rows: Sequence[FeatureRow]) -> int:
    """Versions as they are now. One that is told without its inputs keeps those that it was told with."""
    t = schema.featured
    if not rows:
        return 0
    new = insert(t)
    changed: dict[str, Any] = {c.name: new.excluded[c.name] for c in t.c if c.name not in ("feature_id", "input_set")}
    changed["input_set"] = func.coalesce(new.excluded.input_set, t.c.input_set)
    statement = new.on_conflict_do_update(index_elements=["feature_id"], set_=changed)
    held = select(t.c.input_set).where(t.c.feature_id.in_([row.feature_id for row in rows]))
    before = [number for number in conn.execute(held).scalars() if number is not None]
    sets = input_sets.add(conn, [row.inputs for row in rows])
    for row, number in zip(rows, sets, strict=True):
        values = {name: getattr(row, name) for name in _PLAIN}
        values |= {name: msgspec.json.encode(values[name]).decode() for name in _JSON if name in values}
        conn.execute(statement, values | {"input_set": number})
    input_sets.forget(conn, before)
    return len(rows)


def features(
    source: Reads,
    *,
    feature_id: str | None = None,
    exchange: str | None = None,
    market_type: str | None = None,
    symbol: str | None = None,
    feature_set: str | None = None,
    version: str | None = None,
    state: str | None = "live",
) -> list[FeatureRow]:
    """Versions by (exchange, market_type, symbol, feature_set, created_at, version). Names match in any case."""
    t = schema.features
    where = equal(t, feature_id=feature_id, version=version, state=state)
    named = {"exchange": exchange, "market_type": market_type, "symbol": symbol, "feature_set": feature_set}
    where += [func.lower(t.c[name]) == value.lower() for name, value in named.items() if value is not None]
    order = [t.c[name] for name in ("exchange", "market_type", "symbol", "feature_set", "created_at", "version")]

    def read(conn: Connection) -> list[FeatureRow]:
        if not inspect(conn).has_table(schema.featured.name):
            return []
        wanted = select(*(t.c[name] for name in FeatureRow.__struct_fields__)).where(*where).order_by(*order)
        found = [_row(dict(row)) for row in conn.execute(wanted).mappings()]
        for row in found:
            check_inside(row.path)
        return found

    return source.run(read)


def _row(held: dict[str, Any]) -> FeatureRow:
    try:
        told = {name: json.loads(held[name]) for name in _JSON}
        return msgspec.convert({str(name): value for name, value in (held | told).items()}, FeatureRow)
    except (ValueError, TypeError) as error:
        raise CorruptManifest(f"manifest.db has an unreadable feature set: {error}", "run: dl rebuild") from error
