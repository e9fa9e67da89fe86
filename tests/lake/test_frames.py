"""Frames: verbatim both ways, readable while written, recovered to the last line that was whole."""

import base64
import errno
import json
import os
import random
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lake import durable, frames, layout
from lake.errors import CorruptSegment, StorageFailed
from lake.frames import FrameLine, FramesFile, encode_frame_lines, encode_received, read_frames, recover_frames
from lake.rows import FRAMES, SegmentRow
from lake.segment_files import read_seal, sha256_of
from lake.segments import Extent, encode_lines
from market.errors import Malformed
from tests.support.crash import at_each_step, failing_at_each_step, needs_fork, quick_folder

T = 1_795_182_300_000_000
PATH = layout.frames_path("binance", "spot", T, "box1", 1)
CONN = "box1-1795182300000000-1"


@pytest.fixture(name="tmp_path")
def _quick():
    with quick_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def _no_fault_stays():
    yield
    durable.inject(None)


def open_row(path: str = PATH) -> SegmentRow:
    return SegmentRow(
        path=path, exchange="binance", market_type="spot", kind=FRAMES, state="open", period_start=T + 123
    )


def received(first: int, count: int) -> bytes:
    bodies = [b'{"e":"trade","t":%d,"p":"64000.%02d"}' % (n, n % 100) for n in range(first, first + count)]
    return encode_received(CONN, [T + first] * len(bodies), first, bodies)


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def numbers(place: Path) -> list[int]:
    return [line.n for line in read_frames(place)]


@given(st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode)), max_size=6))
def test_every_byte_of_a_frame_comes_back(bodies: list[bytes]) -> None:
    data = encode_received(CONN, [T] * len(bodies), 7, bodies)
    assert data.count(b"\n") == len(bodies)
    lines = [json.loads(line) for line in data.splitlines()]
    for n, (line, body) in enumerate(zip(lines, bodies, strict=True), start=7):
        back = line["frame"].encode() if "frame" in line else base64.b64decode(line["frame_b64"])
        assert back == body
        assert (line["ts_recv"], line["conn"], line["dir"], line["n"]) == (T, CONN, "recv", n)


def test_text_stays_text_and_only_what_is_none_is_base64() -> None:
    assert received(1, 1) == (
        b'{"ts_recv":1795182300000001,"conn":"box1-1795182300000000-1","dir":"recv","n":1,'
        b'"frame":"{\\"e\\":\\"trade\\",\\"t\\":1,\\"p\\":\\"64000.01\\"}"}\n'
    )
    assert encode_received(CONN, [T], 1, [b"\xff"]).endswith(b'"n":1,"frame_b64":"/w=="}\n')
    assert frames.payload(b"\xff") == {"frame_b64": "/w=="}
    assert frames.payload("€".encode()) == {"frame": "€"}


def test_other_lines_say_what_was_opened_sent_asked_and_closed(tmp_path: Path) -> None:
    lines = [
        FrameLine(ts_recv=T, conn=CONN, dir="open", url="wss://example/ws"),
        FrameLine(ts_recv=T, conn=CONN, dir="send", frame='{"method":"SUBSCRIBE"}'),
        FrameLine(ts_recv=T + 1, conn=CONN, dir="http", n=1, frame="<html>", method="GET", url="https://example/x",
                  status=429, tag="info", headers={"Retry-After": "5"}),
        FrameLine(ts_recv=T + 2, conn=CONN, dir="close", n=1, code=1006, reason="cut"),
    ]  # fmt: skip
    (tmp_path / "f").write_bytes(encode_frame_lines(lines))
    assert list(read_frames(tmp_path / "f")) == lines
    assert [line.data for line in lines] == [b"", b'{"method":"SUBSCRIBE"}', b"<html>", b""]
    with pytest.raises(Malformed):
        _ = FrameLine(ts_recv=T, conn=CONN, dir="recv", frame_b64="!").data


