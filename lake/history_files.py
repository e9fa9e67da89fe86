"""Files as the commits of a ledger tell them, gathered in memory and written in one go.

What came and went between two writings never reaches the tables as anything but its end: a year of commits is some
millions, and a statement for each of them would take hours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from lake import input_sets, schema
from lake.manifest_reads import chunks
from lake.rows import FileRow

BATCH = 5_000
_F = schema.files
_RETIRE = (
    update(_F)
    .where(_F.c.path == bindparam("of"), _F.c.state == "live")
    .values(state="retired", retired_at=bindparam("at"))
)
_UNLINK = (
    update(_F)
    .where(_F.c.path == bindparam("of"), _F.c.state == "retired", _F.c.unlinked_at.is_(None))
    .values(unlinked_at=bindparam("at"))
)
_AGAIN = (
    update(_F)
    .where(_F.c.path == bindparam("of"))
    .values(state=bindparam("now"), retired_at=bindparam("at"), unlinked_at=bindparam("gone"))
)


class _Pending(msgspec.Struct):
    row: FileRow
    created_at: int
    retired_at: int | None = None
    unlinked_at: int | None = None

    def values(self) -> dict[str, Any]:
        held = {name: getattr(self.row, name) for name in self.row.__struct_fields__ if name in _F.c}
        state = "live" if self.retired_at is None else "retired"
        return held | {"created_at": self.created_at, "state": state, "retired_at": self.retired_at,
                       "unlinked_at": self.unlinked_at}  # fmt: skip


class FileTale:
    """Added, replaced and unlinked files; `flush` makes the tables say so. `note` hears of contradictions."""

    def __init__(self, conn: Connection, note: Callable[[str], None]) -> None:
        self._conn = conn
        self._note = note
        self._added: dict[str, _Pending] = {}
        self._retired: dict[str, int] = {}
        self._unlinked: dict[str, int] = {}

    def retire(self, paths: Sequence[str], now: int) -> None:
        for path in paths:
            pending = self._added.get(path)
            if pending is None:
                if self._retired.setdefault(path, now) != now:
                    self._note(f"{path} is told to be replaced twice")
            elif pending.retired_at is None:
                pending.retired_at = now
            else:
                self._note(f"{path} is told to be replaced twice")

    def add(self, rows: Sequence[FileRow], now: int) -> None:
        for row in rows:
            pending = self._added.get(row.path)
            if pending is None:
                self._added[row.path] = _Pending(row, row.created_at or now)
            elif pending.row.sha256 != row.sha256:
                self._two_hashes(row, pending.row.sha256)
            else:
                pending.retired_at = pending.unlinked_at = None
        if len(self._added) + len(self._retired) >= BATCH:
            self.flush()

    def gone(self, paths: Sequence[str], now: int) -> None:
        """Their bytes are unlinked."""
        for path in paths:
            pending = self._added.get(path)
            if pending is None:
                self._unlinked.setdefault(path, now)
            elif pending.retired_at is not None and pending.unlinked_at is None:
                pending.unlinked_at = now

    def flush(self) -> None:
        """What was in the tables before gives way first, then what was added takes its place."""
        self._move(_RETIRE, self._retired, "is told to be replaced, and is not live")
        self._move(_UNLINK, self._unlinked, "")
        held: dict[str, str] = {}
        for paths in chunks(self._added):
            held |= {
                row[0]: row[1] for row in self._conn.execute(select(_F.c.path, _F.c.sha256).where(_F.c.path.in_(paths)))
            }
        fresh = [pending for path, pending in self._added.items() if path not in held]
        for path, sha256 in held.items():
            pending = self._added[path]
            if pending.row.sha256 != sha256:
                self._two_hashes(pending.row, sha256)
                continue
            said = {"of": path, "now": pending.values()["state"], "at": pending.retired_at, "gone": pending.unlinked_at}
            self._conn.execute(_AGAIN, said)
        self._insert(fresh)
        self._added.clear()

    def _move(self, statement: Any, told: dict[str, int], wrong: str) -> None:
        if not told:
            return
        if wrong:
            live: set[str] = set()
            for paths in chunks(told):
                found = select(_F.c.path).where(_F.c.path.in_(paths), _F.c.state == "live")
                live |= set(self._conn.execute(found).scalars())
            for path in told.keys() - live:
                self._note(f"{path} {wrong}")
        self._conn.execute(statement, [{"of": path, "at": now} for path, now in told.items()])
        told.clear()

    def _insert(self, fresh: Sequence[_Pending]) -> None:
        if not fresh:
            return
        try:
            with self._conn.begin_nested():
                self._conn.execute(insert(_F), [pending.values() for pending in fresh])
        except IntegrityError:
            for pending in fresh:
                self._into_slot(pending)
        input_sets.add_parents(self._conn, [pending.row for pending in fresh])

    def _into_slot(self, pending: _Pending) -> None:
        """A daily file whose place is taken: the newer revision is live, the other one was replaced."""
        row = pending.row
        if row.level == "day" and pending.retired_at is None:
            names = ("exchange", "market_type", "kind", "date", "symbol", "hour")
            slot = [_F.c[name].is_not_distinct_from(getattr(row, name)) for name in names]
            others = select(_F.c.path, _F.c.revision).where(*slot, _F.c.level == "day", _F.c.state == "live")
            for path, revision in self._conn.execute(others).all():
                self._note(f"{path} and {row.path} are told to be live both: the newer one is")
                if revision > row.revision:
                    pending.retired_at = pending.created_at
                else:
                    self._conn.execute(_RETIRE, {"of": path, "at": pending.created_at})
        self._conn.execute(insert(_F), pending.values())

    def _two_hashes(self, row: FileRow, held: str) -> None:
        self._note(f"{row.path} is told with two hashes, {held[:12]} and {row.sha256[:12]}: the first is kept")
