"""Watch: asks once a second if the loop is late, midnight passed, and how far streams are sealed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lake.manifest import Manifest
from market import times
from runtime import metrics, telemetry
from runtime.clock import Clock, pause

EVERY_SECONDS = 1.0
BEAT_SECONDS = 0.1
WATERMARKS_EVERY = 10
"""Watermarks are read in every this-many-th second."""


class Watch:
    """A service that looks and says; it changes nothing."""

    name = "watch"
    phase = 3

    def __init__(self, clock: Clock, manifest: Manifest, close_delay_seconds: float) -> None:
        self._clock = clock
        self._manifest = manifest
        self._close_delay_seconds = close_delay_seconds

    async def run(self, stop: asyncio.Event) -> None:
        day = times.date_of(self._clock.now())
        beats = 0
        told = False
        while not told:
            began = self._clock.monotonic()
            told = await pause(self._clock, stop, EVERY_SECONDS)
            telemetry.loop_lag(seconds=max(0.0, self._clock.monotonic() - began - EVERY_SECONDS))
            today = times.date_of(self._clock.now())
            if today > day:
                ended = times.date_of(times.day_start(today) - 1)
                telemetry.midnight_crossed(date=ended.isoformat(), closes_in_seconds=self._close_delay_seconds)
            day = today
            beats += 1
            if beats % WATERMARKS_EVERY == 0:
                await asyncio.to_thread(self._read_watermarks)

    def _read_watermarks(self) -> None:
        for exchange, market_type, kind in self._manifest.streams():
            mark = self._manifest.watermark(exchange, market_type, kind)
            if mark is not None:
                metrics.watermark(exchange, market_type, kind, mark)


class Beat:
    """Measures, ten times a second, how late the event loop is: a pause that lasts longer was held up."""

    name = "beat"
    phase = 3

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            began = self._clock.monotonic()
            await self._clock.sleep(BEAT_SECONDS)
            metrics.loop_delay(max(0.0, self._clock.monotonic() - began - BEAT_SECONDS))


class Timer:
    """Ends the run after `--duration`."""

    name = "timer"
    phase = 0

    def __init__(self, clock: Clock, seconds: float, ask: Callable[[str], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._ask = ask

    async def run(self, stop: asyncio.Event) -> None:
        if not await pause(self._clock, stop, self._seconds):
            self._ask(f"ran for {self._seconds:g} s as asked")
