"""What seldom happens to a manifest: read-only media, a writer that comes in between, damage that shows late."""

import contextlib
import os
import sqlite3

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from lake import backup, durable, layout, manifest_compare, manifest_source, schema
from lake import rebuild as rebuild_module
from lake.commits import Commit, Newest
from lake.errors import (
    CommitConflict,
    CorruptManifest,
    Fenced,
    LostManifest,
    ManifestBusy,
    NotALake,
    StorageFailed,
    UnknownVersion,
)
from lake.ledger import Ledger, entries_of
from lake.lock import LakeLock
from lake.manifest import Manifest
from lake.manifest_source import ReadSource
from lake.rebuild import rebuild
from lake.recovery import recover
from lake.rows import SegmentRow, SessionRow
from lake.writer import LakeWriter
from market.session import Coverage, Gap

NOW = 1_790_000_000_000_000
STREAM = {"exchange": "binance", "market_type": "spot", "kind": "trade"}


@pytest.fixture
def lake(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as writer:
        writer.publish(cursors={"a": 1}, now=NOW)
    return tmp_path / "lake"


def test_on_read_only_media_it_is_read_as_what_never_changes(lake, monkeypatch):
    made = []
    real = manifest_source._read_engine

    def engine(path, *, immutable, pooled=False):
        made.append(immutable)
        return real(path, immutable=immutable, pooled=pooled)

    monkeypatch.setattr(manifest_source, "_read_engine", engine)
    monkeypatch.setattr(os, "access", lambda *_: False)
    source = ReadSource(lake / "manifest.db")
    with monkeypatch.context() as refused:
        usable = ReadSource._usable

        def refuses(self, conn):
            class Refusing:
                def begin(self):
                    raise OperationalError("BEGIN", None, sqlite3.OperationalError("unable to open database file"))

            return usable(self, Refusing())

        refused.setattr(ReadSource, "_usable", refuses)
        assert source.run(lambda conn: conn.exec_driver_sql("SELECT value FROM cursors").scalar_one()) == 1
        assert made == [False, True]
        assert source.run(lambda conn: conn.exec_driver_sql("SELECT value FROM cursors").scalar_one()) == 1
        (lake / "manifest.db-wal").write_bytes(b"")
        with pytest.raises(ManifestBusy, match="is being written"), source.transaction():
            pass
        with pytest.raises(StorageFailed), source.transaction():  # there is a log: the ordinary way, and why not
            pass
        (lake / "manifest.db-wal").unlink()
        with pytest.raises(ManifestBusy, match="was written while"), source.transaction():
            os.utime(lake / "manifest.db", ns=(1, 1))
        assert source.run(lambda conn: conn.exec_driver_sql("SELECT value FROM cursors").scalar_one()) == 1
    source.close()
    source._thaw()  # two readers may both find that a writer came
    source._thaw()


def test_a_reader_asks_five_times_and_no_more(lake):
    source = ReadSource(lake / "manifest.db")
    asked = []

    def read(_conn):
        asked.append(1)
        raise ManifestBusy("manifest.db was written while it was read")

    with pytest.raises(ManifestBusy):
        source.run(read)
    assert len(asked) == manifest_source.ATTEMPTS
    source.close()


def test_damage_that_cannot_be_put_in_words_is_damage(lake, monkeypatch):
    def garbled(_conn):
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    source = ReadSource(lake / "manifest.db")
    with pytest.raises(CorruptManifest, match="dl rebuild"):
        source.run(garbled)
    source.close()
    with monkeypatch.context() as opening:
        opening.setattr("lake.manifest.keep_wal", garbled)
        with pytest.raises(CorruptManifest):
            Manifest.create_or_open(lake, now=NOW)
    told = []
    with LakeWriter.open(lake, "node", NOW, on_rebuild=lambda *said: told.append(said)):
        assert told == [], "it was only this once"


def test_a_table_that_is_not_there_is_damage(lake):
    with sqlite3.connect(lake / "manifest.db") as db:
        db.execute("ALTER TABLE meta RENAME COLUMN epoch TO epoc")
    db.close()
    with pytest.raises(CorruptManifest, match="no such column"):
        Manifest.create_or_open(lake, now=NOW)
    told = []
    LakeWriter.open(lake, "node", NOW, on_rebuild=lambda *said: told.append(said)).close()
    assert len(told) == 1


def test_an_error_that_nobody_knows_is_told_as_it_is():
    known = {
        "database is locked": ManifestBusy, "database disk image is malformed": CorruptManifest,
        "Could not decode to UTF-8 column 'path'": CorruptManifest, "database or disk is full": StorageFailed,
    }  # fmt: skip
    for said, kind in known.items():
        assert isinstance(manifest_source.explain(sqlite3.OperationalError(said)), kind)
        assert isinstance(manifest_source.explain(OperationalError("x", None, sqlite3.OperationalError(said))), kind)
    other = sqlite3.OperationalError("too many terms in compound SELECT")
    assert manifest_source.explain(other) is other


def test_an_empty_manifest_beside_a_ledger_that_knows_more_was_lost(tmp_path):
    with pytest.raises(LostManifest, match="the ledger is not"):
        Manifest.create_or_open(tmp_path, now=NOW, reached=Newest(epoch=3, version=7))
    Manifest.create_or_open(tmp_path, now=NOW, reached=Newest()).close()


def test_damage_that_only_a_start_meets_makes_the_manifest_anew_under_the_same_lock(lake):
    def harmed():
        with sqlite3.connect(lake / "manifest.db") as db:
            db.execute(
                "INSERT INTO files SELECT CAST(x'2fff2f' AS TEXT), 'binance', 'spot', 'trade', 'part', NULL,"
                " '2026-11-20', 1, 0, 1, 1, '', 1, 1, NULL, NULL, 0, 1, NULL, 1, 'live', NULL, NULL"
            )
        db.close()

    harmed()
    with LakeWriter.open(lake, "node", NOW) as writer, pytest.raises(CorruptManifest, match="could not decode"):
        recover(writer, NOW)
    with LakeWriter.open(lake, "node", NOW) as writer, pytest.raises(CorruptManifest):
        writer.recover(NOW)
    told = []
    with LakeWriter.open(lake, "node", NOW, on_rebuild=lambda *said: told.append(said)) as writer:
        before = writer.epoch
        found = writer.recover(NOW)
        assert (found.missing, found.crashed) == ((), False)
        assert writer.epoch > before
        assert writer.manifest.cursor("a") == 1
        writer.publish(cursors={"a": 2}, now=NOW)
    assert len(told) == 1
    assert rebuild(lake, "node", NOW, dry_run=True).differences == []


def test_a_commit_of_which_nobody_knows_whether_it_was_made_is_taken_back(lake, monkeypatch):
    def gone(self, *_args, **_kwargs):
        raise StorageFailed("manifest.db: disk I/O error")

    with LakeWriter.open(lake, "node", NOW) as writer:
        with monkeypatch.context() as failing:

            def fail():
                with writer._announced(Commit(now=NOW, cursors={"a": 9})):
                    failing.setattr(Manifest, "run", gone)
                    gone(writer)

            with pytest.raises(StorageFailed):
                fail()
        writer.publish(cursors={"a": 3}, now=NOW)
    made = rebuild(lake, "node", NOW, dry_run=True)
    assert (made.differences, made.contradictions) == ([], [])


def test_a_commit_that_was_made_stays_where_what_follows_it_fails(lake, monkeypatch):
    def fails(*_):
        raise StorageFailed("linking failed")

    with LakeWriter.open(lake, "node", NOW) as writer:
        with monkeypatch.context() as failing:
            failing.setattr("lake.writer.links.replace", fails)
            with pytest.raises(StorageFailed):
                writer.publish(cursors={"a": 4}, now=NOW)
        assert writer.manifest.cursor("a") == 4
    made = rebuild(lake, "node", NOW, dry_run=True)
    assert (made.differences, made.contradictions) == ([], [])


def test_a_start_that_fails_behind_the_manifest_lets_go_of_all(lake, monkeypatch):
    describe, closed = LakeLock.describe, []

    def fails(self, epoch=None, **told):
        if epoch is not None:
            raise StorageFailed("writing .lock failed")
        describe(self, **told)

    with monkeypatch.context() as failing:
        failing.setattr(LakeLock, "describe", fails)
        failing.setattr(Manifest, "close", lambda self: closed.append(self.epoch))
        with pytest.raises(StorageFailed):
            LakeWriter.open(lake, "node", NOW)
    assert closed == [2]
    LakeWriter.open(lake, "node", NOW).close()


@pytest.mark.parametrize("path", ["../outside", "raw//a", "raw/../../a", "/etc/passwd", "C:/a", "raw\\a", "raw/\0"])
def test_a_manifest_that_names_a_place_outside_of_the_lake_is_not_gone_by(lake, path):
    """A lake may come from somebody else: what its manifest names is opened, moved and removed."""
    with LakeWriter.open(lake, "node", NOW) as writer:
        writer.record(
            segments=[SegmentRow(path="raw/a", **STREAM, state="sealed", period_start=NOW, period_end=NOW + 1)]
        )
        with contextlib.closing(sqlite3.connect(lake / "manifest.db")) as db, db:
            db.execute("UPDATE segments SET path = ?", (path,))
        with pytest.raises(CorruptManifest, match="no place in a lake"):
            writer.manifest.segments()


def test_a_new_manifest_that_the_disk_did_not_keep_right_takes_nobodys_place(lake, monkeypatch):
    def harmed(root, conn, *args, **options):
        found = survey(root, conn, *args, **options)
        conn.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        values = "'g', 'e', 'm', 'trade', 's', 1, 2, 3, 4, 'c', 'p', 'lost', NULL, 5, NULL, NULL, NULL"
        conn.exec_driver_sql(f"INSERT INTO gaps SELECT {values}")
        conn.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
        return found

    survey = rebuild_module.survey
    monkeypatch.setattr(rebuild_module, "survey", harmed)
    before = (lake / "manifest.db").read_bytes()
    with pytest.raises(CorruptManifest, match="the new manifest is damaged: CHECK constraint failed"):
        rebuild(lake, "node", NOW)
    assert (lake / "manifest.db").read_bytes() == before
    assert not list(lake.glob(".manifest.db*")), "nothing is left of it"


def test_a_value_that_no_table_allows_is_damage(lake):
    with LakeWriter.open(lake, "node", NOW) as writer:
        writer.record(
            segments=[SegmentRow(path="raw/a", **STREAM, state="sealed", period_start=NOW, period_end=NOW + 1)]
        )
    with sqlite3.connect(lake / "manifest.db") as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("UPDATE segments SET state = 'sealee'")
    db.close()
    with pytest.raises(CorruptManifest, match="CHECK constraint failed"):
        LakeWriter.open(lake, "node", NOW)


def test_a_kind_that_there_is_not_is_damage_and_put_right_at_the_start(lake):
    """One flipped bit, found by the whole campaign: the start ended in a traceback."""
    with LakeWriter.open(lake, "node", NOW) as writer:
        writer.record(
            segments=[SegmentRow(path="raw/a", **STREAM, state="sealed", period_start=NOW, period_end=NOW + 1)]
        )
    with contextlib.closing(sqlite3.connect(lake / "manifest.db")) as db, db:
        db.execute("UPDATE segments SET kind = 'tradE'")
    with pytest.raises(CorruptManifest, match="there is no kind 'tradE'"):
        LakeWriter.open(lake, "node", NOW)
    told = []
    with LakeWriter.open(lake, "node", NOW, on_rebuild=lambda *said: told.append(said)) as writer:
        assert [row.kind for row in writer.manifest.segments()] == ["trade"]
        writer.recover(NOW)
    assert len(told) == 1


def test_a_segment_that_is_open_and_has_no_file_is_no_difference(lake):
    with LakeWriter.open(lake, "node", NOW) as writer:
        writer.open_segment(SegmentRow(path="raw/a", **STREAM, state="open", period_start=NOW))
        writer.open_segment(SegmentRow(path="raw/b", **STREAM, state="open", period_start=NOW))
    durable.make_dirs(lake / "raw")
    (lake / "raw/b.open").write_bytes(b"")
    found = rebuild(lake, "node", NOW, dry_run=True).differences
    assert [one.key for one in found] == [("raw/b",)], "this one the rebuilt one should know"


def test_an_empty_file_that_nobody_opened_is_gone_and_leaves_no_row(lake):
    path = lake / layout.raw_path("binance", "spot", "trade", NOW, "node", 7)
    durable.make_dirs(path.parent)
    path.with_name(path.name + ".open").write_bytes(b"")
    with LakeWriter.open(lake, "node", NOW) as writer:
        found = writer.recover(NOW)
        assert (found.segments, found.strangers, writer.manifest.segments()) == ((), (), [])
    assert list(path.parent.iterdir()) == []


def test_an_interrupted_session_is_held_against_its_own_coverage_only(lake):
    stream = (*STREAM.values(), "BTCUSDT")
    with LakeWriter.open(lake, "node", NOW) as writer:
        rows = [
            SessionRow(session=name, exchange="binance", market_type="spot", source="ws", url="u", opened_at=NOW)
            for name in ("n-1-1", "n-1-2")
        ]
        covered = [Coverage(*stream, "n-1-1", NOW, NOW + 9), Coverage(*stream, "n-1-2", NOW, NOW + 5)]
        times = {"recv_max": NOW + 7, "event_max": NOW + 7, "recv_min": NOW, "event_min": NOW}
        held = SegmentRow(
            path="raw/a", **STREAM, state="transformed", period_start=NOW, period_end=NOW + 8, rows=1, **times
        )
        writer.record(sessions=rows, coverage=covered, segments=[held])
        assert [row.path for row in writer.recover(NOW + 20).interrupted] == ["raw/a"], "of the second one"


def test_certificates_are_asked_for_up_to_a_day(lake):
    with LakeWriter.open(lake, "node", NOW) as writer:
        assert writer.manifest.certificates(date_from="2026-11-20", date_to="2026-11-21") == []


def test_a_writer_says_whether_the_lake_is_still_its_own_and_what_is_worth_knowing(lake):
    with LakeWriter.open(lake, "node", NOW) as writer:
        writer.check_held()
        writer.note({"clock_step": 3}, NOW + 5)
        with sqlite3.connect(lake / "manifest.db") as db:
            db.execute("UPDATE meta SET epoch = epoch + 1")
        db.close()
        with pytest.raises(Fenced, match="another took it over"):
            writer.check_held()
    names = [path.name for path in (lake / "ledger").iterdir()]
    entries = [entry for name in names for entry in entries_of(lake, f"ledger/{name}", lambda _: None)]
    assert [bytes(entry.data) for entry in entries if entry.type == "note"] == [b'{"clock_step":3}']


def test_a_name_that_is_no_ledgers_has_no_entries_and_is_told(lake):
    bad = []
    assert list(entries_of(lake, "ledger/notes.jsonl", bad.append)) == []
    assert [entry.path for entry in bad] == ["ledger/notes.jsonl"]
    with Ledger(lake, "other") as ledger:
        ledger.append([], NOW)
    assert not (lake / "ledger/2026-09-21-other.jsonl").exists()


def test_what_has_been_read_again_is_noted_and_forgotten_with_its_file(lake):
    """A file that is gone by the time that it has been read leaves no note: it would be the oldest for ever."""
    with LakeWriter.open(lake, "node", NOW) as writer:
        row = SegmentRow(path="raw/a", **STREAM, state="transformed", period_start=NOW, period_end=NOW + 1, rows=1)
        writer.record(segments=[row])
        version = writer.manifest.version
        writer.manifest.record_scrubs([], NOW + 1)
        writer.manifest.record_scrubs(["raw/a", "raw/gone"], NOW + 1)
        assert writer.manifest.version == version
        noted = select(schema.scrubs.c.path, schema.scrubs.c.at)
        assert writer.manifest.run(lambda conn: conn.execute(noted).all()) == [("raw/a", NOW + 1)]
        writer.publish(segments={"raw/a": "deleted"}, now=NOW)
        assert writer.manifest.run(lambda conn: conn.execute(noted).all()) == [], "it went with the segment"


def test_two_live_days_of_one_symbol_are_refused_by_the_database(lake):
    with LakeWriter.open(lake, "node", NOW) as writer, pytest.raises(CommitConflict, match="segment"):
        writer.publish(segments={"raw/unknown": "sealed"}, now=NOW)


def test_differences_are_not_counted_without_end_and_damage_cannot_be_compared(lake, tmp_path, monkeypatch):
    other = tmp_path / "other"
    with LakeWriter.open(other, "node", NOW) as writer:
        writer.publish(cursors={f"c{n}": n for n in range(20)}, now=NOW)
    monkeypatch.setattr(manifest_compare, "SHOWN", 5)
    assert len(manifest_compare.compare(lake, lake / "manifest.db", other / "manifest.db")) == 5
    with sqlite3.connect(other / "manifest.db") as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'cursors (name', 'cursors (nome') WHERE name = 'cursors'"
        )
    db.close()
    with pytest.raises(CorruptManifest):
        manifest_compare.compare(lake, lake / "manifest.db", other / "manifest.db")


