"""Serving replays until told to stop: where it listens, who may ask, the two ports of tardis-machine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

from daemon.errors import NotServed, StartFailed, Taken
from daemon.http import listen
from daemon.replay_server import MAX_TARGET, Limits, ReplayServer
from lake.reader import Lake
from runtime.addresses import is_loopback
from runtime.clock import Clock

LEAST_TOKEN = 32
MOST_TOKEN = 4096


def token_of(host: str, file: Path | None) -> str | None:
    """What is asked for at `host`. Raises NotServed: other machines reach it and there is no token, or a bad one."""
    if file is None:
        if not is_loopback(host):
            raise NotServed(
                f"other machines can reach {host}, and nothing is asked of them: name a file with a token of at least"
                f" {LEAST_TOKEN} characters (--token-file), or listen on 127.0.0.1"
            )
        return None
    if not file.is_file():
        raise NotServed(f"there is no file {file}: make one of mode 600 with a token of {LEAST_TOKEN} characters")
    with file.open("rb") as held:
        text = held.read(MOST_TOKEN + 1).decode("ascii", "replace").strip()
    if not LEAST_TOKEN <= len(text) <= MOST_TOKEN or not text.isascii() or any(one.isspace() for one in text):
        raise NotServed(f"{file} holds no token: {LEAST_TOKEN} to {MOST_TOKEN} ASCII characters without spaces")
    if file.stat().st_mode & 0o077 and hasattr(file, "owner"):
        raise NotServed(f"others may read {file}: chmod 600 it")
    return text


async def serve(
    lake: Lake,
    clock: Clock,
    limits: Limits,
    host: str,
    port: int,
    token: str | None,
    ready: Callable[[list[str]], None],
    stop: asyncio.Event,
) -> None:
    """Until `stop`. Everything is served on `port` and on the one above it, where tardis-machine has its WebSockets.

    Port 0 takes any one port. Raises Taken.
    """
    server = ReplayServer(lake, clock, limits, token)
    async with contextlib.AsyncExitStack() as stack:
        addresses = []
        for one in (port, port + 1) if port else (0,):
            try:
                runner, address = await listen(
                    server.application(), host, one, "choose another with --port", MAX_TARGET, cancelling=True
                )
            except StartFailed as error:
                raise Taken(str(error)) from error
            stack.push_async_callback(runner.cleanup)
            addresses.append(address)
        ready(addresses)
        await stop.wait()


def run(
    lake: Lake,
    clock: Clock,
    limits: Limits,
    host: str,
    port: int,
    token: str | None,
    ready: Callable[[list[str]], None],
) -> None:
    """`serve` until SIGINT or SIGTERM."""

    async def until_told() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(RuntimeError):  # Windows: a KeyboardInterrupt ends it
                loop.add_signal_handler(number, stop.set)
        await serve(lake, clock, limits, host, port, token, ready, stop)

    asyncio.run(until_told())
