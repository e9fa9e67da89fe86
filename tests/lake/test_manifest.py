"""The manifest: transactions that are whole or nothing, fencing, readers beside the writer, and what queries answer."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lake import migrations
from lake.errors import CommitConflict, CorruptFile, Fenced, LakeError, LakeMismatch, ManifestBusy, NotALake
from lake.manifest import Manifest
from lake.rows import BanRow, CertificateRow, CheckRow, Expectation, FileRow, QuarantineRow, SegmentRow, SessionRow
from market.session import Coverage, Gap
from market.times import MINUTE, Interval

NOW = 1_790_000_000_000_000
STREAM = {"exchange": "binance", "market_type": "spot", "kind": "trade"}


def segment(path: str, start: int, end: int | None = None, state: str = "sealed", **changed) -> SegmentRow:
    return SegmentRow(path=path, **(STREAM | changed), state=state, period_start=start, period_end=end)


def file(path: str, sha: str = "a" * 64, **changed) -> FileRow:
    held = {"level": "part", "symbol": None, "date": "2026-11-20", "hour": 13, "revision": 0}
    held |= {"rows": 10, "bytes": 1000, "sha256": sha, "ts_min": NOW, "ts_max": NOW + 9}
    return FileRow(path=path, **(STREAM | held | changed))


def gap(gap_id: str = "g1", **changed) -> Gap:
    held = {"symbol": "BTCUSDT", "ts_from": 10, "ts_to": 20, "id_from": 5, "id_to": 8, "cause": "cut", "proof": "ids"}
    return Gap(gap_id=gap_id, **(STREAM | held | {"state": "open", "session": "n-1-1", "detected_at": NOW} | changed))


@pytest.fixture
def manifest(tmp_path):
    opened = Manifest.create_or_open(tmp_path, now=NOW)
    yield opened
    opened.close()


def dump(root: Path) -> list[str]:
    with sqlite3.connect(f"{(root / 'manifest.db').as_uri()}?mode=ro", uri=True) as conn:
        lines = [line for line in conn.iterdump() if '"meta"' not in line]
    conn.close()
    return lines


def test_a_new_manifest_says_what_it_is(manifest):
    meta = manifest.meta()
    assert (meta.schema_version, meta.simulated, meta.epoch, meta.version, meta.created_at) == (
        migrations.VERSION,
        False,
        1,
        0,
        NOW,
    )
    assert len(meta.lake_id) == 16


def test_opening_again_keeps_the_lake_and_starts_a_new_epoch(tmp_path):
    first = Manifest.create_or_open(tmp_path, now=NOW)
    lake_id = first.meta().lake_id
    first.close()
    second = Manifest.create_or_open(tmp_path, now=NOW + 1)
    assert (second.meta().lake_id, second.epoch, second.meta().created_at) == (lake_id, 2, NOW)
    second.close()


def test_a_writer_whose_epoch_is_over_is_fenced_off_and_changes_nothing(tmp_path):
    zombie = Manifest.create_or_open(tmp_path, now=NOW)
    heir = Manifest.create_or_open(tmp_path, now=NOW)
    with pytest.raises(Fenced, match="epoch 1, the lake is at 2"):
        zombie.commit(add=[file("a")], now=NOW)
    with pytest.raises(Fenced):
        zombie.upsert_gaps([gap()])
    assert heir.files() == []
    heir.commit(add=[file("a")], now=NOW)
    assert [row.path for row in heir.files()] == ["a"]
    zombie.close()
    heir.close()


def test_simulated_and_real_data_never_share_a_lake(tmp_path):
    Manifest.create_or_open(tmp_path, now=NOW, simulated=True).close()
    with pytest.raises(LakeMismatch, match="holds simulated data, this run would add real data"):
        Manifest.create_or_open(tmp_path, now=NOW, simulated=False)
    either = Manifest.create_or_open(tmp_path, now=NOW, simulated=None)
    assert either.meta().simulated
    assert either.epoch == 2, "a refused writer takes no epoch"
    either.close()


def test_no_manifest_is_no_lake(tmp_path):
    with pytest.raises(NotALake):
        Manifest.read_only(tmp_path)
    with pytest.raises(NotALake):
        Manifest.create_or_open(tmp_path, now=NOW, create=False)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_left_by_a_crash_becomes_a_manifest(tmp_path):
    (tmp_path / "manifest.db").touch()
    with pytest.raises(NotALake):
        Manifest.read_only(tmp_path)
    opened = Manifest.create_or_open(tmp_path, now=NOW)
    assert opened.version == 0
    opened.close()


def test_a_damaged_manifest_is_refused_by_name(tmp_path):
    opened = Manifest.create_or_open(tmp_path, now=NOW)
    opened.commit(add=[file(f"file-{n}") for n in range(200)], now=NOW)
    opened.close()
    path = tmp_path / "manifest.db"
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=r"manifest\.db is damaged"):
        Manifest.create_or_open(tmp_path, now=NOW)
    path.write_bytes(b"this is no database at all" * 100)
    for opening in (lambda: Manifest.create_or_open(tmp_path, now=NOW), lambda: Manifest.read_only(tmp_path)):
        with pytest.raises(CorruptFile):
            opening()


def test_a_commit_moves_everything_together(manifest):
    manifest.upsert_segments([segment("raw/1", 0, 60), segment("raw/2", 60, 120)])
    version = manifest.commit(
        add=[file("hot/a", parents=("raw/1", "raw/2"))],
        segments={"raw/1": "transformed", "raw/2": "transformed"},
        cursors={"transform": 120},
        checks=[CheckRow(path="hot/a", check="crossed", symbol="BTCUSDT", count=2, detail="at 5")],
        quarantine=[QuarantineRow(path="quarantine/1", origin="raw/1", reason="bad line", count=1, bytes=9, at=NOW)],
        gaps=[gap()],
        now=NOW,
    )
    assert version == manifest.version == 2
    assert [row.state for row in manifest.segments()] == ["transformed", "transformed"]
    assert manifest.cursor("transform") == 120
    assert manifest.file("hot/a").parents == ("raw/1", "raw/2")
    assert manifest.file("hot/a").created_at == NOW
    assert manifest.files(parents=True)[0].parents == ("raw/1", "raw/2")
    assert manifest.children("raw/2") == ["hot/a"]
    assert manifest.checks("hot/a")[0].count == 2
    assert manifest.quarantine()[0].origin == "raw/1"
    assert manifest.gaps()[0].missing == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"expect": Expectation(files={"hot/a": "b" * 64})},
        {"expect": Expectation(files={"hot/a": "a" * 64, "hot/gone": "a" * 64})},
        {"expect": Expectation(segments={"raw/1": "transformed"})},
        {"expect": Expectation(segments={"raw/none": "sealed"})},
        {"remove": ["hot/gone"]},
        {"segments": {"raw/none": "transformed"}},
        {"add": [file("hot/new"), file("hot/a", sha="c" * 64)]},
    ],
)
def test_a_commit_that_believed_wrong_changes_nothing(manifest, tmp_path, wrong):
    manifest.upsert_segments([segment("raw/1", 0, 60)])
    manifest.commit(add=[file("hot/a")], now=NOW)
    before = dump(tmp_path)
    asked = {"add": [file("hot/new")], "cursors": {"c": 1}, "gaps": [gap()], "now": NOW} | wrong
    with pytest.raises(CommitConflict, match="expected"):
        manifest.commit(**asked)
    assert dump(tmp_path) == before


def test_a_conflict_says_what_was_expected_and_what_was_found(manifest):
    manifest.commit(add=[file("hot/a")], now=NOW)
    with pytest.raises(CommitConflict, match="expected 2 live files, found 1; not live: hot/b"):
        manifest.commit(expect=Expectation(files={"hot/a": "a" * 64, "hot/b": "a" * 64}), now=NOW)


def test_committing_the_same_twice_changes_nothing(manifest, tmp_path):
    asked = {"add": [file("hot/a", parents=("raw/1",))], "cursors": {"c": 1}, "gaps": [gap()]}
    manifest.commit(**asked, now=NOW)
    before = dump(tmp_path)
    manifest.commit(**asked, now=NOW + 5)
    assert dump(tmp_path) == before


def test_an_empty_commit_is_no_new_version(manifest):
    manifest.commit(add=[file("hot/a")], now=NOW)
    assert manifest.commit(now=NOW) == 1


def test_replacing_retires_and_a_retired_file_can_come_back(manifest):
    manifest.commit(add=[file("hot/a")], now=NOW)
    manifest.commit(add=[file("hot/b", parents=("hot/a",))], remove=["hot/a"], now=NOW + 10)
    assert [row.path for row in manifest.files()] == ["hot/b"]
    assert manifest.retired(NOW + 10) == []
    assert [(row.path, row.retired_at) for row in manifest.retired(NOW + 11)] == [("hot/a", NOW + 10)]
    manifest.commit(add=[file("hot/a")], remove=["hot/b"], now=NOW + 20)
    assert [(row.path, row.retired_at) for row in manifest.files()] == [("hot/a", None)]


def test_unlinked_files_are_named_no_more_and_forgotten_later(manifest):
    manifest.commit(add=[file("hot/a", parents=("raw/1",)), file("hot/b")], now=NOW)
    manifest.commit(remove=["hot/a"], now=NOW)
    assert manifest.forget_retired(NOW + 100) == 0, "its bytes are still there"
    manifest.mark_unlinked(["hot/a", "hot/b"], NOW + 1)
    assert manifest.retired(NOW + 100) == []
    assert manifest.forget_retired(NOW) == 0
    assert manifest.forget_retired(NOW + 100) == 1
    assert manifest.file("hot/a") is None
    assert manifest.children("raw/1") == []
    assert manifest.file("hot/b").state == "live"


def test_a_day_of_a_symbol_has_one_live_file(manifest):
    one = {"level": "day", "symbol": "BTCUSDT", "hour": None}
    manifest.commit(add=[file("versions/1", **one)], now=NOW)
    with pytest.raises(CommitConflict, match="one live day file"):
        manifest.commit(add=[file("versions/2", **one)], now=NOW)
    manifest.commit(
        add=[file("versions/2", **one), file("versions/3", level="day", hour=None)], remove=["versions/1"], now=NOW
    )
    assert [row.path for row in manifest.files()] == ["versions/3", "versions/2"]


def test_files_are_found_by_every_filter(manifest):
    days = [
        file(f"d-{symbol}-{day}", level="day", symbol=symbol, date=f"2026-11-{day}", hour=None)
        for symbol in ("BTCUSDT", "ETHUSDT")
        for day in (18, 19, 20)
    ]
    manifest.commit(add=[*days, file("part"), file("other", kind="quote")], now=NOW)
    assert len(manifest.files("trade")) == 7
    found = manifest.files("trade", symbol="ETHUSDT", date_from="2026-11-19", date_to="2026-11-20")
    assert [row.path for row in found] == ["d-ETHUSDT-19", "d-ETHUSDT-20", "part"] or {r.path for r in found} == {
        "d-ETHUSDT-19",
        "d-ETHUSDT-20",
        "part",
    }
    assert len(manifest.files("trade", symbol="ETHUSDT", level="day")) == 3
    assert manifest.files(exchange="kraken") == []
    assert manifest.streams() == [("binance", "spot", "quote"), ("binance", "spot", "trade")]


def test_gaps_are_written_once_however_often_they_are_told(manifest):
    manifest.upsert_gaps([gap(ts_to=None, id_to=None)])
    manifest.upsert_gaps([gap()])
    manifest.upsert_gaps([gap(ts_to=None)])
    held = manifest.gaps()
    assert [(g.ts_to, g.id_to, g.detected_at) for g in held] == [(20, 8, NOW)]
    manifest.upsert_gaps([gap(state="repaired", closed_at=NOW + 9, source="late")])
    manifest.upsert_gaps([gap()])
    (closed,) = manifest.gaps()
    assert (closed.state, closed.source, closed.closed_at) == ("repaired", "late", NOW + 9)
    assert manifest.gaps(state="open") == []
    assert len(manifest.gaps(state=["repaired", "empty"])) == 1


def test_a_gap_that_is_found_anew_without_an_end_grows_again(manifest):
    """What had ended it was lost in a crash before it was stored."""
    manifest.upsert_gaps([gap(ts_to=None, id_to=None)])
    manifest.upsert_gaps([gap(proof="ids", detected_at=NOW + 1)])
    manifest.upsert_gaps([gap(ts_to=None, id_to=None, detected_at=NOW + 5)])
    (grows,) = manifest.gaps()
    assert (grows.state, grows.ts_to, grows.id_from, grows.id_to, grows.detected_at) == ("open", None, 5, None, NOW)
    manifest.upsert_gaps([gap(ts_to=30, id_to=11, detected_at=NOW + 7)])
    assert [(g.ts_to, g.id_to) for g in manifest.gaps()] == [(30, 11)]


def test_a_stream_that_is_interrupted_again_behind_the_same_event_has_lost_what_comes_now(manifest):
    """A venue repeats its last quote to who comes again, which proves the first interruption empty; then it is cut."""
    manifest.upsert_gaps([gap(ts_to=None, id_to=None, session="a")])
    manifest.upsert_gaps([gap(state="empty", closed_at=NOW + 9, session="a", detail="so it was")])
    manifest.upsert_gaps([gap(ts_to=None, id_to=None, detected_at=NOW + 10, session="b")])
    (again,) = manifest.gaps()
    assert (again.state, again.ts_to, again.id_to, again.closed_at, again.detail) == ("open", None, None, None, None)
    assert (again.session, again.detected_at) == ("b", NOW + 10)
    manifest.upsert_gaps([gap(state="empty", closed_at=NOW + 9, session="a")])
    assert manifest.gaps(state="open") == [again], "the old word, told again, closes nothing"


def test_a_gap_whose_end_is_numbered_anew_has_no_ids(manifest):
    manifest.upsert_gaps([gap(ts_to=None, id_to=None)])
    manifest.upsert_gaps([gap(id_from=None, id_to=None, proof="interval")])
    assert [(g.id_from, g.id_to, g.ts_to) for g in manifest.gaps()] == [(None, None, 20)]


def test_a_gap_overlaps_half_open_and_a_growing_one_all_that_follows(manifest):
    manifest.upsert_gaps([gap("closed"), gap("grows", ts_from=30, ts_to=None), gap("point", ts_from=25, ts_to=25)])

    def found(start: int, end: int) -> list[str]:
        return [g.gap_id for g in manifest.gaps(overlapping=Interval(start, end))]

    assert found(0, 10) == []
    assert found(0, 11) == ["closed"]
    assert found(19, 25) == ["closed"]
    assert found(20, 25) == []
    assert found(25, 26) == ["point"]
    assert found(26, 30) == []
    assert found(1000, 2000) == ["grows"]


def test_coverage_only_grows_and_sessions_forget_nothing(manifest):
    row = Coverage(**STREAM, symbol="BTCUSDT", session="n-1-1", ts_from=10, ts_to=20)
    manifest.upsert_coverage([row])
    manifest.upsert_coverage([Coverage(**STREAM, symbol="BTCUSDT", session="n-1-1", ts_from=10, ts_to=50), row])
    assert [(c.ts_from, c.ts_to) for c in manifest.coverage()] == [(10, 50)]
    assert manifest.coverage(overlapping=Interval(50, 60)) == []
    opened = SessionRow(
        session="n-1-1", exchange="binance", market_type="spot", source="ws", url="wss://x", opened_at=5
    )
    closed = SessionRow(**{name: getattr(opened, name) for name in opened.__struct_fields__})
    closed.closed_at, closed.close_cause, closed.frames, closed.events = 99, "cut", 10, 20
    manifest.upsert_sessions([opened])
    assert manifest.sessions(unclosed=True) == [opened]
    manifest.upsert_sessions([closed, opened])
    assert manifest.sessions() == [closed]
    assert manifest.sessions(unclosed=True) == []


def test_the_last_ban_of_a_host_counts_and_one_that_is_over_can_be_left_out(manifest):
    first = BanRow(exchange="binance", host="fapi.test", pool="futures", until=NOW + 100, status=418, at=NOW)
    again = BanRow(exchange="binance", host="fapi.test", pool="futures", until=NOW + 50, status=429, at=NOW + 1)
    other = BanRow(exchange="binance", host="api.test", until=NOW + 10, status=429, at=NOW)
    manifest.record(bans=[first, other])
    manifest.record(bans=[again])
    assert manifest.bans() == [other, again]
    assert manifest.bans(active_at=NOW + 10) == [again], "until is when one may ask again"
    with manifest.snapshot() as snapshot:
        assert snapshot.bans(active_at=NOW + 50) == []


def test_a_segment_never_goes_back(manifest):
    manifest.upsert_segments([segment("raw/1", 0, state="open")])
    manifest.upsert_segments([segment("raw/1", 0, 60)])
    manifest.upsert_segments([segment("raw/1", 0, state="open")])
    assert manifest.segment("raw/1").state == "sealed"
    manifest.commit(segments={"raw/1": "transformed"}, now=NOW)
    manifest.upsert_segments([segment("raw/1", 0, 60)])
    assert manifest.segment("raw/1").state == "transformed"


def test_a_failing_segment_is_counted(manifest):
    manifest.upsert_segments([segment("raw/1", 0, 60)])
    assert manifest.fail_segment("raw/1", "bad") == 1
    assert manifest.fail_segment("raw/1", "worse") == 2
    manifest.upsert_segments([segment("raw/1", 0, 60)])
    assert (manifest.segment("raw/1").failures, manifest.segment("raw/1").error) == (2, "worse")
    with pytest.raises(CommitConflict):
        manifest.fail_segment("raw/none", "bad")


def test_the_watermark_is_where_the_oldest_open_segment_starts_else_where_the_last_one_ends(manifest):
    mark = lambda: manifest.watermark("binance", "spot", "trade")  # noqa: E731
    assert mark() is None
    manifest.upsert_segments([segment("raw/1", 0, MINUTE), segment("raw/q", 0, 9 * MINUTE, kind="quote")])
    assert mark() == MINUTE
    manifest.upsert_segments([segment("raw/2", MINUTE, state="open")])
    assert mark() == MINUTE
    manifest.upsert_segments([segment("raw/3", 2 * MINUTE, 3 * MINUTE)])
    assert mark() == MINUTE, "the second minute is still being written"
    manifest.upsert_segments([segment("raw/2", MINUTE, 2 * MINUTE)])
    assert mark() == 3 * MINUTE
    manifest.commit(segments={"raw/3": "deleted"}, now=NOW)
    assert mark() == 3 * MINUTE, "letting go of a segment does not turn time back"


def test_certificates_are_versioned_rows(manifest):
    one = CertificateRow(
        path="versions/1", sha256="a" * 64, **STREAM, symbol="BTCUSDT", date="2026-11-20", revision=0,
        issued_at=NOW, rows=10, first_id=1, last_id=10, inputs={"raw/2": "b", "raw/1": "a"}, gap_seconds=1.5,
    )  # fmt: skip
    later = CertificateRow(**{name: getattr(one, name) for name in one.__struct_fields__})
    later.issued_at, later.reproduced = NOW + 1, True
    manifest.commit(certificates=[one], now=NOW)
    manifest.commit(certificates=[later], now=NOW)
    assert manifest.certificates("versions/1") == [one, later]
    assert manifest.certificates(symbol="ETHUSDT") == []
    assert manifest.certificates(date_from="2026-11-21") == []


def test_a_snapshot_sees_one_moment(manifest, tmp_path):
    manifest.commit(add=[file("hot/a")], now=NOW)
    reader = Manifest.read_only(tmp_path)
    with reader.snapshot() as snapshot:
        assert snapshot.version == 1
        manifest.commit(add=[file("hot/b")], remove=["hot/a"], now=NOW)
        assert [row.path for row in snapshot.files()] == ["hot/a"]
        assert [row.path for row in reader.files()] == ["hot/b"]
    reader.close()


def test_a_reader_cannot_write(manifest, tmp_path):
    reader = Manifest.read_only(tmp_path)
    with pytest.raises(LakeError, match="reading only"):
        reader.commit(now=NOW)
    with reader.snapshot() as snapshot, pytest.raises(Exception, match="readonly"):
        snapshot._conn.exec_driver_sql("UPDATE meta SET epoch = 99")
    reader.close()


def test_stats_count_what_there_is_also_of_a_manifest_that_keeps_no_totals(manifest, tmp_path):
    manifest.upsert_segments([segment("raw/1", 0, 60), segment("raw/2", 60, state="open")])
    manifest.commit(add=[file("hot/a"), file("hot/b", kind="quote")], gaps=[gap()], now=NOW)
    stats = manifest.stats()
    assert stats.segments == {"open": 1, "sealed": 1}
    assert [(f.kind, f.level, f.files, f.rows) for f in stats.files] == [
        ("quote", "part", 1, 10),
        ("trade", "part", 1, 10),
    ]
    assert stats.gaps == {"open": 1}
    with sqlite3.connect(tmp_path / "manifest.db") as older:  # as of version 5, which who only reads does not change
        older.executescript("UPDATE meta SET schema_version = 5; DELETE FROM totals; DELETE FROM segment_totals")
    older.close()
    reader = Manifest.read_only(tmp_path)
    assert reader.stats() == stats
    reader.close()


def test_a_manifest_held_by_another_program_is_busy_not_broken(manifest, tmp_path, monkeypatch):
    other = sqlite3.connect(tmp_path / "manifest.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with manifest._engine.connect() as conn:
        conn.connection.driver_connection.execute("PRAGMA busy_timeout = 20")
    with pytest.raises(ManifestBusy):
        manifest.commit(add=[file("hot/a")], now=NOW)
    other.execute("ROLLBACK")
    other.close()
    manifest.commit(add=[file("hot/a")], now=NOW)


READ = """
import os, sys
from pathlib import Path
import sqlalchemy.dialects.sqlite.pysqlite  # all imports come before giving up the rights to read them
from lake.manifest import Manifest
from lake.errors import ManifestBusy
root = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)
manifest = Manifest.read_only(root)
print(len(manifest.files()), manifest.version)
with manifest.snapshot() as snapshot:
    print(len(snapshot.files()))
