"""Group commit: rotation by receive time, order on disk, and what failures do not lose."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from collectors.abreast import Abreast
from collectors.config import WritingConfig
from collectors.intake import Intake, Lines, Pass, RejectedFrame, lines_of, lines_of_frames
from collectors.writing import GroupCommit
from lake import durable
from lake.durable import Fault
from lake.errors import StorageFailed
from lake.frame_order import as_written
from lake.frames import read_frames
from lake.rows import BanRow, SegmentRow
from lake.segment_files import OpenFile
from lake.segments import decode_line
from lake.writer import LakeWriter
from market import times
from market.kinds import Trade
from market.session import Coverage, Gap
from market.times import MINUTE, SECOND

MARKET = ("binance", "spot")
LANE = (*MARKET, "trade")
T0 = times.parse("2026-11-20T13:45:10Z")


def trade(seq: int, at: int, symbol: str = "BTCUSDT") -> Trade:
    return Trade(symbol, "trade", at, None, at, "n-1-1", seq, 0, "ws", "1", "2", "buy", seq, "market")


def batch(first: int, *frames: bytes, at: int) -> Lines:
    return lines_of_frames("n-1-1", [at] * len(frames), first, frames)


def work(now: int, events: list[Trade] = [], frames: list[Lines] = [], **more: object) -> Pass:  # noqa: B006
    held = [lines_of([event]) for event in events]
    return Pass(now, frames=[(MARKET, frames)] if frames else [], events=[(LANE, held)] if events else [], **more)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path / "lake", "n", T0) as opened:
        yield opened


@pytest.fixture(params=[1, 4], ids=["one by one", "four abreast"])
def commit(writer: LakeWriter, request: pytest.FixtureRequest) -> Iterator[GroupCommit]:
    with ThreadPoolExecutor(request.param) as threads:
        made = GroupCommit(writer, "n", WritingConfig(), Abreast(threads if request.param > 1 else None))
        yield made
        made.close()


def rows(writer: LakeWriter, kind: str = "trade") -> list[SegmentRow]:
    return writer.manifest.segments(*MARKET, kind)


def stored(writer: LakeWriter) -> list[int]:
    found = []
    for row in rows(writer):
        path = writer.root / row.path
        path = path if path.exists() else path.with_name(path.name + ".open")
        if path.exists():
            found += [decode_line("trade", line).seq for line in path.read_bytes().splitlines()]
    return found


def test_a_segment_ends_where_receive_time_crosses_a_minute(writer: LakeWriter, commit: GroupCommit) -> None:
    commit.commit(work(T0 + SECOND, [trade(1, T0), trade(2, T0 + SECOND)]))
    assert [(row.state, row.period_start) for row in rows(writer)] == [("open", T0)]
    later = T0 + 50 * SECOND
    commit.commit(work(later + SECOND, [trade(3, later - 1), trade(4, later)]))
    first, second = rows(writer)
    assert (first.state, first.rows, first.period_end) == ("sealed", 3, later)
    assert (second.state, second.period_start) == ("open", later)
    assert first.event_min == T0
    assert stored(writer) == [1, 2, 3, 4]


def test_silence_is_a_row_without_a_file(writer: LakeWriter, commit: GroupCommit) -> None:
    commit.begin([LANE], T0)
    commit.commit(work(T0 + 10 * MINUTE))
    first, second = rows(writer)
    assert (first.rows, first.bytes, first.sha256, first.state) == (0, 0, "", "sealed")
    assert first.period_end == times.floor_to(T0 + 10 * MINUTE, MINUTE) == second.period_start
    assert not (writer.root / first.path).exists()
    assert writer.manifest.watermark(*LANE) == first.period_end


def test_nothing_spans_midnight(writer: LakeWriter, commit: GroupCommit) -> None:
    midnight = times.parse("2026-11-21")
    commit.commit(work(midnight - SECOND, [trade(1, midnight - 2 * SECOND)], [batch(1, b"{}", at=midnight - SECOND)]))
    commit.commit(work(midnight + SECOND, [trade(2, midnight - 1), trade(3, midnight)], [batch(2, b"{}", at=midnight)]))
    for kind in ("trade", "frames"):
        first, second = rows(writer, kind)
        assert (first.period_end, second.period_start) == (midnight, midnight)
        assert "date=2026-11-20" in first.path
        assert "date=2026-11-21" in second.path
    assert rows(writer)[0].rows == 2


def test_silence_over_midnight_is_divided_there(writer: LakeWriter, commit: GroupCommit) -> None:
    midnight = times.parse("2026-11-21")
    commit.begin([LANE], midnight - 10 * MINUTE)
    commit.commit(work(midnight + 10 * MINUTE))
    assert [row.period_end for row in rows(writer)] == [midnight, midnight + 10 * MINUTE, None]


def test_a_large_segment_is_sealed_at_once(writer: LakeWriter) -> None:
    commit = GroupCommit(writer, "n", WritingConfig(seal_mb=1))
    many = [trade(seq, T0 + seq) for seq in range(9000)]
    commit.commit(work(T0 + SECOND, many))
    first, second = rows(writer)
    assert (first.state, first.rows) == ("sealed", 9000)
    assert first.period_end == second.period_start == T0 + SECOND
    commit.close()


def test_the_last_pass_seals_everything(writer: LakeWriter, commit: GroupCommit) -> None:
    commit.commit(work(T0, [trade(1, T0)], [batch(1, b"{}", b"[]", at=T0)], final=True))
    assert [row.state for kind in ("trade", "frames") for row in rows(writer, kind)] == ["sealed", "sealed"]
    assert rows(writer)[0].period_end == T0 + 1
    frames = list(read_frames(writer.root / rows(writer, "frames")[0].path))
    assert [(line.n, line.data) for line in frames] == [(1, b"{}"), (2, b"[]")]


def test_frames_are_written_and_synced_before_the_lines_made_from_them(writer: LakeWriter, commit: GroupCommit) -> None:
    seen: list[tuple[str, str]] = []
    with durable.observe(lambda op: seen.append((op.name, op.path))):
        commit.commit(work(T0, [trade(1, T0)], [batch(1, b"{}", at=T0)], sync=True))
    steps = [
        (name, "frames" if "/frames/" in path else "lines")
        for name, path in seen
        if name in ("write", "sync") and ("/frames/" in path or "/raw/" in path)
    ]
    assert steps == [("write", "frames"), ("sync", "frames"), ("write", "lines"), ("sync", "lines")]


def test_a_clock_that_steps_back_loses_nothing(writer: LakeWriter, commit: GroupCommit) -> None:
    commit.commit(work(T0 + MINUTE, [trade(1, T0 + MINUTE)]))
    commit.commit(work(T0, [trade(2, T0)]))
    commit.commit(work(T0 + 2 * MINUTE, [trade(3, T0 + 2 * MINUTE), trade(4, T0 + MINUTE)], final=True))
    assert sorted(stored(writer)) == [1, 2, 3, 4]


MIDNIGHT = times.parse("2026-11-21")


def numbers(writer: LakeWriter) -> list[list[tuple[str, int]]]:
    """The frames (session, number) of each file, as who reads them again takes the files."""
    found = [row for row in rows(writer, "frames") if row.rows]
    for row in found:
        assert row.recv_min is not None
        assert row.recv_max is not None
        assert row.period_start <= row.recv_min
    files = as_written((row.period_start, writer.root / row.path) for row in found)
    return [[(line.conn, line.n) for line in read_frames(path)] for path in files]


@pytest.mark.parametrize("slow", [0, 10], ids=["at once", "ten seconds later"])
def test_files_end_where_the_clock_was_set_back_over_midnight(
    writer: LakeWriter, commit: GroupCommit, slow: int
) -> None:
    """What came before is nearer to what the clock says now than to what it would say."""
    commit.begin([], MIDNIGHT - 20 * SECOND, [MARKET])
    came = [-2, 6, -44, -43]
    frames = [batch(n, b"{}", at=MIDNIGHT + at * SECOND) for n, at in enumerate(came, 1)]
    now = MIDNIGHT - (43 - slow) * SECOND
    commit.commit(Pass(now, frames=[(MARKET, frames)], stepped_from=now + 51 * SECOND))
    later = [batch(5, b"{}", at=MIDNIGHT - SECOND), batch(6, b"{}", at=MIDNIGHT + SECOND)]
    commit.commit(Pass(MIDNIGHT + 2 * SECOND, frames=[(MARKET, later)], final=True))
    assert [[number for _, number in held] for held in numbers(writer)] == [[1], [2], [3, 4, 5], [6]]


def test_frames_of_a_session_keep_their_order_where_the_clock_was_set_back_a_little_at_midnight(
    writer: LakeWriter, commit: GroupCommit
) -> None:
    """Too little for a step. What other sessions received before midnight is in the file of that day."""
    commit.begin([], MIDNIGHT - SECOND, [MARKET])
    came = [("a", 1, -90), ("a", 2, 20), ("a", 3, -10), ("b", 1, -5), ("b", 2, 30), ("a", 4, 40)]
    frames = [lines_of_frames(conn, [MIDNIGHT + at * times.MS], n, [b"{}"]) for conn, n, at in came]
    commit.commit(Pass(MIDNIGHT + 50 * times.MS, frames=[(MARKET, frames)], final=True))
    files = [read_frames(writer.root / row.path) for row in rows(writer, "frames")]
    days = [[("a", 1), ("b", 1)], [("a", 2), ("a", 3), ("b", 2), ("a", 4)]]
    assert [[(line.conn, line.n) for line in file] for file in files] == days


def test_files_of_one_second_have_different_numbers(writer: LakeWriter) -> None:
    for seq in range(3):
        commit = GroupCommit(writer, "n", WritingConfig())
        commit.commit(work(T0, [trade(seq, T0)], final=True))
    assert len({row.path for row in rows(writer)}) == 3
    assert stored(writer) == [0, 1, 2]


def gap(state: str = "open", **more: object) -> Gap:
    return Gap("g", *LANE, "BTCUSDT", T0, T0 + 1, 5, 5, "crash", "ids", state, "n-1-1", T0, **more)


def test_that_a_gap_is_none_after_all_is_said_once_the_proof_is_durable(
    writer: LakeWriter, commit: GroupCommit
) -> None:
    commit.commit(work(T0, [trade(5, T0)], gaps=[gap("empty", closed_at=T0)]))
    assert [found.state for found in writer.manifest.gaps()] == ["open"]
    commit.commit(work(T0, sync=True))
    assert [found.state for found in writer.manifest.gaps()] == ["empty"]


def test_an_interruption_behind_one_that_was_none_is_not_closed_with_it(
    writer: LakeWriter, commit: GroupCommit
) -> None:
    """Both come before the proof is durable that nothing was missing so far."""
    again = msgspec.structs.replace(gap(), ts_to=None, id_to=None, session="n-1-2", detected_at=T0 + 2)
    commit.commit(work(T0 + 1, gaps=[gap("empty", closed_at=T0 + 1)]))
    commit.commit(work(T0 + 2, gaps=[again]))
    commit.commit(work(T0 + 3, sync=True))
    assert writer.manifest.gaps() == [again]


@pytest.mark.parametrize("end", [None, 8], ids=["that grew", "that had ended"])
@pytest.mark.parametrize("rest", [(6, 8), (5, 7)], ids=["its first id", "its last id"])
def test_what_a_late_trade_leaves_of_a_gap_is_said_once_the_trade_is_durable(
    writer: LakeWriter, commit: GroupCommit, end: int | None, rest: tuple[int, int]
) -> None:
    """Else a power cut could take the trade, and no row would say so."""

    def told() -> tuple[int | None, int | None]:
        (row,) = writer.manifest.gaps()
        return row.id_from, row.id_to

    whole = msgspec.structs.replace(gap(), id_to=end, ts_to=end and T0 + 9)
    less = msgspec.structs.replace(gap(), id_from=rest[0], id_to=rest[1], ts_to=T0 + 9)
    commit.commit(work(T0, [trade(8, T0)], gaps=[whole], sync=True))
    commit.commit(work(T0 + 1, [trade(5, T0)], gaps=[less]))
    assert told() == (5, end)
    closed = msgspec.structs.replace(less, state="repaired", source="late", closed_at=T0 + 2)
    commit.commit(work(T0 + 2, gaps=[less]))
    commit.commit(work(T0 + 3, sync=True))
    assert told() == rest
    commit.commit(work(T0 + 4, gaps=[closed]))
    assert [row.state for row in writer.manifest.gaps()] == ["open"]
    commit.commit(work(T0 + 5, sync=True))
    assert [(row.state, row.source) for row in writer.manifest.gaps()] == [("repaired", "late")]


def test_a_gap_is_not_filled_by_what_its_folder_does_not_take(
    writer: LakeWriter, commit: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permission is lost: the trade waits in memory, and so does what it says."""
    whole = msgspec.structs.replace(gap(), id_to=6)
    commit.begin([LANE, (*MARKET, "quote")], T0, [MARKET])
    commit.commit(work(T0, [trade(6, T0)], gaps=[whole], sync=True))

    def refused(*_: object) -> None:
        error = StorageFailed("permission denied")
        error.errno = errno.EACCES
        raise error

    closed = msgspec.structs.replace(whole, state="repaired", source="late", closed_at=T0 + 1)
    with monkeypatch.context() as patch:
        patch.setattr(commit._segments_of(LANE), "write", refused)
        commit.commit(work(T0 + 1, [trade(5, T0)], gaps=[closed], sync=True))
        assert list(commit.parked) == [LANE]
        assert [row.state for row in writer.manifest.gaps()] == ["open"]
    commit.commit(work(T0 + 2, sync=True))
    assert [row.state for row in writer.manifest.gaps()] == ["repaired"]
    assert stored(writer) == [6, 5]


