"""The life of the process: lock, recovery, services in phases, a bounded stop; returns the exit code.

Order at the start: the lock (a second daemon ends here, having touched nothing), logs, recovery, workers, services.
Order at the end: the supervisor's phases, workers, manifest and lock, logs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from daemon import simulate
from daemon.arguments import Options
from daemon.config import Config
from daemon.control import ControlService
from daemon.errors import DaemonError, code_of
from daemon.heartbeat import Heartbeat
from daemon.http import HttpService
from daemon.reloading import Hangup, Reloader
from daemon.safe_mode import SafeMode
from daemon.serving import ServeService
from daemon.status import Status
from daemon.stopping import Guard, Stopper
from daemon.watch import Beat, Timer, Watch
from lake.errors import LakeError, LakeMismatch
from lake.place import shut_out_others
from lake.writer import LakeWriter
from market import times
from market.errors import MarketError
from runtime import logs, loop, telemetry
from runtime.clock import Clock, SystemClock
from runtime.heap import HeapService, trim_of
from runtime.notify import Notifier
from runtime.service import EXIT_INTERNAL, Fatal, Service
from runtime.supervisor import Supervisor
from runtime.workers import Workers

if TYPE_CHECKING:
    from collectors.service import CollectorsService

CLOSING_SHARE = 0.15
"""Of the time for a stop, kept for what follows the services: workers, manifest, lock."""


def run(config: Config, options: Options) -> int:
    """Run the daemon on `config.lake` to its end. Every expected failure is a sentence on stderr and its exit code."""
    shut_out_others()
    clock = simulate.clock(config) if options.simulate else SystemClock()
    logs.setup(clock=clock, level=config.logs.level)
    try:
        code, stopper = loop.run(_run(config, options, clock))
    except (LakeError, DaemonError, MarketError, Fatal) as error:
        sys.stderr.write(f"{error}\n")
        return code_of(error)
    else:
        stopper.done()  # only now: the loop waits for its threads before it closes
        return code
    finally:
        logs.close()


async def _run(config: Config, options: Options, clock: SystemClock) -> tuple[int, Stopper]:
    """From the lock to its release: the exit code, and who ends the process where it does not end by itself."""
    with Stopper(config.shutdown_seconds) as stopper:
        writer = await asyncio.to_thread(
            LakeWriter.open, config.lake, config.collectors.node, clock.now(), simulated=options.simulate,
            on_rebuild=telemetry.manifest_rebuilt,
        )  # fmt: skip
        code = EXIT_INTERNAL
        safe_mode: SafeMode | None = None
        began = clock.monotonic()
        try:
            if config.logs.file:
                logs.setup(clock=clock, level=config.logs.level, folder=config.lake / "logs")
            telemetry.starting(
                lake=str(config.lake),
                config=str(options.config),
                pid=os.getpid(),
                loop=loop.NAME,
                simulated=options.simulate,
            )
            safe_mode = await asyncio.to_thread(SafeMode, config.lake, config.safe_mode, clock)
            code = await _Life(config, options, clock, writer, stopper, safe_mode).live()
        except (LakeError, DaemonError, MarketError, Fatal) as error:
            code = code_of(error)
            telemetry.service_failed(service="daemon", error=error, exit_code=code)
        except Exception as error:  # noqa: BLE001 - a defect: one line here, its traceback in the log file
            telemetry.service_failed(service="daemon", error=error, exit_code=EXIT_INTERNAL)
        finally:
            if safe_mode is not None:
                await asyncio.to_thread(safe_mode.ended, code)
            await asyncio.to_thread(writer.close)
            telemetry.stopped(seconds=clock.monotonic() - began, exit_code=code)
    return code, stopper


class _Life:
    """One run of the daemon over an open lake."""

    def __init__(
        self,
        config: Config,
        options: Options,
        clock: SystemClock,
        writer: LakeWriter,
        stopper: Stopper,
        safe_mode: SafeMode,
    ) -> None:
        self._config = config
        self._options = options
        self._clock = clock
        self._writer = writer
        self._stopper = stopper
        self._safe_mode = safe_mode
        self._notifier = Notifier(os.environ)
        self._began = clock.monotonic()
        self._pointed: Callable[[Config], Config] = _as_given
        self._status: Status | None = None

    async def live(self) -> int:
        """Recover, start everything, wait for the end. Returns the exit code."""
        simulator: simulate.Simulator | None = None
        given = self._config
        workers = Workers(self._config.workers.processes, recycle_after=self._config.workers.recycle_after)
        try:
            if self._options.simulate:
                _refuse_the_past(self._writer, self._clock)
                log = self._config.lake / "simulator.jsonl"
                simulator = simulate.Simulator(self._config, self._clock.offset_us, log)
                addresses = await simulator.start()
                self._pointed = partial(simulate.pointed_at, addresses=addresses)
                self._config = self._pointed(given)
                telemetry.simulating(
                    exchange=", ".join(addresses.venues),
                    address=", ".join(one.control for one in addresses.venues.values()),
                    seconds_before_midnight=self._config.simulate.seconds_before_midnight,
                    close_delay_seconds=self._config.simulate.close_delay_seconds,
                )
            return await self._supervise(workers, simulator, given)
        finally:
            # Jobs still running belong to services that have ended: what they published is whole, the rest is temp.
            await asyncio.to_thread(workers.kill)
            if simulator is not None:
                await simulator.stop()

    async def _supervise(self, workers: Workers, simulator: simulate.Simulator | None, given: Config) -> int:
        from daemon import wiring  # noqa: PLC0415 - it brings the engines: a refused start does not wait for them

        parts = await wiring.build(
            self._config, self._options.only, self._clock, self._writer, workers, self._safe_mode
        )
        reloader = Reloader(given, self._options, parts.collectors, self._collected)
        jobs = {**parts.jobs, "reload": reloader.job, "resume": self._safe_mode.job, "stop": self._stop}
        jobs["status"] = self._tell
        self._safe_mode.on_leave = (self._say_state, partial(self._take_all, parts.collectors, reloader))
        services: list[Service] = [
            Guard(self._stopper),
            self._safe_mode,
            *parts.services,
            Beat(self._clock),
            Watch(self._clock, self._writer.manifest, self._config.compactor.close_delay_seconds),
            ControlService(jobs, self._writer.set_control, self._clock),
            Hangup(self._stopper.reload, reloader),
            HeapService(self._clock, gc.collect, trim_of()),
        ]
        services.append(Heartbeat(self._clock, self._notifier, parts.services, self._safe_mode.said))
        if simulator is not None:
            services.append(simulator)
        if self._options.duration is not None:
            services.append(Timer(self._clock, self._options.duration, self._stopper.ask))
        if self._config.serve.enabled and "serve" in self._options.only:
            services.append(ServeService(self._config.lake, self._options.config, self._config.serve, self._clock))
        http = HttpService(self._config.http.host, self._config.http.port) if self._config.http.enabled else None
        if http is not None:
            services.append(http)
        supervisor = Supervisor(
            services,
            self._clock,
            deadline_seconds=self._config.shutdown_seconds * (1 - CLOSING_SHARE),
            fatal=wiring.fatal,
        )
        mode = "simulate" if self._options.simulate else "live"
        self._status = Status(self._clock, self._writer.manifest, supervisor, mode, self._safe_mode)
        if http is not None:
            await http.bind(self._status)
        seconds = self._clock.monotonic() - self._began
        telemetry.ready(address=http.address if http is not None else None, seconds=seconds)
        return await supervisor.run(self._stopper.stop, self._stopper.hurry)

    def _collected(self, config: Config) -> Config:
        """What is made of a configuration that is read again."""
        config = self._pointed(config)
        sources = self._safe_mode.of(config.collectors.sources)
        return config.model_copy(update={"collectors": config.collectors.model_copy(update={"sources": sources})})

    async def _say_state(self) -> None:
        self._notifier.say("STATUS=collecting")

    async def _take_all(self, collectors: CollectorsService | None, reloader: Reloader) -> None:
        """Poll again what safe mode left out: as the file says now, or as it did at the start where it is wrong now."""
        try:
            await reloader.reload()
        except DaemonError:
            if collectors is not None:
                await collectors.change(self._config.collectors.sources)

    async def _tell(self, _arguments: object, _progress: object) -> object:
        """What /status says, for who asks through the control port."""
        if self._status is None:
            return {"ready": False}
        return await asyncio.to_thread(self._status.report, self._status.services())

    async def _stop(self, _arguments: object, _progress: object) -> object:
        self._stopper.ask("asked through the control port")
        return {"stopping": True}


def _as_given(config: Config) -> Config:
    return config


def _refuse_the_past(writer: LakeWriter, clock: Clock) -> None:
    """A simulated lake that has lived longer than the clock is about to say cannot be continued."""
    now = clock.now()
    for stream in writer.manifest.streams():
        mark = writer.manifest.watermark(*stream)
        if mark is not None and mark > now:
            raise LakeMismatch(
                f"{writer.root} already holds simulated data up to {times.text(mark)}",
                "remove it, or name another folder with --lake",
            )
