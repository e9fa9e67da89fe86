"""The ledger: the append-only twin of the manifest, for what the footers of the tables cannot say.

One JSON line an entry, each with a CRC-32 of the rest of its line and a number counted from 1 in its file, so that a
damaged and a lost line are both seen. `dl rebuild` makes the manifest anew from it. See docs/format/ledger.md.
"""

from __future__ import annotations

import builtins
import contextlib
import heapq
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self, TypeVar, get_args

import msgspec

from lake import durable, layout
from lake.errors import UnknownVersion
from market import times
from market.errors import Malformed

EntryType = Literal[
    "start", "commit", "void", "seal", "gap", "session", "coverage", "certificate", "quarantine", "ban", "job", "note"
]
FORMAT_VERSION: Final = 1
_HEAD: Final = b'{"crc":"'
_BODY_AT: Final = len(_HEAD) + 8 + len(b'",')
_TYPES: Final = frozenset(get_args(EntryType))
_ENCODER = msgspec.json.Encoder()
T = TypeVar("T")


class Entry(msgspec.Struct, frozen=True):
    """One entry: `at` us, `n` its number in its file, `type` what `data` is (a seal is a SegmentRow, and so on).

    `node` is the writer, from the file's name.
    """

    v: int
    at: int
    n: int
    type: EntryType
    data: msgspec.Raw
    node: str = ""

    def read(self, what: builtins.type[T]) -> T:
        """`data` as that struct. Raises Malformed."""
        try:
            return msgspec.json.decode(self.data, type=what)
        except msgspec.MsgspecError as error:
            raise Malformed(f"{self.type} entry {self.n} of {self.node} ({error})", bytes(self.data)) from error


class BadEntry(NamedTuple):
    """What is wrong in a ledger file: `number` the line (from 1), `torn` where the file ends in the middle of it."""

    path: str
    number: int
    line: bytes
    reason: str
    torn: bool


class Ledger:
    """The writer's side. One thread uses it at a time."""

    def __init__(self, root: Path, node: str) -> None:
        self._root = root
        self.node = layout.check_node(node)
        self._path = ""
        self._file: durable.AppendFile | None = None
        self._next = 1

    def append(self, entries: Sequence[tuple[str, object]], now: int) -> None:
        """Write (type, payload) pairs in one piece and make them durable. `now` us picks the day's file.

        A payload is a struct or what JSON can hold. Raises StorageFailed: then none of them is promised, and appending
        them again is right, since reading an entry twice is reading it once. ValueError for an unknown type.
        """
        if not entries:
            return
        unknown = {kind for kind, _ in entries} - _TYPES
        if unknown:
            raise ValueError(f"unknown ledger entry {', '.join(sorted(unknown))}; known: {', '.join(sorted(_TYPES))}")
        file = self._today(now)
        data = b"".join(
            encode_entry(kind, payload, at=now, n=n) for n, (kind, payload) in enumerate(entries, self._next)
        )
        try:
            file.write(data)
            file.sync()
        except BaseException:
            self.close()  # a descriptor whose sync failed is never asked again
            raise
        self._next += len(entries)

    def _today(self, now: int) -> durable.AppendFile:
        path = layout.ledger_path(times.date_of(now).isoformat(), self.node)
        if self._file is not None and path == self._path:
            return self._file
        self.close()
        place = self._root / path
        durable.make_dirs(place.parent)
        self._next = 1
        if place.exists():
            self._file = durable.AppendFile(place, existing=True)
            self._continue(place, self._file)
        else:
            self._file = durable.AppendFile(place)
        self._path = path
        return self._file

    def newest_day(self) -> int:
        """When (us) the day of this node's last file began; 0 where there is none."""
        days = [0]
        for place in (self._root / layout.LEDGER).glob(f"*-{self.node}.jsonl"):
            with contextlib.suppress(Malformed):
                date, node = layout.parse_ledger(f"{layout.LEDGER}/{place.name}")
                days += [times.parse(date)] if node == self.node else []
        return max(days)

    def _continue(self, place: Path, file: durable.AppendFile) -> None:
        """Go on behind what an earlier run wrote: numbers follow, and a torn line is ended, never cut."""
        data = place.read_bytes()
        for found in _parse(data, self.node, ""):
            if isinstance(found, Entry):
                self._next = max(self._next, found.n + 1)
        if data and not data.endswith(b"\n"):
            file.write(b"\n")

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def encode_entry(kind: str, payload: object, *, at: int, n: int) -> bytes:
    """One line: `{"crc":"<8 hex>",` and then the bytes that the CRC-32 covers, up to the closing brace."""
    data = payload if isinstance(payload, msgspec.Raw) else _ENCODER.encode(payload)
    body = b'"v":%d,"at":%d,"n":%d,"type":"%b","data":%b}' % (FORMAT_VERSION, at, n, kind.encode(), bytes(data))
    return b'%b%08x",%b\n' % (_HEAD, zlib.crc32(body), body)


