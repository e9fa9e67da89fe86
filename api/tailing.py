"""The tail: what the collectors write now, read from their open segments as it comes. The daemon has no work with it.

A line is here some 50 ms after it was received, and before it is synced. What came faster than `MOST_BYTES` a step is
passed over and counted: nothing is held for a slow listener.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from lake import layout
from lake.manifest import Manifest
from lake.rows import FRAMES

EVERY_SECONDS = 0.25
LOOK_EVERY = 4
"""Steps between two looks at which segments are open."""
MOST_BYTES = 1024 * 1024
"""Of one segment and step; what is beyond is passed over."""


class Wish(msgspec.Struct, frozen=True):
    """Which streams; None and () are all."""

    exchange: str | None = None
    market_type: str | None = None
    kind: str | None = None
    symbols: tuple[str, ...] = ()


class Batch(msgspec.Struct):
    """Lines since the batch before, each with exchange, market type and kind, and how many bytes were passed over."""

    lines: list[tuple[str, str, str, bytes]]
    skipped: int = 0


class _Named(msgspec.Struct):
    symbol: str


class _Open(msgspec.Struct):
    """A segment that is read as it grows; its file stays readable when it gets its final name."""

    file: BinaryIO
    stream: tuple[str, str, str]
    rest: bytes = b""
    open: bool = True


class Tail:
    """What the segments of a lake say from now on. `step` is for one thread at a time."""

    def __init__(self, root: Path, manifest: Manifest, wish: Wish) -> None:
        self._root = root
        self._manifest = manifest
        self._wish = wish
        self._held: dict[str, _Open] = {}
        self._steps = 0
        self._named = msgspec.json.Decoder(_Named)

    def step(self) -> Batch:
        """What has come since the step before; the first begins where the open segments end."""
        if self._steps % LOOK_EVERY == 0:
            self._look(begin=self._steps == 0)
        self._steps += 1
        batch = Batch([])
        for path, one in list(self._held.items()):
            self._read(one, batch)
            if not one.open:
                one.file.close()
                del self._held[path]
        return batch

    def close(self) -> None:
        for one in self._held.values():
            one.file.close()
        self._held.clear()

    def _look(self, *, begin: bool) -> None:
        w = self._wish
        rows = self._manifest.segments(w.exchange, w.market_type, w.kind, state="open")
        now = {row.path: (row.exchange, row.market_type, row.kind) for row in rows if row.kind != FRAMES}
        for path, stream in now.items():
            if path in self._held:
                continue
            with contextlib.suppress(FileNotFoundError):  # nothing has come yet, or it is sealed this moment
                file = (self._root / (path + layout.OPEN)).open("rb")
                self._held[path] = _Open(file, stream)
                if begin:
                    _to_end(self._held[path])
        for path, one in self._held.items():
            one.open = path in now

    def _read(self, one: _Open, batch: Batch) -> None:
        data = one.file.read(MOST_BYTES)
        whole, _, one.rest = (one.rest + data).rpartition(b"\n")
        if len(data) == MOST_BYTES:
            batch.skipped += _to_end(one)
        batch.lines += [(*one.stream, line) for line in self._wanted(whole)]

    def _wanted(self, whole: bytes) -> Iterator[bytes]:
        for line in whole.split(b"\n"):
            if not line or line.startswith(_CUT):
                continue
            if self._wish.symbols:
                try:
                    if self._named.decode(line).symbol not in self._wish.symbols:
                        continue
                except msgspec.MsgspecError:
                    continue
            yield line


def _to_end(one: _Open) -> int:
    """Pass over what has not been read; how many bytes that is."""
    at = one.file.tell()
    end = one.file.seek(0, 2)
    if end > at:
        one.file.seek(-1, 2)
        one.rest = b"" if one.file.read(1) == b"\n" else _CUT
    return end - at


_CUT = b"\0"
"""In place of the beginning of a line that was not read: what follows is the rest of it, which is no line."""
