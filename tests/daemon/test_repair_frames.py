"""Gaps that nobody can be asked about: frames of their time, read again, close them where they tell all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loguru
import msgspec
import pytest

from collectors import repair
from collectors.config import CollectorsConfig
from collectors.exchanges.binance import linear
from collectors.repair import Scope
from collectors.repair_plan import CALM, CLOSED, LATEST, OWN, Hopeless, Known, Left, Sources, Step, plan
from collectors.repair_proofs import read_again
from collectors.replay import replay
from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon.config import Config
from daemon.repairing import Done, Tools, mend, planned
from daemon.reparsing import Tools as Reading
from daemon.reparsing import reparse_job
from lake import Lake
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.kinds import Quote
from market.session import Gap, Rejected
from market.times import DAY, HOUR, MINUTE, Interval, floor_to
from runtime.slot import Slot
from runtime.workers import InlineExecutor
from tests.support import proven, written
from tests.support.clock import ManualClock
from tests.support.crash import quick_folder
from tests.support.proven import BEGIN, LATER, MARKET
from tests.support.rounds import Rounds, never
from transformer.config import TransformerConfig
from transformer.service import transform_once

STEP = 40 * proven.SECOND
LOST = range(13, 16)
"""Update ids of quotes that frames tell and no line did; a quote comes each STEP, from 10 on."""
FROM, TO = BEGIN + 3 * STEP, BEGIN + 5 * STEP
GAP = Gap("slow", *MARKET, "quote", "BTCUSDT", FROM, TO, None, None, "shed", "interval", "open", "box-1-1", TO)
CONFIG = Config.model_validate({"compactor": {"reproduce": {"max_mb": 64_000}}})
FLEETING = Sources(offers={}, fleeting={"quote": "nobody tells of it later"})
KEPT = Known(frames=[Interval(FROM - HOUR, TO + HOUR)])
OVER = floor_to(FROM, DAY) + DAY + CLOSED


# --- what is decided ---


def decided(gap: Gap, known: Known, now: int) -> Any:
    made = plan([gap], FLEETING, known, now)
    (one,) = (*made.steps, *made.left, *made.hopeless)
    return one


def test_frames_are_read_again_once_their_day_is_closed_and_only_once() -> None:
    early = decided(GAP, KEPT, OVER - 1)
    assert isinstance(early, Left)
    assert early.again == OVER
    assert "its frames are kept" in early.why
    step = decided(GAP, KEPT, OVER)
    assert isinstance(step, Step)
    assert step.road == OWN
    assert [(one.start, one.end) for one in step.parts] == [(OVER - CLOSED - DAY, OVER - CLOSED)]
    done = decided(GAP, msgspec.structs.replace(KEPT, reread={"slow": 3}), OVER)
    assert isinstance(done, Hopeless), "unless it is closed before"


def test_without_frames_of_its_time_a_gap_is_given_up() -> None:
    for gap, known in ((GAP, Known(frames=[Interval(TO + HOUR, TO + DAY)])), (_caused("disconnect"), KEPT)):
        assert isinstance(decided(gap, known, TO + CALM + MINUTE), Hopeless)


def test_frames_that_were_kept_all_the_time_close_a_gap() -> None:
    for cause in ("shed", "bitrot", "altered_segment", "unreadable_segment"):
        for rows, state in ((3, "repaired"), (0, "empty")):
            closed = read_again(_caused(cause), msgspec.structs.replace(KEPT, reread={"slow": rows}), OVER)
            assert closed is not None
            assert (closed.state, closed.source, closed.proof, closed.closed_at) == (state, "frames", "interval", OVER)


def test_frames_that_do_not_tell_all_of_it_close_nothing() -> None:
    told = {"slow": 3}
    half = Known(frames=[Interval(FROM, FROM + STEP)], reread=told)
    for gap, known in (
        (GAP, half), (GAP, KEPT), (_caused("crash"), msgspec.structs.replace(KEPT, reread=told)),
        (msgspec.structs.replace(GAP, ts_to=None), msgspec.structs.replace(KEPT, reread=told)),
    ):  # fmt: skip
        assert read_again(gap, known, OVER) is None
    crash = decided(_caused("crash"), msgspec.structs.replace(KEPT, reread=told), OVER)
    assert isinstance(crash, Hopeless)
    assert crash.why == "its frames were read again, 3 rows came; nobody tells of it later"


def _caused(cause: str) -> Gap:
    return msgspec.structs.replace(GAP, cause=cause)


# --- what is done ---


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two closed days of which some quotes were lost on their way from frames to lines."""
    loguru.logger.remove()
    right = linear.CHANNELS["bookTicker"]

    def maker(session: Any, state: Any) -> Any:
        parse = right.maker(session, state)  # type: ignore[operator]

        def read(frame: bytes, ts_recv: int, number: int) -> Any:
            out = parse(frame, ts_recv, number)
            if isinstance(out, Quote) and out.update_id in LOST:
                return (Rejected("lost", out.frame_no, out.stream),)
            return out

        return read

    with quick_folder() as folder:
        source = written.write(folder / "all.jsonl", proven.over_midnight(STEP))
        with monkeypatch.context() as worse, LakeWriter.open(folder / "lake", "box", LATER) as writer:
            worse.setitem(linear.CHANNELS, "bookTicker", msgspec.structs.replace(right, maker=maker))
            replay([source], *MARKET, writer, CollectorsConfig(node="box"), LATER)
            transform_once(writer, InlineExecutor(), LATER, TransformerConfig())
            proven.compact(writer, LATER)
            writer.record(gaps=[GAP], now=LATER)
        yield folder / "lake"


