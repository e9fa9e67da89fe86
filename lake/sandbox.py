"""SQL of somebody else: each query in a process of its own, which can read the lake's Parquet files and nothing else.

    with Sandbox("data") as sandbox:
        answer = sandbox.ask("SELECT count(*) FROM trade")   # a table, and whether it was cut short

A crash, a memory bomb or an endless query ends that process and an error says so; nothing else is harmed. The process
is told files by their names and has no manifest; SECURITY.md lists what keeps it from the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pyarrow as pa

from lake.errors import CorruptFile, LakeError, TooMuch, WrongQuestion
from lake.manifest import Manifest
from lake.sql import fresh, gathered_for, sets_of
from lake.sql_engine import NARROW, PARQUET, Answer, Limits
from lake.sql_features import Catalog
from lake.sql_plan import check_text
from lake.sql_process import LATE, Ask, Files, Said, Start, put, stream, take

OUTSIDE = Limits(seconds=30.0, rows=10_000, bytes=32_000_000, memory=512)
"""What a query of somebody else may take unless it is said otherwise."""
_KINDS: dict[str, type[LakeError]] = {kind.__name__: kind for kind in (TooMuch, WrongQuestion, CorruptFile, LakeError)}
STARTING = 20.0
"""Seconds in which a process has started."""
_SAID = 16_000_000
_PACKAGE = Path(__file__).resolve().parent.parent
_PASSED = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "TZ")


class Sandbox:
    """Answers queries to one lake, at most `processes` at a time. It may be shared between threads."""

    def __init__(self, root: str | Path, limits: Limits = OUTSIDE, processes: int = 2, wait: float = 10.0) -> None:
        """`wait`: seconds that a query waits for its turn. Raises NotALake, UnknownVersion, CorruptFile."""
        self.root, self.limits = Path(root).absolute(), limits
        self._manifest = Manifest.read_only(self.root)
        self._turns, self._wait = threading.BoundedSemaphore(processes), wait
        self._lock = threading.Lock()
        self._closed = False
        self._spare: _Process | None = _Process(self.root, limits)
        """One that has started already: a query need not wait for Python."""

    def ask(self, query: str, limits: Limits | None = None) -> Answer:
        """The answer to one SELECT; of `limits` (time, rows, bytes) and those of the sandbox the narrower hold.

        Raises WrongQuestion (it is not one SELECT, is wrong, or would do more than read), TooMuch (time, memory, or its
        turn did not come), CorruptFile.
        """
        check_text(query)
        if not self._turns.acquire(timeout=self._wait):
            raise TooMuch("SQL: other queries are being answered", "try again later")
        try:
            own = self.limits if limits is None else _narrower(limits, self.limits)
            return fresh(self._manifest, lambda _: self._asked(query, own, sets_of(self._manifest, query)))
        finally:
            self._turns.release()

    def close(self) -> None:
        """Ends the process that waits. Queries that are being answered end by their limits."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.end()
        self._manifest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _asked(self, query: str, limits: Limits, features: Catalog) -> Answer:
        process = self._take_spare()
        try:
            return process.ask(Ask(query, limits, features), lambda said: self._files(said, bool(features)))
        finally:
            process.end()
            self._prepare()

    def _files(self, said: Said, features: bool) -> tuple[Files, list[bytes]]:
        gathered = gathered_for(self._manifest, self.root, said.scans, features)
        told = Files(gathered.sources, tuple(gathered.rows), gathered.features)
        return told, [stream(table) for table in gathered.rows.values()]

    def _take_spare(self) -> _Process:
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None and spare.alive and spare.folders == _folders(self.root):
            return spare
        if spare is not None:
            spare.end()
        return _Process(self.root, self.limits)

    def _prepare(self) -> None:
        with self._lock:
            if self._spare is None and not self._closed:
                try:
                    self._spare = _Process(self.root, self.limits)
                except TooMuch:
                    return  # the next query tries itself, and is told


class _Process:
    """One process, for one query."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.folders = _folders(root)
        """Those that it may read: one that is made later it may not."""
        kept = {name: os.environ[name] for name in _PASSED if name in os.environ}
        # what somebody else asks must not find this process's secrets, nor its modules elsewhere
        environment = kept | {"PYTHONPATH": str(_PACKAGE), "ARROW_DEFAULT_MEMORY_POOL": "system"}
        try:
            self._held = subprocess.Popen(
                [sys.executable, "-P", "-m", "lake.sql_process"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
        except OSError as error:
            raise TooMuch(f"SQL: no process could be started: {error.strerror}", "try again later") from error
        try:
            self._put(msgspec.json.encode(Start(str(root), limits)))
        except BrokenPipeError:
            self._held.kill()  # it is seen to be dead when it is asked

    @property
    def alive(self) -> bool:
        return self._held.poll() is None

    def ask(self, asked: Ask, files: Callable[[Said], tuple[Files, list[bytes]]]) -> Answer:
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._held.kill()

        limits, seconds = asked.limits, asked.limits.seconds
        # it ends by itself; this is for one that does not
        timer = None if seconds is None else threading.Timer(seconds + LATE + STARTING, kill)
        try:
            if timer is not None:
                timer.daemon = True
                timer.start()
            self._put(msgspec.json.encode(asked))
            wanted, tables = files(self._said())
            for piece in (msgspec.json.encode(wanted), *tables):
                self._put(piece)
            capped = self._said().capped
            return Answer(pa.ipc.open_stream(self._take(2 * (limits.bytes or 1 << 40) + _SAID)).read_all(), capped)
        except (EOFError, BrokenPipeError, msgspec.MsgspecError, pa.ArrowInvalid) as error:
            if late.is_set():
                raise TooMuch(f"SQL: the query took longer than {seconds:g} s", NARROW) from error
            raise TooMuch("SQL: the query's process ended before it had an answer", NARROW) from error
        finally:
            if timer is not None:
                timer.cancel()

    def end(self) -> None:
        self._held.kill()
        self._held.wait()
        for pipe in (self._held.stdin, self._held.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what it was not told any more

    def _said(self) -> Said:
        said = msgspec.json.decode(self._take(_SAID), type=Said)
        if said.wrong is not None:
            raise _KINDS.get(said.kind, WrongQuestion)(said.wrong, said.hint)
        return said

    def _put(self, data: bytes) -> None:
        assert self._held.stdin is not None
        put(self._held.stdin, data)

    def _take(self, most: int) -> bytes:
        assert self._held.stdout is not None
        return take(self._held.stdout, most)


def _folders(root: Path) -> list[tuple[int, int]]:
    """The Parquet folders that there are, as the file system tells them apart."""
    stats = [(root / name).stat() for name in PARQUET if (root / name).is_dir()]
    return [(stat.st_dev, stat.st_ino) for stat in stats]


def _narrower(asked: Limits, most: Limits) -> Limits:
    """The smaller of each limit."""
    values = {}
    for name in Limits.__struct_fields__:
        held = [value for value in (getattr(asked, name), getattr(most, name)) if value is not None]
        values[name] = min(held) if held else None
    return Limits(**values)
