"""The one writer: ledger before manifest, links after the commit, and who may not write."""

import hashlib
import shutil
import threading
from pathlib import Path

import pytest

from lake import durable, links
from lake.commits import Commit, Start, Void
from lake.errors import CommitConflict, Fenced, LakeLocked, LakeMismatch, NotALake, StorageFailed
from lake.ledger import read_ledger
from lake.lock import read_lock
from lake.manifest import Manifest
from lake.rows import BanRow, CertificateRow, FileRow, QuarantineRow, SegmentRow, SessionRow
from lake.writer import LakeWriter
from market.session import Coverage, Gap

NOW = 1_790_000_000_000_000
STREAM = {"exchange": "binance", "market_type": "spot", "kind": "trade"}
FOLDER = "versions/exchange=binance/market_type=spot/data_type=trade/symbol=BTCUSDT/year=2026/month=11/day=20"


@pytest.fixture
def writer(tmp_path):
    with LakeWriter.open(tmp_path / "lake", "node", NOW) as opened:
        yield opened


def day(root: Path, revision: int, data: bytes) -> FileRow:
    sha = hashlib.sha256(data).hexdigest()
    path = f"{FOLDER}/trade-000000000-235959999-g{revision}-{sha[:8]}.parquet"
    durable.make_dirs((root / path).parent)
    durable.write_file(root / path, data)
    return FileRow(
        path=path, **STREAM, level="day", symbol="BTCUSDT", date="2026-11-20", hour=None, revision=revision, rows=1,
        bytes=len(data), sha256=sha, ts_min=NOW, ts_max=NOW,
    )  # fmt: skip


def shown(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "tables").rglob("*.parquet")}


def entries(root: Path) -> list[str]:
    bad: list[object] = []
    found = [entry.type for entry in read_ledger(root, bad.append)]
    assert bad == []
    return found


def gap(**changed) -> Gap:
    held = {"gap_id": "g", "symbol": "BTCUSDT", "ts_from": 1, "ts_to": 2, "id_from": 3, "id_to": 4, "cause": "cut"}
    return Gap(**(STREAM | held | {"proof": "ids", "state": "open", "session": None, "detected_at": NOW} | changed))


def test_a_second_writer_is_refused_and_touches_nothing(writer, monkeypatch):
    monkeypatch.setattr("lake.lock.ATTEMPTS", 1)
    with pytest.raises(LakeLocked):
        LakeWriter.open(writer.root, "other", NOW)
    assert writer.manifest.meta().epoch == writer.epoch == 1


def test_the_lock_says_where_commands_reach_the_writer(writer):
    writer.set_control(8123, "secret")
    info = read_lock(writer.root)
    assert (info.epoch, info.port, info.token) == (1, 8123, "secret")


def test_a_refused_open_frees_the_lock(tmp_path):
    LakeWriter.open(tmp_path, "node", NOW, simulated=True).close()
    with pytest.raises(LakeMismatch):
        LakeWriter.open(tmp_path, "node", NOW)
    with LakeWriter.open(tmp_path, "node", NOW, simulated=None) as again:
        assert again.manifest.meta().simulated


def test_a_lake_is_made_only_where_that_was_meant(tmp_path):
    with pytest.raises(NotALake):
        LakeWriter.open(tmp_path / "typo", "node", NOW, create=False)
    assert not (tmp_path / "typo").exists()


