"""A file's bytes, unpacked, in blocks of whole lines, elements or row groups: whatever its size, one is in memory.

Plain, gz or a zip of one table. What is damaged, encrypted or grows beyond all measure when it is unpacked is refused.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from collectors import slices
from collectors.files import changes
from collectors.files.reading import Format, Options, Reading, Refused, Sample
from collectors.files.sniff import ROWS, by_lines, encoding_of, sample
from collectors.files.typed_columns import texts_of
from lake.refused import cure

HEAD = 256 * 1024
BLOCK = 8 * 1024 * 1024
"""Bytes of text that are made into rows at once."""
LINE = 1024 * 1024
MESSAGE = 64 * 1024 * 1024
"""Bytes of the lines of one message of a book, at most."""
_RATIO, _FREE = 1000, 64 * 1024 * 1024
"""No table is packed smaller than this; the first bytes are free."""
_BETWEEN = re.compile(rb"[\]}]\s*,\s*(?=[\[{])")
_NO_TABLES = ("__macosx/", ".ds_store")
_FEATHER = b"ARROW1"
_FOREIGN = {
    b"FEA1": "Feather (first version)",
    b"\x89HDF": "HDF5",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
    b"\xd0\xcf\x11\xe0": "Excel",
}


class Block(NamedTuple):
    """`first` is the number of its first line, element or row, `data` its bytes; of tables `group` is all there is.

    Of a plain file it is `size` bytes from `start` on: who makes rows of them reads them there.
    """

    first: int
    data: bytes = b""
    group: int = -1
    start: int = 0
    size: int = 0

    def read(self, path: Path) -> Block:
        """The same with its bytes. Raises Refused where they are no longer there."""
        if not self.size:
            return self
        try:
            with path.open("rb") as file:
                file.seek(self.start)
                data = file.read(self.size)
        except OSError as error:
            raise NoFile(f"{path} cannot be read: {error.strerror or error}", cure(error, "check its name")) from error
        if len(data) != self.size:
            raise Refused(f"{path.name} has become shorter while it was read", "import it when nobody writes to it")
        return Block(self.first, data)


class _Bytes(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Content:
    """An open file, unpacked. `name` is that of the table in it."""

    def __init__(self, name: str, file: IO[bytes], packed: IO[bytes], size: int) -> None:
        self.name = name
        self._file = file
        self._packed = packed
        self._size = size
        self._given = 0

    def read(self, size: int) -> bytes:
        """Raises Refused for what cannot be unpacked, or is too much."""
        try:
            data = self._file.read(size)
        except (EOFError, OSError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
            raise Refused(f"{self.name} is damaged: {error}", "fetch it again") from error
        self._given += len(data)
        if self._given > _FREE and self._given > _RATIO * self._size:
            raise Refused(
                f"{self.name} unpacks to more than {_RATIO} times its {self._size:,} bytes", "no table does that"
            )
        return data

    @property
    def consumed(self) -> int:
        """Bytes of the file on the disk that were read."""
        return min(self._packed.tell(), self._size)


@contextlib.contextmanager
def opened(path: Path, member: str | None = None) -> Iterator[Content]:
    """Raises Refused for what is no file, or holds several tables and `member` names none of them."""
    with opened_raw(path) as packed:
        size = path.stat().st_size
        magic = packed.read(8)
        packed.seek(0)
        if magic.startswith(b"PK\x03\x04"):
            yield from _zipped(path, packed, size, member)
        elif magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=packed) as file:
                yield Content(path.name.removesuffix(".gz"), file, packed, size)  # type: ignore[arg-type] # reads bytes
        else:
            yield Content(path.name, packed, packed, size)


class NoFile(Refused):
    exit_code = 66


def _zipped(path: Path, packed: IO[bytes], size: int, member: str | None) -> Iterator[Content]:
    try:
        archive = zipfile.ZipFile(packed)
        held = [one for one in archive.namelist() if not one.endswith("/") and not _hidden(one)]
        if member is not None and member not in held:
            raise Refused(f"{path.name} holds no {member}", f"it holds {', '.join(held[:10])}")
        if member is None and len(held) != 1:
            what = f"{len(held)} files" if held else "no file"
            raise Refused(f"{path.name} holds {what}", f"say --member, one of {', '.join(held[:10])}")
        file = archive.open(member or held[0])
    except (zipfile.BadZipFile, RuntimeError) as error:  # damaged; encrypted, or packed in a way that is not known
        raise Refused(f"{path.name} cannot be unpacked: {error}", "unpack it yourself, or fetch it again") from error
    with archive, file:
        yield Content(Path(member or held[0]).name, file, packed, size)


def _hidden(name: str) -> bool:
    return any(part in name.lower() for part in _NO_TABLES)


def sample_of(path: Path, options: Options) -> Sample:
    """The head of a file as rows of texts. Raises Refused, Unclear."""
    with opened(path, options.member) as content:
        head = content.read(HEAD)
        whole = len(head) < HEAD
        if head.startswith((b"PAR1", _FEATHER)):
            return _of_columns(path, content.name, "parquet" if head.startswith(b"PAR1") else "feather")
        if slices.told(head):
            raise Refused(
                f"{content.name} holds messages of a venue, as tardis.dev recorded them",
                f"dl replay {path.name} --exchange … --market-type … takes them through today's parsers",
            )
        for magic, what in _FOREIGN.items():
            if head.startswith(magic):
                raise Refused(f"{content.name} is a {what} file", "save it as CSV, JSON, Feather or Parquet")
        return sample(content.name, head, encoding_of(head, options), options, whole=whole)


def _of_columns(path: Path, name: str, form: Format) -> Sample:
    first = next(
        (table for group in range(len(_groups(path, form))) for table in tables_of(path, form, group, ROWS)), None
    )
    if first is None or not first.num_rows:
        raise Refused(f"{name} holds no rows", "there is nothing to import")
    return Sample(
        name=name, format=form, header=tuple(first.schema.names),
        rows=tuple(tuple(cell or "" for cell in row) for row in texts_of(first).iter_rows()),
    )  # fmt: skip


def _groups(path: Path, form: Format) -> list[int]:
    """Rows of each row group of a Parquet file, or of each batch of a Feather file. Raises Refused."""
    with _readable(path, form):
        if form == "parquet":
            with pq.ParquetFile(path) as file:
                return [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as batches:
            return [batches.get_batch(group).num_rows for group in range(batches.num_record_batches)]


def tables_of(path: Path, form: Format, group: int, rows: int) -> Iterator[pa.Table]:
    """A row group, or a batch, in tables of at most so many rows. Raises Refused."""
    with _readable(path, form):
        if form == "parquet":
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows, row_groups=[group]):
                    yield pa.Table.from_batches([batch])
            return
        with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as batches:
            table = pa.Table.from_batches([batches.get_batch(group)])
            table.validate(full=True)  # Arrow checks nothing by itself: a damaged offset reads foreign memory
            _ = table.column_names  # they are decoded when they are asked for
            for start in range(0, table.num_rows, rows):
                yield table.slice(start, rows)


@contextlib.contextmanager
def _readable(path: Path, form: Format) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of columns' names
        raise Refused(f"{path.name} is no {form.title()} that can be read: {error}", "fetch it again") from error


def blocks(path: Path, reading: Reading, member: str | None) -> Iterator[tuple[Block, int]]:
    """The data of a file in order, each block with the bytes of the file that were read by then. Raises Refused."""
    if reading.format in ("parquet", "feather"):
        sizes = _groups(path, reading.format)
        for group, size in enumerate(sizes):
            before = sum(sizes[:group])
            yield Block(before + 1, group=group), path.stat().st_size * (before + size) // max(1, sum(sizes))
        return
    if reading.format == "csv" and reading.encoding == "utf-8" and reading.dialect != changes.CHANGES and _plain(path):
        yield from _spans(path, reading)
        return
    with opened(path, member) as content:
        source = content if reading.encoding == "utf-8" else _Decoded(content, reading.encoding)
        first = source.read(HEAD)
        arrays = reading.format == "json" and not by_lines(first.lstrip().partition(b"\n")[0].decode(errors="replace"))
        cut = _elements(source, first, content) if arrays else _lines(source, first, content, reading)
        for block in cut:
            yield block, content.consumed


def _plain(path: Path) -> bool:
    """Whether the lines of a file lie in it as they are."""
    with opened_raw(path) as file:
        return not file.read(4).startswith((b"PK\x03\x04", b"\x1f\x8b"))


def opened_raw(path: Path) -> IO[bytes]:
    """Raises NoFile."""
    try:
        return path.open("rb")
    except OSError as error:
        raise NoFile(f"{path} cannot be read: {error.strerror or error}", cure(error, "check its name")) from error


def _spans(path: Path, reading: Reading) -> Iterator[tuple[Block, int]]:
    """Where the lines of a plain file lie, and what number each block's first one has."""
    with opened_raw(path) as file:
        size = path.stat().st_size  # what comes behind it while it is read is found out by who asked for the blocks
        start = sum(len(file.readline(LINE)) for _ in range(reading.skip))
        number, held = 1 + reading.skip, bytearray(BLOCK)
        while start < size:
            file.seek(start)
            read = file.readinto(held)  # type: ignore[attr-defined] # a buffered file has it
            if not read:
                return
            end = read if start + read >= size else held.rfind(b"\n", 0, read) + 1
            if not end:
                if len(held) > LINE:
                    raise Refused(f"{path.name}: line {number} is longer than {LINE:,} bytes", "is it a table?")
                held = bytearray(2 * len(held))
                continue
            yield Block(number, start=start, size=end), start + end
            number += _feeds(held, end)
            start += end


