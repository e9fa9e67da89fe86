"""The manifest made anew: from ledger, footers and seals, the same one, table by table."""

import contextlib
import hashlib
import shutil
import sqlite3
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake import durable, layout, parquet, schema
from lake.errors import CommitConflict, CorruptManifest, LakeLocked, NotALake
from lake.publish import Placement, publish
from lake.rebuild import rebuild
from lake.rows import BanRow, CheckRow, Expectation, FileRow, QuarantineRow, SegmentRow, SessionRow
from lake.segment_files import SegmentFile, quarantine
from lake.segments import encode_lines, extent
from lake.tables import Parent
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.kinds import Trade
from market.session import Coverage, Gap
from market.times import DAY, HOUR, MINUTE, SECOND
from runtime.workers import InlineExecutor
from tests.support.crash import at_each_step, needs_fork, quick_folder
from tests.support.lakes import STREAM, TestLake
from tests.support.market_rows import T0, trade
from transformer.config import TransformerConfig
from transformer.service import transform_once

END = T0 + DAY
SESSION = "node-1-1"
EPOCH_AND_VERSION = ("epoch", "version")
"""Columns of `meta` that only grow: a rebuilt manifest is at least as far as the lost one."""


def event(seq: int, at: int, symbol: str = "BTCUSDT") -> Trade:
    return Trade(
        symbol=symbol, stream="trade", ts_event=at, ts_publish=None, ts_recv=at + 1, session=SESSION,
        frame_no=seq, item=0, source="ws", price=f"{100 + seq % 7}.{seq % 10}", qty="0.5", side="buy", seq=seq,
        condition="market",
    )  # fmt: skip


