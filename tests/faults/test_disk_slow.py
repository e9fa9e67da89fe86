"""F14, F06, F12: a disk that is slow, one that fails twice, one that is read-only. Nothing that is lost is unsaid."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from lake import durable, failpoints
from lake.durable import Fault
from runtime.clock import SystemClock
from runtime.workers import InlineExecutor
from tests.support.clock import ManualClock
from tests.support.station import Station, ticks, unexplained
from tests.support.toy import T0

SECOND = 1_000_000


@pytest.fixture(autouse=True)
def _no_fault() -> Iterator[None]:
    yield
    durable.inject(None)


class Slow(Executor):
    """Runs a job at once and has its end come as much later, in virtual time, as its failpoints slept."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._slept = 0.0
        self.longest = 0.0
        self._waiting: set[asyncio.Task[None]] = set()

    def sleep(self, seconds: float) -> None:
        self._slept += seconds

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._slept = 0.0
        inner = InlineExecutor().submit(fn, *args, **kwargs)
        if not self._slept:
            return inner
        self.longest = max(self.longest, self._slept)
        outer: Future[Any] = Future()
        task = asyncio.get_running_loop().create_task(self._end(inner, outer, self._slept))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return outer

    async def _end(self, inner: Future[Any], outer: Future[Any], seconds: float) -> None:
        await self._clock.sleep(seconds)
        if error := inner.exception():
            outer.set_exception(error)
        else:
            outer.set_result(inner.result())


@pytest.mark.parametrize("delay", [0.2, 5.0, 60.0])
async def test_f14_queues_are_bounded_while_a_disk_is_slow_and_what_is_shed_is_counted(
    place: Path, monkeypatch: pytest.MonkeyPatch, delay: float
) -> None:
    script, sent = ticks(100, each=20)
    memory = 40_000
    fault = Fault("sync", 30, "DELAY", delay=delay, repeat=True)
    stuck: list[str] = []
    with Station(place / "lake", script, memory=memory, seal_seconds=600) as station:
        slow = Slow(station.clock)
        monkeypatch.setattr(failpoints.time, "sleep", slow.sleep)
        high: dict[str, int] = {}

        async def disk() -> None:
            await station.clock.sleep(10)
            durable.inject(fault)
            for _ in range(120):
                await station.clock.sleep(1)
                stuck.append(station.service.stuck() or "")
                intake = station.service._intake
                channels = (*intake._lanes.values(), *intake._frames.values())
                high.update({channel.name: channel.high_water for channel in channels})
                if fault.struck >= 4:
                    durable.inject(None)

        await station.run(600, disk, executor=slow)
        assert fault.struck
        assert slow.longest >= delay
        one_batch = 20 * 400
        assert max(high.values()) <= memory + one_batch, high
        assert station.service.impaired() is None
        assert any(stuck) == (delay >= 60), "the watchdog is not fed while nothing is written"
        # Trades are never given up: reading waited, and the venue's own buffers held what followed.
        assert station.stored() == sent
        assert [gap for gap in station.lost() if gap.ts_from < T0 + 99 * SECOND] == []
        quotes = set(station.stored("quote"))
        gaps = [gap for gap in station.lost("quote") if gap.ts_from < T0 + 99 * SECOND]  # then the venue falls silent
        totals = station.service.status()["binance/spot"]["shed"]
        assert len(quotes) + totals.get("quote", 0) == len(sent)
        assert len(gaps) <= 3, "one row an episode"
        assert {gap.cause for gap in gaps} <= {"shed"}
        assert bool(gaps) == bool(totals.get("quote", 0))
        for n in set(sent) - quotes:
            time = T0 + (n - 1) * SECOND // 20
            assert any(gap.ts_from <= time < (gap.ts_to or 0) for gap in gaps)
        assert station.wrong(sent) == []


async def test_f14_no_step_is_taken_in_the_thread_of_the_event_loop(place: Path) -> None:
    """So a slow one cannot hold it up."""
    loop_thread = threading.current_thread()
    threads: set[threading.Thread] = set()
    fault = Fault("sync", 1, "DELAY", delay=0.2, repeat=True)
    script, _ = ticks(30, each=5)
    with Station(place / "lake", script, clock=SystemClock()) as station:
        durable.inject(fault)
        try:
            with durable.observe(lambda _op: threads.add(threading.current_thread())):
                await station.run(lambda: fault.struck >= 5, executor=None)
        finally:
            durable.inject(None)
    assert loop_thread not in threads
    assert threads


@pytest.mark.parametrize("op", ["sync", "write", "*"])
async def test_f06_storage_that_fails_again_and_again_is_a_state_and_comes_back(place: Path, op: str) -> None:
    script, sent = ticks(400, every=2)
    fault = Fault(op, 1, "EIO", repeat=True)
    with Station(place / "lake", script, memory=20_000, write_ms=1000, seal_seconds=30) as station:

        async def disk() -> None:
            await station.clock.sleep(20.5)
            durable.inject(fault)
            await station.clock.sleep(200)
            files.append(len(list(station.root.rglob("*.open"))))
            durable.inject(None)

        files: list[int] = []
        await station.run(410, disk)
        assert fault.struck > 10
        states = [state for _, state in station.states]
        assert states == [None, "storage_failed", None]
        assert station.states[2][0] <= 221 + 60, "I12"
        assert files[0] < 200, "attempts grow rarer, so that they leave few files"
        stored, lost = station.stored(), station.lost()
        assert unexplained(sent, stored, lost) == []
        assert {gap.cause for gap in lost} <= {"storage_failed"}
        assert station.wrong(stored) == []


async def test_f12_every_step_read_only_for_a_while(place: Path) -> None:
    script, sent = ticks(100)
    fault = Fault("*", 1, "EROFS", repeat=True)
    with Station(place / "lake", script, memory=4_000) as station:

        async def disk() -> None:
            await station.clock.sleep(20.2)
            durable.inject(fault)
            await station.clock.sleep(40)
            durable.inject(None)

        await station.run(110, disk)
        assert fault.struck
        assert [state for _, state in station.states] == [None, "read_only", None]
        (gap,) = station.lost()
        assert gap.cause == "read_only"
        assert unexplained(sent, station.stored(), [gap]) == []
        assert station.wrong(station.stored()) == []


async def test_a_stop_on_a_disk_that_takes_nothing_says_so_and_the_next_start_names_the_loss(place: Path) -> None:
    from runtime.service import Fatal

    script, _ = ticks(40)
    with Station(place / "lake", script) as station:

        async def disk() -> None:
            await station.clock.sleep(20.2)
            durable.inject(Fault("*", 1, "EROFS", repeat=True))

        with pytest.raises(Fatal, match="cannot be written") as ended:
            await station.run(30, disk)
        assert ended.value.exit_code == 74
        durable.inject(None)
        assert station.wrong(range(1, 20)) == []
