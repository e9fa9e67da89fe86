"""The supervisor: restarts, phases, stragglers by name, fatal errors, and the second signal."""

import asyncio

import pytest

from runtime.clock import pause
from runtime.service import Fatal
from runtime.supervisor import Supervisor
from tests.support.clock import ManualClock


class Part:
    """A service whose behaviour is a function of (part, stop)."""

    def __init__(self, name, phase, body, log=None):
        self.name, self.phase, self._body, self.log = name, phase, body, log if log is not None else []
        self.runs = 0

    async def run(self, stop):
        self.runs += 1
        await self._body(self, stop)


async def until_told(part, stop):
    await stop.wait()
    part.log.append(part.name)


def draining(clock, seconds):
    async def body(part, stop):
        await stop.wait()
        await clock.sleep(seconds)
        part.log.append(part.name)

    return body


async def deaf(part, stop):
    await asyncio.Event().wait()


async def start(supervisor, stop, hurry=None):
    task = asyncio.ensure_future(supervisor.run(stop, hurry))
    await asyncio.sleep(0.001)
    return task


async def test_phases_stop_in_order_each_only_when_the_earlier_has_drained():
    clock, log, stop = ManualClock(), [], asyncio.Event()
    parts = [Part("compactor", 2, draining(clock, 1), log), Part("a", 0, draining(clock, 2), log)]
    parts += [Part("b", 0, until_told, log), Part("transformer", 1, draining(clock, 1), log)]
    task = await start(Supervisor(parts, clock), stop)
    stop.set()
    assert await clock.run(task) == 0
    assert log == ["b", "a", "transformer", "compactor"]
    assert clock.monotonic() == pytest.approx(4)


async def test_a_failing_service_starts_again_with_growing_delays_and_is_counted():
    clock, stop = ManualClock(), asyncio.Event()

    async def body(part, stop):
        if part.runs <= 3:
            raise OSError("no route")
        await stop.wait()

    supervisor = Supervisor([Part("c", 0, body)], clock, delays=lambda: iter([1.0, 2.0, 4.0]))
    task = await start(supervisor, stop)
    await clock.advance(7.5)
    assert supervisor.status()["c"] == {"state": "running", "phase": 0, "restarts": 3, "error": "OSError: no route"}
    stop.set()
    assert await clock.run(task) == 0


async def test_a_long_run_resets_the_backoff():
    clock, stop = ManualClock(), asyncio.Event()

    async def body(part, stop):
        await pause(clock, stop, 100)
        if not stop.is_set():
            raise OSError("cut")

    task = await start(Supervisor([Part("c", 0, body)], clock, delays=lambda: iter([1.0])), stop)
    await clock.advance(350)  # a second failure would exhaust the delays if they were not made anew
    stop.set()
    assert await clock.run(task) == 0


async def test_a_service_waiting_in_backoff_wakes_on_stop():
    clock, stop = ManualClock(), asyncio.Event()

    async def body(part, stop):
        raise OSError("down")

    supervisor = Supervisor([Part("c", 0, body)], clock, delays=lambda: iter([1000.0]))
    task = await start(supervisor, stop)
    await clock.advance(1)
    assert supervisor.status()["c"]["state"] == "backoff"
    stop.set()
    assert await clock.run(task) == 0
    assert clock.monotonic() < 2
    assert supervisor.status()["c"]["state"] == "stopped"


async def test_a_fatal_error_stops_everything_and_its_exit_code_is_the_process_s():
    clock, log, stop = ManualClock(), [], asyncio.Event()

    async def body(part, stop):
        await clock.sleep(1)
        raise Fatal("storage failed", 74)

    supervisor = Supervisor([Part("a", 0, body), Part("b", 2, until_told, log)], clock)
    assert await clock.run(supervisor.run(stop)) == 74
    assert log == ["b"]
    assert stop.is_set()
    assert supervisor.status()["a"]["state"] == "failed"


async def test_an_error_that_carries_a_terminal_exit_code_is_fatal_too():
    class StorageFailed(Exception):
        exit_code = 74

    async def body(part, stop):
        raise StorageFailed("EIO")

    assert await ManualClock().run(Supervisor([Part("a", 0, body)], ManualClock()).run(asyncio.Event())) == 74


async def test_a_fatal_error_inside_a_task_group_is_fatal_and_named():
    async def body(part, stop):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    async def fail():
        raise Fatal("the disk is gone", 74)

    supervisor = Supervisor([Part("a", 0, body)], ManualClock())
    assert await supervisor.run(asyncio.Event()) == 74
    assert supervisor.status()["a"]["error"] == "Fatal: the disk is gone"
    assert supervisor.states() == {"a": "failed"}


async def test_stragglers_are_named_then_cancelled_within_the_deadline(said):
    clock, log, stop = ManualClock(), [], asyncio.Event()
    parts = [Part("slow-venue", 0, deaf), Part("compactor", 2, draining(clock, 0.2), log)]
    task = await start(Supervisor(parts, clock, deadline_seconds=10), stop)
    stop.set()
    assert await clock.run(task) == 0
    assert clock.monotonic() <= 10
    assert log == ["compactor"]
    assert [line for line in said("straggling") if "slow-venue" in line]
    assert any("slow-venue" in line for line in said("cancelled"))


async def test_a_second_signal_cancels_everything_at_once():
    clock, stop, hurry = ManualClock(), asyncio.Event(), asyncio.Event()
    task = await start(Supervisor([Part("a", 0, deaf), Part("b", 1, deaf)], clock), stop, hurry)
    stop.set()
    await clock.advance(1)
    hurry.set()
    assert await clock.run(task) == 130
    assert clock.monotonic() == pytest.approx(1)


async def test_it_ends_by_itself_when_every_service_is_done():
    async def body(part, stop):
        part.log.append(part.name)

    part = Part("once", 0, body)
    assert await Supervisor([part], ManualClock()).run(asyncio.Event()) == 0
    assert (part.log, part.runs) == (["once"], 1)


async def test_cancelling_the_supervisor_cancels_its_services():
    clock, stop = ManualClock(), asyncio.Event()
    supervisor = Supervisor([Part("a", 0, deaf)], clock)
    task = await start(supervisor, stop)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert supervisor.status()["a"]["state"] == "cancelled"


def test_two_services_of_one_name_are_refused():
    with pytest.raises(ValueError, match="one name"):
        Supervisor([Part("a", 0, deaf), Part("a", 1, deaf)], ManualClock())
