"""Failpoints and observers: how each operation of `lake.durable` can be made to fail, and be watched.

    LAKE_FAULT=<operation or *>:<N or N+>:<kind>, which is KILL, KILL_AFTER, TORN, TERM, SEGV, EIO, ENOSPC, SHORT or
    DELAY[=seconds],

strikes at the N-th step of that name in this process (at every one from the N-th on with `N+`). KILL ends the process
with SIGKILL before the step and KILL_AFTER behind it; TORN carries out half of a write, then kills; SHORT carries out
half of it, then reports a full disk. SEGV crashes as native code does. TERM asks the process to end, as a service
manager would, and carries on.
`observe` reports every step that was carried out, with its bytes, so that a test can build each state a power cut could
leave behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self, TypeVar, get_args

T = TypeVar("T")
OpName = Literal["create", "write", "sync", "fsync", "fsync_dir", "mkdir", "rename", "link", "unlink", "truncate"]
FaultKind = Literal["KILL", "KILL_AFTER", "TORN", "TERM", "SEGV", "EIO", "ENOSPC", "EROFS", "SHORT", "DELAY"]
FAULT_VARIABLE: Final = "LAKE_FAULT"
DEFAULT_DELAY: Final = 0.2
_FAULT = re.compile(r"(\*|[a-z_]+):([1-9][0-9]*)(\+?):([A-Z_]+)(?:=([0-9]+(?:\.[0-9]+)?))?")


class Op(NamedTuple):
    """One step that was carried out. `target` is the new name of a rename or link, `size` what a truncate left."""

    name: OpName
    path: str
    target: str = ""
    data: bytes = b""
    size: int = 0


class Fault:
    """One failpoint; `due` counts the steps that it matches. See the module for the meaning of `kind`."""

    def __init__(self, op: str, number: int, kind: FaultKind, *, repeat: bool = False, delay: float = 0.0) -> None:
        if op != "*" and op not in get_args(OpName):
            raise ValueError(f"unknown operation {op!r}; known: * {' '.join(get_args(OpName))}")
        self.op = op
        self.number = number
        self.kind = kind
        self.repeat = repeat
        self.delay = delay or DEFAULT_DELAY
        self.seen = 0
        self.struck = 0
        self.struck_at: list[str] = []
        """Paths of the steps at which it struck."""
        self._lock = threading.Lock()

    def due(self, name: OpName) -> bool:
        """Count one step called `name`; whether the fault strikes at it."""
        if self.op not in ("*", name):
            return False
        with self._lock:
            self.seen += 1
            due = self.seen == self.number or (self.repeat and self.seen > self.number)
            self.struck += due
        return due


def fault_from_env(environ: Mapping[str, str] | None = None) -> Fault | None:
    """The failpoint that the environment asks for. Raises ValueError where LAKE_FAULT does not say one."""
    text = (os.environ if environ is None else environ).get(FAULT_VARIABLE, "")
    if not text:
        return None
    match = _FAULT.fullmatch(text)
    if match is None or match[4] not in get_args(FaultKind):
        raise ValueError(f"{FAULT_VARIABLE}={text!r} is not op:N:{'|'.join(get_args(FaultKind))}")
    kind: FaultKind = match[4]  # type: ignore[assignment] # checked against get_args above
    return Fault(match[1], int(match[2]), kind, repeat=bool(match[3]), delay=float(match[5] or 0))


class Observation:
    """A registered observer; `stop` (or leaving the with block) ends it."""

    def __init__(self, callback: Callable[[Op], None]) -> None:
        self._callback = callback
        _observers.append(callback)

    def stop(self) -> None:
        with contextlib.suppress(ValueError):
            _observers.remove(self._callback)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


_observers: list[Callable[[Op], None]] = []
_fault: Fault | None = fault_from_env()


def observe(callback: Callable[[Op], None]) -> Observation:
    """Call `callback` after every step that succeeds, from whatever thread took it, until the answer is stopped."""
    return Observation(callback)


def inject(fault: Fault | None) -> None:
    """Set or clear this process's failpoint."""
    global _fault  # noqa: PLW0603 # a failpoint is process-wide by nature
    _fault = fault


def _kill() -> None:
    if sys.platform == "win32":
        os._exit(137)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def step(op: Op, action: Callable[[], T], half: Callable[[], object] | None = None) -> T:
    """Carry out one operation, with the failpoint before and behind it and the observers told.

    `half` is what a torn or short one does instead.
    """
    fault = _fault if _fault is not None and _fault.due(op.name) else None
    if fault is not None:
        fault.struck_at.append(op.path)
        _strike(fault, op, half)
    result = action()
    for callback in tuple(_observers):
        callback(op)
    if fault is not None and fault.kind == "KILL_AFTER":
        _kill()
    return result


def _strike(fault: Fault, op: Op, half: Callable[[], object] | None) -> None:
    if fault.kind in ("TORN", "SHORT") and half is not None:
        half()
    if fault.kind in ("KILL", "TORN"):
        _kill()
    elif fault.kind == "TERM":
        os.kill(os.getpid(), signal.SIGTERM)
    elif fault.kind == "SEGV":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fault.kind == "DELAY":
        time.sleep(fault.delay)
    elif fault.kind != "KILL_AFTER":
        code = {"EIO": errno.EIO, "EROFS": errno.EROFS}.get(fault.kind, errno.ENOSPC)
        raise OSError(code, f"{os.strerror(code)} (injected)", op.path)


def watched() -> bool:
    """Whether somebody observes, so that the bytes of a write are worth copying."""
    return bool(_observers)
