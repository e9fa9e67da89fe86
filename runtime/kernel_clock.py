"""What the kernel says of the error of its clock: Linux's adjtimex, asked without changing anything.

Whoever disciplines the clock (chrony, ntpd, systemd-timesyncd, a hypervisor's agent) tells the kernel by how much it
may be wrong; where nobody does, the kernel counts up what it may be wrong by and calls it unsynchronised. Elsewhere,
and where a sandbox forbids the question, it is unknown, and said as unknown. Source: adjtimex(2), <sys/timex.h>.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable

import msgspec

TIME_ERROR = 5
"""The answer of a clock that is not synchronised."""
STA_UNSYNC = 0x0040
UNBOUNDED_US = 16_000_000
"""Linux counts the error no further (NTP_PHASE_LIMIT): it says nothing any more."""


class KernelClock(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the clock is synchronised, and its estimated and largest error in us; None is unknown, `unknown` why."""

    synchronised: bool | None = None
    estimated_error_us: int | None = None
    max_error_us: int | None = None
    unknown: str | None = None


class Timex(ctypes.Structure):
    """`struct timex` of Linux, all of its bytes."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("constant", ctypes.c_long),
        ("precision", ctypes.c_long), ("tolerance", ctypes.c_long), ("seconds", ctypes.c_long),
        ("fraction", ctypes.c_long), ("tick", ctypes.c_long), ("ppsfreq", ctypes.c_long), ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int), ("stabil", ctypes.c_long), ("jitcnt", ctypes.c_long), ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long), ("stbcnt", ctypes.c_long), ("tai", ctypes.c_int), ("reserved", ctypes.c_int * 11),
        ("spare", ctypes.c_long * 16),
    )  # fmt: skip


Answer = tuple[int, int, int, int]
"""(state, status, esterror, maxerror) of adjtimex"""


def judged(state: int, status: int, estimated: int, largest: int) -> KernelClock:
    """What an answer of adjtimex means. Errors that the kernel has ceased to count are unknown."""
    synchronised = state != TIME_ERROR and not status & STA_UNSYNC
    return KernelClock(
        synchronised=synchronised,
        estimated_error_us=estimated if synchronised or estimated < UNBOUNDED_US else None,
        max_error_us=largest if largest < UNBOUNDED_US else None,
    )


def kernel_clock(platform: str = sys.platform, ask: Callable[[], Answer] | None = None) -> KernelClock:
    """What the kernel says now. Any thread; some microseconds."""
    if platform != "linux":
        return KernelClock(unknown=f"{platform} does not say how well its clock is synchronised")
    try:
        return judged(*(ask or _adjtimex)())
    except (OSError, AttributeError) as error:
        return KernelClock(unknown=f"adjtimex cannot be asked: {error}")


def _adjtimex() -> Answer:
    timex = Timex()
    state = int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)))
    if state < 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, os.strerror(number))
    return state, timex.status, timex.esterror, timex.maxerror