def test_data_without_a_manifest_is_not_taken_for_an_empty_lake(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(NotALake, match="has raw but no manifest"):
        LakeWriter.open(tmp_path, "node", NOW)


def test_what_footers_cannot_say_is_in_the_ledger_too(writer):
    segment = SegmentRow(path="raw/1", **STREAM, state="open", period_start=NOW)
    writer.open_segment(segment)
    assert entries(writer.root) == ["start"]
    segment.state, segment.period_end = "sealed", NOW + 60
    writer.record(segments=[segment])
    writer.record_sessions(
        [SessionRow(session="s", exchange="binance", market_type="spot", source="ws", url="u", opened_at=NOW)]
    )
    writer.record_coverage([Coverage(**STREAM, symbol="BTCUSDT", session="s", ts_from=1, ts_to=2)])
    writer.record_gaps([gap()])
    writer.quarantine([QuarantineRow(path="quarantine/1", origin="raw/1", reason="bad", count=1, bytes=2, at=NOW)])
    certificate = CertificateRow(
        path="versions/1", sha256="a", **STREAM, symbol="BTCUSDT", date="2026-11-20", revision=0, issued_at=NOW, rows=1
    )
    writer.publish(certificates=[certificate], gaps=[gap(state="repaired", closed_at=NOW + 1)], now=NOW + 1)
    assert entries(writer.root) == ["start", "seal", "session", "coverage", "gap", "quarantine", "commit"]
    assert writer.manifest.gaps()[0].state == "repaired"
    assert writer.manifest.certificates() == [certificate]


def test_the_ledger_is_written_before_the_manifest(writer, monkeypatch):
    def refuse(*_: object, **__: object) -> int:
        raise StorageFailed("no")

    monkeypatch.setattr(writer.manifest, "record", refuse)
    with pytest.raises(StorageFailed):
        writer.record_gaps([gap()])
    assert entries(writer.root) == ["start", "gap"]
    monkeypatch.undo()
    assert writer.manifest.gaps() == []
    monkeypatch.setattr(writer._ledger, "append", refuse)
    with pytest.raises(StorageFailed):
        writer.record_gaps([gap()])
    assert writer.manifest.gaps() == [], "what the ledger does not have, the manifest does not get"


def test_a_commit_is_in_the_ledger_before_the_manifest_and_taken_back_where_it_fails(writer):
    root = writer.root
    first = day(root, 0, b"first")
    writer.publish(add=[first], now=NOW)
    with pytest.raises(CommitConflict):
        writer.publish(add=[day(root, 1, b"second")], remove=["versions/none"], cursors={"c": 1}, now=NOW)
    assert entries(root) == ["start", "commit", "commit", "void"]
    writer.record_gaps([gap()])
    assert entries(root) == ["start", "commit", "commit", "void", "gap"]
    read = list(read_ledger(root, lambda bad: pytest.fail(str(bad))))
    start, made, refused = read[0].read(Start), read[1].read(Commit), read[2].read(Commit)
    assert (start.lake_id, start.epoch, start.version) == (writer.lake_id, 1, 0)
    assert (made.version, made.now, [row.path for row in made.add]) == (1, NOW, [first.path])
    assert (refused.version, read[3].read(Void)) == (2, Void(1, 2))
    assert b'"state"' not in bytes(read[1].data), "what has its default is left out"


def test_failed_segments_and_files_whose_bytes_are_gone_are_in_the_ledger(writer):
    first = day(writer.root, 0, b"first")
    writer.record(segments=[SegmentRow(path="raw/1", **STREAM, state="sealed", period_start=NOW, period_end=NOW + 60)])
    assert writer.fail_segment("raw/1", "bad", NOW) == 1
    writer.publish(add=[first], now=NOW)
    writer.publish(remove=[first.path], now=NOW)
    writer.mark_unlinked([first.path], NOW + 1)
    assert writer.forget_retired(NOW, NOW + 2) == 0
    assert writer.forget_retired(NOW + 2, NOW + 2) == 1
    said = [e.read(Commit) for e in read_ledger(writer.root, lambda bad: pytest.fail(str(bad))) if e.type == "commit"]
    assert [(c.failed, c.unlinked, c.forget) for c in said] == [
        ({"raw/1": "bad"}, (), None), ({}, (), None), ({}, (), None), ({}, (first.path,), None), ({}, (), NOW + 2),
    ]  # fmt: skip


def test_tables_shows_the_current_revision_only(writer):
    root = writer.root
    first, second = day(root, 0, b"first"), day(root, 1, b"second")
    writer.publish(add=[first], now=NOW)
    assert shown(root) == {Path(first.path).name: b"first"}
    ops: list[tuple[str, str]] = []
    watching = durable.observe(lambda op: ops.append((op.name, op.path if op.name == "unlink" else op.target)))
    writer.publish(add=[second], remove=[first.path], now=NOW)
    watching.stop()
    old, new = (str(root / links.link_of(row.path)) for row in (first, second))
    assert ops.index(("unlink", old)) < ops.index(("link", new)), "a glob must never see a day twice"
    assert shown(root) == {Path(second.path).name: b"second"}
    assert (root / first.path).read_bytes() == b"first", "readers of an older snapshot still find it"
    assert (root / second.path).samefile(root / links.link_of(second.path))


def test_a_link_that_somebody_took_away_with_its_folder_is_not_missed(writer):
    first, second = day(writer.root, 0, b"first"), day(writer.root, 1, b"second")
    writer.publish(add=[first], now=NOW)
    shutil.rmtree(writer.root / "tables")
    writer.publish(remove=[first.path], now=NOW)
    assert not (writer.root / "tables").exists()
    writer.publish(add=[second], now=NOW)
    assert shown(writer.root) == {Path(second.path).name: b"second"}


def test_a_refused_commit_moves_no_link(writer):
    root = writer.root
    first = day(root, 0, b"first")
    writer.publish(add=[first], now=NOW)
    with pytest.raises(CommitConflict):
        writer.publish(add=[day(root, 1, b"second")], remove=["versions/none"], now=NOW)
    assert shown(root) == {Path(first.path).name: b"first"}


def test_a_start_makes_the_links_again_from_the_manifest(writer):
    root = writer.root
    first, second = day(root, 0, b"first"), day(root, 1, b"second")
    writer.publish(add=[first], now=NOW)
    writer.manifest.commit(add=[second], remove=[first.path], now=NOW)  # died between the commit and the links
    foreign = (root / links.link_of(first.path)).with_name("notes.parquet")
    foreign.write_bytes(b"mine")
    assert writer.relink() == 2
    assert shown(root) == {Path(second.path).name: b"second", "notes.parquet": b"mine"}
    assert writer.relink() == 0
    torn = root / links.link_of(second.path)
    torn.unlink()
    torn.write_bytes(b"sec")  # a copy that was interrupted, where there are no links
    assert writer.relink() == 1
    assert torn.read_bytes() == b"second"


def test_threads_may_write_at_the_same_time(writer):
    def work(number: int) -> None:
        for n in range(10):
            writer.record_gaps([gap(gap_id=f"{number}-{n}")])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writer.manifest.gaps()) == 40
    assert len(entries(writer.root)) == 1 + 40


