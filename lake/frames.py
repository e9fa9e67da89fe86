"""Frames: what the venue sent and we asked, verbatim, one JSON line each, plain or zstd. See docs/format/frames.md.

`read_frames` takes any frames file, live, sealed, torn or made by others, and says what was wrong with it at the end.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple

import msgspec
import zstandard

from lake import durable, layout
from lake.errors import StorageFailed
from lake.rows import SegmentRow
from lake.segment_files import OpenFile, Recovered, finish_sealed, place_of, quarantine, seal_recovered, set_aside
from lake.segments import Extent
from market.errors import Malformed

Direction = Literal["open", "recv", "send", "http", "close"]
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
SKIPPABLE_MAGIC: Final = tuple(bytes((0x50 + n, 0x2A, 0x4D, 0x18)) for n in range(16))
LEVEL: Final = 1
WINDOW: Final = 17
"""Binary logarithm of the bytes that repetitions are looked for in: more costs up to a sixth of the time, and saves
nothing.
"""
MAX_HEADER: Final = 18
END_BLOCK: Final = b"\x01\x00\x00"
"""An empty raw block that is the last of its zstd frame."""
MAX_LINE: Final = 128 * 1024 * 1024
"""Bytes of one line, beyond which a file is no frames file: the largest frame taken live has 16 MiB."""
READ_CHUNK: Final = 4096
"""Compressed bytes fed at once: 4 KiB cannot inflate to more than 128 MiB whatever they are."""
PLAIN_CHUNK: Final = 1 << 20
MAX_DAMAGE: Final = 1000
"""Bad lines of one file that are shown; the others are only counted."""
MAX_WINDOW: Final = 1 << 27
"""Bytes of history that a zstd file may ask this program to keep (its level 19 asks for 8 MiB)."""


class FrameLine(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One line. `ts_recv` us; `conn` is the session, `n` the frame_no: received frames and answers, counted from 1.

    Other lines than recv and http carry the count so far. `frame` is the text as it came; `frame_b64` its bytes where
    they are no UTF-8. `n` 0 means that an import does not say: `read_frames` counts then.
    """

    ts_recv: int
    conn: str
    dir: Direction
    n: int = 0
    frame: str | None = None
    frame_b64: str | None = None
    url: str | None = None
    method: str | None = None
    status: int | None = None
    tag: str | None = None
    headers: dict[str, str] | None = None
    code: int | None = None
    reason: str | None = None

    @property
    def data(self) -> bytes:
        """The frame's bytes; empty where the line has none. Raises Malformed for a broken frame_b64."""
        if self.frame is not None:
            return self.frame.encode()
        try:
            return base64.b64decode(self.frame_b64 or "", validate=True)
        except binascii.Error as error:
            raise Malformed("frame_b64", self.frame_b64) from error


class _Received(msgspec.Struct, gc=False):
    """A received frame of text, and nothing else: what nearly every line is."""

    ts_recv: int
    conn: str
    dir: str
    n: int
    frame: str


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(FrameLine)


def payload(data: bytes) -> dict[str, str]:
    """The field that holds these bytes verbatim: {"frame": text}, or {"frame_b64": ...} where they are no UTF-8."""
    try:
        return {"frame": data.decode()}
    except UnicodeDecodeError:
        return {"frame_b64": base64.b64encode(data).decode()}


def encode_frame_lines(lines: Sequence[FrameLine]) -> bytes:
    """Any lines, each ended by a line feed."""
    return _ENCODER.encode_lines(list(lines))  # of whatever is no list msgspec 0.22 keeps the iterator, for ever


def encode_received(conn: str, times: Sequence[int], first_n: int, frames: Sequence[bytes]) -> bytes:
    """Lines of frames that one session received at `times` (us), numbered from `first_n`: the hot path."""
    try:
        return _ENCODER.encode_lines(
            [
                _Received(time, conn, "recv", n, frame.decode())
                for time, n, frame in zip(times, count(first_n), frames, strict=False)
            ]
        )
    except UnicodeDecodeError:
        return _ENCODER.encode_lines(
            [
                FrameLine(ts_recv=time, conn=conn, dir="recv", n=n, **payload(frame))  # type: ignore[arg-type] # str fields
                for time, n, frame in zip(times, count(first_n), frames, strict=False)
            ]
        )