def test_an_index_that_lacks_a_row_is_damage_and_cannot_be_compared(lake, tmp_path):
    """The row itself may be read, by one way and not by another."""
    other = tmp_path / "other"
    with LakeWriter.open(other, "node", NOW):
        pass
    with contextlib.closing(sqlite3.connect(other / "manifest.db", isolation_level=None)) as db:
        name, root, said = db.execute(
            "SELECT name, rootpage, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'gaps' AND sql <> ''"
        ).fetchone()
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_master WHERE name = ?", (name,))
        db.execute("PRAGMA writable_schema = RESET")
        columns = [(row[1], row[2]) for row in db.execute("PRAGMA table_info(gaps)")]
        values = {"gap_id": "g", "state": "open"}
        row = [values.get(column, 1 if sort.startswith("INT") else "x") for column, sort in columns]
        db.execute(f"INSERT INTO gaps VALUES ({','.join('?' * len(row))})", row)
        db.execute("PRAGMA writable_schema = ON")
        db.execute("INSERT INTO sqlite_master VALUES ('index', ?, 'gaps', ?, ?)", (name, root, said))
    with pytest.raises(CorruptManifest, match="missing from index"):
        manifest_compare.compare(other, other / "manifest.db", lake / "manifest.db")


def test_an_older_manifest_lacks_the_tables_that_came_after_it(lake, tmp_path):
    other = tmp_path / "old"
    with LakeWriter.open(other, "node", NOW):
        pass
    with sqlite3.connect(other / "manifest.db") as db:
        db.execute("DROP TABLE bans")
    db.close()
    with sqlite3.connect(lake / "manifest.db") as db:
        db.execute("INSERT INTO bans VALUES ('binance', 'h', 'p', 1, 418, 1)")
    db.close()
    found = manifest_compare.compare(other, other / "manifest.db", lake / "manifest.db")
    assert [one.only for one in found if one.table == "bans"] == ["rebuilt"]


