"""The process that answers one query from outside: `python -m lake.sql_process`, started by `lake.sandbox`.

It is told the query and answers what it would read; it is told the files and answers rows. It has no manifest and no
way to it: before the query comes it has given up everything but reading the lake's Parquet folders (`lake.confine`).
What goes over its pipes are pieces of bytes, each behind its length.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from pathlib import Path
from typing import IO

import msgspec
import pyarrow as pa

from lake import confine, sql_plan
from lake.errors import LakeError, TooMuch
from lake.sql_engine import PARQUET, Engine, Limits, Source
from lake.sql_features import Catalog
from lake.sql_plan import Scan

_HEAD = struct.Struct("!Q")
LATE = 3.0
"""Seconds after its time in which a query may still end by itself."""
BESIDE = 256
"""MB that a process takes beside what the query may have."""


class Start(msgspec.Struct, frozen=True):
    """The first piece: where the lake is, and what the query may take."""

    root: str
    limits: Limits


class Ask(msgspec.Struct, frozen=True):
    """The second: a query, what it may take (no more than was said at the start), and feature sets that it may name."""

    query: str
    limits: Limits
    features: Catalog = ()


class Files(msgspec.Struct, frozen=True):
    """After the scans: where their rows are; a piece for each of `tables` follows, an Arrow stream."""

    sources: dict[str, Source]
    tables: tuple[str, ...]
    features: Catalog = ()


class Said(msgspec.Struct, frozen=True):
    """An answer of the process: scans, or the rows (the next piece), or what was wrong."""

    scans: tuple[Scan, ...] = ()
    capped: str | None = None
    wrong: str | None = None
    hint: str = ""
    kind: str = ""
    """The class of the error."""


def put(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_HEAD.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def take(pipe: IO[bytes], most: int) -> bytes:
    """The next piece, of at most `most` bytes. Raises EOFError where the other side ended, or says more."""
    head = pipe.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise EOFError
    length: int = _HEAD.unpack(head)[0]
    data: bytes = pipe.read(length) if length <= most else b""
    if len(data) < length:
        raise EOFError
    return data


def stream(table: pa.Table) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    made: bytes = sink.getvalue().to_pybytes()
    return made


def _watchdog(limits: Limits) -> threading.Timer:
    """Ends this process with a query that heeds no interruption, or whose asker is gone."""
    timer = threading.Timer((limits.seconds or 3600.0) + LATE, os._exit, (1,))
    timer.daemon = True
    timer.start()
    return timer


def main() -> None:
    """One query, then the end."""
    pipe_in, pipe_out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    most = 1 << 40
    start = msgspec.json.decode(take(pipe_in, most), type=Start)
    limits = start.limits
    os.chdir(start.root)
    if sys.platform != "win32":
        os.nice(10)  # what somebody asks waits for what is collected
    engine = Engine("", limits, threads=1)
    planner = sql_plan.Planner()
    planner.scans("SELECT 1 FROM gaps")
    engine.answer("SELECT * FROM gaps", {}, {})  # what DuckDB and pyarrow load when first asked, while it may be
    confine.limited((limits.memory or 1024) * 1_000_000 + BESIDE * 1_000_000, int(4 * (limits.seconds or 3600.0)) + 5)
    confine.only_read(Path(name) for name in PARQUET)
    try:
        asked = msgspec.json.decode(take(pipe_in, most), type=Ask)
        watchdog = _watchdog(asked.limits)
        scans = planner.learn(asked.features).scans(asked.query)
        put(pipe_out, msgspec.json.encode(Said(scans=tuple(scans))))
        watchdog.cancel()
        files = msgspec.json.decode(take(pipe_in, most), type=Files)
        rows = {name: pa.ipc.open_stream(take(pipe_in, most)).read_all() for name in files.tables}
        _watchdog(asked.limits)
        answer = engine.answer(asked.query, files.sources, rows, asked.limits, files.features)
        put(pipe_out, msgspec.json.encode(Said(capped=answer.capped)))
        put(pipe_out, stream(answer.table))
    except EOFError:
        pass  # who asked is gone
    except LakeError as error:
        told = Said(wrong=error.message, hint=error.hint, kind=type(error).__name__)
        put(pipe_out, msgspec.json.encode(told))
    except MemoryError:
        told = Said(wrong="SQL: the query needs more memory than it may have", kind=TooMuch.__name__)
        put(pipe_out, msgspec.json.encode(told))
    except Exception as error:  # noqa: BLE001 - a defect of ours: nobody sees what this process prints
        told = Said(wrong=f"SQL: this query could not be answered ({type(error).__name__})", kind=LakeError.__name__)
        put(pipe_out, msgspec.json.encode(told))
    os._exit(0)  # nothing is left to do, and DuckDB's threads need not be waited for


if __name__ == "__main__":
    main()