class Life:
    """A lake that lives through the real path: segments, transformer, compactor, one clock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writer = LakeWriter.open(root, "node", T0)
        self.number = 0
        self.now = T0

    def segment(self, start: int, ids: range, kind: str = "trade", bad: bytes = b"", every: int = SECOND) -> SegmentRow:
        """A sealed minute of trades of two symbols; `ids` empty is silence."""
        self.number += 1
        path = layout.raw_path(*STREAM.values(), kind, start, "node", self.number)
        row = SegmentRow(path=path, **STREAM, kind=kind, state="open", period_start=start)
        self.writer.open_segment(row)
        events = [event(n, start + (n - ids.start) * every, s) for n in ids for s in ("BTCUSDT", "ETHUSDT")]
        with SegmentFile(self.root, row) as file:
            if events:
                file.append(encode_lines(events) + bad, len(events) + bad.count(b"\n"), extent(events))
                file.sync()
            sealed = file.seal(start + MINUTE)
        self.writer.record(segments=[sealed])
        return sealed

    def open_segment(self, start: int, ids: range) -> SegmentRow:
        """A segment as a crash leaves it."""
        self.number += 1
        path = layout.raw_path(*STREAM.values(), "trade", start, "node", self.number)
        row = SegmentRow(path=path, **STREAM, kind="trade", state="open", period_start=start)
        self.writer.open_segment(row)
        events = [event(n, start + (n - ids.start) * SECOND) for n in ids]
        with SegmentFile(self.root, row) as file:
            file.append(encode_lines(events), len(events), extent(events))
            file.sync()
        return row

    def session(self, **changed: object) -> None:
        held = {"session": SESSION, "exchange": "binance", "market_type": "linear", "source": "ws", "url": "u",
                "opened_at": T0}  # fmt: skip
        self.writer.record_sessions([SessionRow(**(held | changed))])

    def cover(self, start: int, end: int, symbol: str = "BTCUSDT") -> None:
        self.writer.record_coverage([Coverage(**STREAM, kind="trade", symbol=symbol, session=SESSION, ts_from=start,
                                              ts_to=end)])  # fmt: skip

    def gap(self, gap_id: str, start: int, **changed: object) -> None:
        held = {"gap_id": gap_id, "symbol": "BTCUSDT", "kind": "trade", "ts_from": start, "ts_to": start + SECOND,
                "id_from": None, "id_to": None, "cause": "disconnect", "proof": "interval", "state": "open",
                "session": SESSION, "detected_at": start}  # fmt: skip
        self.writer.record_gaps([Gap(**STREAM, **(held | changed))])

    def transform(self, now: int, executor: Executor | None = None) -> None:
        transform_once(self.writer, executor or InlineExecutor(), now, TransformerConfig())

    def compact(self, now: int) -> None:
        compact_once(self.writer, InlineExecutor(), now, CompactorConfig())

    def reopen(self, now: int) -> None:
        self.writer.close()
        self.writer = LakeWriter.open(self.root, "node", now)

    def close(self) -> None:
        self.writer.close()


def full(life: Life) -> None:
    """Bars, hours, a closed day, a revision, gaps, late and bad lines, retired, unlinked and deleted things."""
    life.session(frames=3)
    life.cover(T0, T0 + HOUR)
    life.cover(T0, T0 + HOUR, "ETHUSDT")
    life.gap("a", T0 + 5 * SECOND)
    life.gap("b", T0 + 9 * SECOND, ts_to=None)
    for minute in range(5):
        life.segment(
            T0 + minute * MINUTE, range(minute * 50, minute * 50 + 50), bad=b"no line\n" if minute == 2 else b""
        )
        if minute % 2:
            life.transform(T0 + minute * MINUTE + 70 * SECOND)
    life.segment(T0 + 2 * HOUR, range(0))
    life.segment(T0 + 2 * HOUR + MINUTE, range(250, 300))
    life.transform(T0 + 3 * HOUR)
    life.compact(T0 + 4 * HOUR)
    life.writer.record(bans=[BanRow(exchange="binance", host="h", pool="p", until=T0, status=429, at=T0)], now=T0)
    life.reopen(T0 + 5 * HOUR)
    life.gap("a", T0 + 5 * SECOND, state="repaired", closed_at=T0 + HOUR, source="late")
    set_aside = quarantine(life.root, SESSION, "frames-1-2", b"what\n")
    life.writer.quarantine([QuarantineRow(path=set_aside, origin=SESSION, reason="bad", count=1, bytes=5, at=T0)])
    life.compact(END + HOUR)
    life.session(frames=300, closed_at=T0 + HOUR, close_cause="stopped")


def revised(life: Life) -> None:
    """What `full` leaves, a late segment and the revision of the day that it makes."""
    full(life)
    life.segment(END + HOUR, range(1000, 1005))  # received the day after, of the day before
    late = life.segment(END + HOUR + MINUTE, range(300, 310))
    assert late.rows
    life.transform(END + 2 * HOUR)
    life.compact(END + 4 * HOUR)


def aged(life: Life) -> None:
    """Retention has let go of raw, and rows of replaced files are forgotten."""
    revised(life)
    for days in (2, 3, 9, 10):
        life.segment(END + days * DAY, range(2000 + 100 * days, 2010 + 100 * days))
        life.transform(END + days * DAY + HOUR)
        life.compact(END + days * DAY + 2 * HOUR)


def troubled(life: Life) -> None:
    """Failures, refused commits, a segment set aside, a healed file."""
    full(life)
    sealed = life.segment(END + 3 * HOUR, range(3000, 3010))
    life.writer.fail_segment(sealed.path, "bad", END)
    life.writer.fail_segment(sealed.path, "worse", END)
    with pytest.raises(CommitConflict):
        life.writer.publish(
            cursors={"never": 1}, segments={sealed.path: "transformed"}, remove=["hot/none"], now=END + 3 * HOUR
        )
    life.writer.publish(checks=[CheckRow(path=sealed.path, check="c", symbol="s", count=1)], now=END + 3 * HOUR)
    with pytest.raises(CommitConflict):
        life.writer.publish(cursors={"never": 2}, expect=Expectation(files={"hot/none": "0"}), now=END + 3 * HOUR)


HISTORIES = {f.__name__: f for f in (full, revised, aged, troubled)}


def tables(root: Path) -> dict[str, list[tuple]]:
    """Every table that says something, row by row; of `meta` all but what only grows."""
    numbered = {table.name for table in schema.NUMBERED}
    with sqlite3.connect(root / "manifest.db") as db:
        held = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
        names = [r[0] for r in db.execute(held) if r[0] not in numbered]
        found = {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in names}
        keep = [r[1] for r in db.execute("PRAGMA table_info(meta)") if r[1] not in EPOCH_AND_VERSION]
        found.pop("scrubs", None)  # when a file was last read again is not in the ledger
        found["meta"] = list(db.execute(f"SELECT {', '.join(keep)} FROM meta"))
    db.close()
    return found


def counters(root: Path) -> tuple[int, int]:
    with sqlite3.connect(root / "manifest.db") as db:
        row = db.execute("SELECT epoch, version FROM meta").fetchone()
    db.close()
    return row


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    """One closed lake for each history; tests take copies."""
    made = {}
    for name, history in HISTORIES.items():
        root = tmp_path_factory.mktemp(name) / "lake"
        root.mkdir()
        life = Life(root)
        history(life)
        life.close()
        made[name] = root
    return made


@pytest.fixture
def copy(lives, tmp_path):
    def take(name: str) -> Path:
        return Path(shutil.copytree(lives[name], tmp_path / "lake"))

    return take


@pytest.mark.parametrize("name", HISTORIES)
def test_a_lost_manifest_comes_back_the_same_table_by_table(copy, name):
    root = copy(name)
    before, counted = tables(root), counters(root)
    (root / "manifest.db").unlink()
    made = rebuild(root, "node", END + 20 * DAY)
    assert made.ok, (made.findings, made.contradictions)
    assert tables(root) == before
    assert counters(root) >= counted
    assert (made.adopted, made.left, made.damaged_lines, made.whole) == ([], [], [], True)
    assert before["files"], "there was something to lose"


@pytest.mark.parametrize("name", HISTORIES)
def test_totals_and_what_is_read_again_are_those_of_the_rows_whatever_happened_to_them(lives, name):
    live = "SELECT exchange, market_type, kind, level, count(*), sum(rows), sum(bytes) FROM files WHERE state = 'live'"
    again = "state = 'transformed' OR (kind = 'frames' AND state = 'sealed')"
    paths = f"SELECT path FROM files WHERE state = 'live' UNION SELECT path FROM segments WHERE rows > 0 AND ({again})"
    same = [
        ("SELECT * FROM totals ORDER BY 1, 2, 3, 4", f"{live} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"),
        ("SELECT * FROM segment_totals ORDER BY 1", "SELECT state, count(*) FROM segments GROUP BY 1 ORDER BY 1"),
        ("SELECT path FROM scrubs ORDER BY 1", f"{paths} ORDER BY 1"),
    ]
    with closing(sqlite3.connect(lives[name] / "manifest.db")) as db:
        for kept, counted in same:
            assert db.execute(kept).fetchall() == db.execute(counted).fetchall() != []


@pytest.mark.parametrize("name", HISTORIES)
def test_a_dry_run_on_a_healthy_lake_finds_no_difference_and_touches_nothing(copy, name):
    root = copy(name)
    before = everything(root)
    made = rebuild(root, "node", END + 20 * DAY, dry_run=True)
    assert (made.differences, made.moved, made.ok) == ([], [], True)
    assert everything(root) == before


def everything(root: Path) -> dict[str, bytes]:
    """Every file; of the manifest the tables."""
    files = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith((".lock", "manifest.db")))
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files} | {"manifest": repr(tables(root)).encode()}


def test_a_dry_run_names_what_is_different(copy):
    root = copy("full")
    with sqlite3.connect(root / "manifest.db") as db:
        path = db.execute("SELECT path FROM files WHERE state = 'live' AND level = 'day'").fetchone()[0]
        db.execute("DELETE FROM files WHERE path = ?", (path,))
        db.execute("UPDATE gaps SET cause = 'crash' WHERE gap_id = 'a'")
        db.execute("INSERT INTO cursors VALUES ('mine', 5)")
    db.close()
    made = rebuild(root, "node", END, dry_run=True)
    assert not made.ok
    assert {(d.table, d.key, d.only) for d in made.differences} == {
        ("files", (path,), "rebuilt"), ("gaps", ("a",), ""), ("cursors", ("mine",), "present"),
    }  # fmt: skip
    assert [d.columns for d in made.differences if d.table == "gaps"] == [{"cause": ("crash", "disconnect")}]


def test_while_somebody_writes_the_lake_it_is_refused(copy, monkeypatch):
    monkeypatch.setattr("lake.lock.ATTEMPTS", 1)
    root = copy("full")
    with LakeWriter.open(root, "node", END), pytest.raises(LakeLocked, match=r"process \d+"):
        rebuild(root, "node", END)


def test_no_lake_is_made_where_there_is_none(tmp_path):
    with pytest.raises(NotALake):
        rebuild(tmp_path / "typo", "node", END)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/photo.dng").write_text("mine")
    with pytest.raises(NotALake):
        rebuild(tmp_path, "node", END)
    assert not (tmp_path / "manifest.db").exists()


def garble(root: Path) -> None:
    path = root / "manifest.db"
    data = bytearray(path.read_bytes())
    for place in range(4096, len(data), 97):
        data[place] ^= 0xFF
    path.write_bytes(bytes(data))


def truncate(root: Path) -> None:
    path = root / "manifest.db"
    path.write_bytes(path.read_bytes()[:50_000])


def stale_log(root: Path) -> None:
    garble(root)
    (root / "manifest.db-wal").write_bytes(b"of another time" * 1000)


def empty(root: Path) -> None:
    (root / "manifest.db").write_bytes(b"")


def delete(root: Path) -> None:
    (root / "manifest.db").unlink()


@pytest.mark.parametrize("harm", [garble, truncate, stale_log, empty, delete])
def test_a_harmed_manifest_is_moved_aside_and_made_anew_at_the_daemons_start(copy, harm):
    root = copy("full")
    before, counted = tables(root), counters(root)
    harm(root)
    left = {p.name: p.read_bytes() for p in root.glob("manifest.db*")}
    with pytest.raises((CorruptManifest, NotALake), match="dl rebuild"):
        LakeWriter.open(root, "node", END + HOUR, create=False)
    assert {p.name: p.read_bytes() for p in root.glob("manifest.db*")}.keys() >= left.keys()
    told = []
    with LakeWriter.open(root, "node", END + HOUR, on_rebuild=lambda *said: told.append(said)) as writer:
        assert writer.epoch > counted[0]
        assert writer.manifest.version >= counted[1]
        assert verify_lake(root, writer.manifest, lambda *_: None).ok
    assert len(told) == 1
    assert tables(root) == before
    aside = sorted((root / "quarantine").glob("manifest.db.*"))
    assert [p.read_bytes() for p in aside][:1] == ([left["manifest.db"]] if left else []), "never removed"
    with LakeWriter.open(root, "node", END + 2 * HOUR, on_rebuild=lambda *said: told.append(said)):
        assert len(told) == 1, "once is enough"


def test_doing_it_twice_is_doing_it_once(copy):
    root = copy("revised")
    before = tables(root)
    for n in range(3):
        made = rebuild(root, "node", END + 20 * DAY + n)
        assert (made.ok, made.adopted, made.links) == (True, [], 0)
        assert tables(root) == before
    assert len(list((root / "quarantine").glob("manifest.db.*-00000?"))) == 3


def test_a_copy_of_the_manifest_from_before_is_noticed_and_newer_files_are_taken_in(tmp_path):
    root = tmp_path / "lake"
    root.mkdir()
    life = Life(root)
    full(life)
    life.close()
    shutil.copy(root / "manifest.db", tmp_path / "backup")
    life.reopen(END + HOUR)
    life.segment(END + HOUR + MINUTE, range(300, 310))
    life.transform(END + 2 * HOUR)
    life.close()
    before = tables(root)
    shutil.copy(tmp_path / "backup", root / "manifest.db")
    with pytest.raises(CorruptManifest, match="older than the ledger"):
        LakeWriter.open(root, "node", END + 5 * HOUR)
    made = rebuild(root, "node", END + 5 * HOUR, dry_run=True)
    assert {d.only for d in made.differences if d.table == "files"} == {"rebuilt"}
    told = []
    LakeWriter.open(root, "node", END + 5 * HOUR, on_rebuild=lambda *said: told.append(said)).close()
    assert told
    assert tables(root) == before


# --- what a killed writer leaves ---


def killed(life: Life) -> None:
    """The process ends here: nothing is closed in order."""
    life.writer.manifest.close()
    life.writer._lock.release()


def test_a_commit_that_died_before_the_manifest_had_it_is_none(tmp_path, monkeypatch):
    life = Life(tmp_path)
    full(life)
    with monkeypatch.context() as patch:
        patch.setattr(life.writer.manifest, "commit", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            life.writer.publish(cursors={"never": 1}, now=END)
    killed(life)
    life.reopen(END + HOUR)
    life.gap("later", END)
    life.close()
    before = tables(tmp_path)
    delete(tmp_path)
    assert rebuild(tmp_path, "node", END + DAY).ok
    assert tables(tmp_path) == before


def test_the_last_commit_counts_where_its_files_are_there(tmp_path, monkeypatch):
    life = Life(tmp_path)
    full(life)
    before = tables(tmp_path)
    row = life.segment(END + HOUR, range(900, 905))
    monkeypatch.setattr(life.writer.manifest, "commit", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        life.transform(END + 2 * HOUR)
    killed(life)
    parts = sorted({p.relative_to(tmp_path).as_posix() for p in (tmp_path / "hot").rglob("*.parquet")})
    delete(tmp_path)
    made = rebuild(tmp_path, "node", END + DAY)
    assert (made.ok, made.taken_back) == (True, False)
    found = tables(tmp_path)
    known = {r[0] for r in before["files"]}
    assert {r[0] for r in found["files"] if r[-3] == "live"} - known == set(parts) - known != set()
    assert [r[4] for r in found["segments"] if r[0] == row.path] == ["transformed"]


def test_the_last_commit_does_not_count_where_a_file_of_it_is_missing(tmp_path, monkeypatch):
    life = Life(tmp_path)
    full(life)
    row = life.segment(END + HOUR, range(900, 905))
    monkeypatch.setattr(life.writer.manifest, "commit", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        life.transform(END + 2 * HOUR)
    killed(life)
    before = tables(tmp_path)
    for path in (tmp_path / "hot").rglob("*.parquet"):
        path.unlink()
    for again in (END + DAY, END + 2 * DAY):
        delete(tmp_path)
        made = rebuild(tmp_path, "node", again)
        assert tables(tmp_path) == before
    assert not made.taken_back, "the first time wrote down that it never took place"
    assert [r[4] for r in before["segments"] if r[0] == row.path] == ["sealed"]


def test_what_was_open_is_for_the_next_start_as_it_was(tmp_path):
    root = tmp_path / "lake"
    root.mkdir()
    life = Life(root)
    full(life)
    life.session(session="node-9-1", opened_at=END)
    life.open_segment(END + 3 * HOUR, range(400, 420))
    life.writer.open_segment(SegmentRow(path=layout.raw_path(*STREAM.values(), "quote", END, "node", 99), **STREAM,
                                        kind="quote", state="open", period_start=END))  # fmt: skip
    killed(life)
    twin = Path(shutil.copytree(root, tmp_path / "twin"))
    delete(root)
    made = rebuild(root, "node", END + 5 * HOUR)
    assert (made.ok, len(made.opened)) == (True, 1)
    recovered = []
    for folder in (root, twin):
        with LakeWriter.open(folder, "node", END + 6 * HOUR) as writer:
            found = writer.recover(END + 6 * HOUR)
            recovered.append((found.unclosed, [r.rows for r in found.segments if r.rows], found.last))
    assert recovered[0] == recovered[1]
    unwritten = layout.raw_path(*STREAM.values(), "quote", END, "node", 99)
    mine, theirs = tables(root), tables(twin)
    theirs["segments"] = [r for r in theirs["segments"] if r[0] != unwritten]  # an open row without a file says nothing
    assert dict(theirs.pop("segment_totals"))["sealed"] == dict(mine.pop("segment_totals"))["sealed"] + 1
    assert mine == theirs


def test_a_file_that_no_commit_named_stays_for_the_next_start(copy):
    root = copy("revised")
    before = tables(root)
    with sqlite3.connect(root / "manifest.db") as db:
        held = db.execute("SELECT path, sha256 FROM files WHERE state = 'live' AND level = 'day' AND kind = 'trade'")
        day, sha256 = held.fetchone()
        lake_id = db.execute("SELECT lake_id FROM meta").fetchone()[0]
    db.close()

    table = parquet.read(root / day)
    placement = Placement(
        kind="trade", **STREAM, level="day", date="2024-07-19", symbol=table["symbol"][0].as_py(), revision=7,
        lake_id=lake_id, parents=(Parent(day, sha256),),
    )  # fmt: skip
    orphan = publish(root, placement, [table], run="killed", now=END)
    delete(root)
    made = rebuild(root, "node", END + 20 * DAY)
    assert (made.ok, made.left, made.adopted) == (True, [orphan.path], [])
    assert tables(root) == before
    with LakeWriter.open(root, "node", END + 20 * DAY) as writer:
        assert writer.recover(END + 20 * DAY).orphans == (orphan.path,)


@needs_fork
def test_dying_anywhere_in_the_middle_is_finished_by_the_next(lives):
    before = tables(lives["full"])

    def prepare(root: Path) -> None:
        shutil.copytree(lives["full"], root / "lake")
        garble(root / "lake")

    with quick_folder() as folder:
        steps = 0
        for what, root in at_each_step(
            folder, lambda root: rebuild(root / "lake", "node", END + 20 * DAY, thorough=False), prepare=prepare
        ):
            LakeWriter.open(root / "lake", "node", END + 21 * DAY, on_rebuild=lambda *_: None).close()
            assert tables(root / "lake") == before, what
            with LakeWriter.open(root / "lake", "node", END + 22 * DAY) as writer:
                writer.recover(END + 22 * DAY)
            assert not list((root / "lake").rglob(".*.tmp*")), what
            assert list((root / "lake/quarantine").glob("manifest.db.*")), what
            shutil.rmtree(root)
            steps += 1
        assert steps > 10


# --- a ledger that has suffered ---


def live(root: Path) -> list[tuple]:
    """The active set: path, level, symbol, revision and hash of every live file, and its parents."""
    with sqlite3.connect(root / "manifest.db") as db:
        files = list(db.execute("SELECT path, level, symbol, revision, rows, sha256 FROM files WHERE state = 'live'"))
        edges = list(db.execute("SELECT child, parent FROM lineage WHERE child IN"
                                " (SELECT path FROM files WHERE state = 'live')"))  # fmt: skip
    db.close()
    return [sorted(files, key=repr), sorted(edges)]


def certified(root: Path) -> list[str]:
    """Content digests of the live daily files that were observed."""
    with sqlite3.connect(root / "manifest.db") as db:
        found = db.execute("SELECT content_digest FROM files WHERE state = 'live' AND level = 'day' AND kind = 'trade'")
        digests = [row[0] for row in found]
    db.close()
    return digests


@pytest.mark.parametrize("name", HISTORIES)
def test_without_a_ledger_the_active_set_comes_from_the_footers(copy, name):
    root = copy(name)
    before, states = live(root), tables(root)["segments"]
    delete(root)
    shutil.rmtree(root / "ledger")
    made = rebuild(root, "node", END + 20 * DAY)
    assert live(root) == before
    assert (made.whole, made.lake_id != "", len(made.adopted) >= len(before[0])) == (False, True, True)
    held = {r[0]: r[4] for r in tables(root)["segments"]}
    named = {parent for _, parent in before[1]}
    for row in states:
        if (root / row[0]).is_file():
            # whose parts are gone is transformed once more: its rows are duplicates then, and nothing is lost
            assert held[row[0]] in ((row[4],) if row[0] in named else (row[4], "sealed")), row
    again = rebuild(root, "node", END + 21 * DAY)
    assert (live(root), again.adopted) == (before, []), "now the ledger has it"
    digests = set(certified(root))
    life = Life(root)
    life.transform(END + 22 * DAY)
    life.compact(END + 23 * DAY)
    life.close()
    assert digests <= set(certified(root)), "what comes a second time changes no daily file"


def test_a_day_that_opens_with_the_day_before_takes_no_place_of_it(tmp_path):
    lake = TestLake(tmp_path)
    first = lake.day("trade", [trade(T0, "1", "1", 1)], lake_id=lake.writer.lake_id)
    parents = (Parent(first.path, first.sha256),)
    lake.day("trade", [trade(T0 + DAY, "1", "1", 2)], lake_id=lake.writer.lake_id, parents=parents)
    lake.close()
    before = live(tmp_path)
    delete(tmp_path)
    shutil.rmtree(tmp_path / "ledger")
    assert rebuild(tmp_path, "node", END + DAY).ok
    assert live(tmp_path) == before
    assert len(before[0]) == 2


def test_a_damaged_line_is_named_and_what_it_told_comes_from_the_disk(copy):
    root = copy("revised")
    before = live(root)
    (ledger,) = [p for p in (root / "ledger").iterdir() if b'"level":"day"' in p.read_bytes()][-1:]
    lines = ledger.read_bytes().split(b"\n")
    number = max(n for n, line in enumerate(lines) if b'"level":"day"' in line and b'"kind":"trade"' in line)
    lines[number] = lines[number].replace(b'"day"', b'"dby"', 1)
    ledger.write_bytes(b"\n".join(lines))
    delete(root)
    made = rebuild(root, "node", END + 20 * DAY)
    assert any(f"{ledger.name} line {number + 1}" in line for line in made.damaged_lines)
    assert live(root) == before
    assert made.adopted


def test_a_damaged_and_a_missing_file_are_reported_and_stay_in_the_manifest(copy):
    root = copy("full")
    before = tables(root)
    first, second, *_ = sorted(row[0] for row in before["files"] if row[-3] == "live")
    data = bytearray((root / first).read_bytes())
    data[len(data) // 3] ^= 1
    (root / first).unlink()  # not through the link
    (root / first).write_bytes(bytes(data))
    (root / second).unlink()
    delete(root)
    made = rebuild(root, "node", END + 20 * DAY)
    assert not made.ok
    assert {(f.path, f.severity) for f in made.findings} == {(first, "error"), (second, "error")}
    assert tables(root) == before


def test_files_of_another_lake_are_not_taken_in(copy, lives):
    root = copy("full")
    source = next((lives["revised"] / "versions").rglob("*.parquet"))
    stranger = root / "versions" / source.relative_to(lives["revised"] / "versions")
    durable.make_dirs(stranger.parent)
    shutil.copy(source, stranger.with_name(source.name))
    before = tables(root)
    if any(row[0] == stranger.relative_to(root).as_posix() for row in before["files"]):
        pytest.skip("both lakes made the same file")
    delete(root)
    made = rebuild(root, "node", END + 20 * DAY)
    assert tables(root) == before
    assert [f.path for f in made.findings] == [stranger.relative_to(root).as_posix()]


# --- random histories ---


class RandomLife:
    """Commits and reports in any order, accepted and refused, through the one writer; files are bytes of any kind."""

    def __init__(self, root: Path, draw: st.DataObject) -> None:
        self.root, self.draw, self.now, self.n = root, draw, T0, 0
        self.writer = LakeWriter.open(root, "node", T0)

    def file(self, level: str, parents: tuple[str, ...], revision: int, symbol: str | None) -> FileRow:
        self.n += 1
        data = str(self.n).encode()
        sha256 = hashlib.sha256(data).hexdigest()
        where = (*STREAM.values(), "trade")
        folder = (
            layout.version_dir(*where, symbol, "2024-07-19")
            if level == "day"
            else layout.hot_dir(*where, "2024-07-19", 0)
        )
        path = f"{folder}/{layout.parquet_name('trade', self.now, self.now, revision, sha256)}"
        durable.make_dirs((self.root / path).parent)
        (self.root / path).write_bytes(data)
        return FileRow(
            path=path, **STREAM, kind="trade", level=level, symbol=symbol, date="2024-07-19",
            hour=None if level == "day" else 0, revision=revision, rows=1, bytes=len(data), sha256=sha256,
            ts_min=T0, ts_max=T0, parents=parents,
        )  # fmt: skip

    def seal(self) -> None:
        self.n += 1
        path = layout.raw_path(*STREAM.values(), "trade", self.now, "node", self.n)
        period = {"period_start": self.now, "period_end": self.now + 1}
        self.writer.record(segments=[SegmentRow(path=path, **STREAM, kind="trade", state="sealed", **period)])

    def part(self) -> None:
        sealed = [row.path for row in self.writer.manifest.segments(state="sealed")]
        if sealed:
            mine = tuple(self.draw.draw(st.lists(st.sampled_from(sealed), min_size=1, max_size=3, unique=True)))
            states = dict.fromkeys(mine, "transformed")
            self.publish(add=[self.file("part", mine, 0, None)], segments=states,
                         checks=[CheckRow(path=mine[0], check="c", symbol="s", count=self.n)])  # fmt: skip

    def merge(self) -> None:
        hot = [row.path for row in self.writer.manifest.files() if row.level != "day"]
        days = {row.symbol: row for row in self.writer.manifest.files(level="day")}
        symbol = self.draw.draw(st.sampled_from(["BTCUSDT", "ETHUSDT", ""]))
        old = days.get(symbol)
        remove = [*hot, *([old.path] if symbol and old else [])]
        if hot and symbol:
            made = self.file("day", tuple(remove), old.revision + 1 if old else 0, symbol)
            gap = self.gap_row("repaired")
            self.publish(add=[made], remove=remove, cursors={"due": self.n}, gaps=[gap])
        elif hot:
            self.publish(add=[self.file("hour", tuple(hot), self.n, None)], remove=hot)

    def again(self) -> None:
        rows = self.writer.manifest.files(state=None, parents=True)
        if rows:
            row = self.draw.draw(st.sampled_from(rows))
            self.publish(add=[row])

    def refuse(self) -> None:
        self.publish(remove=["hot/none"], cursors={"due": -1}, add=[self.file("part", (), 0, None)])

    def publish(self, **changes: object) -> None:
        with contextlib.suppress(CommitConflict):
            self.writer.publish(**changes, now=self.now)

    def gap_row(self, state: str) -> Gap:
        name = self.draw.draw(st.sampled_from("abc"))
        return Gap(**STREAM, gap_id=name, symbol="BTCUSDT", kind="trade", ts_from=T0, ts_to=None, id_from=None,
                   id_to=None, cause="jump", proof="ids", state=state, session=None, detected_at=self.now)  # fmt: skip

    def report(self) -> None:
        row = Coverage(**STREAM, kind="trade", symbol="BTCUSDT", session=SESSION, ts_from=T0, ts_to=self.now)
        self.writer.record(gaps=[self.gap_row("open")], coverage=[row])

    def fail(self) -> None:
        rows = self.writer.manifest.segments()
        if rows:
            self.writer.fail_segment(self.draw.draw(st.sampled_from(rows)).path, f"error {self.n}", self.now)

    def unlink(self) -> None:
        gone = [row.path for row in self.writer.manifest.retired(self.now)][:2]
        for path in gone:
            (self.root / path).unlink()
        if gone:
            self.writer.mark_unlinked(gone, self.now)

    def forget(self) -> None:
        self.writer.forget_retired(self.now - 2 * MINUTE, self.now)

    def restart(self) -> None:
        self.writer.close()
        self.writer = LakeWriter.open(self.root, "node", self.now)

    def die(self) -> None:
        """Between the ledger and the manifest."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.writer.manifest, "commit", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt))
            with contextlib.suppress(KeyboardInterrupt):
                self.part()
        self.writer.manifest.close()
        self.writer._lock.release()
        self.writer = LakeWriter.open(self.root, "node", self.now)


STEPS = ("seal", "seal", "part", "part", "merge", "merge", "again", "refuse", "report", "fail", "unlink", "forget",
         "restart", "die")  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), steps=st.lists(st.sampled_from(STEPS), max_size=25))
def test_whatever_was_done_comes_back(data: st.DataObject, steps: list[str]) -> None:
    with quick_folder() as root:
        life = RandomLife(root, data)
        try:
            for step in steps:
                life.now += MINUTE
                getattr(life, step)()
        finally:
            life.writer.close()
        before, counted = tables(root), counters(root)
        delete(root)
        made = rebuild(root, "node", life.now + MINUTE, thorough=False)
        assert tables(root) == before
        assert counters(root) >= counted
        assert (made.contradictions, made.adopted) == ([], [])
