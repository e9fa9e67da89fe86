"""Collecting as a whole: configured sources in, sealed segments out, over scripted connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from collectors import exchanges, recovery, transports
from collectors.config import CollectorsConfig
from collectors.giving import gap_id
from collectors.http import Answer, Http, HttpFailed
from collectors.pipeline import Pipeline
from collectors.service import CollectorsService
from collectors.transports import Frames
from lake import durable
from lake.durable import Fault
from lake.frames import read_frames
from lake.segments import decode_line
from lake.writer import LakeWriter
from market.session import EVERY_SYMBOL, Gap, Resume
from market.times import SECOND
from runtime.service import Fatal
from runtime.turns import turns_of
from runtime.workers import InlineExecutor
from tests.support import toy
from tests.support.clock import ManualClock, threads_at_once
from tests.support.toy import T0, q, t
from tests.support.transport import CUT, HANG, ScriptedTransport, ScriptedVenue

LANE = ("binance", "spot", "trade")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    with threads_at_once():
        yield


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LakeWriter]:
    with LakeWriter.open(tmp_path / "lake", "n", T0) as opened:
        yield opened


@pytest.fixture(autouse=True)
def toy_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    """`binance` is the toy exchange here, and its REST route answers at once."""

    async def fetch(_self: Http, _method: str, _url: str) -> Answer:
        return Answer(200, {}, b"{}")

    monkeypatch.setattr(exchanges, "load", lambda _name: toy)
    monkeypatch.setattr(Http, "fetch", fetch)


def service(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter, clock: ManualClock, *scripts: object, **writing: object
) -> CollectorsService:
    venue = ScriptedVenue(*scripts, clock=clock)
    monkeypatch.setattr(transports, "load", lambda _name: venue)
    source = {"exchange": "binance", "market_type": "spot", "symbols": ["AAA"]}
    document = {"node": "n", "sources": [source], "writing": {"write_ms": 500, "sync_ms": 1000, **writing}}
    made = CollectorsConfig.model_validate(document)
    stops = recovery.settle(writer, writer.recover(clock.now()), clock.now())
    return CollectorsService(made, writer, clock, lambda: 0.5, stops, InlineExecutor())


async def collect(made: CollectorsService, clock: ManualClock, seconds: float) -> None:
    stop = asyncio.Event()

    async def timed() -> None:
        running = asyncio.ensure_future(made.run(stop))
        timer = asyncio.ensure_future(clock.sleep(seconds))
        await asyncio.wait((running, timer), return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        stop.set()
        await running

    await clock.run(timed())


def stored(writer: LakeWriter, kind: str = "trade") -> list[int]:
    return [
        getattr(event, "seq", None) or event.update_id
        for row in writer.manifest.segments("binance", "spot", kind)
        if row.rows
        for line in (writer.root / row.path).read_bytes().splitlines()
        for event in [decode_line(kind, line)]
    ]


@pytest.mark.parametrize("kind", ["quote", "contract"])
async def test_mergers_are_told_where_a_stream_of_all_symbols_stopped(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter, kind: str
) -> None:
    """It is among no source's symbols; notices of instruments come where no source names their kind."""
    lane = ("binance", "spot", kind)
    grows = Gap(
        gap_id(*lane, EVERY_SYMBOL, None, T0), *lane, EVERY_SYMBOL, T0, None, None, None, "disconnect", "interval",
        "open", "n-0-1", T0,
    )  # fmt: skip
    writer.record_gaps([grows])
    told: list[Mapping[str, Mapping[str, Resume]]] = []
    seed = Pipeline.seed
    monkeypatch.setattr(Pipeline, "seed", lambda one, last: (told.append(last), seed(one, last)))
    clock = ManualClock(T0 + SECOND)
    made = service(monkeypatch, writer, clock, [[b"ack", t(1, 0), q(9, 0)], 30.0])
    await collect(made, clock, 5.0)
    assert told == [{kind: {EVERY_SYMBOL: Resume(T0, None, "n-0-1", "disconnect")}}]
    assert [gap for gap in writer.manifest.gaps() if gap.symbol == EVERY_SYMBOL] == [grows]