def test_a_lake_that_is_a_file_or_has_a_folder_for_a_manifest_is_none(tmp_path):
    durable.make_dirs(tmp_path / "a" / "manifest.db")
    with pytest.raises(NotALake, match="is a folder"):
        LakeWriter.open(tmp_path / "a", "node", NOW)
    (tmp_path / "b").write_bytes(b"")
    with pytest.raises(NotALake, match="is not a folder"):
        LakeWriter.open(tmp_path / "b", "node", NOW)


def test_a_function_that_its_schema_does_not_spell_right_is_damage():
    """Found by flipped bits: an index over `ifnuln(...)` stops a check of the whole."""
    db = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError) as raised:
        db.execute("SELECT ifnuln(1, 2)")
    db.close()
    assert isinstance(manifest_source.explain(raised.value), CorruptManifest)


def test_a_manifest_that_must_not_be_replaced_stays_and_one_that_cannot_be_read_gives_way(lake, monkeypatch):
    def held(_root):
        raise ManifestBusy("manifest.db: database is locked", "another program holds it; try again")

    with monkeypatch.context() as busy:
        busy.setattr("lake.rebuild.Manifest.read_only", held)
        assert rebuild(lake, "node", NOW, dry_run=True).live == 0
    with contextlib.closing(sqlite3.connect(lake / "manifest.db")) as db, db:
        db.execute("UPDATE meta SET schema_version = 99")
    before = (lake / "manifest.db").read_bytes()
    with pytest.raises(UnknownVersion, match="schema version 99"):
        rebuild(lake, "node", NOW)
    assert (lake / "manifest.db").read_bytes() == before


