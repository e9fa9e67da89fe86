"""Turns: those who want one are woken together, after its time or when somebody takes it."""

from __future__ import annotations

import asyncio

from runtime.turns import Turns, turns_of
from tests.support.virtual.loop import VirtualLoop


class Woken:
    """Turns of two seconds on a loop of virtual time, and who was woken when."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.turns = Turns(self.loop, 2.0)
        self.at: list[tuple[str, float]] = []

    def want(self, name: str) -> None:
        self.turns.wanted(lambda: self.at.append((name, self.loop.time())))


def test_all_that_want_a_turn_have_it_together_when_its_time_has_passed_for_the_first() -> None:
    woken = Woken()

    async def live() -> None:
        woken.want("a")
        await asyncio.sleep(1.5)
        woken.want("b")
        await asyncio.sleep(1.5)
        woken.want("c")
        await asyncio.sleep(5.0)

    woken.loop.run_until_complete(live())
    assert woken.at == [("a", 2.0), ("b", 2.0), ("c", 5.0)]


def test_a_turn_that_is_taken_is_over_and_the_next_one_has_its_whole_time() -> None:
    woken = Woken()

    async def live() -> None:
        woken.want("a")
        woken.want("b")
        await asyncio.sleep(1.5)
        assert woken.turns.take()
        assert woken.at == [("a", 1.5), ("b", 1.5)]
        assert not woken.turns.take(), "nobody wants one"
        woken.want("c")
        await asyncio.sleep(5.0)

    woken.loop.run_until_complete(live())
    assert woken.at[2:] == [("c", 3.5)], "not at 2.0, when the turn that was taken would have come"


async def test_a_loop_has_one_set_of_turns() -> None:
    loop = asyncio.get_running_loop()
    assert turns_of(loop, 1.0) is turns_of(loop, 2.0)
