"""Copies of the manifest: made beside a writer, whole or not there, pruned by hours and days, and what they know."""

import contextlib
import sqlite3
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import backup, durable, layout, manifest_source
from lake.errors import CorruptManifest, ManifestBusy, NotALake, StorageFailed, UnknownVersion
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.errors import Malformed
from market.times import DAY, HOUR, SECOND, floor_to

NOW = 1_790_000_000_123_456


@pytest.fixture
def lake(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as writer:
        yield writer


def cursors(place):
    with sqlite3.connect(f"file:{place}?mode=ro", uri=True) as db:
        return dict(db.execute("SELECT name, value FROM cursors"))


def test_a_copy_is_the_manifest_of_one_moment_in_one_file(lake):
    lake.publish(cursors={"a": 1}, now=NOW)
    made = backup.make(lake.root, NOW)
    lake.publish(cursors={"a": 2}, now=NOW)
    place = lake.root / made.path
    assert made.path == layout.backup_path(NOW) == "backups/manifest-2026-09-21-141320-123456.db"
    assert (made.at, made.bytes) == (layout.parse_backup(made.path), place.stat().st_size)
    assert cursors(place) == {"a": 1}
    assert sorted(path.name for path in place.parent.iterdir()) == [place.name], "no log, no temporary file"
    assert backup.problem(place, full=True) == ""
    state = backup.state_of(place)
    assert (state.lake_id, state.version) == (lake.lake_id, lake.manifest.version - 1)


def test_a_second_copy_of_the_same_moment_has_a_name_of_its_own(lake):
    made = [backup.make(lake.root, NOW) for _ in range(3)]
    assert [one.at for one in made] == [NOW, NOW + 1, NOW + 2]
    assert backup.backups(lake.root) == made[::-1]


def test_a_copy_is_made_while_the_writer_commits_and_neither_waits(lake):
    done = threading.Event()

    def write():
        for n in range(50):
            lake.publish(cursors={"a": n, "b": n}, now=NOW)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    copies = [backup.make(lake.root, NOW + n) for n in range(10)]
    writer.join()
    assert done.is_set()
    for one in copies:
        held = cursors(lake.root / one.path)
        assert held.get("a") == held.get("b"), "a transaction is in it or not"


def test_a_damaged_manifest_is_not_copied_over_what_is_kept(lake):
    good = backup.make(lake.root, NOW)
    root, place = lake.root, lake.root / "manifest.db"
    lake.close()
    data = bytearray(place.read_bytes())
    data[4096:8192] = b"\x5a" * 4096
    place.write_bytes(data)
    with pytest.raises(CorruptManifest, match="dl rebuild"):
        backup.make(root, NOW + HOUR)
    assert backup.backups(root) == [good]
    assert [path.name for path in (root / "backups").iterdir()] == [good.path.removeprefix("backups/")]


def test_without_a_manifest_nothing_is_copied(tmp_path):
    with pytest.raises(NotALake, match=r"has no manifest\.db"):
        backup.make(tmp_path, NOW)


def test_what_has_the_name_of_a_manifest_and_is_none_is_said_so(tmp_path):
    with sqlite3.connect(tmp_path / "manifest.db") as db:
        db.execute("CREATE TABLE birds (name TEXT)")
    with pytest.raises(CorruptManifest, match="it is no manifest"):
        backup.make(tmp_path, NOW)
    (tmp_path / "manifest.db").write_bytes(b"text" * 1000)
    with pytest.raises(CorruptManifest, match="not a database"):
        backup.make(tmp_path, NOW)
    assert backup.problem(tmp_path / "nothing") == "unable to open database file"
    assert backup.state_of(tmp_path / "nothing") is None


def test_a_manifest_that_another_program_holds_is_copied_later(lake, monkeypatch):
    monkeypatch.setattr(backup, "BUSY_MS", 5)
    root = lake.root
    lake.close()
    with sqlite3.connect(root / "manifest.db", isolation_level=None) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ManifestBusy):
            backup.make(root, NOW)
        other.execute("COMMIT")
    assert backup.make(root, NOW).at == NOW


@pytest.mark.parametrize("op", ["fsync", "rename", "mkdir"])
def test_a_step_that_fails_leaves_no_copy_and_no_leftover(lake, op):
    durable.inject(durable.Fault(op, 1, "EIO"))
    try:
        with pytest.raises(StorageFailed):
            backup.make(lake.root, NOW)
    finally:
        durable.inject(None)
    folder = lake.root / "backups"
    assert not folder.exists() or list(folder.iterdir()) == []
    assert backup.make(lake.root, NOW).at == NOW


