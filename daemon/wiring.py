"""The composition root: the only module that knows which concrete services make up the process."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

import msgspec

from collectors import exchanges
from collectors.recovery import Stops, settle
from collectors.service import CollectorsService
from compactor.audit import AuditService
from compactor.bitrot import set_right_missing
from compactor.care import BackupService, ScrubService
from compactor.reproduce import ReproduceService
from compactor.service import CompactorService
from daemon import audit_fetch, auditing, deleting, job_backfill, job_calls, job_candles, job_repair, repairing
from daemon.archiving import control_job as archive_job
from daemon.clock_record import ClockRecord, noted
from daemon.config import Config
from daemon.control import Job, Progress
from daemon.featuring import control_job as features_job
from daemon.jobs import JobsService, Work
from daemon.repair_service import RepairService
from daemon.reparsing import control_job
from daemon.reproducing import advance
from daemon.safe_mode import Held, SafeMode
from daemon.space_watch import SpaceWatch, fatal
from daemon.taking_in import control_job as import_job
from lake import job_standing
from lake.job_book import JobBook
from lake.recovery import Recovery
from lake.writer import LakeWriter
from runtime import telemetry
from runtime.clock import Clock
from runtime.clock_watch import ClockWatch
from runtime.saying import some
from runtime.service import Service
from runtime.slot import Slot
from runtime.workers import Workers
from transformer.service import TransformService

__all__ = ["Parts", "build", "fatal", "summary_of"]


@dataclasses.dataclass(frozen=True)
class Parts:
    """What runs, and what can be asked for through the control port."""

    services: list[Service]
    jobs: Mapping[str, Job]
    collectors: CollectorsService | None = None


async def build(
    config: Config, only: Collection[str], clock: Clock, writer: LakeWriter, workers: Executor, safe_mode: SafeMode
) -> Parts:
    """Bring the lake to order, then make the parts named in `only`. Nothing runs yet."""
    began = clock.monotonic()
    recovery, stops = await asyncio.to_thread(_bring_to_order, writer, clock.now())
    telemetry.recovered(
        seconds=clock.monotonic() - began,
        problems=sum(map(len, (recovery.unclosed, recovery.missing, recovery.strangers, recovery.quarantined))),
        summary=summary_of(recovery),
    )
    collectors: CollectorsService | None = None
    if "collectors" in only:
        collecting = config.collectors.model_copy(update={"sources": safe_mode.of(config.collectors.sources)})
        collectors = CollectorsService(collecting, writer, clock, random.random, stops)
    services: list[Service] = [] if collectors is None else [collectors]
    clock_watch = ClockWatch(
        clock, lambda step: noted(writer, step, clock.now()), collectors.clock_offsets if collectors else tuple
    )
    space = SpaceWatch(clock, writer.root, config.disk, collectors)
    await space.look()  # what must not write on a full disk is not to find out by doing it
    # Both are made in any case: `dl` may ask for a pass although they make none by themselves.
    slot = Slot()
    transformer = TransformService(
        writer, slot.watched(workers), clock, config.transformer, waits=space.transform_waits,
        small=space.compaction_waits,
    )  # fmt: skip
    compactor = CompactorService(
        writer, slot.in_turn(workers), clock, config.compactor, clock_sane=clock_watch.clock_sane,
        waits=space.compaction_waits, parsers=exchanges.parsers,
    )  # fmt: skip
    scrub = ScrubService(writer, clock, config.scrub, space.compaction_waits)
    services += [Held(service, safe_mode.gate) for service in (transformer, compactor) if service.name in only]
    proof = ReproduceService(
        writer, Workers, partial(advance, config.collectors), clock, config.compactor.reproduce,
        waits=space.compaction_waits, slot=slot,
    )  # fmt: skip
    audit = AuditService(writer, slot.in_turn(workers), clock, config.compactor.audit, waits=space.compaction_waits)
    if compactor.name in only:
        services += [Held(one, safe_mode.gate) for one in (scrub, proof, audit)]
    record = ClockRecord(
        writer, clock, config.compactor.clocks_days, collectors.clock_readings if collectors else tuple,
        clock_watch.clock_sane,
    )  # fmt: skip
    services += [clock_watch, record, space, BackupService(writer.root, clock, config.backup, space.transform_waits)]

    async def compact(arguments: Mapping[str, Any], progress: Progress) -> object:
        return msgspec.to_builtins(await compactor.compact(progress, final=arguments.get("final") is True, again=True))

    reparse = control_job(config, writer, slot.in_turn(workers), clock, slot, compactor)
    jobs: dict[str, Job] = {"compact": compact, "reparse": reparse}
    jobs |= {"transform": _job(transformer.once), "scrub": _job(scrub.once)}
    jobs |= {"silent": partial(_silent, collectors), "archive": archive_job(config, writer, clock, slot, compactor)}
    jobs["features"] = features_job(writer, clock)
    jobs["import"] = import_job(writer, slot.in_turn(workers), config.collectors.node, clock)
    jobs["reconcile"] = auditing.control_job(config, writer, clock, audit, slot.in_turn(workers), jobs)
    jobs["delete"] = deleting.control_job(writer, clock)
    services += [Held(one, safe_mode.gate) for one in _askers(config, writer, clock, collectors, jobs, space, audit)]
    return Parts(services, jobs, collectors)


def _job(once: Callable[[Progress], Awaitable[object]]) -> Job:
    """A job without arguments."""

    async def run(_arguments: Mapping[str, Any], progress: Progress) -> object:
        return msgspec.to_builtins(await once(progress))

    return run


def _askers(
    config: Config, writer: LakeWriter, clock: Clock, collectors: CollectorsService | None, jobs: dict[str, Job],
    space: SpaceWatch, audit: AuditService,
) -> list[Service]:  # fmt: skip
    """Who asks venues for what is past: their jobs, and what does it by itself."""
    book, works = JobBook(writer), dict[str, Work]()
    jobs["repair"] = repairing.refused
    repair: job_repair.RepairWork | None = None
    if collectors is not None:
        works["backfill"] = job_backfill.BackfillWork(writer, book, config, clock, job_backfill.beside(collectors))
        repair = job_repair.RepairWork(config, writer, book, clock, collectors, jobs["archive"], jobs["reparse"])
        works[job_standing.GAPS], jobs["repair"] = repair, repair.by_hand
    calls = job_calls.CALLS.keys() - ({"repair"} if collectors is None else set())
    works |= {name: job_calls.CallWork(name, writer, book, clock, jobs[name]) for name in sorted(calls)}
    queue = JobsService(writer, book, clock, works, space.compaction_waits)
    if isinstance(asking := works.get("backfill"), job_backfill.BackfillWork):
        markets = {(source.exchange, source.market_type) for source in config.collectors.sources}
        candles = job_candles.CandlesWork(
            writer, book, clock, asking, audit, audit_fetch.by_jobs(jobs).publish, queue.queued, markets,
            enabled=config.compactor.audit.fetch,
        )  # fmt: skip
        queue.also(job_standing.CANDLES, candles)
        audit.then, audit.meanwhile = candles.asked, candles.by_day
    jobs |= {**queue.control(), "backfill": job_backfill.control_job(queue)}
    jobs |= {name: job_calls.control_job(queue, name) for name in sorted(calls)}
    if collectors is None or repair is None:
        return [queue]

    def waits() -> bool:
        return space.compaction_waits() or collectors.outage is not None

    return [queue, RepairService(config, writer, book, clock, repair, queue.queued, waits)]


def _bring_to_order(writer: LakeWriter, now: int) -> tuple[Recovery, Stops]:
    """What the last run left, put right and written down, whichever parts run now; where each stream stopped."""
    found = writer.recover(now)
    stops = settle(writer, found, now)
    set_right_missing(writer, found.missing, now)
    return found, stops


def summary_of(recovery: Recovery) -> str:
    """One sentence on what a start found."""
    if recovery.crashed:
        found = [
            (len(recovery.unclosed), "interrupted session", "interrupted sessions"),
            (len(recovery.segments), "segment sealed late", "segments sealed late"),
            (len(recovery.unwritten), "range of frames without lines", "ranges of frames without lines"),
            (len(recovery.quarantined), "piece in quarantine", "pieces in quarantine"),
        ]
        said = ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in found if count)
        began = f"the last run did not stop by itself: {said}; put in order"
    else:
        old = recovery.last or recovery.missing
        began = "the last run stopped cleanly; checked" if old else "a new lake; checked"
    odd = []
    if recovery.missing:
        odd.append(f"{len(recovery.missing)} files of the manifest are not on disk (dl verify says which)")
    if recovery.strangers:
        odd.append(f"{len(recovery.strangers)} not of this lake, to be moved away ({some(recovery.strangers, 3)})")
    return "; ".join([*odd, began])


async def _silent(collectors: CollectorsService | None, _arguments: Mapping[str, Any], _progress: Progress) -> object:
    """The streams that should send and do not."""
    return collectors.reported() if collectors is not None else []
