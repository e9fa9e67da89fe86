"""The record of clocks and latencies: clocks/<date>-<node>.jsonl, one file a UTC day of receive time and writer.

A line is what one segment tells of latencies (`Latencies`), or what the clocks said at one moment (`ClockLook`). The
manifest does not know these files: a rebuild leaves them as they are. A segment that is transformed again writes its
line again, and counts once. Days that are over are compressed. See docs/format/clocks.md.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import zstandard

from lake import durable, layout
from lake.latency import Minute
from market import times
from market.errors import Malformed
from market.times import DAY, Interval

CHUNK: Final = 1 << 20
TAIL: Final = 512 * 1024
"""Bytes of the newest file that are read for what is newest."""
_CLOCK: Final = b'{"type":"clock"'


class VenueLook(msgspec.Struct, kw_only=True, frozen=True):
    """Our clock less a venue's, by its REST answer at `at`: `offset_us`, wrong by at most half of `round_trip_us`."""

    exchange: str
    market_type: str
    at: int
    offset_us: int
    round_trip_us: int


class ClockLook(msgspec.Struct, kw_only=True, frozen=True, tag="clock", tag_field="type"):
    """What was known of the clocks at `at` (us). What the kernel does not say is None, and `unknown` says why.

    `drift_us`: by how much wall time ran ahead of monotonic time since the look before. What slews the one slews the
    other, so that this is steps and jitter; `steps` were larger than jitter.
    """

    at: int
    synchronised: bool | None = None
    estimated_error_us: int | None = None
    max_error_us: int | None = None
    unknown: str | None = None
    drift_us: int | None = None
    steps: int = 0
    venues: tuple[VenueLook, ...] = ()


class Latencies(msgspec.Struct, kw_only=True, frozen=True, tag="latencies", tag_field="type"):
    """What the lines of one segment say; `segment` is its path."""

    segment: str
    exchange: str
    market_type: str
    kind: str
    minutes: tuple[Minute, ...]


Record: TypeAlias = ClockLook | Latencies
_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(ClockLook | Latencies)


class Unreadable(msgspec.Struct):
    """Lines that no record could be read from: torn at the end of a run that was killed, damaged, or newer."""

    lines: int = 0
    files: set[str] = set()


class ClockFiles:
    """The writer's side. Any thread."""

    def __init__(self, root: Path, node: str) -> None:
        self._root = root
        self._node = layout.check_node(node)
        self._guard = threading.Lock()

    def append(self, records: Sequence[Record], *, sync: bool = False) -> None:
        """Write records behind what is there; durable from the next append on that syncs. Raises StorageFailed."""
        days: dict[str, list[Record]] = {}
        for record in records:
            if not isinstance(record, Latencies) or record.minutes:
                days.setdefault(times.date_of(_time(record)).isoformat(), []).append(record)
        with self._guard:
            for date, some in days.items():
                self._write(self._root / layout.clocks_path(date, self._node), some, sync=sync)

    def _write(self, place: Path, records: Sequence[Record], *, sync: bool) -> None:
        durable.make_dirs(place.parent)
        data = b"".join(_ENCODER.encode(record) + b"\n" for record in records)
        with durable.AppendFile(place, existing=place.exists()) as file:
            torn = file.size and _last(place) != b"\n"
            file.write(b"\n" + data if torn else data)
            if sync:
                file.sync()

    def tidy(self, now: int, keep: int) -> tuple[int, int]:
        """Compress the days that are over, remove those that ended `keep` us before `now`: (compressed, removed).

        The last day stays as it is: segments of it may come yet. Raises StorageFailed.
        """
        packed = removed = 0
        for path, date, node, compressed in _files(self._root):
            end = times.parse(date) + DAY
            if end + keep < now:
                with self._guard:
                    removed += durable.unlink(self._root / path)
            elif not compressed and node == self._node and end + DAY < now:
                with self._guard:
                    _pack(self._root / path)
                packed += 1
        return packed, removed


def _pack(place: Path) -> None:
    """Put a plain file behind what its compressed twin holds, as one more zstd frame, and remove it.

    Dying between leaves its lines twice, which is reading them once.
    """
    target = place.with_name(place.name + layout.ZST)
    temp = durable.temp_path(target, "pack")
    durable.unlink(temp)
    stream = zstandard.ZstdCompressor(level=9, write_checksum=True).compressobj()
    with durable.AppendFile(temp) as copy:
        for chunk in _chunks(target) if target.exists() else ():
            copy.write(chunk)
        for chunk in _chunks(place):
            if data := stream.compress(chunk):
                copy.write(data)
        copy.write(stream.flush())
        copy.sync()
    durable.rename(temp, target, replace=True)
    durable.unlink(place)