def test_coverage_is_recorded_with_a_sync(writer: LakeWriter, commit: GroupCommit) -> None:
    synced: list[str] = []
    with durable.observe(lambda op: synced.append(op.path) if op.name == "sync" and "/raw/" in op.path else None):
        commit.commit(work(T0, [trade(1, T0)], coverage=[Coverage(*LANE, "BTCUSDT", "n-1-1", T0, T0 + 1)]))
    assert synced
    assert len(writer.manifest.coverage()) == 1


def test_rejected_frames_are_set_aside_and_counted(writer: LakeWriter, commit: GroupCommit) -> None:
    bad = [RejectedFrame(*MARKET, "n-1-1", no, T0, "not understood", b"\xff<html>") for no in (3, 7)]
    commit.commit(work(T0, rejected=bad, final=True))
    (row,) = writer.manifest.quarantine()
    assert (row.origin, row.count, row.reason) == ("n-1-1", 2, "not understood")
    lines = list(read_frames(writer.root / row.path))
    assert [(line.n, line.data) for line in lines] == [(3, b"\xff<html>"), (7, b"\xff<html>")]


@contextlib.contextmanager
def striking(fault: Fault) -> Iterator[Fault]:
    durable.inject(fault)
    try:
        yield fault
    finally:
        durable.inject(None)


