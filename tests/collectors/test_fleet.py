"""How one plan of connections becomes another: what moves begins in its new place before it ends in its old one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from collectors.fleet import MOVE_SECONDS, Fleet
from collectors.planning import Changes
from market.session import Connection, Stream, StreamState
from tests.support.clock import ManualClock


def stream(name: str) -> Stream:
    return Stream(name, "trade", name, "trade", contiguous=True)


def connection(name: str, *streams: str, url: str = "ws://v.test") -> Connection:
    return Connection("v", "spot", name, url, tuple(map(stream, streams)))


class Fake:
    """A driver that writes down what is asked of it; its streams have sent so many `events`."""

    def __init__(self, made: Connection, log: list[str]) -> None:
        self.connection = made
        self.events = 0
        self._log = log

    @property
    def life(self) -> object:
        states = [StreamState(each, events=self.events) for each in self.connection.streams]
        return SimpleNamespace(link=SimpleNamespace(session=SimpleNamespace(streams=lambda: states)))

    def replan(self, made: Connection) -> None:
        self._log.append(f"replan {self.connection.name} {' '.join(s.name for s in made.streams)}")
        self.connection = made

    def retire(self) -> None:
        self._log.append(f"retire {self.connection.name}")


class Bench:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.clock = ManualClock()
        self.drivers: dict[str, Fake] = {}
        self.fleet = Fleet(self.clock, self._start)  # type: ignore[arg-type] # a driver as far as it is used

    async def _start(self, made: Connection) -> Fake:
        self.log.append(f"start {made.name}")
        self.drivers[made.name] = Fake(made, self.log)
        return self.drivers[made.name]

    async def begin(self, *plan: Connection) -> None:
        await self.fleet.apply(Changes(add=plan))
        self.log.clear()


async def test_a_change_without_moves_is_carried_out_at_once() -> None:
    bench = Bench()
    await bench.begin(connection("c-1", "A", "B"), connection("c-2", "C"), connection("c-3", "D"))
    one, four = connection("c-1", "A", "E"), connection("c-4", "F")
    changes = Changes(keep=(connection("c-3", "D"),), replan={"c-1": one}, add=(four,), retire=("c-2",))
    await bench.fleet.apply(changes)
    assert bench.log == ["replan c-1 A E", "start c-4", "retire c-2"]
    assert set(bench.fleet.connections) == {one, four, connection("c-3", "D")}
    assert bench.clock.slept == []


async def test_a_stream_that_moves_begins_there_before_it_ends_here() -> None:
    bench = Bench()
    await bench.begin(connection("c-1", "A", "B"), connection("c-2", "C"))
    one, two = connection("c-1", "A"), connection("c-2", "C", "B")

    async def produce() -> None:
        await bench.clock.sleep(3.0)
        assert bench.log == ["replan c-2 C B"]
        bench.drivers["c-2"].events = 1

    async def apply() -> None:
        await bench.fleet.apply(Changes(replan={"c-1": one, "c-2": two}, moved=frozenset({"B"})))

    work = bench.clock.run(produce())
    applying = asyncio.ensure_future(apply())
    await work
    await bench.clock.run(asyncio.wait_for(applying, 60))
    assert bench.log == ["replan c-2 C B", "replan c-1 A"]
    assert bench.clock.monotonic() < MOVE_SECONDS


async def test_a_move_that_never_comes_is_not_waited_for_without_end() -> None:
    bench = Bench()
    await bench.begin(connection("c-1", "A"))
    await bench.clock.run(
        bench.fleet.apply(Changes(add=(connection("c-2", "A"),), retire=("c-1",), moved=frozenset({"A"})))
    )
    assert bench.log == ["start c-2", "retire c-1"]
    assert bench.clock.monotonic() >= MOVE_SECONDS


async def test_a_connection_changes_its_name() -> None:
    bench = Bench()
    await bench.begin(connection("c-1", "A"))
    await bench.fleet.apply(Changes(replan={"c-1": connection("c-1-a", "A")}, add=(connection("c-1-b", "A"),)))
    assert [each.name for each in bench.fleet.connections] == ["c-1-a", "c-1-b"]
    await bench.fleet.apply(Changes(replan={"c-1-a": connection("c-1", "A")}, retire=("c-1-b",)))
    assert bench.fleet.connections == (connection("c-1", "A"),)