def test_manifests_that_are_moved_aside_at_one_moment_have_names_of_their_own(lake):
    moved = [path for _ in range(3) for path in rebuild(lake, "node", NOW).moved]
    assert len(set(moved)) == len(moved)
    assert sum("-" not in path.rpartition("-00000")[2] for path in moved) == 3, "the rest is what SQLite kept beside"
    assert all((lake / path).is_file() for path in moved)


def test_where_the_ledger_has_lost_lines_a_copy_of_the_manifest_tells_what_they_told(lake):
    """And where it has not, the ledger is the truth: a copy is older."""
    gap = Gap("g", **STREAM, symbol="A", ts_from=1, ts_to=2, id_from=None, id_to=None, cause="cut", proof="interval",
              state="open", session=None, detected_at=NOW)  # fmt: skip
    with LakeWriter.open(lake, "node", NOW) as writer:
        writer.record_gaps([gap])
        kept = backup.make(lake, NOW)
        writer.publish(cursors={"a": 2}, now=NOW)
    assert rebuild(lake, "node", NOW, dry_run=True).base == ""
    (ledger,) = (lake / "ledger").iterdir()
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(line.replace(b'"type":"gap"', b'"type":"gxp"') for line in lines))
    (lake / "manifest.db").unlink()
    made = rebuild(lake, "node", NOW)
    assert (made.base, made.whole) == (kept.path, False)
    assert [line.endswith("its CRC-32 does not match") for line in made.damaged_lines] == [True, False]
    assert f"it began with {kept.path}" in made.summary
    with LakeWriter.open(lake, "node", NOW) as writer:
        assert writer.manifest.gaps() == [gap]
        assert writer.manifest.cursor("a") == 2, "what came after the copy is in the ledger"


