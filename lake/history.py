"""The ledger's entries told to an empty manifest in their order, so that it comes to say what the lost one said.

They go through the very statements that wrote the lost one. What a lost line leaves contradictory is settled for the
newer and noted; nothing here raises for what the ledger says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from lake import feature_table, job_writes, schema
from lake import manifest_writes as writes
from lake.commits import Commit, Start, Void
from lake.errors import CommitConflict
from lake.feature_rows import FeatureRow
from lake.history_files import FileTale
from lake.jobs import JobChange
from lake.ledger import BadEntry, Entry
from lake.manifest_reads import chunks
from lake.rows import BanRow, CertificateRow, QuarantineRow, SegmentRow, SegmentState, SessionRow
from market.errors import Malformed
from market.session import Coverage, Gap

BATCH = 5_000
NOTES = 1_000
"""Contradictions that are kept in words; more of them are counted only."""

_ROWS: dict[str, tuple[type[Any], Callable[[Connection, Any], int]]] = {
    "seal": (SegmentRow, writes.upsert_segments),
    "session": (SessionRow, writes.upsert_sessions),
    "coverage": (Coverage, writes.upsert_coverage),
    "gap": (Gap, writes.upsert_gaps),
    "quarantine": (QuarantineRow, writes.upsert_quarantine),
    "certificate": (CertificateRow, writes.upsert_certificates),
    "ban": (BanRow, writes.upsert_bans),
    "job": (JobChange, job_writes.write),
    "feature": (FeatureRow, feature_table.upsert),
}


_SET_STATE = update(schema.segments).where(schema.segments.c.path == bindparam("of")).values(state=bindparam("to"))


class History:
    """What the ledger has told so far. `conn` is inside a transaction on a manifest with empty tables, or on a copy of
    the lost one: `base` is what that says of itself. Its commits are in it already; reports say nothing twice.
    """

    def __init__(self, conn: Connection, base: Start | None = None) -> None:
        self.start = base
        self.entries = 0
        self.bad: list[BadEntry] = []
        self.notes: list[str] = []
        self.noted = 0
        self.newest = 0
        """Time (us) of the newest entry."""
        self.adopted: list[Commit] = []
        """What the disk knows and no entry told: for the ledger, so that it is told from now on."""
        self.void: Void | None = None
        """What takes the ledger's last commit back, where it did not come to its end."""
        self.loose: dict[str, SegmentState] = {}
        """States of segments whose seal no entry told."""
        self._conn = conn
        self._first: int | None = None
        self._base = self._version = base.version if base is not None else 0
        self._epoch = base.epoch if base is not None else 0
        self._since = 0
        self._held: Commit | None = None
        self._files = FileTale(conn, self.note)
        self._states: dict[str, SegmentState] = {}
        self._failed: list[tuple[str, str]] = []
        self._cursors: dict[str, int] = {}
        self._waiting: dict[str, list[Any]] = {kind: [] for kind in (*_ROWS, "checks")}

    @property
    def whole(self) -> bool:
        """Whether the ledger has every entry since the lake was made, as far as it can tell."""
        return self._first == 1 and all(entry.torn for entry in self.bad)

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def version(self) -> int:
        """A version that the lost manifest cannot have passed: opening and recording segments moved it as well."""
        return self._version + self._since + 1

    def take(self, entry: Entry) -> None:
        """The next entry of the ledger."""
        self.entries += 1
        self.newest = max(self.newest, entry.at)
        try:
            self._take(entry)
        except Malformed as error:
            self.note(f"ledger: {error}")

    def note(self, text: str) -> None:
        self.noted += 1
        if len(self.notes) < NOTES:
            self.notes.append(text)

    def finish(self, exists: Callable[[str], bool]) -> None:
        """The end of the ledger. The last commit took place where its files are there."""
        held, self._held = self._held, None
        if held is not None and all(exists(path) for path in _promised(held)):
            self.apply(held)
        elif held is not None:
            self.void = Void(held.epoch, held.version)
        self.flush()

    def record(self, kind: str, rows: Sequence[Any]) -> None:
        """Rows as the ledger's entries of that kind hold them, in their order."""
        waiting = self._waiting[kind]
        waiting += rows
        if len(waiting) >= BATCH:
            self._flush(kind)

    def flush(self) -> None:
        """Make the tables say all that was taken."""
        for kind in self._waiting:
            self._flush(kind)
        self._flush_states()
        self._files.flush()
        writes.set_cursors(self._conn, self._cursors)
        self._cursors.clear()

    def adopt(self, commit: Commit) -> None:
        """A transaction that no entry told."""
        commit.epoch, commit.version = self._epoch, self.version
        self.apply(commit)
        self.flush()
        self.adopted.append(commit)

    def apply(self, commit: Commit) -> None:
        """One transaction of the lost manifest."""
        self._version, self._since = max(self._version, commit.version), 0
        self._files.retire(commit.remove, commit.now)
        self._files.add(commit.add, commit.now)
        # the seal of a segment is told before its states, and one told again changes no later state
        self._states |= commit.segments
        self._failed += commit.failed.items()
        self._cursors |= commit.cursors
        self.record("checks", commit.checks)
        self.record("certificate", commit.certificates)
        self.record("quarantine", commit.quarantine)
        self.record("gap", commit.gaps)
        self.record("feature", commit.features)
        self._files.gone(commit.unlinked, commit.now)
        if commit.forget is not None:
            self._files.flush()
            self._flush("checks")
            writes.forget_retired(self._conn, commit.forget)

    def _take(self, entry: Entry) -> None:
        if entry.type == "void":
            void = entry.read(Void)
            if self._held is not None and (self._held.epoch, self._held.version) == (void.epoch, void.version):
                self._held = None
            return
        if entry.type == "start":
            self._take_start(entry.read(Start))
            return
        if entry.type == "commit":
            commit = entry.read(Commit)
            if commit.version <= self._base:
                return  # the copy has it, or has what came in its place
            if commit.epoch < self._epoch:
                self.note(f"commit {commit.version} of writer {commit.epoch} came after writer {self._epoch} began")
                return
            if self._held is not None and commit.version <= self._held.version:
                self._held = None  # told again, or anew, since the first time did not come to its end
            self._settle()
            self._held = commit
            return
        self._settle()
        if entry.type in _ROWS:
            self._since += 2
            self.record(entry.type, [entry.read(_ROWS[entry.type][0])])

    def _take_start(self, start: Start) -> None:
        if self.start is not None and start.lake_id != self.start.lake_id:
            self.note(f"a writer of another lake ({start.lake_id}) began here: lines of two ledgers are mixed")
            return
        if self._held is not None and start.version < self._held.version:
            self._held = None  # its writer died before the manifest had it
        self._settle()
        if self.start is None:
            self._first = start.epoch if self.entries == 1 else 0
        self.start = start
        self._epoch = max(self._epoch, start.epoch)
        self._version = max(self.version if self._since else self._version, start.version)
        self._since = 0

    def _settle(self) -> None:
        """What follows a commit without taking it back says that it took place."""
        held, self._held = self._held, None
        if held is not None:
            self.apply(held)

    def _flush(self, kind: str) -> None:
        waiting = self._waiting[kind]
        if not waiting:
            return
        if kind == "checks":
            writes.upsert_checks(self._conn, waiting)
        else:
            _ROWS[kind][1](self._conn, waiting)
        waiting.clear()

    def _flush_states(self) -> None:
        t = schema.segments
        for paths in chunks(self._states):
            known = set(self._conn.execute(select(t.c.path).where(t.c.path.in_(paths))).scalars())
            self.loose |= {path: self._states[path] for path in paths if path not in known}
            said = [{"of": path, "to": self._states[path]} for path in paths if path in known]
            if said:
                self._conn.execute(_SET_STATE, said)
        self._states.clear()
        for path, text in self._failed:
            try:
                writes.fail_segment(self._conn, path, text)
            except CommitConflict:
                self.note(f"{path} failed, and no entry tells its seal")
        self._failed.clear()


def _promised(commit: Commit) -> list[str]:
    """The files that are there if it took place."""
    return [row.path for row in commit.add] + [row.path for row in commit.features if row.state == "live"]


def lines_of(bad: Sequence[BadEntry]) -> list[str]:
    """Damaged lines in words, by file and line."""
    return [f"{b.path} line {b.number}{' (torn)' if b.torn else ''}: {b.reason}" for b in bad]
