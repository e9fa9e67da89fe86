"""Raw data of tardis.dev as frames: what its replay API answered, a message a line with the time at which it came.

Two forms are read, plain or gz: `<time> <message>`, as the API and the caches of its clients have it, and
`{"localTimestamp": …, "message": …}`, as tardis-machine and `dl replay --serve` send it. An empty line says that the
connection ended. Files of one folder that follow each other are one connection, as they were there; books that the
recorder asked for over REST become the answers that they were. Times lose their last digit, which is 100 ns.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec

from lake.frames import MAX_LINE, Damage, FrameLine, FramesReader, payload, read_frames
from market import times
from market.errors import MarketError
from market.replayed import Answer, Recorded

NODE = "tardis"
URL = "https://api.tardis.dev/v1/data-feeds/"
_TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z"
_PLAIN = re.compile(rb"(" + _TIME + rb") ([\[{\"].*)", re.DOTALL)
_WRAPPED = re.compile(rb'\s*\{"localTimestamp":\s*"' + _TIME + rb'",\s*"message":')
_GZIP = b"\x1f\x8b"
_CHUNK = 64 * 1024
_MOST_SHOWN = 1000


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
    lines = SliceReader(path, Recording("", None)).pairs()
    return next((line.ts_recv for _, line in lines if line is not None), None)


class Recording:
    """The connections of one recording over all of its files; `named` is what tardis.dev calls the exchange."""

    def __init__(self, named: str, adapter: object) -> None:
        self.url = f"{URL}{named}"
        self.counts: dict[str, int] = {}
        """Of files of frames: how many each connection has had."""
        self._held: dict[Path, list[_Connection]] = {}
        made: Callable[[], Recorded] | None = getattr(adapter, "Recorded", None)
        self._made = made

    def recorded(self) -> Recorded | None:
        """What tells the messages of a connection apart; None where all of them are frames."""
        return None if self._made is None else self._made()

    def connection(self, folder: Path, at: int, message: bytes) -> tuple[_Connection, _Connection | None]:
        """The connection that a file goes on with, and the one that ended before it, itself where it is the first."""
        mine = self._held.setdefault(folder, [])
        going = max((one for one in mine if one.last <= at), key=lambda one: one.last, default=None)
        if going is not None and not going.ended:
            return going, None
        made = _Connection(f"{NODE}-{at}-{zlib.crc32(self.url.encode() + message) % 10_000}", at)
        mine.append(made)
        if going is not None:
            mine.remove(going)
        return made, going or made


class SliceReader:
    """The lines of one file as those of a frames file, in order: `lake.frames.FramesReader` for these."""

    def __init__(self, path: Path, recording: Recording) -> None:
        self.path = path
        self.damage: list[Damage] = []
        self.bad = 0
        self.finished = False
        self._recording = recording
        self._recorded = recording.recorded()
        self._at: _Connection | None = None

    def pairs(self) -> Iterator[tuple[bytes, FrameLine | None]]:
        """Every line's own bytes, and what it says: None where that is nothing (see `damage`)."""
        number = 0
        try:
            for text in _lines(self.path):
                number += 1
                message = text.strip()
                if message:
                    yield from self._read(number, message)
                elif self._at is not None:
                    self._at.ended = True
                    self._at, self._recorded = None, self._recording.recorded()
            self.finished = True
        except (EOFError, zlib.error) as error:
            self.damage.append(Damage(number + 1, b"", f"not readable beyond this: {error}", torn=True))

    def _read(self, number: int, text: bytes) -> Iterator[tuple[bytes, FrameLine | None]]:
        try:
            at, message = _split(text)
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
                yield b"", FrameLine(ts_recv=at, conn=self._at.name, dir="open", url=self._recording.url)
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


Reader: TypeAlias = FramesReader | SliceReader


def reader_of(path: Path, recording: Recording) -> Reader:
    """What reads a file, of frames or of raw data. Raises FileNotFoundError."""
    return SliceReader(path, recording) if is_slice(path) else read_frames(path, recording.counts)


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


def _split(text: bytes) -> tuple[int, bytes]:
    """When a message came (us), and its bytes. Raises ValueError, Malformed, MsgspecError."""
    found = _PLAIN.fullmatch(text)
    if found is not None:
        return _us(found[1].decode()), found[2]
    if text[:1] != b"{":
        raise ValueError("it does not begin with a time")
    held = _DECODER.decode(text)
    return _us(held.localTimestamp), bytes(held.message)


def _us(text: str) -> int:
    whole, _, rest = text.removesuffix("Z").partition(".")
    return times.parse(f"{whole}Z") + int(rest[:6].ljust(6, "0") or 0)
