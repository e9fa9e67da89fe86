"""Segment files: sealed only when durable, recovered to their last good line, and the same when recovered again."""

import hashlib
from pathlib import Path

import pytest

from lake import durable, layout, segments
from lake.errors import CorruptSegment, StorageFailed, UnknownVersion
from lake.rows import SegmentRow
from lake.segment_files import SegmentFile, read_seal, recover_segment, sha256_of
from market.kinds import Trade
from tests.support.crash import NEVER, at_each_step, failing_at_each_step, needs_fork, quick_folder, run_until

T = 1_795_182_300_000_000
PATH = layout.raw_path("binance", "spot", "trade", T, "box1", 1)


@pytest.fixture(name="tmp_path")
def _quick():
    with quick_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def _no_fault_stays():
    yield
    durable.inject(None)


def trades(first: int, count: int) -> list[Trade]:
    return [
        Trade("BTCUSDT", "btcusdt@trade", T + n, None, T + n, "box1-1-1", n, 0, "ws", "64000.10", "0.001", "buy", n,
              "market")
        for n in range(first, first + count)
    ]  # fmt: skip


def open_row(path: str = PATH) -> SegmentRow:
    return SegmentRow(
        path=path, exchange="binance", market_type="spot", kind="trade", state="open", period_start=T + 123
    )


def fill(file: SegmentFile, first: int, count: int) -> bytes:
    events = trades(first, count)
    data = segments.encode_lines(events)
    file.append(data, len(events), segments.extent(events))
    return data


def ids(root: Path, path: str = PATH) -> list[int]:
    return [event.seq for event in segments.read_lines("trade", (root / path).read_bytes())]


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_segment_is_open_until_it_is_sealed_and_then_says_what_it_holds(tmp_path: Path) -> None:
    file = SegmentFile(tmp_path, open_row())
    data = fill(file, 1, 10)
    assert (file.size, file.synced, file.rows) == (len(data), 0, 10)
    file.sync()
    assert file.synced == len(data)
    data += fill(file, 11, 5)
    assert list(tree(tmp_path)) == [PATH + ".open"]
    row = file.seal(T + 60_000_000)
    assert tree(tmp_path)[PATH] == data
    assert (row.state, row.rows, row.bytes, row.clean) == ("sealed", 15, len(data), True)
    assert (row.period_start, row.period_end) == (T + 123, T + 60_000_000)
    assert (row.recv_min, row.recv_max, row.event_min, row.event_max) == (T + 1, T + 15, T + 1, T + 15)
    assert row.sha256 == hashlib.sha256(data).hexdigest() == sha256_of(tmp_path / PATH)
    assert read_seal(tmp_path, PATH) == row
    assert set(tree(tmp_path)) == {PATH, PATH + ".meta.json"}


def test_silence_costs_no_file_and_still_has_a_row(tmp_path: Path) -> None:
    file = SegmentFile(tmp_path, open_row())
    file.sync()
    assert (file.size, file.synced, file.failed) == (0, 0, False)
    row = file.seal(T + 60_000_000)
    assert (row.state, row.rows, row.bytes, row.sha256, row.period_end) == ("sealed", 0, 0, "", T + 60_000_000)
    assert tree(tmp_path) == {}


def test_the_seal_is_durable_before_the_file_loses_its_open_name(tmp_path: Path) -> None:
    file = SegmentFile(tmp_path, open_row())
    fill(file, 1, 1)
    with durable.observe((ops := []).append):
        file.seal(T + 1)
    steps = [(op.name, Path(op.target or op.path).name) for op in ops]
    meta = steps.index(("rename", Path(PATH).name + ".meta.json"))
    assert ("sync", Path(PATH).name + ".open") in steps[:meta]
    assert steps[meta + 1][0] == "fsync_dir"
    assert steps[meta + 2] == ("rename", Path(PATH).name)
    assert steps[meta + 3][0] == "fsync_dir"