def read_ledger(root: Path, on_bad: Callable[[BadEntry], None]) -> Iterator[Entry]:
    """Every good entry of every ledger file: by day, then by time, so that the last word on a thing comes last.

    Torn and damaged lines are skipped, and lines that are missing are noticed: each is told to `on_bad`.
    Raises UnknownVersion for an entry of a newer format.
    """
    days: dict[str, list[tuple[str, Path]]] = {}
    folder = root / layout.LEDGER
    for place in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():
        try:
            date, node = layout.parse_ledger(f"{layout.LEDGER}/{place.name}")
        except Malformed as error:
            on_bad(BadEntry(f"{layout.LEDGER}/{place.name}", 0, b"", str(error), torn=False))
        else:
            days.setdefault(date, []).append((node, place))
    for date in sorted(days):
        files = [_entries(place, node, on_bad) for node, place in days[date]]
        yield from heapq.merge(*files, key=lambda entry: (entry.at, entry.node, entry.n))


def notes(root: Path, since: int) -> Iterator[Entry]:
    """The good notes of every ledger file of a day from `since` (us) on; other entries are not decoded."""
    folder = root / layout.LEDGER
    for place in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():
        try:
            date, node = layout.parse_ledger(f"{layout.LEDGER}/{place.name}")
        except Malformed:
            continue
        if times.parse(date) + times.DAY <= since:
            continue
        with place.open("rb") as lines:
            for line in lines:
                found = _decode(line.rstrip(b"\n"), node) if b'"type":"note"' in line else ""
                if isinstance(found, Entry) and found.at >= since:
                    yield found


def entries_of(root: Path, path: str, on_bad: Callable[[BadEntry], None]) -> Iterator[Entry]:
    """Every good entry of one ledger file, in its order; for a name that is no ledger's there is none."""
    try:
        _, node = layout.parse_ledger(path)
    except Malformed as error:
        on_bad(BadEntry(path, 0, b"", str(error), torn=False))
        return
    yield from _entries(root / path, node, on_bad)


def _entries(place: Path, node: str, on_bad: Callable[[BadEntry], None]) -> Iterator[Entry]:
    expected = 1
    path = f"{layout.LEDGER}/{place.name}"
    for found in _parse(place.read_bytes(), node, path):
        if isinstance(found, BadEntry):
            on_bad(found)
            continue
        if found.n > expected:
            lost = f"entries {expected} to {found.n - 1} are missing before this one"
            on_bad(BadEntry(path, found.n, b"", lost, torn=False))
        expected = max(expected, found.n + 1)
        yield found


def _parse(data: bytes, node: str, path: str) -> Iterable[Entry | BadEntry]:
    lines = data.split(b"\n")
    last = lines.pop()
    for number, line in enumerate(lines, start=1):
        found = _decode(line, node)
        yield found if isinstance(found, Entry) else BadEntry(path, number, line, found, torn=False)
    if last:
        found = _decode(last, node)  # its CRC tells: only the line feed may be what the writer did not come to
        yield found if isinstance(found, Entry) else BadEntry(path, len(lines) + 1, last, found, torn=True)


def _decode(line: bytes, node: str) -> Entry | str:
    """The entry, or what is wrong with the line."""
    body = line[_BODY_AT:]
    if not line.startswith(_HEAD) or line[_BODY_AT - 2 : _BODY_AT] != b'",':
        return "not a ledger line"
    if line[len(_HEAD) : _BODY_AT - 2] != b"%08x" % zlib.crc32(body):
        return "its CRC-32 does not match"
    try:
        entry = msgspec.json.decode(b"{" + body, type=_Versioned)
        if entry.v > FORMAT_VERSION:
            raise UnknownVersion(f"ledger format {entry.v}; this program knows up to {FORMAT_VERSION}", "update it")
        return msgspec.structs.replace(msgspec.json.decode(b"{" + body, type=Entry), node=node)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"not a ledger entry: {error}"


class _Versioned(msgspec.Struct):
    v: int
