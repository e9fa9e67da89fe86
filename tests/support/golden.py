"""Golden lakes: small lakes as released programs wrote them, to be opened by this one."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import zstandard
from sqlalchemy import Engine, event

from lake import migrations
from lake.writer import LakeWriter
from market.times import DAY

FOLDER = Path(__file__).parent.parent / "fixtures" / "golden"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
NODE = "later"
NOW = 1_767_225_600_000_000 + 10 * DAY
"""Later than everything in any of them (us)."""
VERSIONS = {"v1": 2}
"""The schema version that each was frozen at."""


def unpack(name: str, place: Path) -> Path:
    """A copy of a golden lake at `place`, which is not there yet."""
    data = zstandard.ZstdDecompressor().decompress((FOLDER / name / "lake.tar.zst").read_bytes(), max_output_size=2**26)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(place, filter="data")
    return place


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name / "expected.json").read_text())
    return found


def tables_of(root: Path, like: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The manifest's tables, with the columns that these rows have, in the same order."""
    found = {}
    db = sqlite3.connect(f"file:{root / 'manifest.db'}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    for name, rows in like.items():
        names = list(rows[0])
        held = [{key: row[key] for key in names} for row in db.execute(f'SELECT * FROM "{name}"')]
        found[name] = held
    db.close()
    return in_order(found)


def in_order(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The same tables, their rows and columns in an order that follows from them."""
    return {name: sorted(rows, key=lambda row: json.dumps(row, sort_keys=True)) for name, rows in tables.items()}


def version_of(root: Path) -> int:
    """The schema version that the file says."""
    db = sqlite3.connect(f"file:{root / 'manifest.db'}?mode=ro", uri=True)
    version = int(db.execute("SELECT schema_version FROM meta").fetchone()[0])
    db.close()
    return version


def schema_of(root: Path) -> dict[str, list[str]]:
    """Table -> its columns and how they are declared; indexes by their names."""
    db = sqlite3.connect(f"file:{root / 'manifest.db'}?mode=ro", uri=True)
    names = db.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name").fetchall()
    found = {
        name: [str(row[1:]) for row in db.execute(f'PRAGMA table_info("{name}")')] if sort == "table" else [sort]
        for sort, name in names
    }
    db.close()
    return found


def schema_at(version: int) -> dict[str, list[str]]:
    """The same of a new manifest at that version."""
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(Path(folder) / "manifest.db")
        for statements in migrations.MIGRATIONS[:version]:
            for statement in statements:
                db.execute(statement)
        db.commit()
        db.close()
        return schema_of(Path(folder))


def migrate(root: Path, number: int, when: str) -> None:
    """Open for writing, and be killed before or after that statement (0: never; -1: with everything committed)."""
    seen = 0

    def strike(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute" if when == "before" else "after_cursor_execute", strike)
    writer = LakeWriter.open(root, NODE, NOW, simulated=None)
    if number == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    writer.close()
