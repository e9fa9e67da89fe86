"""The watch over the disk in the daemon: what waits at which level, what is shown, and that storage is waited out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from compactor.service import CompactorService
from daemon import wiring
from daemon.config import Config, DiskConfig
from daemon.safe_mode import SafeMode
from daemon.space_watch import SpaceWatch, fatal
from daemon.status import Status
from lake import backup, durable
from lake.durable import Fault
from lake.errors import CorruptManifest, Fenced, StorageFailed
from lake.layout import BALLAST
from lake.space import Room
from lake.writer import LakeWriter
from runtime.service import Fatal
from runtime.supervisor import Supervisor
from runtime.workers import InlineExecutor
from tests.support import life
from tests.support.clock import ManualClock
from tests.support.faults import Lives
from transformer.service import TransformService

MB = 1024 * 1024


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return Lives(tmp_path_factory.mktemp("lives"))


class Disk:
    """As much room as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 5000
        monkeypatch.setattr(durable, "room", lambda _path: Room(self.free * MB, 10_000 * MB))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_thresholds_must_be_in_order() -> None:
    assert Config().disk.limits().ballast == 64 * MB
    with pytest.raises(ValidationError, match=r"full_mb \(600\) <= critical_mb \(512\) <= low_mb"):
        DiskConfig(full_mb=600)


async def test_compaction_waits_where_the_disk_is_low_and_retention_does_not(
    lives: Lives, tmp_path: Path, disk: Disk
) -> None:
    root = lives.before("close", tmp_path / "lake")
    clock = ManualClock(life.MIDNIGHT + 20 * life.MINUTE)
    with LakeWriter.open(root, life.NODE, clock.now()) as writer:
        watch = SpaceWatch(clock, root, DiskConfig(ballast_mb=0), None)
        made = CompactorService(writer, InlineExecutor(), clock, life.COMPACTOR, waits=watch.compaction_waits)
        disk.free = 900
        await watch.look()
        assert (await made.compact()).days == 0
        assert made.status()["waits_for"] == "room on the disk"
        assert made.status()["retained_at"] == clock.now()
        assert watch.status()["waits"] == ["compaction", "scrub", "reproduction"]
        disk.free = 5000
        await watch.look()
        assert (await made.compact()).days > 0
        assert made.status()["waits_for"] is None


async def test_who_asks_for_a_compaction_gets_it_on_a_low_disk(lives: Lives, tmp_path: Path) -> None:
    root = lives.before("close", tmp_path / "lake")
    clock = ManualClock(life.MIDNIGHT + 20 * life.MINUTE)
    with LakeWriter.open(root, life.NODE, clock.now()) as writer:
        made = CompactorService(writer, InlineExecutor(), clock, life.COMPACTOR, waits=lambda: True)
        assert (await made.compact(again=True)).days > 0


