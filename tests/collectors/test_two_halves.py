"""The two halves of a write pass in two threads: what has come is in the files however long the disk takes."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collectors import passes as passes_of
from collectors.abreast import Abreast
from collectors.config import WritingConfig
from collectors.intake import Intake, Lines, Pass, line_of, lines_of, lines_of_frames
from collectors.passes import Passes
from collectors.writing import GroupCommit
from lake import durable
from lake.errors import StorageFailed
from lake.frames import FrameLine, read_frames
from lake.rows import SegmentRow
from lake.segments import decode_line
from lake.writer import LakeWriter
from market import times
from market.kinds import Trade
from market.session import Coverage
from market.times import MINUTE, SECOND
from runtime import metrics
from runtime.workers import InlineExecutor
from tests.support.clock import ManualClock

MARKET = ("binance", "spot")
LANES = [(*MARKET, "trade"), (*MARKET, "agg_trade")]
T0 = times.parse("2026-11-20T13:45:10Z")


def came(seq: int, at: int) -> tuple[Lines, Lines]:
    """One frame, and one line made from it."""
    line = Trade("BTCUSDT", "trade", at, None, at, "n-1-1", seq, 0, "ws", "1", "2", "buy", seq, "market")
    return lines_of_frames("n-1-1", [at], seq, [b'{"n":%d}' % seq]), lines_of([line])


def work(seq: int, at: int, **more: Any) -> Pass:
    """A pass that begins right after `at`, with one frame and its line in two kinds."""
    frame, line = came(seq, at)
    return Pass(at + 1, frames=[(MARKET, [frame])], events=[(lane, [line]) for lane in LANES], **more)


def full() -> StorageFailed:
    made = StorageFailed("no room", "make some")
    made.errno = errno.ENOSPC
    return made


def refuse(_given: object) -> Any:
    raise full()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path / "lake", "n", T0) as opened:
        yield opened


@pytest.fixture
def commit(writer: LakeWriter) -> Iterator[GroupCommit]:
    with ThreadPoolExecutor(4) as threads:
        made = GroupCommit(writer, "n", WritingConfig(), Abreast(threads))
        yield made
        made.close()


class Disk:
    """Every sync waits until it is told to go on."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        self.goes_on = threading.Event()
        self._plain = durable._flush

    def flush(self, descriptor: int, *, data_only: bool) -> None:
        if data_only:  # the ledger is synced whole
            self.waits.set()
            assert self.goes_on.wait(5)
        self._plain(descriptor, data_only=data_only)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk()
    yield made
    durable.inject(None)
    made.goes_on.set()


def segments(writer: LakeWriter, kind: str = "trade") -> list[SegmentRow]:
    return writer.manifest.segments(*MARKET, kind)


def in_files(writer: LakeWriter, kind: str = "trade") -> list[int]:
    """What a reader of the files finds, in their order: what a kill now leaves."""
    found: list[int] = []
    for row in segments(writer, kind):
        path = writer.root / row.path
        path = path if path.exists() else path.with_name(path.name + ".open")
        if path.exists() and kind == "frames":
            found += [line.n for line in read_frames(path)]
        elif path.exists():
            found += [decode_line("trade", line).seq for line in path.read_bytes().splitlines()]
    return found


@pytest.mark.parametrize("seals", [False, True], ids=["a sync", "a seal"])
def test_what_comes_while_the_disk_takes_its_time_is_in_the_files(
    writer: LakeWriter, commit: GroupCommit, disk: Disk, monkeypatch: pytest.MonkeyPatch, seals: bool
) -> None:
    commit.begin(LANES, T0, [MARKET])
    assert not commit.write(work(1, T0, sync=True)), "what is to be synced is left to the other half"
    assert in_files(writer) == [], "and so are the files that are not there yet"
    commit.settle(T0 + 1)
    commit.write(work(2, T0 + 2))
    now = T0 + MINUTE if seals else T0 + SECOND
    monkeypatch.setattr(durable, "_flush", disk.flush)
    with ThreadPoolExecutor(1) as beside:
        settling = beside.submit(commit.settle, now)
        assert disk.waits.wait(5)
        before = T0 + 40 * SECOND
        commit.write(work(3, before))
        commit.write(work(4, before + 1))
        # frames that are being sealed take nothing more, and lines do not come before their frames
        assert in_files(writer, "frames") == in_files(writer) == in_files(writer, "agg_trade")
        assert in_files(writer) == ([1, 2] if seals else [1, 2, 3, 4])
        assert not settling.done()
        disk.goes_on.set()
        settling.result(60)
    commit.commit(work(5, now + SECOND, final=True, sync=True))
    for kind in ("frames", "trade", "agg_trade"):
        assert in_files(writer, kind) == [1, 2, 3, 4, 5]
        assert {row.state for row in segments(writer, kind)} == {"sealed"}