class Damage(NamedTuple):
    """Bytes of a frames file that are no line: line number (from 1), the bytes, why; `torn` at the end of the file."""

    number: int
    line: bytes
    reason: str
    torn: bool


class FramesReader:
    """The lines of one frames file, in order, read as they are asked for: memory does not grow with the file.

    `damage` fills while reading: lines that are none, and a torn end. A file that is still written, or whose writer
    died, is read to its last complete line. Missing `n` is counted per conn; missing open and close lines are fine.
    """

    def __init__(self, path: Path, counts: dict[str, int] | None = None) -> None:
        self.path = path
        self.damage: list[Damage] = []
        self.bad = 0
        """Lines that are none, however many; `damage` shows the first of them."""
        self.finished = False
        """Whether the file was read to an end that its writer meant."""
        self._counts = {} if counts is None else counts

    def __iter__(self) -> Iterator[FrameLine]:
        """Every good line. Raises FileNotFoundError, and Malformed where this is no frames file at all."""
        for _, line in self.pairs():
            if line is not None:
                yield line

    def pairs(self) -> Iterator[tuple[bytes, FrameLine | None]]:
        """Every line's own bytes without the line feed, and what it says: None where that is nothing (see `damage`)."""
        with self.path.open("rb") as file:
            for number, text in enumerate(self._texts(file), start=1):
                try:
                    line = _DECODER.decode(text)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    self.bad += 1
                    if self.bad <= MAX_DAMAGE:
                        self.damage.append(Damage(number, text, f"no frames line: {error}", torn=False))
                    yield text, None
                else:
                    self._count(line)
                    yield text, line

    def _count(self, line: FrameLine) -> None:
        if line.n == 0:
            line.n = self._counts.get(line.conn, 0) + (line.dir in ("recv", "http"))
        self._counts[line.conn] = line.n

    def _texts(self, file: BinaryIO) -> Iterator[bytes]:
        """Complete lines; what follows the last of them becomes damage."""
        pieces: list[bytes] = []
        held = number = 0
        reason = "no line feed at its end"
        try:
            for chunk in self._chunks(file):
                first, *rest = chunk.split(b"\n")
                pieces.append(first)
                held += len(first)
                if held > MAX_LINE:
                    raise Malformed(f"frames file (a line of more than {MAX_LINE} bytes)", first[:200])
                if rest:
                    *whole, last = (b"".join(pieces), *rest)
                    number += len(whole)
                    yield from whole
                    pieces, held = [last], len(last)
        except zstandard.ZstdError as error:
            self.finished = False
            reason = f"not readable beyond this: {error}"
        if held or not reason.startswith("no line feed"):
            self.damage.append(Damage(number + 1, b"".join(pieces), reason, torn=True))

    def _chunks(self, file: BinaryIO) -> Iterator[bytes]:
        magic = file.read(4)
        file.seek(0)
        if magic != ZSTD_MAGIC and magic not in SKIPPABLE_MAGIC:
            self.finished = True
            yield from iter(lambda: file.read(PLAIN_CHUNK), b"")
            return
        frame = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
        while chunk := file.read(READ_CHUNK):
            while chunk:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
                yield frame.decompress(chunk)
                chunk = frame.unused_data
        self.finished = frame.eof


def read_frames(path: Path, counts: dict[str, int] | None = None) -> FramesReader:
    """The lines of a frames file, plain or zstd as its first bytes tell.

    `counts` goes from file to file of one recording: frames without a number are counted on per connection.
    """
    return FramesReader(path, counts)


def whole_blocks(data: bytes) -> int:
    """Bytes of a FramesFile's zstd frames up to the end of its last complete block: RFC 8878, 3.1.1."""
    end = at = 0
    while data[at : at + 4] == ZSTD_MAGIC:
        try:
            at += zstandard.frame_header_size(data[at : at + MAX_HEADER])
        except zstandard.ZstdError:
            return end
        last = 0
        while not last:
            header = int.from_bytes(data[at : at + 3], "little")
            last = header & 1
            at += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
            if at > len(data) or not header:
                return end
            end = at
    return end


