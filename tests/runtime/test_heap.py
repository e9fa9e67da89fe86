"""What is free in the heap is given back, where the C library has to be asked for that."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque

import pytest

from runtime.heap import EVERY_SECONDS, HeapService, trim_of
from tests.support.clock import ManualClock

HOLES = """
import os
from runtime.heap import trim_of

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

held = [bytearray(20_000) for _ in range(5_000)]
kept = held[::10]
del held
before = resident()
trim_of()(0)
print(before - resident())
"""
"""Large blocks of which every tenth stays: what is free between them is 90 MB."""


@pytest.mark.skipif(trim_of() is None, reason="another C library")
def test_what_is_free_between_what_is_held_is_given_back() -> None:
    said = subprocess.run([sys.executable, "-c", HOLES], check=True, capture_output=True, text=True, timeout=60).stdout
    assert int(said) > 50_000_000


async def test_it_is_asked_every_minute_until_told_to_stop() -> None:
    clock, stop, asked = ManualClock(), asyncio.Event(), list[str]()

    def collect() -> int:
        asked.append("cycles")
        return 0

    def trim(pad: int) -> int:
        asked.append(f"heap {pad}")
        if len(asked) == 6:
            stop.set()
        return 1

    await clock.run(HeapService(clock, collect, trim).run(stop))
    assert asked == ["cycles", "heap 0"] * 3
    assert clock.monotonic() == pytest.approx(3 * EVERY_SECONDS)


async def test_where_the_c_library_gives_nothing_back_cycles_are_freed_all_the_same() -> None:
    clock, stop = ManualClock(), asyncio.Event()

    def collect() -> int:
        stop.set()
        return 0

    await clock.run(HeapService(clock, collect, None).run(stop))
    assert clock.monotonic() == pytest.approx(EVERY_SECONDS)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_need_it_not(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert trim_of() is None


def test_a_c_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("runtime.heap.ctypes.CDLL", lambda _name: deque())
    assert trim_of() is None