class Reader:
    """Who reads frames again: `dl reparse`'s job, counted."""

    def __init__(self, writer: LakeWriter, refuse: str = "") -> None:
        self.asked: list[Mapping[str, Any]] = []
        self._writer = writer
        self._refuse = refuse

    async def read(self, wanted: Mapping[str, Any], report: Any) -> object:
        self.asked.append(wanted)
        if self._refuse:
            return {"days": [{"refused": self._refuse, "failed": [], "streams": []}]}
        tools = Reading(CONFIG, InlineExecutor, Slot(), report, lambda: False)
        done = reparse_job(self._writer, InlineExecutor(), LATER, wanted, tools)
        compact_once(self._writer, InlineExecutor(), LATER, CompactorConfig(), retention=False)
        return done.told()


async def mended(writer: LakeWriter, reader: Reader) -> Done:
    async def ask(*_: Any) -> Any:
        raise AssertionError("nobody has it")

    tools = Tools(ask, read=reader.read)
    return await mend(writer, CONFIG, ManualClock(LATER), Scope(kind="quote"), tools, lambda *_: None)


def quotes(lake: Path) -> list[int]:
    with Lake(lake) as opened:
        return sorted(opened.read("quote", symbol="BTCUSDT").column("update_id").to_pylist())


async def test_a_day_is_read_again_once_and_what_its_frames_tell_closes_its_gaps(lake: Path) -> None:
    before = quotes(lake)
    assert not set(before) & set(LOST)
    still = msgspec.structs.replace(GAP, gap_id="still", ts_from=TO + 2 * STEP, ts_to=TO + 3 * STEP)
    with LakeWriter.open(lake, "box", LATER) as writer:
        writer.record(gaps=[still, msgspec.structs.replace(GAP, gap_id="crash", cause="crash")], now=LATER)
        told = planned(writer.manifest, Scope(kind="quote"), LATER)
        assert {(one.will, one.how) for one in told} == {("ask", "its own frames, read again")}
        reader = Reader(writer)
        done = await mended(writer, reader)
        assert (done.problems, done.requests) == ([], 0)
        closed = {gap.gap_id: (gap.state, gap.source) for gap in done.closed}
        assert closed == {"slow": ("repaired", "frames"), "still": ("empty", "frames")}
        assert "3 rows came" in next(gap.detail or "" for gap in done.closed if gap.gap_id == "slow")
        (left,) = done.left
        assert (left.gap.gap_id, left.how) == ("crash", "its frames, read again, tell 3 rows and not all of it")
        assert [(one["kind"], one["first"], one["last"]) for one in reader.asked] == [
            ("quote", "2025-11-20", "2025-11-20")
        ]
        assert (await mended(writer, reader)).closed == []
        assert len(reader.asked) == 1
        with writer.manifest.snapshot() as now:
            assert [one for one in verify_lake(lake, now, lambda *_: None).findings if one.severity == "error"] == []
    assert quotes(lake) == sorted([*before, *LOST])


async def test_a_day_that_cannot_be_read_again_is_told_and_tried_later(lake: Path) -> None:
    with LakeWriter.open(lake, "box", LATER) as writer:
        done = await mended(writer, Reader(writer, refuse="not all of its frames can be read"))
        assert done.closed == []
        assert done.problems == ["quote 2025-11-20: not all of its frames can be read"]
        (left,) = done.left
        assert left.how == "asking for it failed"
        known = repair.known(writer.manifest, [GAP], repair.sources(None, "linear"), LATER)
        assert known.tried["slow"].again == LATER + LATEST, "to read a day is work"
        assert known.reread == {}


async def test_the_daemon_reads_frames_again_as_parts_of_its_job(lake: Path) -> None:
    still = msgspec.structs.replace(GAP, gap_id="still", ts_from=TO + 2 * STEP, ts_to=TO + 3 * STEP)
    with LakeWriter.open(lake, "box", LATER) as writer:
        writer.record(gaps=[still], now=LATER)
        reader = Reader(writer, refuse="not all of its frames can be read")
        rounds = Rounds(writer, ManualClock(LATER), SimpleNamespace(outage=None, backfill=never), read=reader.read)
        await rounds.once()
        (row,) = rounds.jobs()
        assert (row.state, row.error) == (
            "failed", "2 of 2 parts failed: quote BTCUSDT: not all of its frames can be read",
        )  # fmt: skip
        assert {one.due_at for one in writer.manifest.job_chunks(row.job)} == {LATER + LATEST}
        rounds.work._read = Reader(writer).read
        rounds.book.move(row.job, "resume", LATER)
        await rounds.carry_out()
        (row,) = rounds.jobs()
        assert row.state == "done"
        last = {one.chunk: one for one in writer.manifest.job_attempts(row.job)}
        assert sorted((one.attempt, one.rows, one.error) for one in last.values()) == [(2, 0, None), (2, 3, None)]
        assert {gap.gap_id: gap.state for gap in writer.manifest.gaps(kind="quote") if gap.source} == {
            "slow": "repaired", "still": "empty",
        }  # fmt: skip
