"""Distinct values at the head of an index, from one to the next: what the rows between them are costs nothing.

SQLite reads every row of an index for SELECT DISTINCT: of a lake of years these are millions, for a dozen streams.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Table, func, select


def distinct(
    conn: Connection, table: Table, names: tuple[str, ...], given: Mapping[str, object]
) -> list[tuple[str, ...]]:
    """Distinct values of the columns `names`, in order: an index begins with the columns `given`, which equal that,
    and goes on with these.
    """
    columns = [table.c[name] for name in names]
    wanted = select(*columns).where(*(table.c[name] == value for name, value in given.items()))
    found: list[tuple[str, ...]] = []
    row = conn.execute(wanted.order_by(*columns).limit(1)).first()
    while row is not None:
        found.append(tuple(row))
        for same in reversed(range(len(names))):
            alike = [column == value for column, value in zip(columns[:same], row, strict=False)]
            after = wanted.where(*alike, columns[same] > row[same]).order_by(*columns[same:]).limit(1)
            if (more := conn.execute(after).first()) is not None:
                break
        row = more
    return found


def before(
    conn: Connection, table: Table, name: str, given: Mapping[str, object], limit: str | None = None
) -> str | None:
    """The greatest value of the column `name` that is less than `limit` (None: of all), of an index as above."""
    held = [table.c[one] == value for one, value in given.items()]
    held += [table.c[name] < limit] if limit is not None else []
    found: str | None = conn.execute(select(func.max(table.c[name])).where(*held)).scalar_one()
    return found