def test_a_closed_writer_leaves_one_file_that_anybody_can_read(tmp_path):
    with LakeWriter.open(tmp_path, "node", NOW) as writer:
        writer.record_gaps([gap()])
    assert not (tmp_path / "manifest.db-wal").exists()
    reader = Manifest.read_only(tmp_path)
    assert len(reader.gaps()) == 1
    reader.close()


def test_a_ban_is_in_the_ledger_before_it_is_in_the_manifest(writer, monkeypatch):
    ban = BanRow(exchange="binance", host="api.test", pool="spot", until=NOW + 60_000_000, status=429, at=NOW)
    with monkeypatch.context() as broken:
        broken.setattr(writer.manifest, "record", lambda **_: pytest.fail("the manifest is down"))
        with pytest.raises(pytest.fail.Exception):
            writer.record(bans=[ban])
    assert writer.manifest.bans() == []
    _, entry = read_ledger(writer.root, lambda bad: pytest.fail(str(bad)))
    assert (entry.type, entry.read(BanRow)) == ("ban", ban)
    writer.record(bans=[ban])
    assert writer.manifest.bans(active_at=NOW) == [ban]


def test_who_still_writes_when_it_is_closed_is_refused_and_changes_nothing(tmp_path):
    """A thread that nobody waits for: the lake may be another's by then."""
    root = tmp_path / "lake"
    writer = LakeWriter.open(root, "node", NOW)
    row = day(root, 0, b"bytes")
    writer.close()
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    late = [
        lambda: writer.publish(add=[row], now=NOW + 1),
        lambda: writer.record(gaps=[gap()]),
        lambda: writer.note("x", NOW + 1),
        lambda: writer.fail_segment("raw/x", "why", NOW + 1),
        lambda: writer.mark_unlinked(["x"], NOW + 1),
        lambda: writer.forget_retired(NOW, NOW + 1),
        lambda: writer.manifest.record_scrubs(["x"], NOW + 1),
        writer.relink,
    ]
    for write in late:
        with pytest.raises(Fenced, match="was closed"):
            write()
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