def test_a_full_disk_while_appending_leaves_whole_lines_and_the_append_can_be_repeated(tmp_path: Path) -> None:
    file = SegmentFile(tmp_path, open_row())
    fill(file, 1, 3)
    durable.inject(durable.Fault("write", 1, "SHORT"))
    with pytest.raises(StorageFailed):
        fill(file, 4, 3)
    fill(file, 4, 3)
    row = file.seal(T + 1)
    assert ids(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert row.sha256 == sha256_of(tmp_path / PATH)


@pytest.mark.parametrize("step", ["rename", "create", "write", "fsync_dir"])
def test_a_seal_that_failed_can_be_tried_again(tmp_path: Path, step: str) -> None:
    file = SegmentFile(tmp_path, open_row())
    fill(file, 1, 3)
    file.sync()
    durable.inject(durable.Fault(step, 1, "ENOSPC"))
    with pytest.raises(StorageFailed):
        file.seal(T + 1)
    row = file.seal(T + 1)
    assert read_seal(tmp_path, PATH) == row
    assert set(tree(tmp_path)) == {PATH, PATH + ".meta.json"}


def test_after_a_failed_sync_the_file_is_left_to_recovery_which_keeps_what_was_durable(tmp_path: Path) -> None:
    file = SegmentFile(tmp_path, open_row())
    fill(file, 1, 3)
    file.sync()
    fill(file, 4, 3)
    durable.inject(durable.Fault("sync", 1, "EIO"))
    assert not file.failed
    for attempt in (file.sync, file.sync, lambda: file.seal(T + 1)):
        with pytest.raises(StorageFailed):
            attempt()
        assert file.failed
    file.close()
    file.sync()  # what is closed is as durable as it will be
    durable.inject(None)
    row, quarantined = recover_segment(tmp_path, PATH, T, keep=file.synced)
    assert row is not None
    assert (row.rows, row.clean, quarantined) == (3, False, [])
    assert ids(tmp_path) == [1, 2, 3]


def test_a_segment_of_which_not_even_the_first_line_was_written_leaves_no_file(tmp_path: Path) -> None:
    file = SegmentFile(tmp_path, open_row())
    durable.inject(durable.Fault("write", 1, "ENOSPC"))
    with pytest.raises(StorageFailed):
        fill(file, 1, 3)
    assert list(tree(tmp_path)) == [PATH + ".open"]
    assert file.seal(T + 60).rows == 0
    assert tree(tmp_path) == {}


def test_a_file_that_is_there_already_is_for_recovery_and_not_written_to(tmp_path: Path) -> None:
    leave_open(tmp_path, b"of another")
    with pytest.raises(StorageFailed, match="is there already"):
        fill(SegmentFile(tmp_path, open_row()), 1, 3)
    assert tree(tmp_path) == {PATH + ".open": b"of another"}


def leave_open(root: Path, data: bytes, path: str = PATH) -> None:
    place = root / (path + layout.OPEN)
    place.parent.mkdir(parents=True)
    place.write_bytes(data)


def test_a_tail_torn_at_any_byte_is_set_aside_and_cut(tmp_path: Path) -> None:
    good, last = segments.encode_lines(trades(1, 2)), segments.encode_lines(trades(3, 1))
    for cut in range(len(last)):
        root = tmp_path / str(cut)
        leave_open(root, good + last[:cut])
        row, quarantined = recover_segment(root, PATH + layout.OPEN, T + 99)
        assert row is not None
        assert (row.rows, row.bytes, row.clean, row.state) == (2, len(good), False, "sealed")
        assert (row.period_start, row.period_end) == (T, T + 3)
        assert (root / PATH).read_bytes() == good
        assert [(q.bytes, q.count, q.origin, q.at) for q in quarantined] == ([(cut, 1, PATH, T + 99)] if cut else [])
        assert all((root / q.path).read_bytes() == last[:cut] for q in quarantined)
        before = tree(root)
        assert recover_segment(root, PATH, T + 99) == (row, quarantined)
        assert tree(root) == before


def test_a_bad_line_before_good_ones_is_not_cut(tmp_path: Path) -> None:
    data = segments.encode_lines(trades(1, 1)) + b"\0\0\0\n" + segments.encode_lines(trades(2, 1))
    leave_open(tmp_path, data + b"\0" * 512)
    row, quarantined = recover_segment(tmp_path, PATH, T)
    assert row is not None
    assert (tmp_path / PATH).read_bytes() == data
    assert row.rows == 3
    assert [q.bytes for q in quarantined] == [512]


@pytest.mark.parametrize("data", [b"", b"\n", b"{torn", b"\0" * 100])
def test_a_file_without_a_good_line_goes_away_but_not_its_bytes(tmp_path: Path, data: bytes) -> None:
    leave_open(tmp_path, data)
    row, quarantined = recover_segment(tmp_path, PATH, T)
    assert row is None
    assert set(tree(tmp_path)) == {q.path for q in quarantined}
    assert b"".join((tmp_path / q.path).read_bytes() for q in quarantined) == data
    assert recover_segment(tmp_path, PATH, T) == (None, quarantined)


def test_nothing_to_recover_is_nothing(tmp_path: Path) -> None:
    assert recover_segment(tmp_path, PATH, T) == (None, [])
    assert read_seal(tmp_path, PATH) is None


def sealed(root: Path) -> SegmentRow:
    file = SegmentFile(root, open_row())
    fill(file, 1, 5)
    return file.seal(T + 60)


def test_a_segment_that_was_sealed_but_not_renamed_is_what_its_seal_says(tmp_path: Path) -> None:
    row = sealed(tmp_path)
    (tmp_path / PATH).rename(tmp_path / (PATH + layout.OPEN))
    assert recover_segment(tmp_path, PATH, T).row == row
    assert row.clean
    assert (tmp_path / PATH).exists()


def test_a_segment_that_went_on_behind_its_seal_is_read_and_sealed_anew_as_unclean(tmp_path: Path) -> None:
    row = sealed(tmp_path)
    (tmp_path / PATH).rename(tmp_path / (PATH + layout.OPEN))
    with (tmp_path / (PATH + layout.OPEN)).open("ab") as file:
        file.write(segments.encode_lines(trades(6, 2)))
    again = recover_segment(tmp_path, PATH, T).row
    assert again is not None
    assert (again.rows, again.clean, again.sha256 != row.sha256) == (7, False, True)
    assert ids(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
    assert read_seal(tmp_path, PATH) == again


def test_a_sealed_segment_that_changed_is_corrupt_and_left_alone(tmp_path: Path) -> None:
    sealed(tmp_path)
    data = bytearray((tmp_path / PATH).read_bytes())
    data[10] ^= 1
    (tmp_path / PATH).write_bytes(data)
    with pytest.raises(CorruptSegment, match="not what its seal says"):
        recover_segment(tmp_path, PATH, T)
    assert (tmp_path / PATH).read_bytes() == data


def test_a_segment_without_a_readable_seal_is_sealed_anew_as_unclean(tmp_path: Path) -> None:
    row = sealed(tmp_path)
    (tmp_path / layout.meta_path(PATH)).write_bytes(b"{")
    again = recover_segment(tmp_path, PATH, T).row
    assert again is not None
    assert (again.sha256, again.rows, again.clean) == (row.sha256, row.rows, False)
    assert read_seal(tmp_path, PATH) == again


def test_the_seal_of_another_file_and_a_newer_one_are_refused(tmp_path: Path) -> None:
    sealed(tmp_path)
    other = layout.raw_path("binance", "spot", "trade", T, "box1", 2)
    seal = (tmp_path / layout.meta_path(PATH)).read_bytes()
    (tmp_path / layout.meta_path(other)).write_bytes(seal)
    with pytest.raises(CorruptSegment, match="moved by hand"):
        read_seal(tmp_path, other)
    (tmp_path / layout.meta_path(PATH)).write_bytes(seal.replace(b'"version": 1', b'"version": 9'))
    with pytest.raises(UnknownVersion):
        recover_segment(tmp_path, PATH, T)


def test_a_second_open_file_beside_a_sealed_one_is_set_aside(tmp_path: Path) -> None:
    row = sealed(tmp_path)
    (tmp_path / (PATH + layout.OPEN)).write_bytes(b"whatever")
    again, quarantined = recover_segment(tmp_path, PATH, T)
    assert again == row
    assert [(tmp_path / q.path).read_bytes() for q in quarantined] == [b"whatever"]


def work(root: Path) -> None:
    """Write, sync and seal; the note says what was durable. Not through `durable`: it is no step of the work."""
    file = SegmentFile(root, open_row())
    for batch in range(3):
        fill(file, 1 + batch * 4, 4)
        if batch < 2:
            file.sync()
            (root / "durable").write_text(str(4 * (batch + 1)))
    file.seal(T + 60)
    (root / "durable").write_text("12")


@needs_fork
def test_killed_at_any_step_nothing_durable_is_lost_and_nothing_torn_is_left(tmp_path: Path) -> None:
    steps = 0
    for step, root in at_each_step(tmp_path, work, ("KILL", "KILL_AFTER", "TORN")):
        steps += 1
        note = root / "durable"
        promised = int(note.read_text()) if note.exists() else 0
        note.unlink(missing_ok=True)
        durable.sweep_temps(root)
        row, quarantined = recover_segment(root, PATH, T)
        held = ids(root) if row else []
        assert held == list(range(1, len(held) + 1)), step
        assert len(held) >= promised, step
        assert (row.rows if row else 0) == len(held), step
        assert not list(root.rglob("*.open")), step
        before = tree(root)
        assert recover_segment(root, PATH, T) == (row, quarantined), step
        assert tree(root) == before, step
    assert steps > 30


def test_failing_at_any_step_nothing_durable_is_lost_and_nothing_torn_is_left(tmp_path: Path) -> None:
    for step, root in failing_at_each_step(tmp_path, work):
        note = root / "durable"
        promised = int(note.read_text()) if note.exists() else 0
        note.unlink(missing_ok=True)
        assert not list(root.rglob("*.tmp")), step
        row, _ = recover_segment(root, PATH, T)
        held = ids(root) if row else []
        assert held == list(range(1, len(held) + 1)), step
        assert len(held) >= promised, step
        assert not list(root.rglob("*.open")), step


@needs_fork
def test_a_file_that_may_not_grow_holds_whole_lines(tmp_path: Path) -> None:
    import resource

    def grow() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        file = SegmentFile(tmp_path, open_row())
        fill(file, 1, 2)
        with pytest.raises(StorageFailed):
            fill(file, 3, 10)
        file.sync()
        place = tmp_path / (PATH + layout.OPEN)
        assert file.rows > 0
        assert segments.good_length(place.read_bytes(), "trade") == place.stat().st_size == file.size

    assert run_until(grow, NEVER) == 0


@needs_fork
def test_recovery_killed_at_any_step_and_done_again_gives_the_same(tmp_path: Path) -> None:
    data = segments.encode_lines(trades(1, 3)) + b'{"torn'
    expected = tmp_path / "expected"
    leave_open(expected, data)
    result = recover_segment(expected, PATH, T)
    for step, root in at_each_step(
        tmp_path,
        lambda root: recover_segment(root, PATH, T),
        ("KILL", "KILL_AFTER", "TORN"),
        lambda root: leave_open(root, data),
    ):
        durable.sweep_temps(root)
        assert recover_segment(root, PATH, T) == result, step
        assert tree(root) == tree(expected), step
