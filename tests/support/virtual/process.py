"""One run of the daemon inside a virtual world: the real start, the real services, and every way to end."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from unittest import mock

from collectors import life, polling, reaching, transports
from collectors.config import WritingConfig
from collectors.service import CollectorsService
from compactor import audit, care, reproduce
from daemon import clock_record, jobs, wiring
from daemon.config import Config
from daemon.safe_mode import SafeMode
from lake import durable, manifest
from lake.errors import LakeError
from lake.lock import LOCK
from lake.space import Room
from lake.writer import LakeWriter
from market.times import SECOND
from runtime import clock_watch
from runtime.clock import pause as real_pause
from runtime.service import EXIT_INTERNAL, Fatal
from runtime.supervisor import Supervisor
from runtime.workers import InlineExecutor, Job, WorkerDied
from tests.support.virtual.loop import Killed, VirtualClock, VirtualLoop, pause
from tests.support.virtual.network import VirtualNetwork

OFTEN: tuple[tuple[ModuleType, str, float], ...] = (
    (life, "TEND_SECONDS", 60.0),
    (polling, "LONGEST_WAIT_SECONDS", 900.0),
    (clock_watch, "EVERY_SECONDS", 60.0),
    (care, "LOOK_EVERY", 3600.0),
    (jobs, "LOOK_SECONDS", 3600.0),
    (clock_record, "EVERY_SECONDS", 1800.0),
    (audit, "LOOK_SECONDS", 3600.0),
    (reproduce, "LOOK_SECONDS", 3600.0),
)
"""Seconds between looks at what is undisturbed: as often as in life they would be all that a virtual month is."""
REAL = tuple(getattr(module, name) for module, name, _ in OFTEN)
WRITE_SECONDS, CALM_WRITE_SECONDS = 60, 300
"""Seconds between write passes, and between those of a daemon that no fault is near: more than a configuration may say,
for a pass costs the same for one event as for a thousand.
"""
WRITES = ("_write_ledger", "record", "publish", "fail_segment", "mark_unlinked", "forget_retired")


class Writing(WritingConfig):
    """How received data become durable: never does a fault take more than what came in WRITE_SECONDS."""

    calm: ClassVar[bool] = False

    @property
    def write(self) -> int:
        return (CALM_WRITE_SECONDS if self.calm else WRITE_SECONDS) * SECOND

    @property
    def sync(self) -> int:
        return self.write


class KillAt(durable.Fault):
    """Ends the process before its `number`-th durable step from now, and lets it take none afterwards."""

    def __init__(self, number: int) -> None:
        super().__init__("*", number, "KILL")
        self.left = number

    def due(self, name: str) -> bool:
        del name
        self.left -= 1
        if self.left <= 0:
            self.struck += 1
            raise Killed
        return False


class FlakyExecutor(Executor):
    """Jobs run in line; where `deaths` are ordered, the next ones fail as if they had killed their worker."""

    def __init__(self) -> None:
        self.deaths = 0
        self.died = 0
        self._inline = InlineExecutor()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        if self.deaths:
            self.deaths -= 1
            self.died += 1
            job: Job[Any] = Job()
            job.set_exception(WorkerDied(getattr(fn, "__name__", "job")))
            return job
        return self._inline.submit(fn, *args, **kwargs)


class Process:
    """A daemon from its start to its end. Ended by `stop`, `kill`, or by itself; then another one is made."""

    def __init__(self, loop: VirtualLoop, clock: VirtualClock, network: VirtualNetwork, config: Config) -> None:
        self.code = EXIT_INTERNAL
        self.said = ""
        self.rebuilt: list[str] = []
        self.workers = FlakyExecutor()
        self.writer: LakeWriter | None = None
        self.collectors: CollectorsService | None = None
        self.parts: wiring.Parts | None = None
        """Once it is up."""
        self._loop = loop
        self._clock = clock
        self._network = network
        self._config = config
        self._stop: Any = None
        self._asked: Any = None
        self.task: Any = None

    def start(self) -> None:
        """Begin; time has to pass for it to come up."""
        import asyncio

        self._stop = asyncio.Event()
        self.task = self._loop.create_task(self._live(), name="daemon")

    async def _live(self) -> int:
        config = self._config
        try:
            self.writer = await self._apart(
                lambda: LakeWriter.open(
                    config.lake, config.collectors.node, self._clock.now(), simulated=True,
                    on_rebuild=lambda why, what: self.rebuilt.append(f"{why}: {what}"),
                )
            )  # fmt: skip
            safe_mode = SafeMode(config.lake, config.safe_mode, self._clock)
            try:
                self.code = await self._supervise(self.writer, safe_mode)
            finally:
                if not self._loop.killed:
                    safe_mode.ended(self.code)
        except (LakeError, Fatal) as error:
            self.code = getattr(error, "exit_code", EXIT_INTERNAL)
            self.said = f"{type(error).__name__}: {error}"
        finally:
            if self.writer is not None and not self._loop.killed:
                self.writer.close()
        return self.code

    async def _supervise(self, writer: LakeWriter, safe_mode: SafeMode) -> int:
        """As `daemon.lifecycle`, without HTTP, control port, signals and service manager."""
        self.parts = parts = await wiring.build(
            self._config, ("collectors", "transformer", "compactor"), self._clock, writer, self.workers, safe_mode
        )
        self.collectors = parts.collectors
        services = [safe_mode, *parts.services]
        supervisor = Supervisor(services, self._clock, deadline_seconds=60.0, fatal=wiring.fatal)
        return await supervisor.run(self._stop)

    async def _apart(self, work: Callable[[], Any]) -> Any:
        return await self._loop.run_in_executor(None, work)

    async def compact(self, parts: wiring.Parts) -> None:
        """What `dl transform` and `dl compact` ask a running daemon for."""
        for name in ("transform", "compact"):
            await parts.jobs[name]({}, lambda *_: None)

    def ask_to_compact(self, parts: wiring.Parts) -> None:
        """As `compact`, without waiting for it; what goes wrong there is said to who asked, which is nobody."""
        self._asked = self._loop.create_task(self.compact(parts))
        self._asked.add_done_callback(lambda task: task.cancelled() or task.exception())

    def ask_to_stop(self) -> None:
        self._stop.set()

    @property
    def over(self) -> bool:
        return bool(self.task.done())

    @property
    def killed(self) -> bool:
        """Whether it was while it ended by itself."""
        return self.over and not self.task.cancelled() and isinstance(self.task.exception(), Killed)

    def kill(self) -> None:
        """SIGKILL: nothing more is written, sockets end, memory is gone. What the file system has stays."""
        durable.inject(KillAt(1))
        self._loop.killed = True  # so that nothing is closed in order
        writer = self.writer
        if writer is not None:
            for name in WRITES:
                setattr(writer, name, _dead)
        self._network.drop_all()
        if self._asked is not None:
            self._asked.cancel()
        self.task.cancel()
        self._loop.drain()
        self.task.cancel()
        self._loop.drain()
        durable.inject(None)
        if writer is not None:
            _let_go(writer)
        _unlock(self._config.lake)
        self._loop.killed = False

    def pull_the_plug(self, chance: random.Random) -> int:
        """As `kill`, and of what was not synced only a part is there afterwards; returns the bytes lost."""
        files = self._unsynced()
        self.kill()
        lost = 0
        for path, synced, size in files:
            if path.exists() and size > synced:
                keep = chance.randint(synced, size)
                with path.open("r+b") as file:
                    file.truncate(keep)
                lost += size - keep
        return lost

    def _unsynced(self) -> list[tuple[Path, int, int]]:
        if self.collectors is None:
            return []
        files = [spool._file._file for spool in self.collectors._commit._spools() if spool._file is not None]
        return [(file.path, file.synced, file.size) for file in files if file is not None]


def _dead(*_: Any, **__: Any) -> Any:
    raise Killed


def _unlock(root: Path) -> None:
    """What the system does where a process ends that has a lock and nobody to say so."""
    for one in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):
            if one.readlink() == root.resolve() / LOCK:
                os.close(int(one.name))


def _let_go(writer: LakeWriter) -> None:
    """Close what the process held, leaving the disk as it was: SQLite's log too."""
    root = writer.root
    kept = root.parent / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    names = ("manifest.db", "manifest.db-wal")
    for name in names:
        if (root / name).exists():
            shutil.copyfile(root / name, kept / name)
    with contextlib.suppress(Exception):
        writer.manifest.close()
    for name in (*names, "manifest.db-shm"):
        (root / name).unlink(missing_ok=True)
        if (kept / name).exists():
            shutil.copyfile(kept / name, root / name)
    with contextlib.suppress(BaseException):
        writer._ledger.close()
    with contextlib.suppress(BaseException):
        writer._lock.release()


