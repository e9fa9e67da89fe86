"""Frames of a market as they were received: all files of a span, in the order of their receive times.

A file is opened when its time comes, and read as it is asked for. Connections are written one after the other within a
pass, so lines wait for what was received before them; how long, and in how many bytes, has an end. Who follows each
connection's frames by their numbers takes whole files, in the order in which they were written.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lake import layout
from lake.frames import FrameLine, read_frames
from lake.rows import FRAMES, SegmentRow
from lake.segment_files import place_of
from market.errors import Malformed
from market.times import DAY, SECOND, Interval

REORDER = 2 * SECOND
"""How far behind a line, in receive time, another of its file may still come."""
MOST_HELD = 32 * 1024 * 1024
"""Bytes of lines that wait at most."""
TWIN = 10 * SECOND
"""How far apart two connections of one stream bring the same frame, at most."""


def files(segments: Iterable[SegmentRow], span: Interval) -> list[SegmentRow]:
    """Of all segments the frames files that may hold lines of the span, oldest first."""
    return sorted(
        (
            row
            for row in segments
            if row.kind == FRAMES
            and row.state not in ("deleting", "deleted", "quarantined")
            and row.period_start < span.end
            and (row.period_end is None or row.period_end > span.start)
        ),
        key=lambda row: (row.period_start, row.path),
    )


def lines(root: Path, rows: Iterable[SegmentRow], span: Interval) -> Iterator[FrameLine]:
    """Lines received in the span, by receive time. Raises Malformed for what is no frames file at all."""
    held: list[tuple[int, int, FrameLine]] = []
    size = number = 0
    newest = span.start
    for line in _merged(root, rows):
        if not span.start <= line.ts_recv < span.end:
            continue
        number += 1
        size += len(line.frame or "")
        newest = max(newest, line.ts_recv)
        heapq.heappush(held, (line.ts_recv, number, line))
        while held and (held[0][0] < newest - REORDER or size > MOST_HELD):
            first = heapq.heappop(held)[2]
            size -= len(first.frame or "")
            yield first
    while held:
        yield heapq.heappop(held)[2]


def _merged(root: Path, rows: Iterable[SegmentRow]) -> Iterator[FrameLine]:
    """Files side by side where their periods overlap."""
    waiting = deque(rows)
    reading: list[tuple[int, int, FrameLine, Iterator[FrameLine]]] = []
    number = 0
    while waiting or reading:
        if waiting and (not reading or waiting[0].period_start <= reading[0][0]):
            source = _read(root, waiting.popleft())
        else:
            _, _, line, source = heapq.heappop(reading)
            yield line
        following = next(source, None)
        if following is not None:
            number += 1
            heapq.heappush(reading, (following.ts_recv, number, following, source))


def _read(root: Path, row: SegmentRow) -> Iterator[FrameLine]:
    place = place_of(root, row.path)
    if place is not None:  # retention may have been here
        yield from read_frames(place)


class Twins:
    """Frames that a second connection of the same stream brought too: only the first of them is given out."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}
        self._order: deque[tuple[int, bytes]] = deque()

    def again(self, line: FrameLine) -> bool:
        """Whether another connection brought this very frame a moment ago."""
        while self._order and self._order[0][0] < line.ts_recv - TWIN:
            self._seen.pop(self._order.popleft()[1], None)
        key = hashlib.blake2b((line.frame or "").encode(), digest_size=16).digest()
        first = self._seen.setdefault(key, line.conn)
        if first == line.conn:
            self._order.append((line.ts_recv, key))
        return first != line.conn


def as_written(files: Iterable[tuple[int, Path]]) -> list[Path]:
    """Files by the times (us) at which they begin; where the clock was set back, those that hold frames of one
    connection in the order in which they were written, as their names tell.
    """
    places = sorted(files)
    numbers = [layout.frames_number(path.name) for _, path in places]
    before: dict[int, list[int]] = {}
    """Place -> those of files that may have been written before it though they begin later."""
    newest: dict[str, int] = {}
    for place, written in enumerate(numbers):
        if written is None:
            continue
        node, number = written
        if number < newest.get(node, 0):
            for other in range(place - 1, -1, -1):
                if places[other][0] < places[place][0] - DAY:
                    break
                theirs = numbers[other]
                if theirs is not None and theirs[0] == node and theirs[1] > number:
                    before.setdefault(other, []).append(place)
        newest[node] = max(number, newest.get(node, 0))
    return [places[place][1] for place in _placed([path for _, path in places], numbers, before)]


def _placed(
    paths: Sequence[Path], numbers: Sequence[tuple[str, int] | None], before: Mapping[int, Sequence[int]]
) -> Iterator[int]:
    """All places, those that share a connection behind the ones written `before` them."""
    inside: dict[int, frozenset[str]] = {}

    def connections(place: int) -> frozenset[str]:
        if place not in inside:
            inside[place] = _connections(paths[place])
        return inside[place]

    given: set[int] = set()
    for place in range(len(paths)):
        waiting = [place]
        while waiting:
            first = waiting[-1]
            sooner = [
                one for one in before.get(first, ()) if one not in given and connections(one) & connections(first)
            ]
            if sooner:
                waiting.append(min(sooner, key=lambda one: numbers[one] or ("", 0)))
                continue
            waiting.pop()
            if first not in given:
                given.add(first)
                yield first


def _connections(path: Path) -> frozenset[str]:
    """Those with lines in a file, if only its end; what cannot be read is for others to say."""
    try:
        return frozenset(line.conn for line in read_frames(path))
    except (OSError, Malformed):
        return frozenset()
