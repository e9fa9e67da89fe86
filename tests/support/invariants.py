"""The invariants that hold after every fault (I1, I2, I3, I5, I8, I9): one check that all fault tests share.

    I1  what was promised is there
    I2  nothing is there twice, every file is in its order
    I3  whatever the manifest calls live or sealed exists, is what it says, and decodes whole
    I5  first..last id = stored + in a gap; what an unended session lost has an open gap
    I8  recovering again changes neither manifest nor files
    I9  nothing is left over: temporary, open, or unnamed files

Everything is read here by other means than the product's: sqlite3, json, pyarrow.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from collectors.recovery import settle
from lake import schema
from lake.errors import LakeError
from lake.frames import read_frames
from lake.layout import LOCK
from lake.rebuild import rebuild
from lake.writer import LakeWriter
from tests.support.life import NODE, NOW_AFTER, Id, Promise

KEYS = {"trade": "seq", "quote": "update_id", "bar_1s": "window_start", "bar_1m": "window_start"}
OBSERVED = ("trade", "quote")
NOT_TOLD = frozenset({"ledger", "manifest.db", "manifest.db-wal", "manifest.db-shm", ".lock"})
"""What may differ between two recoveries: a start is an entry of the ledger and an epoch of the manifest."""
NUMBERED = {table.name for table in schema.NUMBERED}
REPORTS = ("gaps", "sessions", "coverage", "quarantine", "bans")
Rows = dict[str, list[dict[str, Any]]]


def manifest_rows(root: Path) -> Rows:
    """Every table of the manifest, without its own counters and what only numbers things. Of names the case says
    nothing, as in SQLite: a bit of it that is another one changes nothing.
    """
    with contextlib.closing(sqlite3.connect(f"file:{root / 'manifest.db'}?mode=ro", uri=True)) as db:
        held = "SELECT lower(name) FROM sqlite_master WHERE lower(type) IN ('table', 'view') ORDER BY 1"
        names = [row[0] for row in db.execute(held) if row[0] not in NUMBERED]
        tables: Rows = {}
        for name in names:
            found = db.execute(f'SELECT * FROM "{name}"')
            keys = [column[0].lower() for column in found.description]
            tables[name] = [dict(zip(keys, row, strict=True)) for row in sorted(found, key=repr)]
    for row in tables.get("meta", ()):
        row.pop("epoch", None)
        row.pop("version", None)
    return tables


def files_of(root: Path) -> dict[str, bytes]:
    """SHA-256 of every file that belongs to the lake's data."""
    base = str(root)
    found: dict[str, bytes] = {}
    for folder, folders, names in os.walk(base):
        where = folder[len(base) + 1 :].replace(os.sep, "/")
        if not where:
            folders[:] = [name for name in folders if name not in NOT_TOLD]
        for name in names if where else set(names) - NOT_TOLD:
            found[f"{where}/{name}" if where else name] = hashlib.sha256(Path(folder, name).read_bytes()).digest()
    return found


def everything(root: Path) -> bytes:
    """Equal for lakes that are the same byte for byte, the manifest too; of the lock nothing is left but its name."""
    told = hashlib.sha256()
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            data = b"" if name == LOCK else Path(folder, name).read_bytes()
            told.update(f"{folder[len(str(root)) :]}\0{name}\0{len(data)}\0".encode() + data)
        told.update(f"{folder[len(str(root)) :]}\0\0".encode())
    return told.digest()


class Held(NamedTuple):
    """What one file holds: ids in order of the file, and whether that is the right order."""

    ids: tuple[Id, ...]
    sorted: bool
    broken: str = ""


@functools.lru_cache(maxsize=4096)
def _parquet(data: bytes, kind: str) -> Held:
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        return Held((), sorted=False, broken=str(error))
    names = table.column("symbol").cast(pa.string()).to_pylist()
    keys = table.column(KEYS[kind]).cast(pa.int64()).to_pylist()
    times = table.column("window_start" if kind.startswith("bar") else "ts_event").cast(pa.int64()).to_pylist()
    order = list(zip(names, times, keys, strict=True))
    ids = tuple((kind, name, key) for name, key in zip(names, keys, strict=True))
    return Held(ids, sorted=order == sorted(order))


@functools.lru_cache(maxsize=4096)
def _lines(data: bytes, kind: str) -> tuple[tuple[Id, str, int], ...]:
    """(id, session, frame) of each line. Raises ValueError for what is no JSON."""
    found = [json.loads(line) for line in data.split(b"\n")[:-1]]
    if not data.endswith(b"\n"):
        raise ValueError("the last line is not whole")
    return tuple(((kind, row["symbol"], row[KEYS[kind]]), row["session"], row["frame_no"]) for row in found)


class Look(NamedTuple):
    """What a recovered lake holds, and what is wrong with it."""

    rows: Rows
    stored: Counter[Id]
    raw: tuple[tuple[Id, str, int], ...]
    wrong: list[str]


