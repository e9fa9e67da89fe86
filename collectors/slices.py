"""Raw data of tardis.dev as frames: what its replay API answered, a message a line with the time at which it came.

Two forms are read, plain or gz: `<time> <message>`, as the API and the caches of its clients have it, and
`{"localTimestamp": …, "message": …}`, as tardis-machine and `dl replay --serve` send it. An empty line says that the
connection ended. Files of one folder that follow each other are one connection, as they were there; books that the
recorder asked for over REST become the answers that they were, once the stream that they belong to is told. Times lose
their last digit, which is 100 ns.
"""

from __future__ import annotations

import heapq
import itertools
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from lake.frames import MAX_LINE, Damage, FrameLine, payload
from lake.overlaps import RECORDINGS, address
from market import times
from market.errors import MarketError
from market.replayed import Answer, Recorded

NODE = "tardis"
URL = RECORDINGS
_TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z"
_PLAIN = re.compile(rb"(" + _TIME + rb") ([\[{\"].*)", re.DOTALL)
_WRAPPED = re.compile(rb'\s*\{"localTimestamp":\s*"' + _TIME + rb'",\s*"message":')
_GZIP = b"\x1f\x8b"
_CHUNK = 64 * 1024
_MOST_SHOWN = 1000
_EARLIEST = 946_684_800_000_000
_NEVER = 2**62


class _Message(msgspec.Struct):
    localTimestamp: str  # noqa: N815 - their name of it
    message: msgspec.Raw


_DECODER = msgspec.json.Decoder(_Message)


class _Connection(msgspec.Struct):
    name: str
    last: int
    n: int = 0
    ended: bool = False
    """Whether it ended: that is an interruption only where another message follows."""
    busy: bool = False
    """Whether a file that is being read goes on with it."""


def told(head: bytes) -> bool:
    """Whether a file that begins so, unpacked, is one of these."""
    first = head.lstrip(b"\r\n").partition(b"\n")[0]
    return _PLAIN.match(first) is not None or _WRAPPED.match(first) is not None


def is_slice(path: Path) -> bool:
    """Whether a file is one of these. Raises FileNotFoundError."""
    try:
        with path.open("rb") as file:
            return told(b"".join(islice(_chunks(file), 2)))
    except (EOFError, zlib.error):
        return False


def begins(path: Path) -> int | None:
    """The time (us) of the first message; None where there is none. Raises FileNotFoundError."""
    lines = SliceReader(path, Recording("", None, _NEVER)).pairs()
    return next((line.ts_recv for _, line in lines if line is not None), None)


class Recording:
    """The connections of one recording over all of its files; `named` is what tardis.dev calls the exchange."""

    def __init__(self, named: str, adapter: object, latest: int, taken: int = 0) -> None:
        self.url = f"{URL}{named}"
        self.address = address(self.url, taken)
        """What its sessions say of it; `taken` (us) is when it is taken in."""
        self.latest = latest
        """Nothing was received after this (us)."""
        self._held: dict[Path, list[_Connection]] = {}
        made: Callable[[], Recorded] | None = getattr(adapter, "Recorded", None)
        self._made = made

    def recorded(self) -> Recorded | None:
        """What tells the messages of a connection apart; None where all of them are frames."""
        return None if self._made is None else self._made()

    def connection(self, folder: Path, at: int, message: bytes) -> tuple[_Connection, _Connection | None]:
        """The connection that a file goes on with, and the one that ended before it, itself where it is the first."""
        mine = self._held.setdefault(folder, [])
        free = (one for one in mine if one.last <= at and not one.busy)
        going = max(free, key=lambda one: one.last, default=None)
        if going is not None and not going.ended:
            going.busy = True
            return going, None
        made = _Connection(f"{NODE}-{at}-{zlib.crc32(self.url.encode() + message) % 10_000}", at, busy=True)
        mine.append(made)
        if going is not None:
            mine.remove(going)
        return made, going or made