@pytest.mark.parametrize("op", ["write", "sync"])
@pytest.mark.parametrize("number", range(1, 5))
def test_one_io_error_moves_the_bytes_to_a_new_file(writer: LakeWriter, op: str, number: int) -> None:
    commit = GroupCommit(writer, "n", WritingConfig())
    commit.begin([LANE], T0, [MARKET])
    seq = iter(range(1, 100))
    with striking(Fault(op, number, "EIO")) as fault:
        for _ in range(6):
            n = next(seq)
            commit.commit(work(T0 + n, [trade(n, T0 + n)], [batch(n, b"{}", at=T0 + n)], sync=True))
    commit.commit(work(T0 + 100, final=True))
    assert fault.struck == 1
    assert sorted(set(stored(writer))) == [1, 2, 3, 4, 5, 6]
    numbers = [line.n for row in rows(writer, "frames") if row.rows for line in read_frames(writer.root / row.path)]
    assert sorted(set(numbers)) == [1, 2, 3, 4, 5, 6]
    assert {row.state for row in writer.manifest.segments()} == {"sealed"}
    assert not list(writer.root.rglob("*.open"))


def test_a_full_disk_is_waited_for_and_nothing_is_lost_or_doubled(writer: LakeWriter, commit: GroupCommit) -> None:
    commit.commit(work(T0, [trade(1, T0)], [batch(1, b"{}", at=T0)], sync=True))
    with striking(Fault("write", 1, "ENOSPC", repeat=True)):
        with pytest.raises(StorageFailed) as failed:
            commit.commit(work(T0 + 1, [trade(2, T0 + 1)], [batch(2, b"{}", at=T0 + 1)], sync=True))
        assert durable.no_space(failed.value)
        with pytest.raises(StorageFailed):
            commit.commit(work(T0 + 2, sync=True))
    commit.commit(work(T0 + 3, [trade(3, T0 + 3)], [batch(3, b"{}", at=T0 + 3)], sync=True, final=True))
    assert stored(writer) == [1, 2, 3]
    assert failed.value.__cause__.errno == errno.ENOSPC


