"""Space: how full a disk is, as levels with hysteresis, and how many sorts of data stop before it is full.

Pure. A level is entered as soon as there is less room than its threshold, and left only once there is a quarter more
than that, so that a disk that hovers at a threshold does not switch back and forth. Room that the ballast ought to
hold is not free: while it is released, what is written lives on the reserve.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec

SLACK = 1.25
"""Times a threshold must be free before its level is left."""


class Room(NamedTuple):
    """Bytes of a file system: what an ordinary user may still write, and all that it has for them."""

    free: int
    total: int


class Level(IntEnum):
    """How little room there is."""

    ok = 0
    low = 1
    critical = 2
    full = 3


class Limits(msgspec.Struct, frozen=True):
    """Thresholds in bytes: `full` <= `critical` <= `low`. Below `low_share` of the whole it is low as well."""

    low: int
    critical: int
    full: int
    low_share: float = 0.0
    ballast: int = 0
    """Bytes that are to be set aside."""


class Space(msgspec.Struct, frozen=True):
    """A disk as it was found. `stopped` counts the groups of kinds, least dear first, that it has no room for."""

    level: Level = Level.ok
    stopped: int = 0
    available: int = 0
    """Bytes that may be written before the reserve is touched."""
    free: int = 0
    total: int = 0


def judge(room: Room, limits: Limits, groups: int, *, held: int, before: Space, refused: bool = False) -> Space:
    """The state after `before`. `held` bytes of the ballast are set aside, `groups` kinds may be stopped one by one.

    `refused`: the system has just said that there is no room, whatever is free (a quota).
    """
    available = max(0, room.free - max(0, limits.ballast - held))
    level = Level.full if refused else _level(available, room.total, limits)
    if level < before.level:
        level = min(before.level, _level(int(available / SLACK), room.total, limits))
    stopped = _stopped(available, limits, groups)
    if stopped < before.stopped:
        stopped = min(before.stopped, _stopped(int(available / SLACK), limits, groups))
    return Space(level, groups if level is Level.full else stopped, available, room.free, room.total)


def _level(available: int, total: int, limits: Limits) -> Level:
    if available < limits.full:
        return Level.full
    if available < limits.critical:
        return Level.critical
    return Level.low if available < max(limits.low, limits.low_share * total) else Level.ok


def _stopped(available: int, limits: Limits, groups: int) -> int:
    """One at the upper end of what is critical, all of them at its lower end, the others evenly between."""
    if available >= limits.critical:
        return 0
    part = (limits.critical - available) / max(1, limits.critical - limits.full)
    return min(groups, 1 + int(part * groups))
