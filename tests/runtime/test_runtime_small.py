"""Clock helpers, retry delays, channels and the loop."""

import asyncio
import gc
import itertools
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import loop
from runtime.channel import Channel
from runtime.clock import SystemClock, pause, within
from runtime.retry import backoff
from tests.support.clock import NOON, ManualClock


async def test_sleepers_wake_in_the_order_of_their_deadlines():
    clock, woken = ManualClock(), []

    async def sleeper(seconds):
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        for seconds in (3, 1, 2):
            group.create_task(sleeper(seconds))
        await clock.advance(10)
    assert woken == [(1, 1), (2, 2), (1, 2), (3, 3), (2, 4), (3, 6)] or sorted(woken, key=lambda w: w[1]) == woken
    assert clock.now() == NOON + 10_000_000


async def test_hours_of_schedule_take_no_time():
    clock, stop, beats = ManualClock(), asyncio.Event(), []

    async def service():
        while not await pause(clock, stop, 60):
            beats.append(clock.now())
            if len(beats) == 600:
                stop.set()

    await clock.run(service())
    assert beats[-1] - beats[0] == 599 * 60_000_000


async def test_manual_clock_says_when_nothing_will_ever_happen():
    with pytest.raises(AssertionError, match="nothing happens"):
        await ManualClock().run(asyncio.Event().wait(), patience=0.01)


async def test_pause_returns_early_and_leaves_no_task_behind():
    clock, stop = ManualClock(), asyncio.Event()
    task = asyncio.ensure_future(pause(clock, stop, 1000))
    await clock.advance(1)
    stop.set()
    assert await task is True
    assert clock.sleeping == 0
    assert len(asyncio.all_tasks()) == 1


async def test_within_returns_the_result_the_error_or_a_timeout():
    clock = ManualClock()

    async def answer():
        await clock.sleep(1)
        return 42

    async def fail():
        raise KeyError("x")

    assert await clock.run(within(clock, 5, answer())) == 42
    with pytest.raises(KeyError):
        await clock.run(within(clock, 5, fail()))
    with pytest.raises(TimeoutError):
        await clock.run(within(clock, 0.5, answer()))
    assert clock.sleeping == 0


async def test_the_system_clock_moves_wall_time_only():
    clock, moved = SystemClock(), SystemClock(offset_us=-86_400_000_000)
    before, there, after = clock.now(), moved.now(), clock.now()
    assert before <= there + 86_400_000_000 <= after
    assert clock.monotonic() <= moved.monotonic() <= clock.monotonic()
    await clock.sleep(-1)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=50), st.floats(0, 5))
def test_delays_stay_between_floor_and_cap_and_never_end(draws, floor):
    draw = itertools.cycle(draws)
    for n, delay in enumerate(itertools.islice(backoff(lambda: next(draw), cap=60, floor=floor), 200)):
        assert floor <= delay <= max(floor, min(60, 2**n))


def test_senseless_delays_are_refused():
    with pytest.raises(ValueError, match="backoff needs"):
        next(backoff(lambda: 0.5, first=10, cap=1))


async def test_a_blocking_channel_takes_the_batch_in_hand_and_holds_the_producer():
    channel = Channel("trades", 10)
    assert channel.offer(["a", "b"], 12)
    assert channel.full
    waiting = asyncio.ensure_future(channel.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert channel.drain() == ["a", "b"]
    await waiting
    assert (channel.bytes, channel.high_water, channel.taken, channel.dropped, len(channel)) == (0, 12, 2, 0, 0)


async def test_a_dropping_channel_refuses_the_newest_and_counts_it():
    channel = Channel("books", 10, "drop_newest")
    assert channel.offer(["a"], 10)
    assert not channel.offer(["b", "c"], 1)
    assert (channel.dropped, channel.drain()) == (2, ["a"])
    assert channel.offer(["d"], 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.booleans()), max_size=60))
def test_a_channel_loses_nothing_uncounted_and_keeps_order(steps):
    channel, taken, drained, number = Channel("p", 30, "drop_newest"), [], [], itertools.count()
    refused = 0
    for count, nbytes, drain in steps:
        batch = [next(number) for _ in range(count)]
        if channel.offer(batch, nbytes):
            taken += batch
        else:
            refused += count
        assert channel.bytes <= 30 + 20
        if drain:
            drained += channel.drain()
    assert drained + channel.drain() == taken
    assert (channel.taken, channel.dropped) == (len(taken), refused)


def test_the_loop_is_uvloop_where_it_exists():
    async def bases():
        return [base.__module__ for base in type(asyncio.get_running_loop()).__mro__]

    assert any(name.startswith(loop.NAME) for name in loop.run(bases()))


def test_a_connection_that_is_given_up_closes_its_descriptor_once():
    async def given_up():
        near, far = socket.socketpair()
        number = near.fileno()
        dialling = asyncio.ensure_future(asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near))
        await asyncio.sleep(0)  # the loop has the descriptor, and the transport does not stand yet
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await asyncio.sleep(0)
        with open(os.devnull, "rb") as other:
            assert other.fileno() == number, "the number is free, and given to the next file"
            del near, dialling
            gc.collect()
            os.fstat(other.fileno())
        far.close()

    loop.run(given_up())
