"""The service manager is told: ready, alive while everything moves, stopping."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.heartbeat import Heartbeat
from runtime.notify import Notifier
from tests.support.clock import ManualClock

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="sockets in the file system")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.setblocking(False)
        yield made


class Part:
    name = "collectors"
    phase = 0

    def __init__(self) -> None:
        self.why: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        await stop.wait()

    def stuck(self) -> str | None:
        return self.why


def said(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


async def test_the_watchdog_is_fed_while_everything_moves(manager: socket.socket) -> None:
    clock, part, stop = ManualClock(0), Part(), asyncio.Event()
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000000"})
    running = asyncio.ensure_future(Heartbeat(clock, notifier, [part]).run(stop))
    await clock.advance(10.5)
    assert said(manager) == ["READY=1\nSTATUS=collecting", "WATCHDOG=1"]
    part.why = "no write pass for 16 s"
    await clock.advance(20.0)
    assert said(manager) == []
    part.why = None
    await clock.advance(10.0)
    assert said(manager) == ["WATCHDOG=1"]
    stop.set()
    await clock.run(running)
    assert said(manager) == ["STOPPING=1\nSTATUS=stopping"]
    notifier.close()


def test_without_a_service_manager_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    assert not Notifier({}).say("READY=1")
    gone = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "nonsense"})
    assert not gone.say("READY=1")
    assert gone.watchdog_seconds is None
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_seconds is None