def read(
    root: Path, span: Interval | None = None, unreadable: Unreadable | None = None, *, clocks_only: bool = False
) -> Iterator[Record]:
    """The records of all writers whose time lies in `span` (us; a segment's, where any of its minutes does), by day.

    What cannot be read is left out and told to `unreadable`.
    """
    bad = unreadable if unreadable is not None else Unreadable()
    seen: set[str] = set()
    day = ""
    for path, date, node, _ in _files(root):
        start = times.parse(date)
        if span is not None and not span.overlaps(Interval(start, start + DAY)):
            continue
        if date != day:
            day, seen = date, set()
        tell = functools.partial(_tell, bad, path)
        for record in _records(_lines(root / path, tell), tell, clocks_only):
            name = record.segment if isinstance(record, Latencies) else f"{node} {record.at}"
            if name in seen:
                continue
            seen.add(name)
            if span is None or _inside(record, span):
                yield record


def newest(root: Path) -> tuple[ClockLook | None, dict[tuple[str, str, str], Latencies]]:
    """The last look at the clocks, and the latencies of the last segment of each (exchange, market_type, kind), as far
    as the end of the newest file holds them. Cheap.
    """
    plain = [path for path, _, _, compressed in _files(root) if not compressed]
    look: ClockLook | None = None
    found: dict[tuple[str, str, str], Latencies] = {}
    for path in plain[-2:]:
        with (root / path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            lines = file.read().split(b"\n")[size > TAIL :]
        for record in _records(lines, _nothing, clocks_only=False):
            if isinstance(record, ClockLook):
                look = record
            else:
                key = (record.exchange, record.market_type, record.kind)
                if key not in found or _time(found[key]) <= _time(record):
                    found[key] = record
    return look, found


def newest_date(root: Path) -> str | None:
    """The last day of which there is a record."""
    return max((date for _, date, _, _ in _files(root)), default=None)


def unsynchronised(root: Path, date: str) -> tuple[int, int, int | None]:
    """How often a day's looks found the kernel's clock not synchronised, how often it said, and the largest error (us)
    that it allowed then.
    """
    start = times.parse(date)
    said = [
        look
        for look in read(root, Interval(start, start + DAY), clocks_only=True)
        if isinstance(look, ClockLook) and look.synchronised is not None
    ]
    not_so = [look for look in said if look.synchronised is False]
    return len(not_so), len(said), max((look.max_error_us for look in not_so if look.max_error_us), default=None)


def _files(root: Path) -> list[tuple[str, str, str, bool]]:
    """(path, date, node, compressed), by day; of one writer what is compressed comes first."""
    found = []
    for place in (root / layout.CLOCKS).glob("*.jsonl*"):
        path = f"{layout.CLOCKS}/{place.name}"
        try:
            date, node, compressed = layout.parse_clocks(path)
        except Malformed:
            continue  # nothing of ours
        found.append((path, date, node, compressed))
    return sorted(found, key=lambda file: (file[1], file[2], not file[3]))


def _records(lines: Iterable[bytes], bad: Callable[[], None], clocks_only: bool) -> Iterator[Record]:
    for line in lines:
        if not line or (clocks_only and not line.startswith(_CLOCK)):
            continue
        try:
            yield _DECODER.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            bad()


def _lines(place: Path, bad: Callable[[], None]) -> Iterator[bytes]:
    rest = b""
    try:
        for chunk in _plain(place):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
    except (zstandard.ZstdError, FileNotFoundError):  # the latter: compressed or removed meanwhile
        bad()
    yield rest


def _plain(place: Path) -> Iterator[bytes]:
    if not place.name.endswith(layout.ZST):
        yield from _chunks(place)
        return
    with place.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        while chunk := reader.read(CHUNK):
            yield chunk


def _chunks(place: Path) -> Iterator[bytes]:
    with place.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _last(place: Path) -> bytes:
    with place.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1)


def _time(record: Record) -> int:
    return record.at if isinstance(record, ClockLook) else record.minutes[0].minute


def _inside(record: Record, span: Interval) -> bool:
    found = [record.at] if isinstance(record, ClockLook) else [minute.minute for minute in record.minutes]
    return any(span.start <= at < span.end for at in found)


def _tell(bad: Unreadable, path: str) -> None:
    bad.lines += 1
    bad.files.add(path)


def _nothing() -> None:
    """Of a torn line at the very end nobody needs to hear here."""