class FramesFile(OpenFile):
    """One frames file being written: a zstd stream whose blocks end where a pass ends.

    So whatever was appended can be read at once, by any zstd, and a crash loses nothing that was written. There is no
    checksum inside (the seal has one of everything), so that a frame can be ended although its last write failed.
    """

    def __init__(self, root: Path, row: SegmentRow) -> None:
        super().__init__(root, row)
        self._zstd = _compressor()
        self._begun = False
        """Whether the file has a zstd frame that was not ended."""
        self._resume = b""

    def append(self, lines: bytes, rows: int | None = None, extent: Extent | None = None) -> None:
        """Append whole lines (`rows` of them, counted where not given); all or nothing. Not durable before `sync`.

        Raises StorageFailed; as long as the file is not `failed`, the same lines may be appended again.
        """
        data = self._resume + self._zstd.compress(lines) + self._zstd.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        try:
            self._write(data, lines.count(b"\n") if rows is None else rows, extent)
        except StorageFailed:
            self._zstd = _compressor()  # the old one believes that these bytes are in the file
            self._resume = END_BLOCK if self._begun else b""
            raise
        self._begun = True
        self._resume = b""

    def _finish(self) -> None:
        if self._begun:
            self._write(END_BLOCK, 0, None)
            self._begun = False


def _compressor() -> zstandard.ZstdCompressionObj:
    parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, window_log=WINDOW, write_checksum=False)
    return zstandard.ZstdCompressor(compression_params=parameters).compressobj()


def recover_frames(root: Path, path: str, now: int, keep: int | None = None) -> Recovered:
    """Bring one frames file to order after a crash; doing it again changes nothing. `path` with or without `.open`.

    What its writer did not end is written anew from its good lines, and sealed as not `clean`; a torn line or block is
    in quarantine by then. `keep` and CorruptSegment as in `recover_segment`.
    """
    sealed = path.removesuffix(layout.OPEN)
    layout.parse_frames(sealed)
    row = finish_sealed(root, sealed)
    place = place_of(root, sealed)
    if row is not None or place is None:
        return Recovered(row, set_aside(root, sealed, now))
    if keep is not None and place.stat().st_size > keep:
        durable.truncate_file(place, keep)
    rewritten = durable.temp_path(root / sealed, "recovery")
    durable.unlink(rewritten)
    try:
        ended, rows, extent = _rewrite(root, sealed, place, rewritten)
        if rows and not ended:
            durable.rename(rewritten, place, replace=True)
    finally:
        durable.unlink(rewritten)
    return Recovered(seal_recovered(root, place, sealed, rows, extent), set_aside(root, sealed, now))


def _rewrite(root: Path, sealed: str, place: Path, rewritten: Path) -> tuple[bool, int, Extent | None]:
    """Copy the good lines of `place`, setting its torn end aside: (nothing was torn, lines, times)."""
    reader = FramesReader(place)
    stream = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
    bad: list[bytes] = []  # good only if a good line follows: then they are no torn tail, and stay
    rows = 0
    low = high = 0
    with durable.AppendFile(rewritten) as copy:
        for text, line in reader.pairs():
            bad.append(text)
            if line is None:
                continue
            if data := stream.compress(b"\n".join((*bad, b""))):
                copy.write(data)
            low, high = min(low or line.ts_recv, line.ts_recv), max(high, line.ts_recv)
            rows += len(bad)
            bad.clear()
        copy.write(stream.flush())
        copy.sync()
    tail = b"\n".join((*bad, *(damage.line for damage in reader.damage if damage.torn)))
    if tail:
        quarantine(root, sealed, f"tail-{rows}", tail)
    _keep_torn_block(root, sealed, place, reader)
    return reader.finished and not tail, rows, Extent(low, high, None, None) if rows else None


def _keep_torn_block(root: Path, sealed: str, place: Path, reader: FramesReader) -> None:
    """Set aside the compressed bytes that no decompressor can make sense of."""
    if reader.finished:
        return
    data = place.read_bytes()
    corrupt = any(damage.torn and damage.reason.startswith("not readable") for damage in reader.damage)
    start = 0 if corrupt else whole_blocks(data)
    if start < len(data):
        quarantine(root, sealed, f"zstd-{start}", data[start:])