def look(root: Path, *, leaving: bool = False) -> Look:
    """Read everything that the manifest names as readable (I2, I3). `leaving`: retention may be half done."""
    rows = manifest_rows(root)
    stored: Counter[Id] = Counter()
    raw: list[tuple[Id, str, int]] = []
    wrong: list[str] = []
    for row in rows["files"]:
        if row["state"] != "live":
            continue
        data = _whole(root, row, wrong)
        if data is None:
            continue
        held = _parquet(data, row["kind"])
        stored.update(held.ids)
        if held.broken or len(held.ids) != row["rows"]:
            wrong.append(f"I3: {row['path']} holds {len(held.ids)} rows, not {row['rows']} {held.broken}")
        elif not held.sorted:
            wrong.append(f"I2: {row['path']} is not in order")
    for row in rows["segments"]:
        if row["state"] == "open":
            wrong.append(f"I9: {row['path']} is still open")
        if row["state"] in ("sealed", "transformed") and row["rows"]:
            going = leaving and (row["state"] == "transformed" or row["kind"] == "frames")
            if going and not (root / row["path"]).exists():
                continue  # unlinked before that was written down; I1 says whether that was too early
            wrong += [] if going else _sealed(root, row)
            data = _whole(root, row, wrong)
            if data is not None and row["kind"] in OBSERVED:
                try:
                    lines = _lines(data, row["kind"])
                except ValueError as error:
                    wrong.append(f"I3: {row['path']}: {error}")
                    continue
                raw += lines
                if row["state"] == "sealed":
                    stored.update(line[0] for line in lines)
    wrong += [f"I2: {count} times {key}" for key, count in stored.items() if count > 1]
    return Look(rows, stored, tuple(raw), wrong)


def _sealed(root: Path, row: dict[str, Any]) -> Iterator[str]:
    """The seal beside a file says what the manifest says."""
    try:
        seal = json.loads((root / (row["path"] + ".meta.json")).read_bytes())
    except FileNotFoundError:
        if (root / row["path"]).exists():
            yield f"I3: {row['path']} has no seal"
    except ValueError:
        yield f"I3: the seal of {row['path']} is not readable"
    else:
        if (seal["sha256"], seal["bytes"]) != (row["sha256"], row["bytes"]):
            yield f"I3: the seal of {row['path']} says something else"


def _whole(root: Path, row: dict[str, Any], wrong: list[str]) -> bytes | None:
    try:
        data = (root / row["path"]).read_bytes()
    except FileNotFoundError:
        wrong.append(f"I3: {row['path']} ({row['state']}) does not exist")
        return None
    if len(data) != row["bytes"] or hashlib.sha256(data).hexdigest() != row["sha256"]:
        wrong.append(f"I3: {row['path']} ({row['state']}) has {len(data)} bytes that are not its {row['bytes']}")
        return None
    return data


def _kept(seen: Look, promised: Promise) -> Iterator[str]:
    """I1, and the gaps that were recorded."""
    for key in sorted(promised.ids - seen.stored.keys()):
        yield f"I1: {key} was promised and is lost"
    for gap in promised.gaps - {row["gap_id"] for row in seen.rows["gaps"]}:
        yield f"I1: the gap {gap} was promised and is lost"


def law(seen: Look) -> Iterator[str]:
    """I5 of every numbered stream."""
    by_symbol: dict[str, set[int]] = {}
    for kind, symbol, number in seen.stored:
        if kind == "trade":
            by_symbol.setdefault(symbol, set()).add(number)
    sessions = {row["session"]: row for row in seen.rows["sessions"]}
    for symbol, ids in by_symbol.items():
        gaps = [row for row in seen.rows["gaps"] if row["kind"] == "trade" and row["symbol"] == symbol]
        named = {
            number
            for row in gaps
            if row["id_from"] is not None
            for number in range(row["id_from"], row["id_to"] if row["id_to"] is not None else max(ids) + 1)
            if row["state"] in ("open", "unrepairable", "void")
        }
        unexplained = set(range(min(ids), max(ids) + 1)) - ids - named
        if unexplained:
            yield f"I5: {symbol} {sorted(unexplained)} are neither stored nor in a gap"
        if named & ids:
            yield f"I5: {symbol} {sorted(named & ids)} are stored and in a gap"
    for row in sessions.values():
        if row["closed_at"] is None:
            yield f"I5: session {row['session']} never ended"
    yield from _crashes(seen, sessions)


