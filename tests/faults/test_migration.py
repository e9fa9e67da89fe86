"""F31, F32: a migration that is killed is not begun or is done, and a program knows which lakes it may touch.

The lakes are golden ones, so that each migration since the first release is killed at each of its statements.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from typer.testing import CliRunner

from cli.app import app
from lake import migrations
from lake.errors import UnknownVersion
from lake.manifest import Manifest
from lake.writer import LakeWriter
from tests.support import golden
from tests.support.crash import KILLED, needs_fork, run_apart
from tests.support.faults import FULL, some

pytestmark = pytest.mark.timeout(1800 if FULL else 300)
each = pytest.mark.parametrize("name", golden.NAMES)
Point = tuple[int, str]
"""(number of a statement, before or after it)"""


def statements(root: Path) -> int:
    """How many statements an opening takes."""
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1

    event.listen(Engine, "before_cursor_execute", count)
    try:
        LakeWriter.open(root, golden.NODE, golden.NOW, simulated=None).close()
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    return seen


def state_of(root: Path, name: str) -> str:
    """`old` or `new`: the schema's version, with the tables of that version and every row; else what is wrong."""
    version, was = golden.version_of(root), golden.VERSIONS[name]
    if version not in (was, migrations.VERSION):
        return f"version {version}, between {was} and {migrations.VERSION}"
    if golden.schema_of(root) != golden.schema_at(version):
        return f"version {version} with other tables"
    told = golden.expected(name)["tables"]
    if golden.tables_of(root, told) != golden.in_order(told):
        return f"version {version} with other rows"
    return "old" if version == was else "new"


def goes_on(root: Path, name: str) -> str:
    """The state after the next start, which nothing disturbs."""
    with LakeWriter.open(root, golden.NODE, golden.NOW + 1, simulated=None) as writer:
        writer.recover(golden.NOW + 1)
    return state_of(root, name)


@needs_fork
@each
def test_f31_a_migration_killed_at_any_statement_is_not_begun_or_done(place: Path, name: str) -> None:
    whole = golden.unpack(name, place / "whole")
    total = statements(shutil.copytree(whole, place / "count"))
    points: list[Point] = [(n, when) for n in range(1, total + 1) for when in ("before", "after")]
    found: dict[str, int] = {}
    for number, when in some(points, 5, f"migration-{name}"):
        root = shutil.copytree(whole, place / "killed")
        assert run_apart(golden.migrate, root, number, when) == KILLED
        state = state_of(root, name)
        assert state in ("old", "new"), f"killed {when} statement {number} of {total}: {state}"
        assert goes_on(root, name) == "new", f"after a kill {when} statement {number} of {total}"
        found[state] = found.get(state, 0) + 1
        shutil.rmtree(root)
    assert set(found) <= {"old", "new"}
    assert found.get("old")


@needs_fork
@each
def test_f31_a_migration_whose_log_is_cut_at_any_byte_is_not_begun_or_done(place: Path, name: str) -> None:
    """What a power cut leaves of the write-ahead log that holds the whole migration and the epoch after it."""
    root = golden.unpack(name, place / "lake")
    connection = sqlite3.connect(root / "manifest.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert run_apart(golden.migrate, root, -1, "before") == KILLED
    log = root / "manifest.db-wal"
    data, held = log.read_bytes(), (root / "manifest.db").read_bytes()
    page = int.from_bytes(data[8:12], "big") + 24
    frames = range(32, len(data) + 1, page)
    assert len(frames) > 20, "the migration is in the log"
    cuts = sorted({min(len(data), max(0, at + by)) for at in frames for by in (-1, 0, 1, 24, page // 2)} | {0, 1, 31})
    states = []
    for cut in some(cuts, 25, f"log-{name}"):
        (root / "manifest.db").write_bytes(held)
        (root / "manifest.db-shm").unlink(missing_ok=True)
        log.write_bytes(data[:cut])
        states.append(state_of(root, name))
        assert states[-1] in ("old", "new"), f"the log cut at {cut} of {len(data)}: {states[-1]}"
    log.write_bytes(data)
    (root / "manifest.db").write_bytes(held)
    (root / "manifest.db-shm").unlink(missing_ok=True)
    assert state_of(root, name) == "new"
    assert "old" in states
    assert goes_on(root, name) == "new"


def fingerprint(root: Path) -> dict[str, str]:
    """SHA-256 of every file but the lock, and the empty log that any reader of SQLite leaves beside the manifest."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and path.name not in (".lock", "manifest.db-shm")
        if path.name != "manifest.db-wal" or path.stat().st_size
    }


@each
def test_f32_an_older_program_refuses_a_newer_lake_by_both_versions_and_touches_nothing(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = golden.unpack(name, place / "lake")
    LakeWriter.open(root, golden.NODE, golden.NOW, simulated=None).close()
    before = fingerprint(root)
    older = migrations.VERSION - 1
    monkeypatch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:older])
    monkeypatch.setattr(migrations, "VERSION", older)
    said = f"schema version {older + 1}, this program knows {older}"
    for opening in (
        lambda: LakeWriter.open(root, golden.NODE, golden.NOW, simulated=None),
        lambda: LakeWriter.open(root, golden.NODE, golden.NOW, simulated=None, on_rebuild=lambda *_: None),
        lambda: Manifest.read_only(root),
    ):
        with pytest.raises(UnknownVersion, match=said) as refused:
            opening()
        assert refused.value.exit_code == 78
    for command in (["ls"], ["transform"], ["verify"], ["rebuild", "--dry-run"]):
        done = CliRunner().invoke(app, [*command, "--lake", str(root)])
        assert (done.exit_code, said in done.output.replace("\n", " ")) == (78, True), (command, done.output)
    assert fingerprint(root) == before


@each
def test_f32_a_newer_program_reads_an_older_lake_without_writing_to_it(place: Path, name: str) -> None:
    root = golden.unpack(name, place / "lake")
    before = fingerprint(root)
    for command in (["ls"], ["gaps"], ["verify"], ["read", "trade", "--json"]):
        done = CliRunner().invoke(app, [*command, "--lake", str(root)])
        assert done.exit_code in (0, 1), (command, done.output)
    assert golden.version_of(root) == golden.VERSIONS[name]
    assert fingerprint(root) == before
