"""Coroutine tests of this folder run on asyncio's loop and, where there is one, on uvloop: the daemon uses either."""

import asyncio

import pytest

from runtime import loop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    factories: dict[str, object] = {"asyncio": asyncio.new_event_loop}
    if loop.NAME == "uvloop":
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories
