"""A power cut at any step of writing, sealing or recovering: what was promised is there, nothing torn is left.

The last tests forget a sync on purpose: the search must then find a loss, or it would prove nothing.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lake import durable, layout, segments
from lake.errors import LakeError
from lake.frames import FramesFile, encode_received, read_frames, recover_frames
from lake.ledger import Ledger, read_ledger
from lake.rows import FRAMES, SegmentRow
from lake.segment_files import SegmentFile, recover_segment
from market.kinds import Trade
from tests.support.crash import quick_folder
from tests.support.powercut import record, states

T = 1_795_182_300_000_000
RAW = layout.raw_path("binance", "spot", "trade", T, "box1", 1)
FRAMES_PATH = layout.frames_path("binance", "spot", T, "box1", 1)


@pytest.fixture(name="tmp_path")
def _quick():
    with quick_folder() as folder:
        yield folder


def open_row(path: str, kind: str) -> SegmentRow:
    return SegmentRow(path=path, exchange="binance", market_type="spot", kind=kind, state="open", period_start=T)


def lines(first: int, count: int) -> bytes:
    return segments.encode_lines([
        Trade("BTCUSDT", "btcusdt@trade", T + n, None, T + n, "box1-1-1", n, 0, "ws", "64000.10", "0.001", "buy", n,
              "market")
        for n in range(first, first + count)
    ])  # fmt: skip


def write_segment(root: Path, promise: Callable[[int], None]) -> None:
    file = SegmentFile(root, open_row(RAW, "trade"))
    for batch in range(3):
        file.append(lines(1 + batch * 3, 3), 3)
        if batch != 1:
            file.sync()
            promise(3 * (batch + 1))
    file.seal(T + 60)
    promise(9)


def recover_raw(root: Path) -> list[int]:
    durable.sweep_temps(root)
    result = recover_segment(root, RAW, T)
    assert recover_segment(root, RAW, T) == result
    assert not list(root.rglob("*.open"))
    if result.row is None:
        return []
    assert result.row.bytes == (root / RAW).stat().st_size
    return [event.seq for event in segments.read_lines("trade", (root / RAW).read_bytes())]


def write_frames(root: Path, promise: Callable[[int], None]) -> None:
    file = FramesFile(root, open_row(FRAMES_PATH, FRAMES))
    for batch in range(3):
        file.append(encode_received("box1-1-1", [T] * 3, 1 + batch * 3, [b'{"a":%d}' % n for n in range(3)]))
        if batch != 1:
            file.sync()
            promise(3 * (batch + 1))
    file.seal(T + 60)
    promise(9)


def recover_recording(root: Path) -> list[int]:
    durable.sweep_temps(root)
    result = recover_frames(root, FRAMES_PATH, T)
    assert recover_frames(root, FRAMES_PATH, T) == result
    assert not list(root.rglob("*.open"))
    return [line.n for line in read_frames(root / FRAMES_PATH)] if result.row else []


def write_ledger(root: Path, promise: Callable[[int], None]) -> None:
    with Ledger(root, "box1") as ledger:
        for n in range(3):
            ledger.append([("note", 2 * n + 1), ("note", 2 * n + 2)], T)
            promise(2 * n + 2)


def recover_ledger(root: Path) -> list[int]:
    return [entry.read(int) for entry in read_ledger(root, lambda bad: None)]


WORKS = [(write_segment, recover_raw), (write_frames, recover_recording), (write_ledger, recover_ledger)]
names = pytest.mark.parametrize("write, recover", WORKS, ids=["segment", "frames", "ledger"])


def losses(
    tmp_path: Path, write: Callable, recover: Callable, keep: Callable[[durable.Op], bool] = lambda op: True
) -> tuple[list[str], int]:
    """What went wrong in which state, and how many states there were."""
    root = tmp_path / "recorded"
    root.mkdir()
    recorded = record(lambda promise: write(root, promise), root, 0)
    wrong = []
    count = 0
    for where, state, amount in states(recorded, cuts=12, keep=lambda number, op: keep(op)):
        place = tmp_path / "cut"
        place.mkdir()
        state.build(place)
        try:
            held = recover(place)
        except LakeError as error:
            wrong.append(f"{where}: {error}")
            held = list(range(1, amount + 1))
        if held != list(range(1, len(held) + 1)) or len(held) < amount:
            wrong.append(f"{where}: promised {amount}, found {held}")
        shutil.rmtree(place)
        count += 1
    return wrong, count


@names
def test_nothing_promised_is_lost_in_any_state(tmp_path: Path, write: Callable, recover: Callable) -> None:
    wrong, count = losses(tmp_path, write, recover)
    assert wrong == []
    assert count > 50


@names
@pytest.mark.parametrize("forgotten", ["sync", "fsync_dir"])
def test_a_forgotten_sync_is_found(tmp_path: Path, write: Callable, recover: Callable, forgotten: str) -> None:
    wrong, _ = losses(tmp_path, write, recover, lambda op: op.name != forgotten)
    assert wrong


def test_a_power_cut_during_recovery_loses_nothing(tmp_path: Path) -> None:
    """The torn file is part of the recording, and so is its recovery; then it is recovered once more."""

    def torn_and_recovered(root: Path, promise: Callable[[int], None]) -> None:
        file = SegmentFile(root, open_row(RAW, "trade"))
        file.append(lines(1, 3) + b'{"torn', 4)
        file.sync()
        promise(3)
        file.close()
        recover_segment(root, RAW, T)

    def recover_with_its_tail(root: Path) -> list[int]:
        def has_it() -> bool:
            return any(b'{"torn' in place.read_bytes() for place in root.rglob("*") if place.is_file())

        had = has_it()
        held = recover_raw(root)
        assert has_it() == had
        return held

    wrong, count = losses(tmp_path, torn_and_recovered, recover_with_its_tail)
    assert wrong == []
    assert count > 30