def test_names_of_others_are_no_copies_and_stay(lake):
    one = backup.make(lake.root, NOW)
    for name in ("manifest-old.db", "notes.txt", "manifest-2026-09-21-991320-123456.db"):
        (lake.root / "backups" / name).write_bytes(b"mine")
    assert backup.backups(lake.root) == [one]
    assert backup.prune(lake.root, 1, 0) == 0
    assert len(list((lake.root / "backups").iterdir())) == 4
    with pytest.raises(Malformed):
        layout.parse_backup("backups/manifest-old.db")


def test_the_best_copy_is_the_one_that_has_come_furthest_whatever_its_clock_said(lake):
    assert backup.best(lake.root) is None
    backup.make(lake.root, NOW + 10 * DAY)  # the clock was ten days ahead
    lake.publish(cursors={"a": 1}, now=NOW)
    later = backup.make(lake.root, NOW)
    assert backup.best(lake.root)[0] == later


def test_a_copy_that_is_damaged_knows_nothing(lake):
    place = lake.root / backup.make(lake.root, NOW).path
    assert backup.knows(place, {})
    assert not backup.knows(place, {"versions/x": "00"})
    place.write_bytes(place.read_bytes()[:5000])
    assert not backup.knows(place, {})


def test_after_weeks_a_day_of_hours_and_a_week_of_days_are_kept(lake):
    for hour in range(24 * 20):
        path = lake.root / layout.backup_path(NOW + hour * HOUR)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert backup.prune(lake.root, 24, 7) == 24 * 20 - 24 - 5, "two of the days have an hour that is kept"
    kept = [one.at for one in backup.backups(lake.root)]
    assert kept[:24] == [NOW + hour * HOUR for hour in range(24 * 20 - 1, 24 * 20 - 25, -1)]
    assert len({floor_to(at, DAY) for at in kept}) == 7


times = st.lists(st.integers(NOW, NOW + 40 * DAY), unique=True, max_size=80)


@given(times, st.integers(1, 30), st.integers(0, 10))
def test_what_is_pruned_is_never_the_newest_of_all_nor_of_a_wanted_hour_or_day(held, hourly, daily):
    gone = backup.expendable(held, hourly, daily)
    kept = sorted(set(held) - set(gone), reverse=True)
    assert set(gone) <= set(held)
    assert len(kept) <= hourly + daily + 1
    assert kept[:1] == sorted(held, reverse=True)[:1]
    for grain, count in ((HOUR, hourly), (DAY, daily)):
        buckets = sorted({floor_to(at, grain) for at in held}, reverse=True)[:count]
        assert {max(at for at in held if floor_to(at, grain) == one) for one in buckets} <= set(kept)
    assert backup.expendable(kept, hourly, daily) == [], "twice is once"


def test_sqlite_is_refused_where_it_is_too_old_and_its_fault_is_known(tmp_path, monkeypatch):
    with pytest.raises(UnknownVersion, match=r"SQLite 3\.34\.1 is too old: the manifest needs 3\.35\.0"):
        manifest_source.check_library((3, 34, 1))
    manifest_source.check_library((3, 35, 0))
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        assert db.execute("SELECT sqlite_version()").fetchone() == (backup.sqlite_version(),)
    faulty = {(3, 40, 1), (3, 44, 5), (3, 45, 0), (3, 50, 6), (3, 51, 2)}
    fixed = {(3, 44, 6), (3, 44, 9), (3, 50, 7), (3, 51, 3), (3, 52, 0), (4, 0, 0)}
    assert {v for v in faulty | fixed if manifest_source.one_writer_only(v)} == faulty
    monkeypatch.setattr(manifest_source.check_library, "__defaults__", ((3, 30, 0),))
    with pytest.raises(UnknownVersion):
        Manifest.create_or_open(tmp_path, now=NOW)
    assert list(tmp_path.iterdir()) == [], "nothing was touched"


def test_the_time_of_a_copy_is_kept_to_the_microsecond():
    for at in (NOW, NOW // SECOND * SECOND, NOW // SECOND * SECOND + 7):
        assert layout.parse_backup(layout.backup_path(at)) == at
