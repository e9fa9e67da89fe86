"""Which sorted tables need not be merged with each other: what their bounds prove before a row of them is read.

Pure. The parts of a quiet day of one symbol follow each other in time and in id; those that do are taken window by
window, many small ones at once, and only tables whose bounds overlap have to be merged row by row.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec


class Extent(msgspec.Struct, frozen=True):
    """Bounds of a sorted table of one symbol whose rows all have an id.

    `times` and `ids` are the first and last of `ts_event` (us) and of the kind's `seq`, both included; `size` is in
    bytes on disk.
    """

    symbol: str
    rows: int
    size: int
    times: tuple[int, int]
    ids: tuple[int, int]


class Window(msgspec.Struct, frozen=True):
    """Sources (by their place) of which nothing is in another window; `small` where all of them fit in memory."""

    places: tuple[int, ...]
    small: bool


def windows(extents: Sequence[Extent | None], rows: int, size: int) -> list[Window]:
    """The sources in windows: each row of one comes before all rows of the next, and no identity is in two of them.

    `extents` has None where nothing is known. A window of several sources that do not overlap is small: it has at most
    `rows` rows and `size` bytes.
    """
    known = [(place, extent) for place, extent in enumerate(extents) if extent is not None]
    if len(known) < len(extents) or len({extent.symbol for _, extent in known}) > 1:
        return [Window(tuple(range(len(extents))), small=False)]
    found: list[Window] = []
    held: list[tuple[int, Extent]] = []
    for group in _apart(known):
        if held and not _small([*held, *group], rows, size):
            found.append(_window(held, rows, size))
            held = []
        held += group
    return [*found, _window(held, rows, size)] if held else found


def follow(extents: Sequence[Extent]) -> bool:
    """Whether the rows of these tables are in order when they are read one table after the other."""
    return all(
        before.symbol == after.symbol and before.times[1] <= after.times[0] and before.ids[1] < after.ids[0]
        for before, after in itertools.pairwise(extents)
    )


def _apart(known: list[tuple[int, Extent]]) -> list[list[tuple[int, Extent]]]:
    """The smallest groups that follow each other."""
    ordered = sorted(known, key=lambda one: (one[1].times, one[1].ids))
    least = list(itertools.accumulate((extent.ids[0] for _, extent in reversed(ordered)), min))[::-1]
    groups: list[list[tuple[int, Extent]]] = []
    latest = highest = None
    for (place, extent), lowest in zip(ordered, least, strict=True):
        if latest is None or highest is None or latest > extent.times[0] or highest >= lowest:
            groups = groups or [[]]
        else:
            groups.append([])
        groups[-1].append((place, extent))
        latest = extent.times[1] if latest is None else max(latest, extent.times[1])
        highest = extent.ids[1] if highest is None else max(highest, extent.ids[1])
    return groups


def _small(some: Sequence[tuple[int, Extent]], rows: int, size: int) -> bool:
    return sum(extent.rows for _, extent in some) <= rows and sum(extent.size for _, extent in some) <= size


def _window(some: Sequence[tuple[int, Extent]], rows: int, size: int) -> Window:
    return Window(tuple(sorted(place for place, _ in some)), small=_small(some, rows, size))
