"""The service that writes down each minute what is known of the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import loguru
import pytest

from collectors.clocks import Reading
from daemon import clock_record
from daemon.clock_record import ClockRecord
from lake.clock_files import ClockLook, read
from lake.errors import StorageFailed
from lake.writer import LakeWriter
from market.times import DAY, MINUTE
from runtime import metrics, saying
from runtime.kernel_clock import KernelClock
from tests.support.clock import ManualClock

T0 = 1_763_646_300_000_000
GOOD = KernelClock(synchronised=True, estimated_error_us=150, max_error_us=20_000)
BAD = KernelClock(synchronised=False)
READING = Reading(exchange="okx", market_type="spot", at=T0 - 5, offset_us=-1200, round_trip_us=900)


@pytest.fixture
def said() -> Iterator[list[tuple[str, str]]]:
    saying._periods.clear()  # what another test made it say is not kept quiet here
    lines: list[tuple[str, str]] = []
    sink = loguru.logger.add(
        lambda message: lines.append((message.record["level"].name, message.record["extra"].get("event"))),
        level="DEBUG",
    )
    yield lines
    loguru.logger.remove(sink)


class Bench:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def at_once(work: Callable[..., None], *arguments: object, **named: object) -> None:
            work(*arguments, **named)

        monkeypatch.setattr(clock_record.asyncio, "to_thread", at_once)
        self.clock = ManualClock(T0)
        self.writer = LakeWriter.open(root, "n", T0)
        self.kernel = GOOD
        self.sane = True
        self.record = ClockRecord(
            self.writer, self.clock, 30, lambda: [READING], lambda: self.sane, lambda: self.kernel
        )  # fmt: skip

    async def live(self, *acts: float | Callable[[], None]) -> list[ClockLook]:
        stop = asyncio.Event()

        async def scenario() -> None:
            running = asyncio.ensure_future(self.record.run(stop))
            for act in acts:
                await self.clock.sleep(act) if isinstance(act, float) else act()
            stop.set()
            await running

        await self.clock.run(scenario())
        self.writer.close()
        found = list(read(self.writer.root))
        assert all(isinstance(one, ClockLook) for one in found)
        return found  # type: ignore[return-value] # asserted in the line before


def gauge(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, labels)


async def test_each_minute_there_is_a_look_the_first_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    bench = Bench(tmp_path, monkeypatch)
    found = await bench.live(150.0)
    assert [look.at for look in found] == [T0, T0 + MINUTE, T0 + 2 * MINUTE]
    assert (found[0].synchronised, found[0].max_error_us, found[0].estimated_error_us) == (True, 20_000, 150)
    assert [look.drift_us for look in found] == [None, 0, 0]
    (venue,) = found[0].venues
    assert (venue.exchange, venue.market_type, venue.offset_us, venue.round_trip_us) == ("okx", "spot", -1200, 900)
    assert said.count(("INFO", "kernel_clock_synchronised")) == 1
    assert gauge("lake_clock_synchronised") == 1
    assert gauge("lake_clock_error_seconds", which="largest") == 0.02
    assert list(bench.record.status()["venues"]) == [
        {"exchange": "okx", "market_type": "spot", "at": T0 - 5, "offset_us": -1200, "round_trip_us": 900}
    ]


async def test_an_unsynchronised_kernel_is_a_warning_when_that_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    bench = Bench(tmp_path, monkeypatch)
    bench.kernel = BAD

    def becomes(kernel: KernelClock) -> Callable[[], None]:
        return lambda: setattr(bench, "kernel", kernel)

    await bench.live(
        130.0, becomes(GOOD), 60.0, becomes(BAD), 60.0, becomes(KernelClock(unknown="a sandbox")), 60.0
    )  # fmt: skip
    of_kernel = [(level, event) for level, event in said if str(event).startswith("kernel_clock")]
    assert of_kernel == [
        ("WARNING", "kernel_clock_unsynchronised"), ("INFO", "kernel_clock_synchronised"),
        ("WARNING", "kernel_clock_unsynchronised"), ("INFO", "kernel_clock_unknown"),
    ]  # fmt: skip
    assert gauge("lake_clock_synchronised") == -1
    assert gauge("lake_clock_error_seconds", which="largest") is None, "unknown is no number"


async def test_a_step_of_the_wall_clock_is_the_drift_of_that_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, monkeypatch)
    found = await bench.live(30.0, lambda: bench.clock.step(-2_000_000), 60.0, lambda: bench.clock.step(3_000), 60.0)
    assert [(look.drift_us, look.steps) for look in found] == [(None, 0), (-2_000_000, 1), (3_000, 0)]


async def test_a_disk_that_takes_nothing_is_said_and_lived_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]]
) -> None:
    bench = Bench(tmp_path, monkeypatch)
    append = bench.writer.clocks.append

    def full(*_: object, **__: object) -> None:
        raise StorageFailed("no room", "make some")

    monkeypatch.setattr(bench.writer.clocks, "append", full)
    found = await bench.live(90.0, lambda: monkeypatch.setattr(bench.writer.clocks, "append", append), 60.0)
    assert [look.at for look in found] == [T0 + 2 * MINUTE]
    assert ("WARNING", "clock_record_failed") in said


@pytest.mark.parametrize("sane", [True, False])
async def test_old_records_go_unless_the_clock_is_doubted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sane: bool
) -> None:
    bench = Bench(tmp_path, monkeypatch)
    bench.sane = sane
    bench.writer.clocks.append([ClockLook(at=T0 - 40 * DAY)])
    found = await bench.live(1.0)
    assert [look.at for look in found] == ([T0] if sane else [T0 - 40 * DAY, T0])
