"""When a connection is given up: by the bytes that wait for its client, and by what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from api.sockets import ASK_SECONDS, LOOK_SECONDS, STALLED_SECONDS, watched

ANSWER = 100.0


class Loop:
    """Time that is moved by hand, and the one call that is due next."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        entry = (self.now + seconds, call)
        self.due.append(entry)
        return SimpleNamespace(cancel=lambda: self.due.remove(entry) if entry in self.due else None)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.due and min(at for at, _ in self.due) <= end:
            entry = min(self.due, key=lambda one: one[0])
            self.due.remove(entry)
            self.now = entry[0]
            entry[1]()
        self.now = end


class Transport(asyncio.Transport):
    """A socket that nobody reads from until it is told so."""

    def __init__(self) -> None:
        held = {"setsockopt": lambda *_: None, "getsockname": lambda: ("::1", 1), "getpeername": lambda: ("::1", 2)}
        super().__init__({"socket": SimpleNamespace(**held)})
        self.waiting, self.closing, self.aborted = 0, False, False
        self.protocol: Any = None

    def get_protocol(self) -> Any:
        return self.protocol

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Connected:
    def __init__(self) -> None:
        async def app(_scope: object, _receive: object, _send: object) -> None: ...

        self.loop, self.transport = Loop(), Transport()
        config = uvicorn.Config(app, log_config=None, lifespan="off")
        config.load()
        self.held = watched(ANSWER)(config, ServerState(), {}, self.loop)  # type: ignore[arg-type]
        self.transport.protocol = self.held
        self.held.connection_made(self.transport)

    def asked(self, *, complete: bool) -> None:
        """The head of a request has come; `complete` says that its answer was written."""
        self.held.cycle = SimpleNamespace(response_complete=complete, message_event=asyncio.Event())  # type: ignore[assignment]


@pytest.fixture
def client() -> Connected:
    return Connected()


def after(client: Connected, seconds: float) -> bool:
    """Whether it is given up within so many seconds, and not before."""
    client.loop.run(seconds - LOOK_SECONDS - 0.1)
    early = client.transport.aborted
    client.loop.run(LOOK_SECONDS + 0.2)
    return client.transport.aborted and not early


def test_who_connects_and_does_not_ask_is_given_up(client: Connected) -> None:
    assert after(client, ASK_SECONDS)


def test_who_has_asked_and_waits_is_not(client: Connected) -> None:
    client.asked(complete=False)
    client.loop.run(50 * ASK_SECONDS)
    assert not client.transport.aborted


def test_an_answer_that_nobody_takes_is_given_up(client: Connected) -> None:
    client.asked(complete=True)
    client.transport.waiting = 5_000_000
    assert after(client, STALLED_SECONDS + LOOK_SECONDS)


def test_who_reads_slowly_may_go_on_until_the_answer_is_over(client: Connected) -> None:
    client.asked(complete=True)
    client.transport.waiting = 5_000_000
    for _ in range(30):
        client.loop.run(STALLED_SECONDS / 2)
        client.transport.waiting -= 1000
    assert not client.transport.aborted
    client.transport.close()
    for _ in range(3):
        client.loop.run(ANSWER / 3 - 2)
        client.transport.waiting -= 1000
    assert not client.transport.aborted, "what was answered may be read for as long as an answer may take"
    client.loop.run(10)
    assert client.transport.aborted


def test_what_was_cut_off_is_given_up_at_once(client: Connected) -> None:
    client.asked(complete=False)
    client.transport.waiting = 5_000_000
    client.loop.run(1.5)
    client.transport.close()
    client.loop.run(LOOK_SECONDS)
    assert client.transport.aborted


def test_what_has_become_another_protocol_or_has_ended_is_not_looked_at(client: Connected) -> None:
    client.transport.protocol = object()
    client.loop.run(2 * ASK_SECONDS)
    assert (client.transport.aborted, client.loop.due) == (False, [])
    other = Connected()
    other.held.connection_lost(None)
    assert other.loop.due == []
