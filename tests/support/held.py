"""A function whose call in a thread ends when a test lets it go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.clock import settle

PATIENCE = 200
"""Seconds after which it ends by itself, so that a test that failed ends too."""


class Held:
    """Returns `result`. Make it where the loop runs."""

    def __init__(self, result: Any = None) -> None:
        self.begun, self.go = asyncio.Event(), threading.Event()
        self.calls = self.ended = 0
        self._loop, self._result = asyncio.get_running_loop(), result

    def __call__(self, *_given: Any, **_named: Any) -> Any:
        self.calls += 1
        self._loop.call_soon_threadsafe(self.begun.set)
        self.go.wait(PATIENCE)
        self.ended += 1
        return self._result


async def ends_before_its_asker(held: Held, asker: Awaitable[object]) -> None:
    """Who is cancelled while a thread is held is so once the thread has ended."""
    task = asyncio.ensure_future(asker)
    beginning = asyncio.ensure_future(held.begun.wait())
    try:
        await asyncio.wait((task, beginning), return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), "it never came to what is held"
        task.cancel()
        await settle()
        assert not task.done(), "what the thread writes comes after its asker has gone on"
    finally:
        beginning.cancel()
        held.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held.ended == 1


async def is_told(monkeypatch: pytest.MonkeyPatch, place: str, asker: Awaitable[object]) -> None:
    """Who is cancelled while `place` is at work in a thread has told it: `stopping` says so, where it asks."""
    held, heard = Held(), []

    def work(*given: Any, **named: Any) -> None:
        asks: Callable[[], bool] = named.get("stopping") or getattr(given[-1], "stopping", given[-1])
        heard.append(asks())
        held()
        heard.append(asks())

    monkeypatch.setattr(place, work)
    task = asyncio.ensure_future(asker)
    await held.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held.go.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert heard == [False, True]


async def keeps_its_turn(held: Held, first: Awaitable[object], second: Awaitable[object]) -> None:
    """Who is cancelled while a thread is held is so at once, and the next one begins when the thread has ended."""
    one = asyncio.ensure_future(first)
    await held.begun.wait()
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    held.begun.clear()
    two = asyncio.ensure_future(second)
    try:
        await settle()
        assert (held.calls, held.ended) == (1, 0), "two are at work at the same time"
    finally:
        held.go.set()
    await two
    assert held.ended == 2
