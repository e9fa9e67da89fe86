"""What files and certificates were made of, told once for all that were made of the same.

The hours of a stream are the parents of every symbol's day: 500 symbols refer to one set of 24. `inputs` numbers the
files, `input_sets` says which belong to a set, `made_of`, `certified` and `featured` name the set of a child,
certificate or feature set; the views `lineage`, `certificates` and `features` read it back. Equal sets of one
transaction are one, which is where they occur; those of two transactions are not looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, or_, select
from sqlalchemy.dialects.sqlite import insert as insert_or_not

from lake import schema
from lake.manifest_reads import chunks
from lake.rows import FileRow

_INPUT = insert_or_not(schema.inputs).on_conflict_do_nothing()
_MEMBER = insert(schema.input_sets).from_select(
    ["id", "input"],
    select(bindparam("of"), schema.inputs.c.id).where(
        schema.inputs.c.path == bindparam("path"), schema.inputs.c.sha256 == bindparam("sha256")
    ),
)
_LAST = select(func.coalesce(func.max(schema.input_sets.c.id), 0))


def add(conn: Connection, told: Sequence[Mapping[str, str]]) -> list[int | None]:
    """The number of each of these sets (path -> SHA-256, empty where only the path is told); None of an empty one."""
    keys = [tuple(sorted(one.items())) for one in told]
    distinct = dict.fromkeys(key for key in keys if key)
    if not distinct:
        return [None] * len(keys)
    files = sorted({file for key in distinct for file in key})
    conn.execute(_INPUT, [{"path": path, "sha256": sha256} for path, sha256 in files])
    numbers = {key: number for number, key in enumerate(distinct, int(conn.execute(_LAST).scalar_one()) + 1)}
    members = [
        {"of": number, "path": path, "sha256": sha256} for key, number in numbers.items() for path, sha256 in key
    ]
    conn.execute(_MEMBER, members)
    return [numbers.get(key) for key in keys]


def add_parents(conn: Connection, rows: Sequence[FileRow]) -> None:
    """The lineage of files that are new."""
    sets = add(conn, [dict.fromkeys(row.parents, "") for row in rows])
    told = [{"child": row.path, "input_set": of} for row, of in zip(rows, sets, strict=True) if of is not None]
    if told:
        conn.execute(insert(schema.made_of), told)


def forget_parents(conn: Connection, children: Select[Any]) -> None:
    """Drop the lineage of these files (a SELECT of paths)."""
    t = schema.made_of
    mine = t.c.child.in_(children)
    sets = conn.execute(select(t.c.input_set).where(mine).distinct()).scalars().all()
    conn.execute(delete(t).where(mine))
    forget(conn, sets)


def forget(conn: Connection, sets: Iterable[int]) -> None:
    """Drop those of these sets that nothing refers to any more, and the inputs that are in no other."""
    i, s = schema.inputs, schema.input_sets
    users = (schema.made_of, schema.certified, schema.featured)
    used = or_(*(select(one).where(one.c.input_set == s.c.id).exists() for one in users))
    for some in chunks(sets):
        unused = conn.execute(select(s.c.id, s.c.input).where(s.c.id.in_(some), ~used)).all()
        for numbers in chunks({row.id for row in unused}):
            conn.execute(delete(s).where(s.c.id.in_(numbers)))
        held = select(s).where(s.c.input == i.c.id).exists()
        for numbers in chunks({row.input for row in unused}):
            conn.execute(delete(i).where(i.c.id.in_(numbers), ~held))