def test_a_dry_run_against_a_damaged_manifest_says_why_it_cannot_compare(lake):
    before = (lake / "manifest.db").read_bytes()
    harmed = before[:100] + b"\xff" * (len(before) - 100)
    (lake / "manifest.db").write_bytes(harmed)
    made = rebuild(lake, "node", NOW, dry_run=True)
    assert (made.differences, made.ok) == (None, False)
    assert made.unreadable.startswith("manifest.db is damaged")
    assert (lake / "manifest.db").read_bytes() == harmed


def test_a_dry_run_without_a_manifest_has_nothing_to_compare_with_and_counts_what_it_reads(lake):
    (lake / "manifest.db").unlink()
    with Ledger(lake, "node") as ledger:
        ledger.append([("note", n) for n in range(10_000)], NOW)
    told = []
    made = rebuild(lake, "node", NOW, dry_run=True, report=lambda *said: told.append(said))
    assert (made.differences, made.unreadable) == (None, "there is no manifest.db")
    assert (10_000, 0, "entries of the ledger") in told


def test_a_copy_knows_more_than_a_manifest_that_lacks_one_of_its_reports(lake, tmp_path):
    with LakeWriter.open(lake, "node", NOW) as writer:
        before = lake / backup.make(lake, NOW).path
        session = SessionRow(session="n-1-1", exchange="x", market_type="spot", source="ws", url="u", opened_at=NOW)
        writer.record_sessions([session])
        after = lake / backup.make(lake, NOW).path
    assert backup.knows_more(after, before)
    assert not backup.knows_more(before, after)
