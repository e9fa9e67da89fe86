"""F24 to F27: a manifest that is locked, damaged, lost, or older than the lake; what a start makes of it."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lake import backup, manifest_source
from lake.errors import CorruptManifest, LakeError, ManifestBusy, NotALake
from lake.rebuild import rebuild
from lake.writer import LakeWriter
from market.times import MINUTE, SECOND
from runtime.workers import InlineExecutor
from tests.support import invariants, life
from tests.support.faults import FULL, SEED, Lives
from tests.support.life import NODE, NOW_AFTER, Collecting, Promise
from transformer.service import transform_once

pytestmark = pytest.mark.timeout(3600 if FULL else 300)
FLIPS = 1000 if FULL else 12
HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
"""


@contextlib.contextmanager
def held_by_another(root: Path) -> Iterator[None]:
    """Another process has the manifest for itself."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root / "manifest.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "held\n"
        yield
    finally:
        other.communicate("go\n", timeout=60)
        assert other.returncode == 0


def test_f24_while_another_holds_the_manifest_raw_goes_on_and_what_waits_is_told_after_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_source, "BUSY_MS", 5)  # what SQLite waits by itself; the thirty seconds are virtual
    root = place / "lake"
    root.mkdir()
    busy = written = 0
    with life.start(root, life.T0) as writer, Collecting(writer, 1, life.T0, life.nobody) as made:
        made.take(made.batch(life.T0 + SECOND, life.ids_of(0)))
        with held_by_another(root):
            for second in range(2, 32):
                at = life.T0 + second * SECOND
                written = len(made.pending) if second == 12 else written
                work = made.batch(at, life.ids_of(second // 4) if second % 4 == 0 else [])
                work.sync = True
                if second in (5, 20):
                    work.coverage = made._coverage(at)
                if second == 12:  # what names a gap is written after it: from here on lines wait in memory
                    work.gaps = [life.hole(at, made.session)]
                try:
                    made.commit.commit(work)
                except ManifestBusy:
                    busy += 1
            with pytest.raises(ManifestBusy):
                writer.publish(cursors={"jobs": 1}, now=life.T0 + 31 * SECOND)
            assert writer.manifest.cursor("jobs") is None, "who only reads does not wait"
            on_disk = b"".join(path.read_bytes() for path in sorted((root / "raw").rglob("*.open")))
            assert on_disk.count(b"\n") >= written > 4, "lines need no manifest to be durable"
        made.end(life.T0 + 32 * SECOND)
        transform_once(writer, InlineExecutor(), life.T0 + 5 * MINUTE, life.TRANSFORMER)
        promised = made.promise
    assert busy > 10, "the lock was in the way"
    assert promised.ids
    assert invariants.check(root, promised, thorough=True) == []


def opened(root: Path) -> list[tuple[str, str]]:
    """A start of the daemon; why it made the manifest anew, if it did."""
    told: list[tuple[str, str]] = []
    with LakeWriter.open(root, NODE, NOW_AFTER, on_rebuild=lambda *said: told.append(said)) as writer:
        writer.recover(NOW_AFTER)
    return told


def active(rows: invariants.Rows) -> set[tuple[str, str]]:
    return {(row["path"], row["sha256"]) for row in rows["files"] if row["state"] == "live"}


def told(root: Path) -> invariants.Rows:
    """The manifest, without what the ledger does not tell and when a lost segment was taken in by its seal again."""
    rows = invariants.manifest_rows(root)
    del rows["scrubs"]
    for row in rows["segments"]:
        del row["recorded_at"]
    return {name: sorted(held, key=repr) for name, held in rows.items()}


@pytest.mark.parametrize("table, column", [("meta", "created_at"), ("files", "rows"), ("jobs", "priority")])
def test_f25_a_flipped_bit_in_the_name_of_a_column_is_noticed_at_the_start(
    lives: Lives, place: Path, table: str, column: str
) -> None:
    """SQLite knows no name but the one that is there."""
    before, root = told(lives.at("end")), lives.before("end", place / "flipped")
    path = root / "manifest.db"
    data = bytearray(path.read_bytes())
    data[data.index(column.encode(), data.index(f"CREATE TABLE {table} (".encode())) + 1] ^= 1
    path.write_bytes(data)
    ((why, _),) = opened(root)
    assert "no such column" in why
    found = told(root)
    assert [name for name in before if found[name] != before[name]] == []


def test_f25_a_flipped_bit_of_the_manifest_is_noticed_and_put_right(lives: Lives, place: Path) -> None:
    """At the start where SQLite can see it; a value that is another one, when ledger and manifest are compared."""
    before = told(lives.at("end"))
    wrong: list[str] = []
    rebuilt = compared = 0
    for turn in range(FLIPS):
        chance = random.Random(f"{SEED}-manifest-{turn}")
        root = lives.before("end", place / "flipped")
        path = root / "manifest.db"
        data = bytearray(path.read_bytes())
        at = chance.choice([at for at, byte in enumerate(data) if byte and at >= 100])
        bit = chance.randrange(8)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        what = f"bit {bit} of byte {at}"
        try:
            rebuilt += bool(opened(root))
            said = rebuild(root, NODE, NOW_AFTER, dry_run=True, thorough=False)
            if said.differences or said.unreadable:
                compared += 1
                rebuild(root, NODE, NOW_AFTER + 1, thorough=False)
            found = told(root)
        except (LakeError, sqlite3.Error) as error:
            wrong.append(f"{what}: {type(error).__name__}: {error}")
        else:
            wrong += [f"{what}: {name} is not as it was" for name in before if found[name] != before[name]]
        shutil.rmtree(root)
    assert wrong == []
    assert rebuilt + compared, "no flip did anything"


def truncated(root: Path, _crashed: Path) -> None:
    path = root / "manifest.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def cut_to_a_page(root: Path, _crashed: Path) -> None:
    path = root / "manifest.db"
    path.write_bytes(path.read_bytes()[:4096])


def deleted(root: Path, _crashed: Path) -> None:
    (root / "manifest.db").unlink()


def zeroed(root: Path, _crashed: Path) -> None:
    path = root / "manifest.db"
    path.write_bytes(bytes(path.stat().st_size))


def stale_log(root: Path, crashed: Path) -> None:
    """The log of an earlier life beside the newest manifest."""
    shutil.copy(crashed / "manifest.db-wal", root / "manifest.db-wal")


@pytest.fixture
def crashed(lives: Lives, place: Path) -> Path:
    """A lake as a killed process leaves it, with commits that only the log has."""
    root = lives.before("more", place / "living")
    with life.start(root, life.MORE) as writer:
        writer.publish(cursors={"only in the log": 1}, now=life.MORE)
        writer.publish(cursors={"only in the log": 2}, now=life.MORE)
        left = shutil.copytree(root, place / "crashed")
    assert (left / "manifest.db-wal").stat().st_size
    return left


@pytest.mark.parametrize("harm", [truncated, cut_to_a_page, zeroed, stale_log, deleted])
def test_f25_f26_a_damaged_or_lost_manifest_is_made_anew_at_the_start(
    lives: Lives, place: Path, crashed: Path, harm: Callable[[Path, Path], None]
) -> None:
    root = lives.before("end", place / "harmed")
    before = invariants.manifest_rows(root)
    harm(root, crashed)
    with pytest.raises((CorruptManifest, NotALake), match="dl rebuild"):
        LakeWriter.open(root, NODE, NOW_AFTER, create=False)
    assert len(opened(root)) == 1, "it was made anew"
    after = invariants.manifest_rows(root)
    assert active(after) == active(before)
    assert after | {"scrubs": []} == before | {"scrubs": []}
    assert invariants.check(root, lives.promises["end"]) == []


def test_f25_without_its_log_the_manifest_is_older_than_the_ledger(crashed: Path) -> None:
    before = invariants.manifest_rows(crashed)
    (crashed / "manifest.db-wal").unlink()
    (crashed / "manifest.db-shm").unlink(missing_ok=True)
    ((why, _),) = opened(crashed)
    assert "older than the ledger" in why
    after = invariants.manifest_rows(crashed)
    assert {"name": "only in the log", "value": 2} in after["cursors"]
    assert after == before


@pytest.mark.parametrize("stage", ["transform", "merge", "close", "revise"])
def test_f27_with_an_older_copy_put_back_nothing_that_came_after_it_is_lost(
    lives: Lives, place: Path, stage: str
) -> None:
    """The copy is one of ours, from before that stage; what the lake did since is told by ledger and footers."""
    old = lives.before(stage, place / "old")
    one = backup.make(old, NOW_AFTER)
    root = lives.before("end", place / "restored")
    before = invariants.manifest_rows(root)
    newer = active(before) - active(invariants.manifest_rows(old))
    assert newer, "the copy is older than what is there"
    shutil.copy(old / one.path, root / "manifest.db")
    ((why, _),) = opened(root)
    assert "older than the ledger" in why
    assert active(invariants.manifest_rows(root)) == active(before)
    assert invariants.check(root, lives.promises["end"], thorough=True) == []


def reports(rows: invariants.Rows) -> dict[str, object]:
    """What neither footers nor seals can say."""
    return {name: rows[name] for name in ("sessions", "coverage", "gaps", "certificates", "quarantine")}


@pytest.mark.parametrize("loss", ["a day of the ledger", "all of the ledger", "lines of the ledger"])
def test_f26_where_the_ledger_has_lost_lines_as_well_a_copy_of_the_manifest_tells_them(
    lives: Lives, place: Path, loss: str
) -> None:
    root = lives.before("end", place / "harmed")
    before = invariants.manifest_rows(root)
    one = backup.make(root, NOW_AFTER)
    (root / "manifest.db").unlink()
    ledgers = sorted((root / "ledger").glob("*.jsonl"))
    assert len(ledgers) > 1
    if loss == "lines of the ledger":
        data = ledgers[0].read_bytes().splitlines(keepends=True)
        ledgers[0].write_bytes(b"".join(data[: len(data) // 2]) + b"x" * 50 + b"\n")
    else:
        for ledger in ledgers if loss == "all of the ledger" else ledgers[:1]:
            ledger.unlink()
    bare = shutil.copytree(root, place / "bare")
    shutil.rmtree(bare / "backups")
    made = rebuild(bare, NODE, NOW_AFTER)
    assert reports(invariants.manifest_rows(bare)) != reports(before), "without a copy this is lost"
    assert made.base == ""
    made = rebuild(root, NODE, NOW_AFTER)
    after = invariants.manifest_rows(root)
    assert made.base == one.path
    assert one.path in made.summary
    assert reports(after) == reports(before)
    assert active(after) == active(before)
    assert invariants.check(root, lives.promises["end"]) == []


def test_f26_a_damaged_copy_is_not_taken_and_an_older_one_is(lives: Lives, place: Path) -> None:
    root = lives.before("end", place / "harmed")
    before = invariants.manifest_rows(root)
    good = backup.make(root, NOW_AFTER)
    bad = root / backup.make(root, NOW_AFTER + 1).path
    data = bytearray(bad.read_bytes())
    data[4096:8192] = random.Random(SEED).randbytes(4096)
    bad.write_bytes(data)
    (root / "manifest.db").unlink()
    shutil.rmtree(root / "ledger")
    assert rebuild(root, NODE, NOW_AFTER).base == good.path
    assert reports(invariants.manifest_rows(root)) == reports(before)


def test_a_promise_is_there_to_be_broken(lives: Lives) -> None:
    """What the tests above hold the lake against is not empty."""
    assert lives.promises["end"] != Promise()
    assert active(invariants.manifest_rows(lives.at("end")))