print(manifest._source._frozen is not None)
manifest.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="folder permissions work differently on Windows")
def test_a_lake_in_a_folder_that_cannot_be_written_is_read_as_immutable():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        opened = Manifest.create_or_open(root, now=NOW)
        opened.commit(add=[file("hot/a")], now=NOW)
        opened.close()
        assert not (root / "manifest.db-wal").exists()
        root.chmod(0o555)
        try:
            done = subprocess.run(
                [sys.executable, "-c", READ, str(root)], capture_output=True, text=True, check=False,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            )  # fmt: skip
        finally:
            root.chmod(0o755)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["1", "1", "1", "True"]
        assert not (root / "manifest.db-wal").exists()


def test_an_immutable_answer_is_thrown_away_where_a_writer_came_meanwhile(tmp_path):
    from lake.manifest_source import ReadSource, _read_engine

    opened = Manifest.create_or_open(tmp_path, now=NOW)
    opened.close()
    source = ReadSource(tmp_path / "manifest.db")
    source._frozen = _read_engine(tmp_path / "manifest.db", immutable=True)

    def overtaken() -> None:
        with source.transaction() as conn:
            writer.append(Manifest.create_or_open(tmp_path, now=NOW))
            writer[0].commit(add=[file("hot/a")], now=NOW)
            assert conn.exec_driver_sql("SELECT count(*) FROM files").scalar_one() == 0

    writer: list[Manifest] = []
    with pytest.raises(ManifestBusy, match="while it was read"):
        overtaken()
    assert source.run(lambda conn: conn.exec_driver_sql("SELECT count(*) FROM files").scalar_one()) == 1
    source.close()
    writer[0].close()


DIE = """
import os, signal, sys
from pathlib import Path
from lake.manifest import Manifest
from lake.rows import SegmentRow
manifest = Manifest.create_or_open(Path(sys.argv[1]), now=1)
for n in range(50):
    row = SegmentRow(path=f"raw/{n}", exchange="b", market_type="spot", kind="trade", state="open", period_start=n)
    manifest.upsert_segments([row])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_what_was_committed_is_there_after_a_kill_for_readers_and_for_the_next_writer(tmp_path):
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", DIE, str(tmp_path)], check=False, env=env)
    assert done.returncode == -9
    assert (tmp_path / "manifest.db-wal").exists()
    reader = Manifest.read_only(tmp_path)
    assert len(reader.segments()) == 50
    writer = Manifest.create_or_open(tmp_path, now=NOW)
    writer.commit(segments={"raw/1": "sealed"}, now=NOW)
    assert reader.segment("raw/1").state == "sealed"
    reader.close()
    writer.close()
