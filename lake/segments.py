"""The JSON line of a segment: encoding, strict decoding, the torn-tail rule, and the seal beside a sealed file.

A segment is plain JSON Lines: one event of one kind a line, the fields of `market.kinds` in their order, nothing else.
See docs/format/segment.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from lake.errors import CorruptSegment, UnknownVersion
from lake.rows import SegmentRow
from market import kinds
from market.errors import Malformed
from market.kinds import Event

FORMAT_VERSION: Final = 1
TOGETHER: Final = 1024
"""Lines whose times are compared together."""
MAX_BYTES: Final = 64 * 1024 * 1024
"""A segment that has reached this size is sealed."""

_ENCODER = msgspec.json.Encoder()
_DECODERS = {name: msgspec.json.Decoder(kind.struct) for name, kind in kinds.KINDS.items() if kind.struct is not None}
_ANY_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VERBATIM_KINDS: Final = frozenset(
    kind.struct
    for kind in kinds.KINDS.values()
    if kind.struct is not None and any(column.type == "levels" for column in kind.columns)
)
"""Structs that carry the venue's own JSON text, which may have line breaks between its tokens."""


class Extent(NamedTuple):
    """First and last receive and venue time (us) of some events; venue times None where no event has one."""

    recv_min: int
    recv_max: int
    event_min: int | None
    event_max: int | None


def encode_lines(events: Sequence[Event]) -> bytes:
    """The lines of `events`, each ended by a line feed."""
    lines = _ENCODER.encode_lines(list(events))  # as in lake.frames
    if events and type(events[0]) in _VERBATIM_KINDS and lines.count(b"\n") != len(events):
        return b"".join(_ENCODER.encode(event).translate(_SPACED) + b"\n" for event in events)
    return lines


_SPACED = bytes.maketrans(
    b"\r\n", b"  "
)  # inside JSON strings they are always escaped, between tokens they say nothing


def extent(events: Sequence[Event]) -> Extent:
    """First and last times of `events` (at least one), given in the order they were received."""
    timed = [time for event in events if (time := event.ts_event) is not None]
    first, last = events[0].ts_recv, events[-1].ts_recv
    return Extent(min(first, last), max(first, last), min(timed, default=None), max(timed, default=None))


def widen(held: Extent | None, more: Extent | None) -> Extent | None:
    """The extent of both."""
    if held is None or more is None:
        return held or more
    low, high = held.event_min, held.event_max
    if low is None or (more.event_min is not None and more.event_min < low):
        low = more.event_min
    if high is None or (more.event_max is not None and more.event_max > high):
        high = more.event_max
    return Extent(min(held.recv_min, more.recv_min), max(held.recv_max, more.recv_max), low, high)


def decode_line(kind: str, line: bytes) -> Event:
    """One line as its event, strictly: every field there and of its type. Raises Malformed, UnknownKind."""
    try:
        decoder = _DECODERS[kind]
    except KeyError:
        raise Malformed("kind with lines", kinds.kind(kind).name) from None
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{kind} line ({error})", line[:200]) from error


def _good(line: bytes, kind: str | None) -> bool:
    try:
        if kind is None:
            _ANY_OBJECT.decode(line)
        else:
            decode_line(kind, line)
    except (Malformed, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def good_length(data: bytes, kind: str | None = None) -> int:
    """Bytes up to the end of the last good line: what follows is a torn tail, to be set aside and cut.

    A good line is a JSON object ended by a line feed, and an event of `kind` where one is given. A bad line that has a
    good one behind it is no torn tail: it stays, and whoever reads the lines sets it aside.
    """
    end = data.rfind(b"\n") + 1
    while end > 0:
        start = data.rfind(b"\n", 0, end - 1) + 1
        if _good(data[start : end - 1], kind):
            return end
        end = start
    return 0


class BadLine(NamedTuple):
    """A line that is no event: where it begins (byte), its number from 1, its bytes and what is wrong with it."""

    offset: int
    number: int
    line: bytes
    reason: str


class Scan(NamedTuple):
    """What a segment's bytes hold. `rows` counts lines, bad ones included; `size` is where the torn tail begins."""

    size: int
    rows: int
    extent: Extent | None
    bad: tuple[BadLine, ...]


def read_lines(kind: str, data: bytes) -> Iterator[Event | BadLine]:
    """Every line of a segment in order, as its event or as what is wrong with it; a torn tail is a BadLine too."""
    start = number = 0
    while (end := data.find(b"\n", start)) >= 0:  # not split: a segment has hundreds of thousands of lines
        line = data[start:end]
        number += 1
        try:
            yield decode_line(kind, line)
        except Malformed as error:
            yield BadLine(start, number, line, str(error)[:300])
        start = end + 1
    if start < len(data):
        yield BadLine(start, number + 1, data[start:], "no line feed at its end")


def scan(kind: str, data: bytes) -> Scan:
    """Read a segment's bytes line by line: its good length, line count, times, and the bad lines before the tail."""
    size = good_length(data, kind)
    bad: list[BadLine] = []
    held: Extent | None = None
    rows = 0
    some: list[Event] = []
    for found in read_lines(kind, data[:size]):
        rows += 1
        if isinstance(found, BadLine):
            bad.append(found)
            continue
        some.append(found)
        if len(some) == TOGETHER:  # an extent for each line would cost as much as reading it
            held = widen(held, _extent_of(some))
            some.clear()
    return Scan(size, rows, widen(held, _extent_of(some)), tuple(bad))


def _extent_of(events: Sequence[Event]) -> Extent | None:
    """As `extent`, of events in any order; None of none."""
    if not events:
        return None
    received = [event.ts_recv for event in events]
    timed = [event.ts_event for event in events if event.ts_event is not None]
    return Extent(min(received), max(received), min(timed, default=None), max(timed, default=None))


class Seal(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What `.meta.json` says of a sealed segment or frames file. Times us, receive time unless named event."""

    version: int
    path: str
    exchange: str
    market_type: str
    kind: str
    period_start: int
    period_end: int
    rows: int
    bytes: int
    sha256: str
    recv_min: int | None = None
    recv_max: int | None = None
    event_min: int | None = None
    event_max: int | None = None
    clean: bool = True


_SEAL_FIELDS: Final = tuple(name for name in Seal.__struct_fields__ if name != "version")


def encode_seal(row: SegmentRow) -> bytes:
    """The `.meta.json` of a sealed row. Raises ValueError for one that has no end yet."""
    if row.period_end is None:
        raise ValueError(f"{row.path} has no end yet, so it cannot be sealed")
    seal = Seal(version=FORMAT_VERSION, **{name: getattr(row, name) for name in _SEAL_FIELDS})
    return msgspec.json.format(_ENCODER.encode(seal), indent=1) + b"\n"


def decode_seal(data: bytes) -> SegmentRow:
    """The sealed row that a `.meta.json` states. Raises CorruptSegment, and UnknownVersion for a newer format."""
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version > FORMAT_VERSION:
            raise UnknownVersion(f"segment format {version}; this program knows up to {FORMAT_VERSION}", "update it")
        seal = msgspec.json.decode(data, type=Seal)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptSegment(f"a seal that cannot be read: {error}") from error
    return SegmentRow(state="sealed", **{name: getattr(seal, name) for name in _SEAL_FIELDS})


class _Version(msgspec.Struct):
    version: int
