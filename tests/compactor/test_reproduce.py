"""Nights: closed days are made again from their frames, certificates say so, and a difference is an alarm."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import msgspec
import pytest

from collectors.config import CollectorsConfig
from compactor.config import CompactorConfig, ReproduceConfig
from compactor.reproduce import Advanced, Lost, ReproduceService
from compactor.reproduce_plan import ReproduceJob, due
from daemon import reproducing
from lake.errors import StorageFailed
from lake.rows import FRAMES, CertificateRow, FileRow, SegmentRow
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.times import DAY, HOUR, MINUTE
from runtime import metrics
from runtime.slot import Slot
from runtime.workers import InlineExecutor, Workers
from tests.support import proven
from tests.support.clock import ManualClock
from tests.support.proven import LATER

NIGHT = LATER - LATER % DAY + DAY + 2 * HOUR
"""02:00 UTC of a day on which both days of the lake are long closed."""
ADVANCE = partial(reproducing.advance, CollectorsConfig())


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(proven.midnight_lake(tmp_path / "lake"), "box", LATER) as opened:
        yield opened


def service(
    writer: LakeWriter,
    clock: ManualClock,
    advance: Callable[..., Advanced] = ADVANCE,
    workers: Callable[[], Executor] = InlineExecutor,
    waits: Callable[[], bool] = lambda: False,
    slot: Slot | None = None,
    **settings: object,
) -> ReproduceService:
    # its slices are done in this process, which has all the other tests' memory
    config = ReproduceConfig.model_validate({"folder": writer.root.parent, "max_mb": 64_000, **settings})
    return ReproduceService(writer, workers, advance, clock, config, waits=waits, slot=slot)


def night(made: ReproduceService, clock: ManualClock) -> None:
    asyncio.run(clock.run(made.night(asyncio.Event())))


def states(writer: LakeWriter) -> dict[tuple[str, str], bool | None]:
    """(kind, date) -> what the newest certificate says."""
    return {
        (row.kind, row.date): row.reproduced
        for row in writer.manifest.certificates()
        if not row.kind.startswith("bar_")
    }


def said(event: str) -> float:
    samples = (sample for metric in metrics.EVENTS.collect() for sample in metric.samples)
    return sum(s.value for s in samples if s.labels.get("event") == event and s.name.endswith("_total"))


def left(folder: Path) -> list[str]:
    return [place.name for place in folder.iterdir() if place.name.startswith("lake-reproduce-")]


def test_the_newest_closed_day_is_made_again_and_its_certificates_say_so(writer: LakeWriter) -> None:
    clock, before = ManualClock(NIGHT), said("day_reproduced")
    made = service(writer, clock)
    night(made, clock)
    assert states(writer) == {
        ("trade", "2025-11-20"): None, ("quote", "2025-11-20"): None, ("contract", "2025-11-20"): None,
        ("trade", "2025-11-21"): True, ("quote", "2025-11-21"): True,
    }  # fmt: skip
    assert said("day_reproduced") == before + 1
    assert made.status()["last"]["same"] == 2  # type: ignore[index]
    assert left(writer.root.parent) == []
    night(made, clock)
    assert states(writer)["contract", "2025-11-20"] is True, "the night after, the day before that"
    asked: list[object] = []
    night(service(writer, clock, lambda *job, **_: asked.append(job)), clock)  # type: ignore[arg-type]
    assert asked == [], "nothing is left to prove"
    with writer.manifest.snapshot() as snapshot:
        found = verify_lake(writer.root, snapshot, lambda *_: None)
    assert found.ok
    assert [(one.date, one.same, one.unproven) for one in found.proofs] == [("2025-11-20", 3, 0), ("2025-11-21", 2, 0)]
    assert all(one.at == NIGHT for one in found.proofs)


def test_a_certified_file_that_its_frames_do_not_make_is_an_alarm_a_check_and_an_error(writer: LakeWriter) -> None:
    row = writer.manifest.certificates(kind="trade", date_from="2025-11-21")[-1]
    lie = msgspec.structs.replace(row, content_digest="0" * 64, issued_at=row.issued_at + 1)
    writer.publish(certificates=[lie], now=LATER)
    frames = next(one for one in writer.manifest.segments(kind=FRAMES) if one.rows and "date=2025-11-21" in one.path)
    (writer.root / frames.path).unlink()
    clock, before = ManualClock(NIGHT), said("day_not_reproduced")
    made = service(writer, clock)
    night(made, clock)
    assert states(writer)["trade", "2025-11-21"] is False
    assert said("day_not_reproduced") == before + 1
    (check,) = [one for one in writer.manifest.checks(row.path) if one.check == "reproduced"]
    assert (check.symbol, check.count) == ("BTCUSDT", 6)
    assert check.detail.startswith("not made of any frame: BTCUSDT 2025-11-21T00:00:00Z (id ")
    assert made.status()["last"]["different"] == 2  # type: ignore[index]
    with writer.manifest.snapshot() as snapshot:
        found = verify_lake(writer.root, snapshot, lambda *_: None)
    problems = [one.problem for one in found.findings if one.path == row.path]
    assert "is not what its frames made on 2025-11-24T02:00:00Z" in problems


async def passes(clock: ManualClock, what: Callable[[], bool], minutes: int = 1) -> None:
    """Let time go by, and threads come to their end, until something is so."""
    for _ in range(1000):
        while not clock.sleeping and not what():
            await asyncio.sleep(0.001)
        if what():
            return
        await clock.advance(60 * minutes)
    raise AssertionError("it never was so")


async def test_nights_begin_at_their_hour_and_once_a_day(writer: LakeWriter) -> None:
    clock, stop = ManualClock(NIGHT - 30 * MINUTE), asyncio.Event()
    calls: list[int] = []

    def over(*_arguments: object, **_options: object) -> Advanced:
        calls.append(clock.now())
        return Advanced(0, 0, over=True)

    running = asyncio.create_task(service(writer, clock, over, days=31).run(stop))
    await passes(clock, lambda: clock.now() >= NIGHT - 2 * MINUTE)
    assert calls == []
    await passes(clock, lambda: len(calls) == 2)
    await passes(clock, lambda: clock.now() > NIGHT + 20 * HOUR, minutes=60)
    assert len(calls) == 2, "both days, once each"
    stop.set()
    await passes(clock, running.done)


async def test_while_it_has_to_wait_nothing_is_done_and_a_stop_is_heard(writer: LakeWriter) -> None:
    clock, stop, waiting = ManualClock(NIGHT), asyncio.Event(), [True]
    calls: list[int] = []

    def over(*_arguments: object, **_options: object) -> Advanced:
        calls.append(clock.now())
        return Advanced(0, 0, over=True)

    made = service(writer, clock, over, waits=lambda: waiting[0])
    running = asyncio.create_task(made.night(stop))
    await passes(clock, lambda: made.status()["under_way"] is not None)
    await clock.advance(600)
    assert calls == []
    assert made.status()["under_way"] == {"day": "binance linear 2025-11-21", "state": "paused"}
    waiting[0] = False
    await passes(clock, running.done)
    assert len(calls) == 1
    waiting[0] = True
    stopped = asyncio.create_task(made.night(stop))
    await passes(clock, lambda: made.status()["under_way"] is not None)
    stop.set()
    await passes(clock, stopped.done)
    assert len(calls) == 1
    assert left(writer.root.parent) == []


async def test_its_slices_wait_for_other_work_and_other_work_for_its_slices(writer: LakeWriter) -> None:
    clock, slot = ManualClock(NIGHT), Slot()
    begun: list[bool] = []

    def over(*_arguments: object, **_options: object) -> Advanced:
        begun.append(slot.begin())
        return Advanced(0, 0, over=True)

    made = service(writer, clock, over, slot=slot)
    assert slot.begin()
    running = asyncio.create_task(made.night(asyncio.Event()))
    await passes(clock, lambda: made.status()["under_way"] is not None)
    assert made.status()["under_way"] == {"day": "binance linear 2025-11-21", "state": "waits for other work"}
    await clock.advance(600)
    assert begun == []
    slot.end()
    await passes(clock, running.done)
    assert begun == [False], "while it works it has the slot"
    assert slot.begin(), "which is free again"


def test_a_day_that_needs_more_memory_than_it_may_have_is_given_up(
    writer: LakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(NIGHT)
    assert reproducing.resident() > 0
    monkeypatch.setattr(reproducing, "resident", lambda: 401 << 20)
    made = service(writer, clock, max_mb=400)
    night(made, clock)
    why = made.status()["last"]["why"]  # type: ignore[index]
    assert "needs 401 MB of memory, 400 MB are allowed (raise compactor.reproduce.max_mb" in why
    assert left(writer.root.parent) == []


def never_over(*_arguments: object, **_options: object) -> Advanced:
    return Advanced(1, 2)


def broken(*_arguments: object, **_options: object) -> Advanced:
    raise StorageFailed("no space left in the temporary folder")


def lost(*_arguments: object, fresh: bool, **_options: object) -> Advanced:
    if fresh:
        return Advanced(1, 2)
    raise Lost("the work was in a process that is gone")


@pytest.mark.parametrize(
    "advance, settings, why",
    [
        (never_over, {"max_hours": 0.000001}, "takes longer than compactor.reproduce.max_hours"),
        (broken, {}, "no space left in the temporary folder"),
        (lost, {}, "a process that is gone"),
    ],
)
def test_what_ends_a_nights_work_ends_no_daemon_is_said_and_tried_again(
    writer: LakeWriter, advance: Callable[..., Advanced], settings: dict[str, object], why: str
) -> None:
    clock, before = ManualClock(NIGHT), said("reproduction_failed")

    def later(*arguments: object, **options: object) -> Advanced:
        clock.jump(1)
        return advance(*arguments, **options)

    made = service(writer, clock, later, **settings)
    night(made, clock)
    assert said("reproduction_failed") == before + 1
    assert why in made.status()["last"]["why"]  # type: ignore[index]
    assert set(states(writer).values()) == {None}
    assert left(writer.root.parent) == []
    night(service(writer, clock), clock)
    assert states(writer)["trade", "2025-11-21"] is True


def test_without_room_it_is_not_begun(writer: LakeWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(NIGHT)
    monkeypatch.setattr("compactor.reproduce.SPARE", 2**60)
    made = service(writer, clock, never_over)
    night(made, clock)
    assert "name another one in compactor.reproduce.folder" in made.status()["last"]["why"]  # type: ignore[index]


def test_without_a_folder_for_it_a_night_is_given_up(writer: LakeWriter) -> None:
    clock = ManualClock(NIGHT)
    made = service(writer, clock, never_over, folder=writer.root.parent / "nowhere")
    night(made, clock)
    assert "no folder can be made in" in made.status()["last"]["why"]  # type: ignore[index]


def test_the_work_is_done_in_a_process_of_its_own(writer: LakeWriter) -> None:
    clock = ManualClock(NIGHT)
    made = service(writer, clock, workers=Workers)

    async def real() -> None:
        await made.night(asyncio.Event())

    asyncio.run(real())
    assert states(writer)["trade", "2025-11-21"] is True
    assert threading.active_count() < 50


# --- the plan ---


def file(date: str, kind: str = "trade", path: str = "") -> FileRow:
    return FileRow(
        path=path or f"{kind}-{date}", exchange="binance", market_type="spot", kind=kind, level="day", symbol="X",
        date=date, hour=None, revision=0, rows=1, bytes=100, sha256="", ts_min=0, ts_max=0,
    )  # fmt: skip


def told(row: FileRow, at: int, reproduced: bool | None = None) -> CertificateRow:
    return CertificateRow(
        path=row.path, sha256="", exchange=row.exchange, market_type=row.market_type, kind=row.kind, symbol="X",
        date=row.date, revision=0, issued_at=at, rows=1, reproduced=reproduced,
    )  # fmt: skip


def frames(date: int, state: str = "sealed") -> SegmentRow:
    return SegmentRow(
        path=f"f{date}", exchange="binance", market_type="spot", kind=FRAMES, state=state,  # type: ignore[arg-type]
        period_start=date * DAY, period_end=(date + 1) * DAY, rows=1,
    )  # fmt: skip


ONE, TWO, THREE = (file(f"1970-01-0{n}") for n in (1, 2, 3))
KEPT = [frames(0), frames(1), frames(2)]


def planned(
    certificates: list[CertificateRow], days: int = 1, kept: list[SegmentRow] = KEPT, **tried: int
) -> list[str]:
    cursors = {f"reproduced/binance/spot/1970-01-0{name[1]}": at for name, at in tried.items()}
    return [job.date for job in due([ONE, TWO, THREE], certificates, kept, cursors, days)]


def test_the_newest_days_come_first() -> None:
    every = [told(ONE, 1), told(TWO, 2), told(THREE, 3)]
    assert planned(every) == ["1970-01-03"]
    assert planned(every, days=2) == ["1970-01-03", "1970-01-02"]
    assert planned(every, days=9) == ["1970-01-03", "1970-01-02", "1970-01-01"]
    assert planned(every, days=0) == []


def test_days_that_are_proven_or_were_tried_wait_for_a_new_certificate() -> None:
    proven_ = [told(ONE, 1), told(TWO, 2), told(THREE, 3), told(THREE, 4, reproduced=True)]
    assert planned(proven_) == ["1970-01-02"]
    assert planned(proven_, d2=2) == ["1970-01-01"]
    assert planned([*proven_, told(TWO, 9)], d2=2) == ["1970-01-02"], "a revision is another file"
    assert planned([told(THREE, 3, reproduced=False)]) == [], "an alarm was given: it is not made again by itself"


def test_days_whose_frames_are_gone_and_what_is_derived_are_left_out() -> None:
    every = [told(ONE, 1), told(TWO, 2), told(THREE, 3)]
    assert planned(every, kept=[frames(0), frames(1), frames(2, "deleted")]) == ["1970-01-02"]
    bars = file("1970-01-03", "bar_1m")
    assert due([bars], [told(bars, 1)], KEPT, {}, 1) == []
    assert due([THREE], [told(THREE, 3)], KEPT, {}, 1) == [
        ReproduceJob("binance", "spot", "1970-01-03", newest=3, bytes=100)
    ]


def test_the_settings_stand_under_compactor() -> None:
    config = CompactorConfig.model_validate({"reproduce": {"days": 3, "from_hour": 4}})
    assert (config.reproduce.days, config.reproduce.from_hour, config.reproduce.max_hours) == (3, 4, 4)
    assert CompactorConfig.model_validate({}).reproduce.days == 1
