"""Statements that write jobs, inside the caller's transaction and idempotent by key: the last word on a key counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, delete
from sqlalchemy.dialects.sqlite import Insert, insert

from lake import schema
from lake.jobs import JobChange

_OF_A_JOB = (schema.job_attempts, schema.job_chunks, schema.jobs)


def write(conn: Connection, changes: Sequence[JobChange]) -> int:
    """Make the tables say this, in the order of the changes; how many rows it touched."""
    touched = 0
    for change in changes:
        for table, rows in ((schema.jobs, change.jobs), (schema.job_chunks, change.chunks),
                            (schema.job_attempts, change.attempts)):  # fmt: skip
            if rows:
                conn.execute(_overwriting(table), [_values(row) for row in rows])
                touched += len(rows)
        for job in change.forget:
            touched += sum(conn.execute(delete(table).where(table.c.job == job)).rowcount for table in _OF_A_JOB)
    return touched


def _values(row: msgspec.Struct) -> dict[str, Any]:
    found = msgspec.structs.asdict(row)
    if "arguments" in found:
        found["arguments"] = msgspec.json.encode(found["arguments"], order="sorted").decode()
    return found


@cache
def _overwriting(table: Table) -> Insert:
    new = insert(table)
    changed = {column.name: new.excluded[column.name] for column in table.c if not column.primary_key}
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)
