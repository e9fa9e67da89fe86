"""ScriptedTransport: a connection whose every frame, pause, hang and end is written down beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from collectors.transports import Closed, ConnectFailed, Frames

END = object()
"""The peer ends the connection in order (code 1000)."""
CUT = object()
"""The connection breaks without a word (code 1006)."""
HANG = object()
"""Nothing comes any more, and nothing ends."""


class ScriptedTransport:
    """See `collectors.transports.Transport`. A script is frames, lists of frames read together, END, CUT and HANG.

    A float waits for so many seconds of `clock`. Without a last word the connection hangs.
    """

    def __init__(self, script: Sequence[object], now: Callable[[], int], clock: object = None) -> None:
        self._now = now
        self.sent: list[str] = []
        self.waiting = Frames([], [])
        """Read before, and not yet received."""
        self.closed = False
        self._script = list(script)
        self._clock = clock
        self._over = asyncio.Event()

    async def receive(self) -> Frames:
        while not self.closed:
            step = self._script.pop(0) if self._script else HANG
            if isinstance(step, bytes):
                step = [step]
            if isinstance(step, list):
                return Frames(step, [self._now()] * len(step))
            if isinstance(step, float):
                await self._clock.sleep(step)  # type: ignore[attr-defined]
            elif step is END:
                self.closed = True
                raise Closed(1000, "bye")
            elif step is CUT:
                self.closed = True
                raise Closed(1006, "no closing handshake")
            else:
                await self._over.wait()
        raise Closed(1000, "closed by us")

    def ready(self) -> Frames:
        """What a test has put to `waiting`; what the script says is handed over at once."""
        taken, self.waiting = self.waiting, Frames([], [])
        return taken

    async def send(self, text: str) -> None:
        if self.closed:
            raise Closed(1006, "no closing handshake")
        self.sent.append(text)

    async def close(self) -> None:
        self.closed = True
        self._over.set()


class ScriptedVenue:
    """A `Connect` that plays one script a connection; an exception in place of a script refuses it."""

    def __init__(self, *scripts: Sequence[object] | Exception, clock: object = None) -> None:
        self.transports: list[ScriptedTransport] = []
        self.attempts: list[str] = []
        self._scripts = list(scripts)
        self._clock = clock

    async def __call__(self, url: str, *, max_frame: int, timeout: float, now: Callable[[], int]) -> ScriptedTransport:
        self.attempts.append(url)
        script = self._scripts.pop(0) if self._scripts else ConnectFailed("nothing more is planned")
        if isinstance(script, Exception):
            raise script
        transport = ScriptedTransport(script, now, self._clock)
        self.transports.append(transport)
        return transport