def _crashes(seen: Look, sessions: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A session that a crash ended leaves an open gap behind the last event of each of its streams."""
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for (kind, symbol, number), session, _ in seen.raw:
        last[kind, symbol] = max(last.get((kind, symbol), (-1, "")), (number, session))
    for (kind, symbol), (number, session) in last.items():
        if sessions.get(session, {}).get("close_cause") != "crash" or (kind, symbol, number) not in seen.stored:
            continue
        gaps = [
            row
            for row in seen.rows["gaps"]
            if (row["kind"], row["symbol"], row["cause"], row["state"]) == (kind, symbol, "crash", "open")
        ]
        if not gaps:
            yield f"I5: {kind} {symbol} was interrupted at {number}, and no gap says so"
        elif kind == "trade" and not any(row["id_from"] == number + 1 for row in gaps):
            yield f"I5: {symbol} was interrupted at {number}, its gap begins at {[row['id_from'] for row in gaps]}"


def _tidy(files: Iterable[str], seen: Look) -> Iterator[str]:
    """I9: only what is named, under its right name; tables/ shows the live daily files and nothing else."""
    known = {row["path"]: row for row in seen.rows["files"]}
    live = {row["path"] for row in known.values() if row["state"] == "live" and row["level"] == "day"}
    segments = {row["path"] for row in seen.rows["segments"] if row["state"] != "deleted"}
    linked = set()
    for name in files:
        if name.endswith((".tmp", ".open")):
            yield f"I9: {name} is left"
        elif name.startswith(("hot/", "versions/")) and (name not in known or known[name]["unlinked_at"] is not None):
            yield f"I9: {name} is named by no row, or as gone"
        elif name.startswith(("raw/", "frames/")) and name.removesuffix(".meta.json") not in segments:
            yield f"I9: {name} is named by no row, or as deleted"
        elif name.startswith("tables/"):
            linked.add("versions/" + name.removeprefix("tables/"))
    if linked != live:
        yield f"I9: tables/ shows {sorted(linked - live)} too many, lacks {sorted(live - linked)}"


def glob_is_safe(root: Path) -> Iterator[str]:
    """Whoever globs tables/ at any moment, even before recovery: no day twice, no file that is not whole (I4)."""
    for folder, _, names in os.walk(root / "tables"):
        shown = [Path(folder, name) for name in names if name.endswith(".parquet")]
        if len(shown) > 1:
            yield f"I4: {Path(folder).relative_to(root)} shows {len(shown)} files"
        for path in shown:
            if hashlib.sha256(path.read_bytes()).hexdigest()[:8] != path.stem[-8:]:
                yield f"I4: {path.relative_to(root)} is not whole"


def frames_first(root: Path, seen: Look) -> Iterator[str]:
    """Every stored line has the frame that it was made from, where nothing but promised bytes survived."""
    frames: dict[str, int] = {}
    there = False
    for row in seen.rows["segments"]:
        if row["kind"] == "frames" and row["rows"]:
            there = there or row["state"] == "deleted"
            if (root / row["path"]).exists():
                for line in read_frames(root / row["path"]):
                    frames[line.conn] = max(frames.get(line.conn, 0), line.n)
    for key, session, frame in () if there else seen.raw:
        if frame > frames.get(session, 0):
            yield f"I1: {key} is durable before its frame {frame} of {session}"


def differs(root: Path, rows: Rows, files: dict[str, bytes]) -> list[str]:
    """What is not as it was or should be: rows of the manifest, and files."""
    found = manifest_rows(root)
    wrong: list[str] = []
    if found != rows:
        wrong += [
            f"{name} has {row} too much" for name in found for row in found[name] if row not in rows.get(name, [])
        ]
        wrong += [f"{name} lacks {row}" for name in rows for row in rows[name] if row not in found.get(name, [])]
    held = files_of(root)
    return wrong + [
        f"{name} is not the same" for name in held.keys() | files.keys() if held.get(name) != files.get(name)
    ]


def recover(root: Path, now: int) -> None:
    """What a start of the daemon does."""
    with LakeWriter.open(root, NODE, now) as writer:
        settle(writer, writer.recover(now), now)


def rebuilds(root: Path, *, leaving: bool = False) -> Iterator[str]:
    """P27: ledger, footers and seals tell the same manifest.

    The ledger may know more: a report is written there first, so a crash may come before the manifest has it; and
    (`leaving`) rows of replaced files are forgotten before that is told.
    """
    made = rebuild(root, NODE, NOW_AFTER, dry_run=True, thorough=False)
    more = {*REPORTS, *(("files", "lineage", "checks") if leaving else ())}
    for difference in made.differences or ():
        if difference.only == "present" or difference.table not in more:
            yield f"P27: rebuilt, {difference}"
    yield from (f"P27: rebuilt, {note}" for note in made.contradictions)


def check(root: Path, promised: Promise, *, floor: bool = False, thorough: bool = False) -> list[str]:
    """Recover the lake at `root` twice with the real code; everything that is not as promised, in words.

    `floor`: nothing but promised bytes is on this disk. `thorough` also makes the manifest anew and compares.
    """
    wrong = list(glob_is_safe(root))
    try:
        recover(root, NOW_AFTER)
        seen = look(root, leaving=promised.leaving)
        files = files_of(root)
        recover(root, NOW_AFTER + 1_000_000)
    except (LakeError, OSError, sqlite3.Error) as error:
        return [*wrong, f"recovery fails: {type(error).__name__}: {error}"]
    wrong += seen.wrong
    wrong += _kept(seen, promised)
    wrong += law(seen)
    wrong += _tidy(files, seen)
    wrong += [f"I8: the second recovery: {what}" for what in differs(root, seen.rows, files)]
    if floor:
        wrong += frames_first(root, seen)
    if thorough and not wrong:
        wrong += rebuilds(root, leaving=promised.leaving)
    return wrong
