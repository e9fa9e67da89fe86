"""`--simulate`: local exchanges as a child process, a configuration that points at them, and the clock all live by."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from collectors import venues
from collectors.config import EndpointConfig, SourceConfig
from collectors.patterns import is_pattern
from daemon.config import Config
from daemon.errors import StartFailed
from market import times
from runtime.clock import SystemClock, within
from runtime.service import Fatal

START_SECONDS = 20.0
STOP_SECONDS = 2.0
FOR_PATTERNS = "10"
"""How many instruments there are for the patterns to mean, beside those named."""
LOOK_SECONDS = 2.0
"""How often the compactor looks for work in a simulated run, in place of compactor.interval_seconds."""


class Venue(msgspec.Struct):
    """Where one simulated exchange is: base addresses by market type, its fault port, its log."""

    rest: dict[str, str]
    ws: dict[str, str]
    control: str
    log: str


class Addresses(msgspec.Struct):
    """What the simulator says when it is ready."""

    venues: dict[str, Venue]


def clock(config: Config) -> SystemClock:
    """A clock that starts so many seconds before 00:00 UTC of today and then runs at normal speed."""
    now = SystemClock().now()
    start = times.floor_to(now, times.DAY) - round(config.simulate.seconds_before_midnight * times.SECOND)
    return SystemClock(start - now)


class Simulator:
    """The child process. Its standard input is a pipe: should this process die, the child ends by itself."""

    name = "simulator"
    phase = 3

    def __init__(self, config: Config, offset_us: int, log: Path) -> None:
        self._config = config
        self._offset_us = offset_us
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Addresses:
        """Start it and wait until it listens. Raises StartFailed."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # A session of its own: Ctrl-C goes to the daemon alone, which stops the sources before their venue.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        try:
            line = await within(SystemClock(), START_SECONDS, self._process.stdout.readline())
            return msgspec.json.decode(line, type=Addresses)
        except TimeoutError as error:
            await self.stop()
            raise StartFailed(f"the simulator was not ready within {START_SECONDS:.0f} s") from error
        except msgspec.MsgspecError as error:
            code = await self.stop()
            raise StartFailed(f"the simulator did not start (exit code {code})") from error

    async def run(self, stop: asyncio.Event) -> None:
        """Stay until told to stop; an exchange that ends before is fatal, since nothing can be collected any more."""
        assert self._process is not None
        ended = asyncio.get_running_loop().create_task(self._process.wait())
        told = asyncio.get_running_loop().create_task(stop.wait())
        try:
            await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not stop.is_set():
                raise Fatal(f"the simulator ended with exit code {ended.result()}")
        finally:
            ended.cancel()
            told.cancel()
            await asyncio.gather(ended, told, return_exceptions=True)
            await self.stop()

    async def stop(self) -> int | None:
        """End the child, politely first; its exit code."""
        process = self._process
        if process is None:
            return None
        if process.stdin is not None:
            process.stdin.close()
        try:
            await within(SystemClock(), STOP_SECONDS, process.wait())
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return process.returncode

    def _command(self) -> list[str]:
        by_venue: dict[str, list[SourceConfig]] = {}
        for source in self._config.collectors.sources:
            by_venue.setdefault(source.exchange, []).append(source)
        if not by_venue:
            raise StartFailed("--simulate has nothing to simulate: collectors.sources is empty")
        for name in by_venue:
            if venues.by_ccxt(venues.load(name)) is not None:
                raise StartFailed(f"--simulate has no twin of {name}: it plays the venues of `dl exchanges`")
        options = {
            "--venue": ",".join(by_venue),
            "--port": "0",
            "--seed": str(self._config.simulate.seed),
            "--rate": f"{self._config.simulate.rate:g}",
            "--clock-offset-us": str(self._offset_us),
            "--log": str(self._log),
        }
        command = [sys.executable, "-m", "simulator", *(f"{name}={value}" for name, value in options.items())]
        for venue, sources in by_venue.items():
            markets = dict.fromkeys(source.market_type for source in sources)
            command += [f"--symbols={venue}={','.join(_listed(sources))}", f"--markets={venue}={','.join(markets)}"]
        return command


def _listed(sources: Sequence[SourceConfig]) -> list[str]:
    """What an exchange has to list: the symbols that are named, and some for patterns to mean."""
    given = dict.fromkeys(symbol for source in sources for symbol in source.symbols)
    symbols = [symbol for symbol in given if not is_pattern(symbol)]
    return symbols if len(symbols) == len(given) else [*symbols, FOR_PATTERNS]


def pointed_at(config: Config, addresses: Addresses) -> Config:
    """`config` with every source's endpoint at the simulator and the demonstration's shorter delays.

    Raises StartFailed for a market that the simulator was not started with.
    """
    sources = [_source(source, addresses) for source in config.collectors.sources]
    writing = config.collectors.writing.model_copy(update={"seal_seconds": config.simulate.seal_seconds})
    collectors = config.collectors.model_copy(update={"sources": sources, "writing": writing})
    hurry = {"close_delay_seconds": config.simulate.close_delay_seconds, "interval_seconds": LOOK_SECONDS}
    compactor = config.compactor.model_copy(update=hurry)
    http = config.http.model_copy(update={"port": 0})  # a real daemon may hold the configured one
    disk = config.disk.model_copy(update={"low_percent": 0.0})  # a demonstration needs little of a large disk
    return config.model_copy(update={"collectors": collectors, "compactor": compactor, "http": http, "disk": disk})


def _source(source: SourceConfig, addresses: Addresses) -> SourceConfig:
    venue = venues.load(source.exchange).ENDPOINTS[source.market_type]
    simulated = addresses.venues.get(source.exchange)
    if simulated is None or source.market_type not in simulated.rest:
        raise StartFailed(f"the simulator runs without {source.exchange} {source.market_type}: that needs a restart")
    rest = _moved(venue.rest, simulated.rest[source.market_type])
    ws = _moved_all(venue.ws, simulated.ws[source.market_type])
    return source.model_copy(update={"endpoint": EndpointConfig(rest=rest, ws=ws)})


def _moved_all(urls: Mapping[str, str], base: str) -> dict[str, str]:
    return {name: _moved(url, base) for name, url in urls.items()}


def _moved(url: str, base: str) -> str:
    """`url` with its scheme and host replaced by `base`: the venue's own path and query follow."""
    parts = urlsplit(url)
    return base.rstrip("/") + parts.path.rstrip("/") + (f"?{parts.query}" if parts.query else "")