def test_a_ban_is_written_down_with_the_pass_that_brings_it(writer: LakeWriter, commit: GroupCommit) -> None:
    ban = BanRow(exchange="binance", host="api.test", pool="spot", until=T0 + MINUTE, status=418, at=T0)
    intake = Intake(WritingConfig())
    intake.record(bans=[ban])
    brought = intake.collect(T0)
    assert not brought.empty
    with striking(Fault("write", 1, "ENOSPC")), pytest.raises(StorageFailed):
        commit.commit(brought)
    assert writer.manifest.bans() == []
    commit.commit(intake.collect(T0 + 1))
    assert writer.manifest.bans() == [ban]


LANES = [(*MARKET, kind) for kind in ("trade", "agg_trade", "quote")]


def test_all_segments_that_end_together_are_recorded_together(
    writer: LakeWriter, commit: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit.begin(LANES, T0, [MARKET])
    commit.commit(work(T0 + SECOND, [trade(1, T0)], [batch(1, b"{}", at=T0)]))
    recorded: list[list[SegmentRow]] = []
    record = writer.record
    monkeypatch.setattr(
        writer, "record", lambda **given: (recorded.append([*given.get("segments", ())]), record(**given))[1]
    )
    commit.commit(work(T0 + 51 * SECOND, [trade(2, T0 + 51 * SECOND)], [batch(2, b"{}", at=T0 + 51 * SECOND)]))
    states = [sorted(row.state for row in rows) for rows in recorded if rows]
    assert states == [["open", "sealed"], ["open"] * 3 + ["sealed"] * 3], "frames before the lines made from them"
    for lane in LANES:
        assert writer.manifest.watermark(*lane) == T0 + 50 * SECOND


def test_where_one_folder_takes_nothing_the_other_segments_are_sealed(
    writer: LakeWriter, commit: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit.begin(LANES, T0)
    commit.commit(work(T0 + SECOND, [trade(1, T0)]))
    seal = OpenFile.seal

    def denied(file: OpenFile, end: int) -> SegmentRow:
        if file.row.kind == "quote":
            error = StorageFailed("permission denied")
            error.errno = errno.EACCES
            raise error
        return seal(file, end)

    with monkeypatch.context() as patch:
        patch.setattr(OpenFile, "seal", denied)
        commit.commit(work(T0 + 51 * SECOND))
        assert list(commit.parked) == [(*MARKET, "quote")]
    ends = {lane[2]: writer.manifest.watermark(*lane) for lane in LANES}
    assert ends.pop("quote") == T0
    assert set(ends.values()) == {T0 + 50 * SECOND}
    commit.commit(work(T0 + 52 * SECOND))
    assert commit.parked == {}
    assert writer.manifest.watermark(*MARKET, "quote") == T0 + 50 * SECOND


def test_whatever_is_done_abreast_is_over_before_an_error_is_told() -> None:
    ended: list[int] = []
    holds = threading.Barrier(2)

    def work(number: int) -> int:
        if number == 1:
            holds.wait(60)
            raise ValueError("a defect")
        if number == 2:
            holds.wait(60)
        ended.append(number)
        return number

    with ThreadPoolExecutor(4) as threads, pytest.raises(ValueError, match="a defect"):
        Abreast(threads).each(work, range(20))
    assert set(range(20)) - set(ended) <= {1, 9, 17}, "what was to follow it in its own thread is left out"


def test_a_file_that_cannot_be_synced_is_written_anew_beside_those_that_can(
    writer: LakeWriter, commit: GroupCommit
) -> None:
    commit.begin(LANES, T0)
    held = [(lane, [lines_of([trade(n, T0)])]) for n, lane in enumerate(LANES)]
    with striking(Fault("sync", 2, "EIO")):
        commit.commit(Pass(T0 + SECOND, events=held, sync=True))
    commit.commit(work(T0 + 2 * SECOND, final=True))
    found = []
    for lane in LANES:
        for row in writer.manifest.segments(*lane):
            assert row.state == "sealed"
            if row.rows:
                found += (writer.root / row.path).read_bytes().splitlines()
    assert sorted(decode_line("trade", line).seq for line in found) == [0, 1, 2]