def _feeds(held: bytearray, size: int) -> int:
    """Line feeds in the first bytes."""
    data = pa.Array.from_buffers(pa.uint8(), size, [None, pa.py_buffer(held)])
    return int((pl.Series(pl.from_arrow(data)) == ord("\n")).sum())


class _Decoded:
    """A text of another encoding as UTF-8."""

    def __init__(self, content: Content, encoding: str) -> None:
        self._content = content
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def read(self, size: int) -> bytes:
        data = self._content.read(size)
        try:
            text = self._decoder.decode(data, final=not data)
            while data and not text:
                data = self._content.read(size)
                text = self._decoder.decode(data, final=not data)
        except UnicodeError as error:
            raise Refused(f"{self._content.name} does not decode: {error}", "say another --encoding") from error
        return text.encode()


def _lines(source: _Bytes, first: bytes, content: Content, reading: Reading) -> Iterator[Block]:
    held, number, skip = first, 1, reading.skip
    while True:
        data = source.read(BLOCK)
        held += data
        cut = held.rfind(b"\n") + 1 if data else len(held)
        if data and reading.dialect == changes.CHANGES:
            cut = _message(held, cut)
        if data and not cut:
            if len(held) > (LINE if reading.dialect != changes.CHANGES else MESSAGE):
                raise Refused(f"{content.name}: line {number} is longer than {LINE:,} bytes", "is it a table?")
            continue
        piece, held = held[:cut], held[cut:]
        while skip and piece:
            _, _, piece = piece.partition(b"\n")
            skip, number = skip - 1, number + 1
        if piece:
            yield Block(number, piece)
            number += piece.count(b"\n")
        if not data:
            return


def _message(held: bytes, end: int) -> int:
    """Where the last message of some whole lines begins: more of it may come."""
    last: tuple[bytes, ...] | None = None
    while end:
        start = held.rfind(b"\n", 0, end - 1) + 1
        one = changes.message_of(held[start : end - 1])
        if last is not None and one != last:
            return end
        last, end = one, start
    return 0


def _elements(source: _Bytes, first: bytes, content: Content) -> Iterator[Block]:
    """The elements of one JSON array, without its brackets."""
    held, number = first.lstrip()[1:], 1
    while True:
        data = source.read(BLOCK)
        held += data
        if not data:
            body = held.strip()
            if not body.endswith(b"]"):
                raise Refused(f"{content.name} is cut: its array has no end", "fetch it again")
            if body != b"]":
                yield Block(number, body[:-1])
            return
        ends = [found.span() for found in _BETWEEN.finditer(held)]
        if ends:
            start, behind = ends[-1]
            yield Block(number, held[: start + 1])
            number += len(ends)
            held = held[behind:]
        elif len(held) > LINE + BLOCK:
            raise Refused(f"{content.name}: element {number} is longer than {LINE:,} bytes", "is it a table?")
