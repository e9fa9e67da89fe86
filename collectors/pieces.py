"""Lines that wait to be written: what is written at once, and which file each belongs into."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from collectors.intake import Lines
from lake.segments import Extent, widen

PIECE = 128 * 1024
"""Bytes written at once, give or take what came together: they are joined, hashed and written while they are in the
processor's caches, and their memory is that of the piece before.
"""


def fitting(waiting: Sequence[Lines], count: int) -> int:
    """How many of the first `count` go into one write: at least one."""
    size = 0
    for done, lines in enumerate(waiting[:count], 1):
        size += len(lines.data)
        if size >= PIECE:
            return done
    return count


def joined(pieces: Sequence[Lines]) -> Lines:
    """All of them as one."""
    if len(pieces) == 1:
        return pieces[0]
    held: Extent | None = None
    for piece in pieces:
        held = widen(held, piece.extent)
    data = b"".join([piece.data for piece in pieces])
    assert held is not None, "there is at least one"
    return Lines(pieces[0].ts_recv, data, sum(piece.rows for piece in pieces), held)


def parted(waiting: Sequence[Lines], end: int) -> tuple[list[Lines], int]:
    """What belongs into the period that ends then in front of what does not, and how many of them do.

    Whoever reads frames again follows each session by their numbers, file by file: behind a clock that was set back
    none of its frames goes into an earlier file than the one before it.
    """
    early: list[Lines] = []
    later: list[Lines] = []
    over = set[str]()
    for item in waiting:
        if item.ts_recv < end and item.conn not in over:
            early.append(item)
        else:
            later.append(item)
            if item.conn:
                over.add(item.conn)
    return early + later, len(early)


def before_step(came: Sequence[int], before: int, now: int) -> int:
    """How many of what was received at these times, in this order, came before the clock was stepped from `before`.

    A step back shows between two that follow each other, however long they have waited since; else they belong to the
    side that they are nearer to.
    """
    jumps = [(later - sooner, place) for place, (sooner, later) in enumerate(pairwise(came), 1)]
    most, place = min(jumps, default=(0, 0))
    if most < min(now - before, 0) // 2:
        return place
    return next((n for n, at in enumerate(came) if abs(at - now) <= abs(at - before)), len(came))
