"""Frames files in the order in which they were written, whatever the clock said meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.frame_order import as_written
from lake.frames import FrameLine, encode_frame_lines
from market.times import DAY, MINUTE

T0 = 1_771_600_000_000_000


@pytest.fixture
def made(tmp_path: Path):
    def make(
        number: int, minute: float, *conns: str, node: str = "box", name: str = "", what: str = "recv"
    ) -> tuple[int, Path]:
        at = T0 + int(minute * MINUTE)
        path = tmp_path / (name or f"120000-{node}-{number:06d}.frames.jsonl.zst")
        lines = [FrameLine(ts_recv=at, conn=conn, dir=what, n=number, frame="x") for conn in conns]
        path.write_bytes(encode_frame_lines(lines))
        return at, path

    return make


def places(files: list[tuple[int, Path]]) -> list[int]:
    order = [path for _, path in files]
    return [order.index(path) for path in as_written(reversed(files))]


def test_files_are_read_by_the_times_at_which_they_begin(made):
    files = [made(1, 0, "a"), made(2, 10, "a"), made(3, 20, "b"), made(12, 30, "b"), made(100_000_000, 40, "b")]
    assert places(files) == [0, 1, 2, 3, 4]


def test_what_was_written_before_the_clock_was_set_back_goes_first(made):
    files = [made(1, 0, "a"), made(2, 70, "a"), made(3, 75, "a"), made(4, 11, "a"), made(5, 72, "a"), made(6, 90, "a")]
    assert places(files) == [0, 1, 2, 3, 4, 5]


def test_what_only_ends_a_connection_comes_behind_its_frames(made):
    files = [made(1, 0, "a"), made(2, 70, "a"), made(3, 11, "a", what="close"), made(4, 90, "b")]
    assert places(files) == [0, 1, 2, 3]


def test_only_where_they_share_a_connection(made):
    live = [made(1, 0, "a"), made(2, 10, "a"), made(3, 20, "a")]
    taken_in_later = [made(4, 5, "other"), made(5, 15, "other")]
    assert places([live[0], taken_in_later[0], live[1], taken_in_later[1], live[2]]) == [0, 1, 2, 3, 4]
    assert places([made(7, 0, "a", "b"), made(6, 10, "b"), made(5, 20, "c")]) == [1, 0, 2]


def test_numbers_of_two_nodes_and_of_other_days_say_nothing(made):
    assert places([made(9, 0, "a"), made(3, 10, "a", node="cellar")]) == [0, 1]
    assert places([made(9, 0, "a"), made(3, 2 * DAY / MINUTE, "a")]) == [0, 1]


def test_other_names_and_what_cannot_be_read_go_by_time(made, tmp_path):
    foreign = [made(9, 0, "a", name="first.jsonl"), made(3, 10, "a", name="second.jsonl")]
    assert places(foreign) == [0, 1]
    broken = tmp_path / "120000-box-000004.frames.jsonl.zst"
    broken.write_bytes(b"\x28\xb5\x2f\xfd not zstd")
    gone = tmp_path / "120000-box-000002.frames.jsonl.zst"
    files = [made(5, 0, "a"), (T0 + MINUTE, broken), (T0 + 2 * MINUTE, gone)]
    assert places(files) == [0, 1, 2]
