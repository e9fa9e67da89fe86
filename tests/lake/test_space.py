"""Levels of a disk: pure, with hysteresis; the ballast; what the system refuses, by sort."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import durable
from lake.ballast import Ballast, make_room
from lake.durable import Fault
from lake.errors import StorageFailed
from lake.refused import no_space, of_one_place, sort_of
from lake.space import SLACK, Level, Limits, Room, Space, judge

MB = 1024 * 1024
LIMITS = Limits(low=2048 * MB, critical=512 * MB, full=32 * MB, low_share=0.1, ballast=64 * MB)
GROUPS = 5


def look(free: int, before: Space | None = None, *, total: int = 10_000, held: int = 64) -> Space:
    return judge(Room(free * MB, total * MB), LIMITS, GROUPS, held=held * MB, before=before or Space())


@pytest.mark.parametrize(
    "free,level",
    [(5000, "ok"), (2048, "ok"), (2047, "low"), (512, "low"), (511, "critical"), (32, "critical"), (31, "full")],
)
def test_a_level_is_entered_below_its_threshold(free: int, level: str) -> None:
    assert look(free).level.name == level


def test_a_large_disk_is_low_at_a_tenth() -> None:
    assert look(9_999, total=100_000).level is Level.low
    assert look(10_000, total=100_000).level is Level.ok


def test_a_level_is_left_only_with_a_quarter_more_than_its_threshold() -> None:
    low = look(2000)
    assert look(2100, low).level is Level.low
    assert look(2560, low).level is Level.ok
    full = look(10)
    assert look(39, full).level is Level.full
    assert look(40, full).level is Level.critical
    assert look(5000, full).level is Level.ok


def test_kinds_stop_one_group_after_the_other_and_come_back_later() -> None:
    found = [look(free).stopped for free in (600, 511, 400, 300, 200, 100, 33, 10)]
    assert found == [0, 1, 2, 3, 4, 5, 5, 5]
    held = look(400)
    assert look(420, held).stopped == 2
    assert look(530, held).stopped == 1
    assert look(700, held).stopped == 0


def test_room_that_the_ballast_should_hold_is_not_free() -> None:
    assert look(90, held=0).level is Level.full
    assert look(90, held=64).level is Level.critical


@given(st.lists(st.integers(0, 6_000), min_size=1, max_size=30))
def test_levels_never_lag_behind_and_never_flap(frees: list[int]) -> None:
    now = Space()
    for free in frees:
        fresh, then = look(free), look(free, now)
        assert then.level >= fresh.level
        assert then.stopped >= fresh.stopped
        assert look(free, then) == then, "the same room again changes nothing"
        if then.level > fresh.level:
            assert free < SLACK * 2048
            assert now.level >= then.level
        now = then


def test_the_ballast_takes_room_and_gives_it_back(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, MB)
    assert ballast.held == 0
    assert not ballast.release()
    assert ballast.reserve(0)
    assert ballast.held == MB
    assert (tmp_path / ".ballast").stat().st_blocks * 512 >= MB
    assert ballast.reserve(0), "it is there already"
    assert Ballast(tmp_path, 2 * MB).reserve(0), "of another size: made anew"
    assert ballast.release()
    assert ballast.held == 0
    assert Ballast(tmp_path, 0).reserve(0), "none is wanted, none is there"


def test_the_ballast_is_not_set_aside_where_that_would_leave_too_little(tmp_path: Path) -> None:
    free = durable.room(tmp_path).free
    assert not Ballast(tmp_path, MB).reserve(2 * free)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["ENOSPC", "EROFS", "EIO"])
def test_a_ballast_that_the_system_refuses_is_waited_for(tmp_path: Path, kind: str) -> None:
    fault = Fault("write", 1, kind)  # type: ignore[arg-type]
    durable.inject(fault)
    try:
        assert not Ballast(tmp_path, MB).reserve(0)
    finally:
        durable.inject(None)
    assert fault.struck
    assert list(tmp_path.iterdir()) == []
    ballast = Ballast(tmp_path, MB)
    assert ballast.reserve(0)
    durable.inject(Fault("unlink", 1, "EROFS"))
    try:
        assert not ballast.release()
    finally:
        durable.inject(None)
    assert ballast.held == MB


def test_a_start_makes_room_only_where_there_is_none(tmp_path: Path) -> None:
    Ballast(tmp_path, MB).reserve(0)
    assert not make_room(tmp_path, 1)
    assert make_room(tmp_path, durable.room(tmp_path).free + 10 * MB)
    assert not make_room(tmp_path, durable.room(tmp_path).free + 10 * MB)
    with pytest.raises(FileNotFoundError):
        make_room(tmp_path / "nowhere", 1)


@pytest.mark.parametrize(
    "number,sort",
    [
        (errno.ENOSPC, "disk_full"), (errno.EDQUOT, "disk_full"), (errno.EFBIG, "disk_full"),
        (errno.EROFS, "read_only"), (errno.EACCES, "read_only"), (errno.EIO, "storage_failed"),
        (errno.EMFILE, "storage_failed"), (None, "storage_failed"),
    ],
)  # fmt: skip
def test_what_is_refused_has_a_sort_in_another_process_too(number: int | None, sort: str) -> None:
    error = StorageFailed("x failed", "hint")
    error.errno = number
    for same in (error, pickle.loads(pickle.dumps(error))):
        assert sort_of(same) == sort
        assert no_space(same) == (number in (errno.ENOSPC, errno.EDQUOT))
        assert of_one_place(same) == (number == errno.EACCES)
        assert same.message == "x failed"
    assert sort_of(OSError(number or 0, "x")) == sort
    assert sort_of(ValueError()) == "storage_failed"