async def test_the_transformer_works_in_small_jobs_on_a_low_disk_and_waits_on_a_critical_one(
    lives: Lives, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformer import service

    root = lives.before("transform", tmp_path / "lake")
    clock = ManualClock(life.T0 + life.HOUR)
    jobs: list[int] = []
    once = service.transform_once

    def told(
        writer: LakeWriter, executor: object, now: int, config: object, *rest: object, **options: object
    ) -> object:
        jobs.append(config.max_job_mb)  # type: ignore[attr-defined]
        return once(writer, executor, now, config, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(service, "transform_once", told)
    with LakeWriter.open(root, life.NODE, clock.now()) as writer:
        watch = SpaceWatch(clock, root, DiskConfig(ballast_mb=0), None)
        made = TransformService(
            writer, InlineExecutor(), clock, life.TRANSFORMER, waits=watch.transform_waits, small=watch.compaction_waits
        )
        stop = asyncio.Event()
        running = asyncio.ensure_future(made.run(stop))
        disk.free = 300
        await watch.look()
        await clock.advance(30)
        assert jobs == []
        assert made.status()["waits_for"] == "room on the disk"
        disk.free = 900
        await watch.look()
        while not jobs:
            await clock.advance(5)
            await asyncio.sleep(0.01)
        stop.set()
        await clock.advance(5)
        await running
    assert set(jobs) == {service.SMALL_JOB_MB}


async def test_without_a_collector_a_full_disk_makes_the_daemon_unready_too(tmp_path: Path, disk: Disk) -> None:
    clock = ManualClock()
    with LakeWriter.open(tmp_path / "lake", "n", clock.now()) as writer:
        watch = SpaceWatch(clock, writer.root, DiskConfig(ballast_mb=1, check_seconds=1), None)
        supervisor = Supervisor([watch], clock)
        status = Status(clock, writer.manifest, supervisor, "live")
        stop = asyncio.Event()
        running = asyncio.ensure_future(supervisor.run(stop))

        async def until(reached: Callable[[], object]) -> None:
            while not reached():  # a thread looks at the disk
                await clock.advance(1)
                await asyncio.sleep(0.002)

        await until(lambda: status.ready()[0] and watch.status()["ballast_bytes"] == MB)
        assert (writer.root / BALLAST).stat().st_size == MB
        disk.free = 3
        # A look that had just set the reserve aside may find the disk full behind it: the next one gives it up.
        await until(lambda: watch.space.level.name == "full" and not (writer.root / BALLAST).exists())
        assert status.ready() == (False, {"ready": False, "waiting": {"space": "disk_full"}})
        assert status.report(supervisor.status())["services"]["space"]["report"]["level"] == "full"
        disk.free = 5000
        await until(lambda: status.ready()[0])
        assert (writer.root / BALLAST).exists()
        stop.set()
        await until(running.done)
        await running


async def test_a_ballast_that_cannot_be_had_back_holds_data_and_one_that_never_was_does_not(
    tmp_path: Path, disk: Disk
) -> None:
    clock = ManualClock()
    with LakeWriter.open(tmp_path / "lake", "n", clock.now()) as writer:
        watch = SpaceWatch(clock, writer.root, DiskConfig(ballast_mb=1), None)
        durable.inject(Fault("create", 1, "ENOSPC", repeat=True))
        try:
            await watch.look()
            assert watch.hold() is None
            durable.inject(None)
            await clock.advance(61)
            await watch.look()
            assert (writer.root / BALLAST).exists()
            disk.free = 3
            await watch.look()
            disk.free = 5000
            durable.inject(Fault("create", 1, "ENOSPC", repeat=True))
            await watch.look()
            assert watch.space.level.name == "ok"
            assert watch.hold() == "disk_full"
        finally:
            durable.inject(None)
        await watch.look()
        assert watch.hold() is None


async def test_a_disk_that_cannot_be_asked_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> Room:
        raise StorageFailed("asking failed")

    watch = SpaceWatch(
        ManualClock(), tmp_path, DiskConfig(ballast_mb=0, low_percent=0, low_mb=0, critical_mb=0, full_mb=0), None
    )
    await watch.look()
    held = watch.space
    monkeypatch.setattr(durable, "room", refuse)
    await watch.look()
    assert watch.space is held


def test_storage_that_takes_nothing_ends_no_process_and_other_errors_do() -> None:
    storage = StorageFailed("x")
    assert fatal(storage) is None
    assert fatal(ExceptionGroup("x", [storage, ValueError()])) is None
    assert fatal(ExceptionGroup("x", [storage, Fenced("x")])) == 73
    assert fatal(CorruptManifest("x")) == 74
    assert fatal(Fatal("x", 74)) == 74


async def test_a_daemon_that_starts_on_a_critical_disk_copies_no_manifest_and_says_so(
    tmp_path: Path, disk: Disk
) -> None:
    disk.free = 300
    clock = ManualClock()
    with LakeWriter.open(tmp_path / "lake", "n", clock.now()) as writer:
        config = Config.model_validate({"disk": {"ballast_mb": 0}})
        parts = await wiring.build(
            config, (), clock, writer, InlineExecutor(), SafeMode(writer.root, config.safe_mode, clock)
        )
        made = {service.name: service for service in parts.services}
        stop = asyncio.Event()
        running = asyncio.ensure_future(made["backup"].run(stop))
        while not clock.sleeping:
            await asyncio.sleep(0.001)
        assert made["space"].status()["waits"] == ["compaction", "scrub", "reproduction", "transform", "backup"]
        assert made["backup"].status()["waits_for"] == "room on the disk"
        assert backup.backups(writer.root) == []
        disk.free = 5000
        await made["space"].look()
        await clock.advance(61)
        while not backup.backups(writer.root):
            await asyncio.sleep(0.001)
        stop.set()
        await clock.run(asyncio.wait_for(running, None))
