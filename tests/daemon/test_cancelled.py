"""A job may be stopped while a thread writes for it: what the thread writes comes before what follows the stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli import repairs
from collectors import repair
from collectors.history_plan import Wish
from collectors.repair_plan import OWN, Known, RepairPlan, Sources, Step
from compactor import audit
from compactor.config import AuditConfig
from daemon import archiving, audit_fetch, auditing, job_candles, job_repair, repair_frames, repairing, safe_mode
from daemon.config import Config, SafeModeConfig
from daemon.repairing import Brought, Looked, Tools
from lake.audits import Wanted
from lake.job_book import JobBook
from lake.jobs import JobRow
from lake.writer import LakeWriter
from market.session import Gap
from runtime.slot import Slot
from runtime.workers import InlineExecutor
from tests.support.clock import NOON, ManualClock
from tests.support.held import Held, ends_before_its_asker, is_told, keeps_its_turn

JOB = JobRow(
    job="x-1", what="x", work="x", arguments={"exchange": "binance", "market_type": "spot"}, priority=1,
    created_at=NOON, updated_at=NOON,
)  # fmt: skip
NOTHING = Looked([], RepairPlan(), Sources(), Known())


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path / "lake", "node", NOON) as opened:
        yield opened


def quiet(*_: object) -> None:
    """Progress that nobody wants."""


async def gives(result: Any, *_: object, **__: object) -> Any:
    return result


def work_of(writer: LakeWriter, *, enabled: bool = True) -> job_repair.RepairWork:
    config: Any = Config.model_validate({"repair": {"enabled": enabled}})
    collectors: Any = None
    return job_repair.RepairWork(config, writer, JobBook(writer), ManualClock(), collectors, gives, gives)


@pytest.mark.parametrize("step", ["_switched_off", "_due", "settle", "_rest"])
async def test_a_repair_that_is_stopped(writer: LakeWriter, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    work = work_of(writer, enabled=step != "_switched_off")
    made = job_repair.Round(looked=NOTHING, asked=[], wishes={}, idle=[], left=[])
    monkeypatch.setattr(work, "_due", lambda *_: made)
    monkeypatch.setattr(job_repair, "carry_out", lambda *_: gives(Brought()))
    monkeypatch.setattr(job_repair, "settle", lambda *_: {})
    held = Held({"settle": {}, "_due": made}.get(step))
    monkeypatch.setattr(job_repair if step == "settle" else work, step, held)
    await ends_before_its_asker(held, work.run(JOB, quiet, asyncio.Event()))


async def test_a_repair_by_hand_that_is_stopped(writer: LakeWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    held, scope, clock = Held({}), SimpleNamespace(gaps=lambda _: []), ManualClock()
    monkeypatch.setattr(repair, "markets", lambda _: {("binance", "spot"): []})
    monkeypatch.setattr(repairing, "look", lambda *_, **__: (RepairPlan(), NOTHING.sources, NOTHING.before))
    monkeypatch.setattr(repairing, "settle", held)
    mending: Any = repairing.mend(writer, Config(), clock, scope, Tools(gives), quiet)  # type: ignore[arg-type]
    await ends_before_its_asker(held, mending)


async def test_frames_that_are_read_again_for_who_is_stopped(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gap = Gap(
        gap_id="g", exchange="binance", market_type="spot", kind="trade", symbol="A", ts_from=1, ts_to=2, id_from=None,
        id_to=None, cause="cut", proof="interval", state="open", session=None, detected_at=NOON,
    )  # fmt: skip
    held = Held()
    monkeypatch.setattr(repair_frames, "_counts", lambda *_: {"g": 0})
    monkeypatch.setattr(repair, "note_reread", held)
    steps, told = [Step(gap, OWN, "time", (Wish("trade", "A", 1, 2),))], {"days": [_day()]}
    reading = repair_frames.read_again(
        writer, steps, lambda *_: gives(told), quiet, ManualClock(), begun=gives, why={}
    )  # fmt: skip
    await ends_before_its_asker(held, reading)


def _day() -> dict[str, Any]:
    return {"refused": "", "failed": [], "streams": []}


async def test_candles_of_a_daemon_that_asks_for_none(writer: LakeWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    others: Any = None
    work = job_candles.CandlesWork(
        writer, JobBook(writer), ManualClock(), others, others, gives, quiet, (), enabled=False
    )
    held = Held()
    monkeypatch.setattr(work, "_switched_off", held)
    await ends_before_its_asker(held, work.run(JOB, quiet, asyncio.Event()))


def judge_of(writer: LakeWriter) -> audit.AuditService:
    return audit.AuditService(writer, InlineExecutor(), ManualClock(), AuditConfig())


async def test_an_audit_that_is_stopped(writer: LakeWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    held, judge, one = Held(0), judge_of(writer), Wanted("binance", "spot", "A", "2023-11-14")
    monkeypatch.setattr(audit, "each", lambda *_: [one])
    monkeypatch.setattr(judge, "_look", lambda *_: [])
    monkeypatch.setattr(audit, "record", held)
    await ends_before_its_asker(held, judge.once(one, quiet))


async def test_an_audit_against_published_files_that_is_stopped(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(0)
    monkeypatch.setattr(auditing, "against", lambda *_: gives([]))
    monkeypatch.setattr(auditing, "record", held)
    job = auditing.control_job(Config(), writer, ManualClock(), judge_of(writer), InlineExecutor(), {})
    await ends_before_its_asker(held, job({"archive": True}, quiet))


async def test_a_count_of_starts_that_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the end of the run says of it is written behind it."""
    clock = ManualClock()
    mode = safe_mode.SafeMode(tmp_path, SafeModeConfig(), clock)
    held = Held()
    monkeypatch.setattr(mode, "_keep", held)
    running = asyncio.ensure_future(mode.run(asyncio.Event()))
    await clock.run(held.begun.wait())
    await ends_before_its_asker(held, running)


async def test_of_an_archive_that_is_stopped_the_next_waits_for_its_end(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, compactor = Held(archiving.Done(dry_run=False)), SimpleNamespace()
    monkeypatch.setattr(archiving, "archive_job", held)
    job = archiving.control_job(
        Config(), writer, ManualClock(), Slot(), compactor, InlineExecutor  # type: ignore[arg-type]
    )  # fmt: skip
    await keeps_its_turn(held, job({}, quiet), job({}, quiet))


@pytest.mark.parametrize(
    "tool, place", [("archive", "daemon.archiving.archive_job"), ("read", "daemon.reparsing.reparse_job")]
)
async def test_a_command_that_repairs_and_is_broken_off_tells_its_thread(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch, tool: str, place: str
) -> None:
    """Else Ctrl-C waits for all that it was about to do."""

    async def asking() -> object:
        return await getattr(repairs._tools(writer, Config(), ManualClock()), tool)({}, quiet)

    await is_told(monkeypatch, place, asking())


@pytest.mark.parametrize("step", ["transform_once", "compact_once"])
async def test_a_command_that_makes_rows_and_is_broken_off_tells_its_thread(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(audit_fetch, "transform_once", lambda *_, **__: None)
    tools = audit_fetch.alone(writer, InlineExecutor(), ManualClock(), Config())
    await is_told(monkeypatch, f"daemon.audit_fetch.{step}", tools.publish(quiet))
