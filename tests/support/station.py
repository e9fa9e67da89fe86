"""A collecting daemon's inside on a disk that a test fills: toy venue, scripted connection, time that a test moves.

What was sent is known, so that afterwards every trade is either stored or named by a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple, Self
from unittest import mock

from collectors import exchanges, recovery, transports
from collectors.config import CollectorsConfig, WritingConfig
from collectors.http import Answer, Http
from collectors.service import CollectorsService
from daemon.config import DiskConfig
from daemon.space_watch import SpaceWatch
from lake.writer import LakeWriter
from market.times import SECOND
from runtime.workers import InlineExecutor
from tests.support import invariants, toy
from tests.support.clock import ManualClock, threads_at_once
from tests.support.invariants import manifest_rows
from tests.support.life import NODE, Promise
from tests.support.toy import T0, q, t
from tests.support.transport import ScriptedVenue

MB = 1024 * 1024
INLINE = InlineExecutor()
SMALL = {"low_percent": 0, "low_mb": 4, "critical_mb": 3, "full_mb": 1, "ballast_mb": 1}
"""Thresholds for a disk of 8 MB."""


class Lost(NamedTuple):
    """A gap as a test looks at it."""

    kind: str
    cause: str
    first: int | None
    end: int | None
    ts_from: int
    ts_to: int | None


class Station:
    """`script` is what the venue sends (see ScriptedTransport). Use as a context manager, then look at `root`."""

    def __init__(
        self,
        root: Path,
        script: Sequence[object],
        disk: dict[str, Any] | None = None,
        *,
        memory: int | None = None,
        clock: Any = None,
        **writing: Any,
    ) -> None:
        """`memory` is what each queue holds, in bytes; `clock` another than one that is moved by hand."""
        self.root = root
        self._memory = memory
        self.clock = ManualClock(T0) if clock is None else clock
        self.writer = LakeWriter.open(root, NODE, T0)
        self._script = script
        source = {
            "exchange": "binance", "market_type": "spot", "symbols": ["AAA"],
            "polls": {"server_time_seconds": None, "instruments_seconds": 86_400},
        }  # fmt: skip
        document = {"node": NODE, "sources": [source], "writing": {"write_ms": 500, "sync_ms": 1000, **writing}}
        self._config = CollectorsConfig.model_validate(document)
        self._disk = None if disk is None else DiskConfig.model_validate(disk)
        self.watch: SpaceWatch | None = None
        self.states: list[tuple[float, str | None]] = []
        """(seconds, state) whenever the collectors' state changed."""

    async def run(
        self, seconds: float | Callable[[], bool], *meanwhile: Callable[[], Any], executor: Executor | None = INLINE
    ) -> None:
        """Collect for so long, or, where nobody moves the clock, until it is so. `meanwhile` are coroutines that change
        the disk as time passes; `executor` None is the service's own thread, for a clock that nobody moves.
        """
        asyncio.get_running_loop().set_debug(False)  # stacks of a hundred thousand callbacks cost more than all else
        stops = recovery.settle(self.writer, self.writer.recover(T0), T0)
        with _toy(self._script, self.clock), _memory(self._memory), _threads(executor):
            self.service = CollectorsService(self._config, self.writer, self.clock, lambda: 0.5, stops, executor)
            if self._disk is not None:
                self.watch = SpaceWatch(self.clock, self.root, self._disk, self.service)
                await self.watch.look()
            if executor is None:
                await self._timed(seconds, meanwhile)
            else:
                assert isinstance(self.clock, ManualClock)
                assert not callable(seconds)
                await self.clock.run(self._timed(seconds, meanwhile), limit=seconds + 60)

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            await self.clock.sleep(0.02)

    async def _timed(self, seconds: float | Callable[[], bool], meanwhile: Sequence[Callable[[], Any]]) -> None:
        stop = asyncio.Event()
        watching = [asyncio.ensure_future(self.watch.run(stop))] if self.watch is not None else []
        watching += [asyncio.ensure_future(one()) for one in (self._note_states, *meanwhile)]
        running = asyncio.ensure_future(self.service.run(stop))
        timer = asyncio.ensure_future(self._until(seconds) if callable(seconds) else self.clock.sleep(seconds))
        await asyncio.wait((running, timer), return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        try:
            await running
        finally:
            for task in (timer, *watching):
                task.cancel()
            done = await asyncio.gather(*watching, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception):
                raise error

    async def _note_states(self) -> None:
        while True:
            state = self.service.impaired()
            if not self.states or self.states[-1][1] != state:
                self.states.append((self.clock.monotonic(), state))
            await self.clock.sleep(self._config.writing.write / SECOND)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.writer.close()

    # --- afterwards ---

    def stored(self, kind: str = "trade") -> list[int]:
        """Ids of a kind that are stored, in order."""
        return sorted(number for (held, _, number) in invariants.look(self.root).stored if held == kind)

    def lost(self, kind: str = "trade") -> list[Lost]:
        """Gaps of a kind, in order of time, but for that of our own stop."""
        rows = [row for row in manifest_rows(self.root)["gaps"] if row["kind"] == kind and row["cause"] != "stopped"]
        found = [Lost(kind, row["cause"], row["id_from"], row["id_to"], row["ts_from"], row["ts_to"]) for row in rows]
        return sorted(found, key=lambda gap: gap.ts_from)

    def wrong(self, ids: Sequence[int] = ()) -> list[str]:
        """I1-I3, I5, I8, I9 of the lake; `ids` are trades that had been acknowledged."""
        self.writer.close()
        promised = Promise(frozenset(("trade", "AAA", number) for number in ids))
        return invariants.check(self.root, promised)


def unexplained(sent: Sequence[int], stored: Sequence[int], gaps: Sequence[Lost]) -> list[int]:
    """Ids that were sent and are neither stored nor in a gap, or are both."""
    named = {n for gap in gaps if gap.first is not None and gap.end is not None for n in range(gap.first, gap.end)}
    return [n for n in sent if (n in named) == (n in set(stored))]


def ticks(seconds: int, each: int = 1, every: int = 1) -> tuple[list[object], list[int]]:
    """`each` trades and as many quotes a second, those of `every` seconds together; the script and the trades' ids."""
    script: list[object] = [[b"ack"]]
    for start in range(0, seconds * each, each * every):
        numbers = range(start + 1, min(start + each * every, seconds * each) + 1)
        script += [[made(n, (n - 1) * 1000 // each) for n in numbers for made in (t, q)], float(every)]
    return script, list(range(1, seconds * each + 1))


def _memory(nbytes: int | None) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if nbytes is None else mock.patch.object(WritingConfig, "queue_bytes", nbytes)


def _threads(executor: Executor | None) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if executor is None else threads_at_once()


@contextlib.contextmanager
def _toy(script: Sequence[object], clock: Any) -> Iterator[None]:
    async def fetch(_self: Http, _method: str, _url: str) -> Answer:
        return Answer(200, {}, b"{}")

    venue = ScriptedVenue(script, clock=clock)
    with (
        mock.patch.object(exchanges, "load", return_value=toy),
        mock.patch.object(Http, "fetch", fetch),
        mock.patch.object(transports, "load_or_reference", return_value=venue),
    ):
        yield
