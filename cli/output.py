"""One value, two ways to print it: JSON for programs, text for people; and progress that never enters the output."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console

from cli.layout import blocks
from lake.jobs import eta
from market import times
from runtime import hearing

if TYPE_CHECKING:
    from loguru import Logger, Record

WIDE = 4000
"""Columns where nobody looks: what goes into a file or a pipe is not folded."""


class _Out(Console):
    """Whose reader may leave: then the command ends quietly, as `| head` expects."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


OUT = _Out(soft_wrap=True, highlight=False, width=None if sys.stdout is not None and sys.stdout.isatty() else WIDE)
ERR = Console(stderr=True, soft_wrap=True, highlight=False)

Report = Callable[[int, int, str], None]
"""(done, total, what): how far long work is."""


def quiet_logs() -> None:
    """Of what the packages say while they work, show warnings and errors only."""
    hearing.settle(_warn)


def _warn(logger: Logger) -> None:
    logger.remove()
    # a function, since to a string loguru adds the traceback: an expected error is a sentence
    logger.add(sys.stderr, level="WARNING", format=_log_line, backtrace=False, diagnose=False)


def _log_line(_record: Record) -> str:
    return "{level.name}: {message}\n"


def discard_output() -> None:
    """Nobody reads stdout any more: let the interpreter's last flush go nowhere instead of failing."""
    from lake.durable import open_private

    os.dup2(open_private(Path(os.devnull)), 1)


def end_with_reader() -> None:
    """Let the process end without a word where who reads its output leaves, as `| head` does. For what does nothing
    but print: a writer of a lake must live on.
    """
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def print_json(value: Any) -> None:
    """`value` (structs, dicts, lists) as one indented JSON document on stdout."""
    write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def write_bytes(data: bytes) -> None:
    """Bytes to stdout, at once; nowhere where that is closed."""
    if sys.stdout is not None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def _to_stderr(data: bytes) -> None:
    if sys.stderr is not None:
        sys.stderr.buffer.write(data)
        sys.stderr.flush()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Rows as a table that fits the terminal, numbers to the right; `empty` where there are none."""
    if not rows:
        OUT.print(empty, markup=False)
        return
    if title:
        OUT.print(title, style="italic", markup=False)
    print_cells(columns, [[cell(value) for value in row] for row in rows])


def print_cells(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The same of texts as they are."""
    for number, (heads, *lines) in enumerate(blocks(columns, rows, OUT.width)):
        if number:
            OUT.print()
        OUT.print(heads, style="bold", markup=False)
        if lines:
            OUT.print("\n".join(lines), markup=False)


def cell(value: object) -> str:
    """One table cell: thousands separated, nothing as `-`."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


def size(count: int) -> str:
    """Bytes for a person: `3.4 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def counted(count: int, what: str) -> str:
    """So many of something: `1 file`, `1,200 files`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def when(time: int | None) -> str:
    """A time to the second, `-` where there is none."""
    return "-" if time is None else times.text(time - time % times.SECOND)


class Pace:
    """How fast something goes: JSON lines of it, one a second at most, each with the seconds that are left."""

    def __init__(self, label: str, write: Callable[[bytes], None], now: Callable[[], float]) -> None:
        self._label = label
        self._write = write
        self._now = now
        self._began: tuple[float, int] | None = None
        self._told = -1e9

    def report(self, done: int, total: int, what: str) -> None:
        at = self._now()
        if self._began is None and total:
            self._began = (at, done)
        if at - self._told < 1.0 and done < total:
            return
        self._told = at
        began, first = self._began or (at, done)
        left = eta(done - first, total - first, at - began) if total else None
        line = {"what": f"{self._label} {what}", "done": done, "total": total, "eta_seconds": left}
        self._write(msgspec.json.encode({"progress": line}) + b"\n")


@contextmanager
def progress(label: str, quiet: bool, *, lines: bool = False) -> Iterator[Report]:
    """A progress bar on stderr where that is a terminal; silence elsewhere and with `quiet`; JSON lines there with
    `lines`.
    """
    if lines:
        from runtime.clock import SystemClock

        yield Pace(label, _to_stderr, SystemClock().monotonic).report
        return
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total, _what: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    bar = Progress(
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True)),
        console=ERR,
        expand=True,
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=None)

        def report(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{label} {what}")

        yield report