class SliceReader:
    """The lines of one file as those of a frames file, in order: `lake.frames.FramesReader` for these."""

    def __init__(self, path: Path, recording: Recording) -> None:
        self.path = path
        self.damage: list[Damage] = []
        self.bad = self.lines = 0
        self.finished = False
        self._recording = recording
        self._recorded = recording.recorded()
        self._at: _Connection | None = None

    def pairs(self) -> Iterator[tuple[bytes, FrameLine | None]]:
        """Every line's own bytes, and what it says: None where that is nothing (see `damage`)."""
        try:
            for text in _lines(self.path):
                self.lines += 1
                message = text.strip()
                if message:
                    yield from self._read(self.lines, message)
                else:
                    yield from self._leave(ended=True)
            self.finished = True
        except (EOFError, zlib.error) as error:
            self.damage.append(Damage(self.lines + 1, b"", f"not readable beyond this: {error}", torn=True))
        yield from self._leave(ended=False)

    def _leave(self, *, ended: bool) -> Iterator[tuple[bytes, FrameLine | None]]:
        """The file's part of a connection is over; what waited for others of its messages is told as it came."""
        at = self._at
        if at is None:
            return
        for one in () if self._recorded is None else self._recorded.rest():
            yield b"", self._line(at.last, one)
        at.busy, at.ended = False, ended
        self._at, self._recorded = None, self._recording.recorded()

    def _read(self, number: int, text: bytes) -> Iterator[tuple[bytes, FrameLine | None]]:
        try:
            at, message = _split(text, self._recording.latest)
        except (ValueError, MarketError, msgspec.MsgspecError) as error:
            self.bad += 1
            if self.bad <= _MOST_SHOWN:
                self.damage.append(Damage(number, text[:200], f"no time and message: {error}", torn=False))
            yield text, None
            return
        if self._at is None:
            self._at, before = self._recording.connection(self.path.parent, at, message)
            if before is not None and before.ended:
                yield (
                    b"",
                    FrameLine(ts_recv=before.last, conn=before.name, dir="close", n=before.n, reason="disconnect"),
                )
            if before is not None:
                yield b"", FrameLine(ts_recv=at, conn=self._at.name, dir="open", url=self._recording.address)
        self._at.last = max(at, self._at.last)
        for one in (message,) if self._recorded is None else self._recorded.read(message):
            yield text, self._line(at, one)

    def _line(self, at: int, one: bytes | Answer) -> FrameLine:
        assert self._at is not None
        self._at.n += 1
        name, n = self._at.name, self._at.n
        if isinstance(one, bytes):
            return FrameLine(ts_recv=at, conn=name, dir="recv", n=n, **payload(one))  # type: ignore[arg-type] # texts
        return FrameLine(
            ts_recv=at, conn=name, dir="http", n=n, method="GET", url=one.url, tag=one.tag, status=200,
            **payload(one.body),  # type: ignore[arg-type] # texts
        )  # fmt: skip


class Together:
    """The lines of several files by their times, each file's in its order; one is opened when its time has come."""

    def __init__(self, paths: Sequence[Path], recording: Recording, ended: Callable[[SliceReader], None]) -> None:
        self._waiting = deque(sorted((begins(path) or _NEVER, path) for path in paths))
        self._recording = recording
        self._ended = ended
        self._held: list[tuple[int, int, FrameLine, SliceReader, Iterator[FrameLine]]] = []
        self._count = itertools.count()

    def pairs(self) -> Iterator[tuple[bytes, FrameLine | None]]:
        """Every good line; `ended` is told of a file when it is read to its end, with what was wrong with it."""
        while self._waiting or self._held:
            while self._waiting and (not self._held or self._waiting[0][0] <= self._held[0][0]):
                at, path = self._waiting.popleft()
                reader = SliceReader(path, self._recording)
                self._next(at, reader, (line for _, line in reader.pairs() if line is not None))
            if self._held:
                at, _, line, reader, lines = heapq.heappop(self._held)
                yield b"", line
                self._next(at, reader, lines)

    def _next(self, at: int, reader: SliceReader, lines: Iterator[FrameLine]) -> None:
        line = next(lines, None)
        if line is None:
            self._ended(reader)
        else:
            heapq.heappush(self._held, (max(at, line.ts_recv), next(self._count), line, reader, lines))


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, as far as it can be unpacked. Raises EOFError, zlib.error where it cannot be any further."""
    held = b""
    with path.open("rb") as file:
        for chunk in _chunks(file):
            *lines, held = (held + chunk).split(b"\n")
            yield from lines
            if len(held) > MAX_LINE:
                raise EOFError(f"a line of more than {MAX_LINE:,} bytes")
    if held:
        yield held


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    if not packed:
        yield from iter(lambda: file.read(_CHUNK), b"")
        return
    member = zlib.decompressobj(31)
    while data := file.read(_CHUNK):
        while data:
            member = zlib.decompressobj(31) if member.eof else member
            yield member.decompress(data, _CHUNK)
            data = member.unconsumed_tail or member.unused_data
    if not member.eof:
        raise EOFError("its compressed data ends before its end")


def _split(text: bytes, latest: int) -> tuple[int, bytes]:
    """When a message came (us), and its bytes. Raises ValueError, Malformed, MsgspecError."""
    found = _PLAIN.fullmatch(text)
    if found is not None:
        at, message = _us(found[1].decode()), found[2]
    elif text[:1] == b"{":
        held = _DECODER.decode(text)
        at, message = _us(held.localTimestamp), bytes(held.message)
    else:
        raise ValueError("it does not begin with a time")
    if not _EARLIEST <= at <= latest:
        raise ValueError("its time is not between 2000 and today")
    return at, message


def _us(text: str) -> int:
    whole, _, rest = text.removesuffix("Z").partition(".")
    return times.parse(f"{whole}Z") + int(rest[:6].ljust(6, "0") or 0)
