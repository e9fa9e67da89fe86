"""Killing a piece of work at each of its durable steps, in a forked child, to try recovery on what is left."""

import contextlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lake import durable
from lake.errors import StorageFailed
from lake.failpoints import FaultKind


@contextlib.contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of syncs are taken there, and none of them is waited for."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="children are forked")
KILLED = 9


def run_until(work: Callable[[], object], fault: durable.Fault) -> int:
    """Run `work` in a child with that failpoint: 0 where it came to its end, KILLED where the failpoint struck."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            durable.inject(fault)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -KILLED), f"the child failed with {code}"
    return -code


def at_each_step(
    tmp_path: Path,
    work: Callable[[Path], object],
    kinds: tuple[FaultKind, ...] = ("KILL", "TORN"),
    prepare: Callable[[Path], object] = lambda root: None,
) -> Iterator[tuple[str, Path]]:
    """Kill `work(root)` at its first step, its second, ... until it survives: the name of each, and what it left."""
    for kind in kinds:
        for number in range(1, 1000):
            root = tmp_path / f"{kind}-{number}"
            root.mkdir()
            prepare(root)
            code = run_until(lambda root=root: work(root), durable.Fault("*", number, kind))
            yield f"{kind} {number}", root
            if code == 0:
                assert number > 1, "no step was ever taken"
                break
        else:
            raise AssertionError("the work never comes to its end")


NEVER = durable.Fault("*", 10**9, "DELAY")
"""A failpoint that does not strike."""


def failing_at_each_step(
    tmp_path: Path, work: Callable[[Path], object], kinds: tuple[FaultKind, ...] = ("EIO", "ENOSPC", "SHORT")
) -> Iterator[tuple[str, Path]]:
    """Let `work(root)` fail at its first step, its second, ... until it succeeds: each with what it left behind.

    `work` is expected to raise StorageFailed, and nothing else, where the failpoint struck.
    """
    for kind in kinds:
        for number in range(1, 1000):
            root = tmp_path / f"{kind}-{number}"
            root.mkdir()
            fault = durable.Fault("*", number, kind)
            durable.inject(fault)
            try:
                work(root)
            except StorageFailed:
                assert fault.struck, f"{kind} {number}: a failure that nobody caused"
            else:
                assert not fault.struck, f"{kind} {number}: a failure that nobody heard of"
            finally:
                durable.inject(None)
            yield f"{kind} {number}", root
            if not fault.struck:
                break
        else:
            raise AssertionError("the work never comes to its end")


# --- children of a process that has no threads ---

_SERVER = multiprocessing.get_context("forkserver") if sys.platform != "win32" else None
if _SERVER is not None:
    _SERVER.set_forkserver_preload(
        ["tests.support.life", "tests.support.invariants", "_strptime", "pandas", "pyarrow.pandas_compat"]
    )  # the last ones are what each child would import by itself: pyarrow asks for pandas where it is installed

Striking = tuple[str, int, FaultKind]
"""(operation or *, N, kind) of a failpoint."""


def _work(fault: Striking | None, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    import loguru

    loguru.logger.remove()
    if fault is not None:
        durable.inject(durable.Fault(*fault))
    work(*arguments)


def run_apart(work: Callable[..., object], *arguments: object, fault: Striking | None = None) -> int:
    """Run a module's function in a process of its own, with all engines at hand but no thread running.

    0 where it came to its end, KILLED where the failpoint struck; anything else is an error.
    """
    assert _SERVER is not None
    child = _SERVER.Process(target=_work, args=(fault, work, arguments))
    child.start()
    child.join(60)
    assert child.exitcode in (0, -KILLED), f"the child failed with {child.exitcode}"
    return -child.exitcode
