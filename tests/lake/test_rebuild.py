"""The manifest made anew: from ledger, footers and seals, the same one, table by table."""

import shutil
import sqlite3
from concurrent.futures import Executor
from pathlib import Path

import msgspec
import pytest

from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake import durable, layout
from lake.errors import CommitConflict, LakeLocked, NotALake
from lake.publish import Placement, publish
from lake.rebuild import rebuild
from lake.rows import BanRow, CheckRow, Expectation, QuarantineRow, SegmentRow, SessionRow
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
from tests.support.lakes import STREAM
from tests.support.market_rows import T0
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
        self.writer.seal(sealed)
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
    """Every table, row by row; of `meta` all but what only grows."""
    with sqlite3.connect(root / "manifest.db") as db:
        names = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        found = {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in names}  # noqa: S608 - names of ours
        keep = [r[1] for r in db.execute("PRAGMA table_info(meta)") if r[1] not in EPOCH_AND_VERSION]
        found["meta"] = list(db.execute(f"SELECT {', '.join(keep)} FROM meta"))  # noqa: S608 - names of ours
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
