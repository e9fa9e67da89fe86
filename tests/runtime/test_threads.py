"""A thread's work is waited for to its end, also by who is cancelled meanwhile, or keeps its turn until then."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from runtime.threads import Line, to_the_end
from tests.support.clock import settle
from tests.support.held import Held, keeps_its_turn


async def test_who_is_cancelled_is_so_once_the_thread_has_ended() -> None:
    begun, go, written = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def work(what: str, *, fails: bool) -> str:
        loop.call_soon_threadsafe(begun.set)
        go.wait()
        written.append(what)
        if fails:
            raise ValueError(what)
        return what

    for fails in (False, True):
        begun.clear()
        go.clear()
        waiting = asyncio.ensure_future(to_the_end(work, "x", fails=fails))
        await begun.wait()
        waiting.cancel()
        await settle()
        assert not waiting.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert written == ["x", "x"]


async def test_what_it_gives_and_what_it_raises_is_told() -> None:
    assert await to_the_end(int, "7", base=8) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await to_the_end(int, "x")


async def test_who_is_cancelled_in_a_turn_leaves_it_to_the_thread() -> None:
    line, held, said = Line(), Held(7), list[str]()
    await keeps_its_turn(held, line.run("the first", said.append, held), line.run("the second", said.append, held))
    assert said == ["waits until the first is over"], "although nobody waits for that any more"
    assert await line.run("a third", said.append, held) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await line.run("a fourth", said.append, int, "x", base=8)
    assert await line.run("a fifth", said.append, held) == 7
    assert len(said) == 1


async def test_who_waits_is_told_for_whom_and_comes_in_its_order() -> None:
    line, first, second = Line(), Held(1), Held(2)
    said: dict[str, list[str]] = {name: [] for name in "abcd"}
    a = asyncio.ensure_future(line.run("a", said["a"].append, first))
    await first.begun.wait()
    b, c, d = (asyncio.ensure_future(line.run(name, said[name].append, held))
               for name, held in (("b", second), ("c", int), ("d", int)))  # fmt: skip
    await settle()
    c.cancel()
    await settle()
    first.go.set()
    assert await a == 1
    await second.begun.wait()
    assert said == {
        "a": [], "b": ["waits until a is over"], "c": ["waits until a is over"],
        "d": ["waits until a is over", "waits until b is over"],
    }  # fmt: skip
    second.go.set()
    assert (await b, await d) == (2, 0)
    with pytest.raises(asyncio.CancelledError):
        await c


@pytest.mark.parametrize("waits", [True, False])
async def test_what_fails_when_nobody_waits_any_more_is_no_traceback(waits: bool) -> None:
    """Neither for who is cancelled once, nor for who is so again while a thread is waited for."""
    loop, said = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, told: said.append(told))
    begun, go, over = asyncio.Event(), threading.Event(), asyncio.Event()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait()
        loop.call_soon_threadsafe(over.set)
        raise ValueError("it was closed meanwhile")

    asking = asyncio.ensure_future(to_the_end(work) if waits else Line().run("work", None, work))
    await begun.wait()
    for _ in range(1 + waits):
        asking.cancel()
        await settle()
    with pytest.raises(asyncio.CancelledError):
        await asking
    del asking
    go.set()
    await over.wait()
    await loop.shutdown_default_executor()
    await settle()
    gc.collect()
    assert said == []