def test_lines_go_on_while_those_of_another_kind_are_sealed(
    writer: LakeWriter, commit: GroupCommit, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit.begin(LANES, T0, [MARKET])
    commit.commit(work(1, T0))
    with commit._segments[LANES[1]]._lock, ThreadPoolExecutor(1) as beside:
        assert not beside.submit(commit.write, work(2, T0 + 1)).result(60)
    assert (in_files(writer, "frames"), in_files(writer), in_files(writer, "agg_trade")) == ([1, 2], [1, 2], [1])
    commit.settle(T0 + 2)
    assert in_files(writer, "agg_trade") == [1, 2]


def test_only_what_had_come_by_then_is_proven(
    writer: LakeWriter, commit: GroupCommit, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def covered(end: int) -> Coverage:
        return Coverage(*MARKET, "trade", "BTCUSDT", "n-1-1", T0, end)

    def recorded() -> list[int]:
        return [row.ts_to for row in writer.manifest.coverage(*MARKET, "trade")]

    commit.begin(LANES, T0, [MARKET])
    commit.write(work(1, T0, coverage=[covered(T0 + 1)]))
    monkeypatch.setattr(durable, "_flush", disk.flush)
    with ThreadPoolExecutor(1) as beside:
        settling = beside.submit(commit.settle, T0 + 1)
        assert disk.waits.wait(5)
        assert not commit.write(work(2, T0 + 2, coverage=[covered(T0 + 3)]))
        disk.goes_on.set()
        settling.result(60)
    assert recorded() == [T0 + 1]
    commit.settle(T0 + 3)
    assert max(recorded()) == T0 + 3


def failing(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The next syncs of lines and frames fail."""
    plain, left = durable._flush, [times]

    def flush(descriptor: int, *, data_only: bool) -> None:
        if data_only and left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, "made up")
        plain(descriptor, data_only=data_only)

    monkeypatch.setattr(durable, "_flush", flush)


def test_what_came_during_a_sync_is_written_again_where_the_next_one_fails(
    writer: LakeWriter, commit: GroupCommit, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit.commit(work(1, T0, sync=True))
    plain = durable._flush
    commit.write(work(2, T0 + 1))
    monkeypatch.setattr(durable, "_flush", disk.flush)
    with ThreadPoolExecutor(1) as beside:
        settling = beside.submit(commit.settle, T0 + 2)
        assert disk.waits.wait(5)
        commit.write(work(3, T0 + 3))
        disk.goes_on.set()
        settling.result(60)
    monkeypatch.setattr(durable, "_flush", plain)
    failing(monkeypatch, 1)  # frames, of which 3 is not durable
    commit.settle(T0 + 4)
    commit.commit(Pass(T0 + 5, sync=True, final=True))
    for kind in ("frames", "trade", "agg_trade"):
        assert in_files(writer, kind) == [1, 2, 3], kind


def test_what_a_failed_file_lost_goes_before_what_comes(writer: LakeWriter) -> None:
    commit = GroupCommit(writer, "n", WritingConfig())
    commit.commit(work(1, T0, sync=True))
    commit._frames[MARKET]._again = [came(2, T0 + 1)[0]]
    assert not commit.write(work(3, T0 + 3)), "the other half has something to write first"
    commit.settle(T0 + 4)
    assert in_files(writer, "frames") == [1, 2, 3]
    commit.close()


def test_what_is_left_of_a_failed_file_is_settled_though_nothing_comes(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = GroupCommit(writer, "n", WritingConfig())
    commit.commit(work(1, T0, sync=True))
    commit.write(work(2, T0 + 1))
    failing(monkeypatch, 1)
    spool = commit._frames[MARKET]
    with monkeypatch.context() as patch:
        patch.setattr(spool, "_recover", refuse)
        with pytest.raises(StorageFailed):
            commit.settle(T0 + 2)
    commit.commit(Pass(T0 + 3, sync=True, final=True))
    assert {row.state for row in segments(writer, "frames")} == {"sealed"}
    assert in_files(writer, "frames") == [1, 2]


def test_a_file_that_grew_too_large_ends_behind_what_came_meanwhile(writer: LakeWriter) -> None:
    commit = GroupCommit(writer, "n", WritingConfig(seal_mb=1))
    commit.begin(LANES, T0, [MARKET])
    many = lines_of_frames("n-1-1", [T0] * 40, 1, [os.urandom(40_000) for _ in range(40)])
    commit.write(Pass(T0 + 1, frames=[(MARKET, [many])]))
    commit.write(Pass(T0 + SECOND, frames=[(MARKET, [lines_of_frames("n-1-1", [T0 + SECOND], 41, [b"{}"])])]))
    commit.settle(T0 + 1)
    first, second = segments(writer, "frames")
    assert (first.state, first.rows, first.recv_max) == ("sealed", 41, T0 + SECOND)
    assert first.period_end == second.period_start == T0 + SECOND + 1
    commit.close()


@pytest.mark.parametrize("seed", range(6))
def test_two_threads_lose_nothing_and_keep_the_order(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Both as fast as they can, over half an hour of receive time, threads changing at every opportunity; some syncs
    fail, and some appends.
    """
    chance = random.Random(seed)
    plain, switch = durable._flush, sys.getswitchinterval()

    def flush(descriptor: int, *, data_only: bool) -> None:
        if data_only and chance.random() < 0.1:
            raise OSError(errno.EIO, "made up")
        plain(descriptor, data_only=data_only)

    monkeypatch.setattr(durable, "_flush", flush)
    sys.setswitchinterval(1e-6)
    now, over, failures = [T0], threading.Event(), []
    try:
        with ThreadPoolExecutor(4) as files, ThreadPoolExecutor(1) as beside:
            commit = GroupCommit(writer, "n", WritingConfig(), Abreast(files))

            def settle() -> None:
                while not over.is_set():
                    try:
                        commit.settle(now[0])
                    except StorageFailed as error:
                        failures.append(error)

            settling = beside.submit(settle)
            count = 600
            for seq in range(1, count + 1):
                at = now[0] + chance.randrange(6 * SECOND)
                commit.write(work(seq, at))
                now[0] = at + 1
            over.set()
            settling.result(60)
            while True:
                try:
                    commit.commit(Pass(now[0], sync=True, final=True))
                    break
                except StorageFailed as error:
                    failures.append(error)
    finally:
        sys.setswitchinterval(switch)
    assert failures
    for kind in ("frames", "trade", "agg_trade"):
        rows = segments(writer, kind)
        assert {row.state for row in rows} == {"sealed"}
        assert sorted(in_files(writer, kind)) == list(range(1, count + 1)), kind
        for row in rows:
            if row.rows and row.clean:
                assert (
                    row.period_start <= row.recv_min <= row.recv_max < row.period_end
                    or row.period_start == row.period_end
                )
        ends = [row for row in rows if row.period_end > row.period_start]
        ends.sort(key=lambda row: row.period_start)
        assert all(one.period_end == two.period_start for one, two in itertools.pairwise(ends)), kind
    commit.close()


# --- the passes ---


class Held(Executor):
    """What it is given ends when the test says so."""

    def __init__(self) -> None:
        self.given: list[tuple[Future[None], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[None] = Future()
        self.given.append((future, args))
        return future

    def end(self, error: BaseException | None = None) -> None:
        future, _ = self.given.pop(0)
        future.set_exception(error) if error else future.set_result(None)


class Commit(SimpleNamespace):
    """Writes nothing, and says what it was asked."""

    def __init__(self) -> None:
        self.said: list[str] = []
        super().__init__(parked={}, unsynced_bytes=0, rows_wait=False, due=lambda now: False, settle=lambda now: None)

    def write(self, work: Pass) -> bool:
        self.said.append("write")
        return not (work.sync or work.coverage)

    def commit(self, work: Pass) -> None:
        self.said.append("commit" if work.stepped_from is None else "commit of a step")

    def record(self, work: Pass) -> None:
        self.said.append("record")


class Turns:
    """Passes over such a commit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.commit, self.disk = ManualClock(T0), Commit(), Held()
        self.intake = Intake(WritingConfig())
        self.lags: list[float] = []
        monkeypatch.setattr(passes_of, "PATIENCE_SECONDS", 0)
        monkeypatch.setattr(metrics, "write_pass", lambda _took, lag: self.lags.append(round(lag, 3)))
        self.passes = Passes(
            WritingConfig(), self.clock, self.intake, cast("GroupCommit", cast("Any", self.commit)), {}, lambda: None,
            self.disk,
        )  # fmt: skip

    async def turn(self, wait: float = 0.05, **more: Any) -> bool:
        self.clock.jump(wait)
        self.intake.frames(MARKET).offer((line_of(FrameLine(ts_recv=self.clock.now(), conn="a", dir="open")),), 100)
        await asyncio.sleep(0)  # what the other thread ended is known to the loop
        await self.passes.turn(InlineExecutor(), **more)
        return self.passes.ended


async def test_passes_go_on_while_the_disk_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch)
    assert await turns.turn(), "nothing was to become durable"
    assert not await turns.turn(0.5), "a sync is under way"
    for _ in range(30):
        assert not await turns.turn()
    assert turns.commit.said == ["write"] * 32
    assert len(turns.disk.given) == 1, "one at a time"
    assert turns.lags[-1] == 2.05, "since the last one that ended"
    turns.disk.end()
    assert await turns.turn(), "what had come by then is durable"
    assert turns.lags[-1] == 1.55, "since the pass began that it made durable"
    assert len(turns.disk.given) == 1, "and the next one is under way"


async def test_what_the_disk_refuses_is_an_outage_and_what_is_behind_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch)
    await turns.turn(0.5)
    turns.disk.end(full())
    turns.commit.commit = refuse
    assert await turns.turn()
    assert turns.passes.outage is not None
    assert turns.passes.outage.cause == "disk_full"
    del turns.commit.commit
    await turns.turn(2)
    assert turns.passes.outage is None
    assert turns.commit.said == ["write", "record", "record", "commit"], "what is held is written by both halves"
    assert await turns.turn()


@pytest.mark.parametrize("error", [None, full()], ids=["well", "badly"])
async def test_a_step_of_the_clock_waits_for_what_is_under_way_and_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, error: StorageFailed | None
) -> None:
    turns = Turns(monkeypatch)
    await turns.turn(0.5)
    turns.clock.step(-30 * SECOND)
    stepped = asyncio.ensure_future(turns.turn())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stepped.done()
    turns.disk.end(error)
    await stepped
    assert turns.commit.said == ["write", "commit of a step"]


async def test_much_that_is_not_durable_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch)
    await turns.turn(0.5)
    await turns.turn()
    turns.commit.unsynced_bytes = passes_of.UNSYNCED_BYTES + 1
    waiting = asyncio.ensure_future(turns.turn())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert turns.commit.said == ["write", "write"]
    turns.commit.unsynced_bytes = 0
    turns.disk.end()
    assert await waiting
    assert turns.commit.said == ["write"] * 3


async def test_the_end_waits_for_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch)
    await turns.turn(0.5)
    ending = asyncio.ensure_future(turns.turn(final=True))
    for _ in range(5):
        await asyncio.sleep(0)
    assert turns.commit.said == ["write"]
    turns.disk.end()
    assert await ending
    assert turns.commit.said == ["write", "commit"]