@contextlib.contextmanager
def in_place(network: VirtualNetwork, seed: int, room: Callable[[Path], Room]) -> Iterator[None]:
    """The seams of the product lead into the virtual world, and its chances come from the seed."""
    chance = random.Random(f"{seed}/product")
    tokens = mock.Mock(token_hex=lambda n: f"{chance.getrandbits(8 * n):0{2 * n}x}")
    dice = mock.Mock(random=chance.random)
    with (
        mock.patch.object(transports, "load_or_reference", return_value=network.connect),
        mock.patch.object(reaching, "Http", network.http),
        _pausing(),
        mock.patch.object(manifest, "secrets", tokens),
        mock.patch.object(wiring, "random", dice),
        mock.patch("runtime.supervisor.random", dice),
        mock.patch.object(durable, "room", room),
    ):
        yield


def _pausing() -> ExitStack:
    """Whoever waits for an event or for time does it by a timer of the loop."""
    held = ExitStack()
    for module in list(sys.modules.values()):
        if getattr(module, "pause", None) is real_pause and module.__name__ != real_pause.__module__:
            held.enter_context(mock.patch.object(module, "pause", pause))
    return held


def write_often(often: bool) -> None:
    """Long before a fault, and until it is over, passes come as often as they always did."""
    Writing.calm = not often


def look_often(often: bool) -> None:
    """Near a fault everything looks at what it watches as often as it does in real life."""
    for (module, name, calm), real in zip(OFTEN, REAL, strict=True):
        setattr(module, name, real if often else calm)


def rows_of(root: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of the manifest."""
    with contextlib.closing(sqlite3.connect(f"file:{root / 'manifest.db'}?mode=ro", uri=True)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: sorted(db.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr) for name in names}
