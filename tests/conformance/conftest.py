"""Coroutine tests of this folder run on asyncio's loop and, where there is one, on uvloop: the daemon uses either."""

import asyncio

import pytest

from runtime import loop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    factories: dict[str, object] = {"asyncio": asyncio.new_event_loop}
    if loop.NAME == "uvloop":
        assert loop.factory is not None
        factories["uvloop"] = loop.factory
    return factories