def test_plain_and_compressed_files_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    text = received(1, 50)
    one, two = zstandard.compress(text[: len(text) // 2]), zstandard.compress(text[len(text) // 2 :])
    skippable = b"\x50\x2a\x4d\x18\x02\0\0\0ab"
    for name, data in (("plain", text), ("zstd", zstandard.compress(text)), ("many", one + skippable + two),
                       ("skip", skippable + one + two)):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        reader = read_frames(tmp_path / name)
        assert [line.n for line in reader] == list(range(1, 51)), name
        assert (reader.damage, reader.finished) == ([], True), name


def test_an_import_without_numbers_is_counted_per_connection(tmp_path: Path) -> None:
    places = [("a", "recv"), ("b", "recv"), ("a", "send"), ("a", "http")]
    lines = [{"ts_recv": T, "conn": conn, "dir": direction, "frame": "x"} for conn, direction in places]
    (tmp_path / "f").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(line.conn, line.n) for line in read_frames(tmp_path / "f")] == [("a", 1), ("b", 1), ("a", 1), ("a", 2)]


def test_bad_lines_are_told_and_the_others_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(received(1, 1) + b'garbage\n{"ts_recv":"x"}\n\xff\n' + received(2, 1) + b'{"ts_recv')
    reader = read_frames(tmp_path / "f")
    assert [line.n for line in reader] == [1, 2]
    assert [(bad.number, bad.line, bad.torn) for bad in reader.damage] == [
        (2, b"garbage", False), (3, b'{"ts_recv":"x"}', False), (4, b"\xff", False), (6, b'{"ts_recv', True),
    ]  # fmt: skip


def test_a_file_of_nothing_but_rubbish_is_counted_in_bounded_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(frames, "MAX_DAMAGE", 3)
    (tmp_path / "f").write_bytes(b"rubbish\n" * 10)
    reader = read_frames(tmp_path / "f")
    assert list(reader) == []
    assert (len(reader.damage), reader.bad) == (3, 10)


def test_a_compression_bomb_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_LINE", 4 * 1024 * 1024)
    (tmp_path / "f").write_bytes(zstandard.compress(b"0" * (64 * 1024 * 1024)))
    with pytest.raises(Malformed, match="a line of more than"):
        list(read_frames(tmp_path / "f"))


def test_an_empty_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert list(read_frames(tmp_path / "f")) == []
    with pytest.raises(FileNotFoundError):
        list(read_frames(tmp_path / "none"))


def test_what_was_appended_can_be_read_while_the_file_is_open(tmp_path: Path) -> None:
    file = FramesFile(tmp_path, open_row())
    place = tmp_path / (PATH + layout.OPEN)
    for batch in range(3):
        file.append(received(1 + batch * 10, 10), 10, Extent(T + batch, T + batch, None, None))
        assert numbers(place) == list(range(1, 11 + batch * 10))
    reader = read_frames(place)
    list(reader)
    assert (reader.damage, reader.finished) == ([], False)
    file.sync()
    row = file.seal(T + 60)
    assert (row.rows, row.clean, row.kind, row.recv_max) == (30, True, FRAMES, T + 2)
    assert row.sha256 == sha256_of(tmp_path / PATH)
    assert row.bytes == (tmp_path / PATH).stat().st_size
    assert read_seal(tmp_path, PATH) == row
    reader = read_frames(tmp_path / PATH)
    assert [line.n for line in reader] == list(range(1, 31))
    assert reader.finished


def test_silence_costs_no_frames_file(tmp_path: Path) -> None:
    row = FramesFile(tmp_path, open_row()).seal(T + 60)
    assert (row.rows, row.bytes, row.sha256) == (0, 0, "")
    assert tree(tmp_path) == {}


def test_a_failed_append_can_be_repeated_and_the_stream_goes_on(tmp_path: Path) -> None:
    file = FramesFile(tmp_path, open_row())
    for batch in range(3):
        for kind in ("SHORT", "ENOSPC"):
            durable.inject(durable.Fault("write", 1, kind))
            with pytest.raises(StorageFailed):
                file.append(received(1 + batch * 10, 10))
            assert not file.failed
        file.append(received(1 + batch * 10, 10))
        reader = read_frames(tmp_path / (PATH + layout.OPEN))
        assert [line.n for line in reader] == list(range(1, 11 + batch * 10))
        assert reader.damage == []
    durable.inject(durable.Fault("write", 1, "ENOSPC"))
    with pytest.raises(StorageFailed):
        file.seal(T + 60)
    row = file.seal(T + 60)
    assert (row.rows, row.sha256) == (30, sha256_of(tmp_path / PATH))
    reader = read_frames(tmp_path / PATH)
    assert ([line.n for line in reader], reader.finished) == (list(range(1, 31)), True)
    whole = zstandard.ZstdDecompressor().stream_reader((tmp_path / PATH).read_bytes(), read_across_frames=True).read()
    assert whole == received(1, 10) + received(11, 10) + received(21, 10)


def test_a_file_whose_failed_write_cannot_be_undone_is_recovered(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    file = FramesFile(tmp_path, open_row())
    file.append(received(1, 10))
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        durable.inject(durable.Fault("write", 1, "SHORT"))
        with pytest.raises(StorageFailed):
            file.append(received(11, 10))
    assert file.failed
    for attempt in (lambda: file.append(received(11, 10)), lambda: file.seal(T)):
        with pytest.raises(StorageFailed):
            attempt()
    file.close()
    row, quarantined = recover_frames(tmp_path, PATH, T)
    assert row is not None
    assert (row.rows, row.clean) == (10, False)
    assert quarantined
    assert numbers(tmp_path / PATH) == list(range(1, 11))


def left_open(root: Path, batches: int = 3) -> bytes:
    file = FramesFile(root, open_row())
    for batch in range(batches):
        file.append(received(1 + batch * 5, 5))
    file.close()
    return (root / (PATH + layout.OPEN)).read_bytes()


def test_a_stream_torn_at_any_byte_keeps_its_whole_passes_and_every_other_byte(tmp_path: Path) -> None:
    whole = left_open(tmp_path / "whole")
    one, two = len(left_open(tmp_path / "one", 1)), len(left_open(tmp_path / "two", 2))
    for cut in range(len(whole) + 1):
        root = tmp_path / str(cut)
        place = root / (PATH + layout.OPEN)
        place.parent.mkdir(parents=True)
        place.write_bytes(whole[:cut])
        row, quarantined = recover_frames(root, PATH + layout.OPEN, T)
        held = numbers(root / PATH) if row else []
        assert held == list(range(1, len(held) + 1))
        assert len(held) >= (15 if cut == len(whole) else 10 if cut >= two else 5 if cut >= one else 0)
        assert (row is None) == (held == [])
        assert row is None or (row.rows == len(held) and not row.clean and read_seal(root, PATH) == row)
        if cut in (0, one, two, len(whole)):
            assert quarantined == []
        else:
            assert quarantined
        assert not list(root.rglob("*.open")) + list(root.rglob("*.tmp"))
        before = tree(root)
        assert recover_frames(root, PATH, T) == (row, quarantined)
        assert tree(root) == before


def test_a_line_torn_between_blocks_goes_to_quarantine_as_text(tmp_path: Path) -> None:
    file = FramesFile(tmp_path, open_row())
    file.append(received(1, 2))
    file.append(b'{"ts_recv":1,"conn')
    file.close()
    row, quarantined = recover_frames(tmp_path, PATH, T)
    assert row is not None
    assert row.rows == 2
    assert [(tmp_path / q.path).read_bytes() for q in quarantined] == [b'{"ts_recv":1,"conn']


def test_a_damaged_block_is_set_aside_with_all_its_file(tmp_path: Path) -> None:
    data = bytearray(left_open(tmp_path))
    data[len(data) // 2] ^= 0x55
    (tmp_path / (PATH + layout.OPEN)).write_bytes(data)
    row, quarantined = recover_frames(tmp_path, PATH, T)
    held = numbers(tmp_path / PATH) if row else []
    assert held == list(range(1, len(held) + 1))
    if len(held) < 15:
        assert any((tmp_path / q.path).read_bytes().endswith(bytes(data[-8:])) for q in quarantined)


def test_a_bad_line_among_good_ones_stays_where_a_large_file_is_written_anew(tmp_path: Path) -> None:
    noise = random.Random(7)
    bodies = [noise.randbytes(3_000) for _ in range(200)]  # more than a zstd block, and not compressible
    good = [encode_received(CONN, [T + n], n, [body]) for n, body in enumerate(bodies, 1)]
    with FramesFile(tmp_path, open_row()) as file:
        file.append(b"".join((*good[:100], b"no line\n", *good[100:])))
        file.sync()
    row, quarantined = recover_frames(tmp_path, PATH, T)
    assert row is not None
    assert (row.rows, row.clean, quarantined) == (201, False, [])
    reader = read_frames(tmp_path / PATH)
    assert [line.data for line in reader] == bodies
    assert [damage.line for damage in reader.damage] == [b"no line"]


def test_a_stream_torn_where_its_next_part_begins_keeps_what_is_in_front(tmp_path: Path) -> None:
    with FramesFile(tmp_path, open_row()) as file:
        file.append(received(1, 3))
        size = file.size
        durable.inject(durable.Fault("write", 1, "ENOSPC"))
        with pytest.raises(StorageFailed):
            file.append(received(4, 2))
        file.append(received(4, 2))  # behind the end of the part in front
    begun = size + len(frames.END_BLOCK)
    place = tmp_path / (PATH + layout.OPEN)
    data = place.read_bytes()
    assert data[begun:].startswith(frames.ZSTD_MAGIC)
    place.write_bytes(data[: begun + 2])
    row, quarantined = recover_frames(tmp_path, PATH, T)
    assert row is not None
    assert (row.rows, numbers(tmp_path / PATH)) == (3, [1, 2, 3])
    assert [(tmp_path / one.path).read_bytes() for one in quarantined] == [frames.ZSTD_MAGIC[:2]]


def test_a_frames_file_of_which_nothing_was_written_leaves_no_file(tmp_path: Path) -> None:
    file = FramesFile(tmp_path, open_row())
    durable.inject(durable.Fault("write", 1, "ENOSPC"))
    with pytest.raises(StorageFailed):
        file.append(received(1, 1))
    assert list(tree(tmp_path)) == [PATH + ".open"]
    assert file.seal(T + 60).rows == 0
    assert tree(tmp_path) == {}


def test_a_sealed_frames_file_that_changed_is_corrupt(tmp_path: Path) -> None:
    file = FramesFile(tmp_path, open_row())
    file.append(received(1, 5))
    row = file.seal(T + 1)
    assert recover_frames(tmp_path, PATH, T) == (row, [])
    with (tmp_path / PATH).open("ab") as more:
        more.write(b"x")
    with pytest.raises(CorruptSegment):
        recover_frames(tmp_path, PATH, T)


def test_what_was_written_again_elsewhere_is_not_kept_twice(tmp_path: Path) -> None:
    file = FramesFile(tmp_path, open_row())
    file.append(received(1, 5))
    file.sync()
    file.append(received(6, 5))
    file.close()
    row, quarantined = recover_frames(tmp_path, PATH, T, keep=file.synced)
    assert quarantined == []
    assert row is not None
    assert numbers(tmp_path / PATH) == [1, 2, 3, 4, 5]


def work(root: Path) -> None:
    file = FramesFile(root, open_row())
    for batch in range(2):
        file.append(received(1 + batch * 5, 5))
        file.sync()
        (root / "durable").write_text(str(5 * (batch + 1)))
    file.seal(T + 60)


@needs_fork
def test_killed_at_any_step_no_durable_frame_is_lost(tmp_path: Path) -> None:
    for step, root in at_each_step(tmp_path, work):
        note = root / "durable"
        promised = int(note.read_text()) if note.exists() else 0
        note.unlink(missing_ok=True)
        durable.sweep_temps(root)
        row, quarantined = recover_frames(root, PATH, T)
        held = numbers(root / PATH) if row else []
        assert held == list(range(1, len(held) + 1)), step
        assert len(held) >= promised, step
        before = tree(root)
        assert recover_frames(root, PATH, T) == (row, quarantined), step
        assert tree(root) == before, step


def test_failing_at_any_step_no_durable_frame_is_lost(tmp_path: Path) -> None:
    for step, root in failing_at_each_step(tmp_path, work, ("EIO", "SHORT")):
        note = root / "durable"
        promised = int(note.read_text()) if note.exists() else 0
        note.unlink(missing_ok=True)
        row, _ = recover_frames(root, PATH, T)
        held = numbers(root / PATH) if row else []
        assert held == list(range(1, len(held) + 1)), step
        assert len(held) >= promised, step


@needs_fork
def test_recovery_killed_at_any_step_and_done_again_gives_the_same(tmp_path: Path) -> None:
    def torn(root: Path) -> None:
        data = left_open(root)
        (root / (PATH + layout.OPEN)).write_bytes(data[:-9])

    expected = tmp_path / "expected"
    torn(expected)
    result = recover_frames(expected, PATH, T)
    for step, root in at_each_step(tmp_path, lambda root: recover_frames(root, PATH, T), ("KILL", "TORN"), torn):
        durable.sweep_temps(root)
        assert recover_frames(root, PATH, T) == result, step
        assert tree(root) == tree(expected), step


@pytest.mark.parametrize("encode", [encode_frame_lines, encode_lines])
@pytest.mark.parametrize("given", [list, tuple])
def test_lines_that_were_encoded_leave_nothing_in_memory(
    encode: Callable[[Sequence[object]], bytes], given: Callable[[list[object]], Sequence[object]]
) -> None:
    """Found by a soak of 105 minutes: each answer over HTTP left 48 bytes in msgspec, tens of MB a day."""
    lines = given([FrameLine(ts_recv=1, conn="n-1-1", dir="send", n=0, frame="{}")])
    tracemalloc.start()
    try:
        encode(lines)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            encode(lines)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held - before < 10_000
