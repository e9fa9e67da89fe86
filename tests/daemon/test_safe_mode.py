"""Safe mode: when it begins, what waits for its end, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from collectors.config import SourceConfig
from daemon.config import SafeModeConfig
from daemon.safe_mode import STARTS, Held, SafeMode, Starts, read
from lake.durable import Fault
from lake.failpoints import inject
from tests.support.clock import ManualClock, settle

CONFIG = SafeModeConfig()


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done in a thread takes no virtual time."""

    async def at_once(work: Callable[..., object], *arguments: object) -> object:
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", at_once)


def start(root: Path, clock: ManualClock | None = None, config: SafeModeConfig = CONFIG) -> SafeMode:
    return SafeMode(root, config, clock or ManualClock())


def failed(root: Path) -> int:
    return read(root / STARTS).failed


async def live(mode: SafeMode, clock: ManualClock, *acts: object) -> None:
    """Run it through the acts: seconds, or calls."""
    stop = asyncio.Event()

    async def scenario() -> None:
        running = asyncio.ensure_future(mode.run(stop))
        for act in acts:
            await clock.sleep(act) if isinstance(act, float) else act()  # type: ignore[operator]
        stop.set()
        await running

    await clock.run(scenario())


async def test_the_fourth_start_after_three_that_failed_is_safe(tmp_path: Path) -> None:
    assert [start(tmp_path).active for _ in range(5)] == [False, False, False, True, True]
    assert failed(tmp_path) == 5


@pytest.mark.parametrize("code, counts", [(0, 0), (130, 0), (78, 2), (73, 2), (70, 3), (74, 3)])
async def test_what_an_end_says_of_the_start(tmp_path: Path, code: int, counts: int) -> None:
    for _ in range(2):
        start(tmp_path)
    start(tmp_path).ended(code)
    assert failed(tmp_path) == counts


async def test_a_start_that_has_run_for_a_while_is_none_that_failed(tmp_path: Path) -> None:
    for _ in range(2):
        start(tmp_path)
    clock = ManualClock()
    await live(start(tmp_path, clock), clock, 59.0)
    assert failed(tmp_path) == 3
    clock = ManualClock()
    await live(SafeMode(tmp_path, SafeModeConfig(failed_starts=9), clock), clock, 61.0)
    assert failed(tmp_path) == 0


async def test_it_is_left_after_its_minutes_and_forgotten_after_another_one(tmp_path: Path) -> None:
    for _ in range(3):
        start(tmp_path)
    clock, told = ManualClock(), []
    mode = start(tmp_path, clock)

    async def tell() -> None:
        told.append(mode.active)

    mode.on_leave = (tell,)
    seen: list[tuple[bool, int]] = []
    look = lambda: seen.append((mode.active, failed(tmp_path)))  # noqa: E731
    await live(mode, clock, 599.0, look, 2.0, look, 61.0, look)
    assert seen == [(True, 4), (False, 2), (False, 0)], "one more failure in that minute and it is on again"
    assert told == [False]


async def test_it_is_left_when_asked_and_says_so(tmp_path: Path) -> None:
    for _ in range(3):
        start(tmp_path)
    clock = ManualClock()
    mode = start(tmp_path, clock)
    assert "3 failed starts" in mode.said()
    assert mode.status() == {"active": True, "failed_starts": 3, "leaves_in_seconds": 600}
    answers: list[object] = []

    def ask() -> None:
        answers.append(mode.leave())

    await live(mode, clock, 5.0, ask, 1.0, ask)
    assert answers == [True, False]
    assert mode.said() == ""
    assert mode.status()["leaves_in_seconds"] is None


async def test_a_stop_in_safe_mode_does_not_leave_it(tmp_path: Path) -> None:
    for _ in range(3):
        start(tmp_path)
    clock = ManualClock()
    mode = start(tmp_path, clock)
    await live(mode, clock, 5.0)
    assert mode.active


async def test_zero_is_never(tmp_path: Path) -> None:
    never = SafeModeConfig(failed_starts=0)
    assert not any(start(tmp_path, config=never).active for _ in range(9))


@pytest.mark.parametrize("text", [b"", b"\xff", b'{"failed": "x"}', b"[]"])
async def test_a_count_that_cannot_be_read_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / STARTS).write_bytes(text)
    assert read(tmp_path / STARTS) == Starts()
    assert not start(tmp_path).active


async def test_a_full_disk_keeps_no_start_from_starting(tmp_path: Path) -> None:
    inject(fault := Fault("*", 1, "ENOSPC", repeat=True))
    try:
        assert not start(tmp_path).active
    finally:
        inject(None)
    assert fault.struck


class Part:
    name, phase = "transformer", 1

    def __init__(self) -> None:
        self.ran = 0

    async def run(self, stop: asyncio.Event) -> None:
        self.ran += 1
        await stop.wait()

    def status(self) -> dict[str, object]:
        return {"ran": self.ran}


@pytest.mark.parametrize("acts, ran", [(("stop",), 0), (("gate", "stop"), 1)])
async def test_what_is_held_runs_once_the_gate_is_open_and_ends_in_any_case(acts: Sequence[str], ran: int) -> None:
    part, gate, stop = Part(), asyncio.Event(), asyncio.Event()
    held = Held(part, gate)
    assert (held.name, held.phase) == (part.name, part.phase)
    assert held.status() == {"ran": 0, "waits_for": "the end of safe mode"}
    running = asyncio.ensure_future(held.run(stop))
    for act in acts:
        {"gate": gate, "stop": stop}[act].set()
        await settle()
    await asyncio.wait_for(running, 60)
    assert held.status() == {"ran": ran, "waits_for": None if ran else "the end of safe mode"}


async def test_what_is_polled_is_left_out_and_instruments_are_kept(tmp_path: Path) -> None:
    source = SourceConfig.model_validate(
        {
            "exchange": "binance", "market_type": "linear", "symbols": ["A"], "polls": {"depth_seconds": 60},
            "kinds": ["trade", "open_interest", "funding_rate"],
        }
    )  # fmt: skip
    only = source.model_copy(update={"kinds": ["open_interest"]})
    for _ in range(3):
        assert start(tmp_path).of([source, only]) == [source, only]
    (safe,) = start(tmp_path).of([source, only])
    assert safe.kinds == ["trade"]
    assert (safe.polls.depth_seconds, safe.polls.server_time_seconds) == (None, None)
    assert safe.polls.instruments_seconds == source.polls.instruments_seconds