async def test_what_was_missed_by_a_restart_is_said_where_the_clock_is_behind_the_last_event(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter
) -> None:
    clock = ManualClock(T0)
    made = service(monkeypatch, writer, clock, [[b"ack", t(1, 0), q(9, 0)], 30.0, [t(2, 30_000), q(10, 30_000)]])
    await collect(made, clock, 40.0)
    behind = ManualClock(T0 + 5 * SECOND)
    again = service(monkeypatch, writer, behind, [[b"ack", t(5, 60_000), q(12, 60_000)], 30.0])
    await collect(again, behind, 20.0)
    gaps = sorted(writer.manifest.gaps(), key=lambda gap: gap.kind)
    assert [(gap.kind, gap.cause, gap.ts_from - T0, gap.id_from, gap.id_to) for gap in gaps] == [
        ("quote", "stopped", 30 * SECOND, None, None), ("trade", "stopped", 30 * SECOND, 3, 5),
    ]  # fmt: skip


async def test_what_is_received_is_sealed_when_it_returns(monkeypatch: pytest.MonkeyPatch, writer: LakeWriter) -> None:
    clock = ManualClock(T0)
    made = service(monkeypatch, writer, clock, [[b"ack", t(1, 0), q(9, 0)], 30.0, [t(2, 30_000), q(10, 30_000)]])
    await collect(made, clock, 70.0)
    assert stored(writer) == [1, 2]
    assert stored(writer, "quote") == [9, 10]
    rows = writer.manifest.segments()
    assert {row.state for row in rows} == {"sealed"}
    assert {row.kind for row in rows} == {"trade", "quote", "contract", "frames"}
    assert sum(row.rows for row in rows if row.kind == "contract") == 1
    assert writer.manifest.gaps() == []
    assert {(c.kind, c.symbol) for c in writer.manifest.coverage()} == {("trade", "AAA"), ("quote", "AAA")}
    assert {row.close_cause for row in writer.manifest.sessions()} == {"done", "stopped"}
    assert writer.manifest.watermark(*LANE) == clock.now()
    frames = [line for row in rows if row.kind == "frames" for line in read_frames(writer.root / row.path)]
    ws = [line for line in frames if line.conn.endswith("-2") or line.dir == "recv"]
    assert [line.dir for line in ws if line.dir != "http"][:2] != []
    assert sum(line.dir == "recv" for line in frames) == 5
    assert not list(writer.root.rglob("*.open"))


class Together(ScriptedTransport):
    """What it reads it hands over with the next turn, as a transport of live frames does."""

    async def receive(self) -> Frames:
        frames = await super().receive()
        loop, turn = asyncio.get_running_loop(), asyncio.Event()
        turns_of(loop, transports.TURN_SECONDS).wanted(turn.set)
        await turn.wait()
        return frames


async def test_what_was_read_before_a_pass_is_in_it_though_it_waits_for_its_turn(
    monkeypatch: pytest.MonkeyPatch, writer: LakeWriter
) -> None:
    clock = ManualClock(T0)
    monkeypatch.setattr("tests.support.transport.ScriptedTransport", Together)
    made = service(monkeypatch, writer, clock, [[b"ack", t(1, 0)], 39.3, t(2, 39_800), 0.2, t(3, 40_200)])
    await collect(made, clock, 50.0)  # T0 is 40 s before a minute's end
    held = {row.period_start: row.rows for row in writer.manifest.segments(*LANE)}
    assert held == {T0: 2, T0 + 40 * SECOND: 1}, "what was read in a minute is sealed with it"
    assert stored(writer) == [1, 2, 3]


async def test_coverage_is_durable_with_every_seal(monkeypatch: pytest.MonkeyPatch, writer: LakeWriter) -> None:
    clock = ManualClock(T0)
    script: list[object] = []
    for n in range(1, 200):
        script += [t(n, n * 1000), 1.0]
    made = service(monkeypatch, writer, clock, script)
    stop = asyncio.Event()
    running = asyncio.ensure_future(made.run(stop))

    async def later() -> int:
        await clock.sleep(130.0)
        return max(row.ts_to for row in writer.manifest.coverage())

    covered = await clock.run(later())
    assert covered >= T0 + 70 * SECOND
    stop.set()
    await clock.run(running)


async def test_the_next_run_joins_the_last(monkeypatch: pytest.MonkeyPatch, writer: LakeWriter) -> None:
    clock = ManualClock(T0)
    await collect(service(monkeypatch, writer, clock, [[t(1, 0), t(2, 1)]]), clock, 2.0)
    await collect(service(monkeypatch, writer, clock, [[t(2, 1), t(3, 5000), t(7, 6000)]]), clock, 10.0)
    assert stored(writer) == [1, 2, 3, 7]
    found = {(gap.kind, gap.cause, gap.id_from, gap.id_to, gap.state) for gap in writer.manifest.gaps(kind="trade")}
    assert found == {("trade", "stopped", 3, 3, "empty"), ("trade", "jump", 4, 7, "open")}


async def test_reference_data_is_asked_for_until_it_comes(monkeypatch: pytest.MonkeyPatch, writer: LakeWriter) -> None:
    answers: list[Answer | Exception] = [HttpFailed("no route"), Answer(503, {}, b"<html>"), Answer(200, {}, b"{}")]

    async def fetch(_self: Http, _method: str, url: str) -> Answer:
        if url.endswith("/time"):
            return Answer(200, {}, b"{}")
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Http, "fetch", fetch)
    clock = ManualClock(T0)
    await collect(service(monkeypatch, writer, clock, [HANG]), clock, 20.0)
    assert answers == []
    assert sum(row.rows for row in writer.manifest.segments(kind="contract")) == 1
    assert len(writer.manifest.quarantine()) == 1


async def test_without_frames_nothing_but_lines_is_written(monkeypatch: pytest.MonkeyPatch, writer: LakeWriter) -> None:
    clock = ManualClock(T0)
    made = service(monkeypatch, writer, clock, [t(1, 0)], frames=False)
    await collect(made, clock, 2.0)
    assert stored(writer) == [1]
    assert not (writer.root / "frames").exists()


async def test_storage_that_fails_twice_ends_the_process(monkeypatch: pytest.MonkeyPatch, writer: LakeWriter) -> None:
    clock = ManualClock(T0)
    made = service(monkeypatch, writer, clock, [t(1, 0), 0.3, t(2, 1), 0.3, t(3, 2)])
    durable.inject(Fault("write", 4, "EIO", repeat=True))
    try:
        with pytest.raises(Fatal) as ended:
            await collect(made, clock, 5.0)
    finally:
        durable.inject(None)
    assert ended.value.exit_code == 74


async def test_a_full_disk_is_waited_for(monkeypatch: pytest.MonkeyPatch, writer: LakeWriter) -> None:
    clock = ManualClock(T0)
    made = service(monkeypatch, writer, clock, [t(1, 0), 2.0, t(2, 1), 6.0, t(3, 2)])

    async def disk() -> None:
        await clock.sleep(1.0)
        durable.inject(Fault("write", 1, "ENOSPC", repeat=True))
        await clock.sleep(5.0)
        durable.inject(None)

    try:
        filling = asyncio.ensure_future(disk())
        await collect(made, clock, 12.0)
        await filling
    finally:
        durable.inject(None)
    assert sorted(stored(writer)) == [1, 2, 3]


async def test_status_says_what_is_connected_and_counted(monkeypatch: pytest.MonkeyPatch, writer: LakeWriter) -> None:
    clock = ManualClock(T0)
    made = service(monkeypatch, writer, clock, [[t(1, 0), t(1, 0), b"?"], CUT], [HANG])
    seen: list[Any] = []

    async def look() -> None:
        await clock.sleep(4.0)
        seen.extend(made.status().values())

    looking = asyncio.ensure_future(look())
    await collect(made, clock, 5.0)
    await looking
    (over,) = made.status().values()
    assert over["connections"] == [{"name": "toy-1", "attempts": 2, "streams": 2}], "it is no more, nor what it did"
    (market,) = seen
    (connection,) = market["connections"]
    assert (connection["name"], connection["attempts"], connection["streams"]) == ("toy-1", 2, 2)
    assert sum(connection["states"].values()) == 2
    assert set(connection["not_producing"].values()) <= {"desired", "acknowledged", "silent", "unanswered", "stalled"}
    assert (market["events"]["trade"], market["duplicates"]["trade"], market["rejected"]) == (1, 1, 1)


def test_more_connections_than_allowed_are_refused(monkeypatch: pytest.MonkeyPatch, writer: LakeWriter) -> None:
    sources = [{"exchange": "binance", "market_type": "spot", "symbols": [symbol]} for symbol in ("AAA", "BBB")]
    config = CollectorsConfig.model_validate({"node": "n", "sources": sources, "connections": {"max_connections": 1}})
    with pytest.raises(Fatal, match="need 2 connections") as refused:
        CollectorsService(config, writer, ManualClock(T0), lambda: 0.5)
    assert refused.value.exit_code == 78
