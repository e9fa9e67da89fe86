"""Handovers: shown by overlapping ids, without a gap; changed plans; connections that are cut again and again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import msgspec
import pytest

from collectors.config import ConnectionConfig, WritingConfig
from collectors.connection import Driver, Pacer, Tools
from collectors.exchanges import load
from collectors.handover import overlap
from collectors.http import Http
from collectors.intake import Intake, Pass
from collectors.links import Link
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from collectors.transports import ConnectFailed
from market.session import Fetch, Limits, Output
from market.times import HOUR, SECOND
from tests.support import toy
from tests.support.clock import ManualClock
from tests.support.lines import events_of
from tests.support.toy import T0, ToySession, q, t
from tests.support.transport import CUT, END, HANG, ScriptedVenue

MARKET = ("binance", "spot")


class Asking(ToySession):
    """Asks for two hundred answers at once."""

    def start(self, now: int) -> Sequence[Output]:
        return [*super().start(now), *(Fetch(f"one {n}", "GET", "http://toy.test", 50) for n in range(200))]


class Bench:
    """A driver of toy streams over scripted transports."""

    def __init__(self, *scripts: object, symbols: Sequence[str] = ("AAA",), patience: float = 0.0) -> None:
        self.clock = ManualClock(T0)
        self.venue = ScriptedVenue(*scripts, clock=self.clock)
        self.intake = Intake(WritingConfig())
        self.pipeline = Pipeline(*MARKET, self.intake, merger_maker(toy, "spot"))
        self.stop = asyncio.Event()
        numbers = iter(range(1, 10_000))

        async def spend(weight: int) -> None:
            await self.clock.sleep(weight * patience)

        self.tools = Tools(
            clock=self.clock, config=ConnectionConfig(), connect=self.venue, http=Http(self.clock, *MARKET),
            next_session=lambda: f"n-1-{next(numbers)}", turn=Pacer(self.clock).turn, random=lambda: 1.0, spend=spend,
        )  # fmt: skip
        self.driver = self.drive(*symbols)

    def plan(self, *symbols: str, kinds: Sequence[str] = ("trade", "quote")) -> object:
        streams = toy.streams("spot", kinds, symbols)
        (connection,) = toy.connections("spot", streams, toy.ENDPOINTS["spot"])
        return connection

    def drive(self, *symbols: str) -> Driver:
        return Driver(toy, self.plan(*symbols), self.pipeline, self.tools)  # type: ignore[arg-type]

    async def run(self, *acts: object) -> Pass:
        """Let the driver run while time passes (floats) and things happen, then stop it; all that it received."""
        running = asyncio.ensure_future(self.driver.run(self.stop))
        for act in acts:
            if isinstance(act, float):
                await self.clock.advance(act)
            else:
                act()  # type: ignore[operator]
            self.pipeline.advance(self.clock.now())
        self.stop.set()
        await self.clock.run(asyncio.wait_for(running, 60))
        self.pipeline.advance(self.clock.now() + 10 * SECOND, covered=True)
        return self.intake.collect(self.clock.now())


def trades(work: Pass, symbol: str = "AAA") -> list[int]:
    return [
        e.seq
        for lane, events in work.events
        if lane[2] == "trade"
        for e in events_of(lane, events)
        if e.symbol == symbol
    ]


def endings(work: Pass) -> list[str]:
    return [row.close_cause for row in work.sessions if row.closed_at is not None]


def covered(work: Pass, kind: str, symbol: str = "AAA") -> list[tuple[int, int]]:
    """What is covered, as spans in ms after T0 that do not touch."""
    spans: list[tuple[int, int]] = []
    rows = [r for r in work.coverage if (r.kind, r.symbol) == (kind, symbol)]
    for start, end in sorted(((r.ts_from - T0) // 1000, (r.ts_to - T0) // 1000) for r in rows):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


async def test_a_life_with_answers_to_wait_for_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "session", lambda connection, name: Asking(name, connection.streams))
    bench = Bench([t(1, 0), 1.0, CUT], [t(2, 2000), HANG], patience=1.0)
    work = await bench.run(1.0, 1.5)
    assert len(bench.venue.transports) == 2, "a second after the cut, not minutes"
    assert trades(work) == [1, 2]
    assert endings(work)[0].startswith("disconnect")


async def test_the_very_next_id_shows_that_nothing_is_missing() -> None:
    bench = Bench(
        [[t(1, 0), q(1, 0)], b"leave planned", 2.0, [t(2, 2000), q(2, 2000)], HANG],
        [2.5, [t(3, 2500), q(2, 2000)], HANG],
    )
    work = await bench.run(*[0.5] * 12)
    assert endings(work) == ["handover: to n-1-2, 2 of 2 streams joined by ids", "stopped"]
    assert (trades(work), work.gaps) == ([1, 2, 3], [])


async def test_a_successor_that_is_ahead_waits_until_the_old_one_gets_there() -> None:
    bench = Bench(
        [[t(1, 0), q(1, 0)], b"leave planned", 2.0, [t(2, 1), t(3, 2), t(4, 3), q(5, 2), q(8, 3)], HANG],
        [1.0, [t(4, 3), q(5, 2)], 0.5, t(5, 4), HANG],
    )
    work = await bench.run(*[0.5] * 20)
    assert endings(work)[0] == "handover: to n-1-2, 2 of 2 streams joined by ids"
    (old, _) = [row for row in work.sessions if row.closed_at is not None]
    assert old.closed_at is not None
    assert 2 * SECOND <= old.closed_at - T0 < 3 * SECOND
    assert (sorted(trades(work)), work.gaps) == ([1, 2, 3, 4, 5], [])


async def test_quiet_streams_are_waited_for_and_then_passed_on_without_a_gap() -> None:
    bench = Bench(
        [b"ack", [t(1, 0), q(1, 0)], b"leave planned", HANG],
        [b"ack", 60.0, [t(2, 60_000), q(2, 60_000)], HANG],
    )
    work = await bench.run(*[1.0] * 70)
    assert endings(work) == ["handover: to n-1-2, 0 of 2 streams joined by ids, 2 quiet", "stopped"]
    (old, _) = [row for row in work.sessions if row.closed_at is not None]
    assert old.closed_at is not None
    assert 30 * SECOND <= old.closed_at - T0 < 32 * SECOND
    assert work.gaps == []
    assert covered(work, "trade") == covered(work, "quote") == [(0, 60_000)]


async def test_ids_that_are_missing_over_a_handover_are_its_gap() -> None:
    bench = Bench([b"ack", [t(1, 0), q(1, 0)], b"leave planned", HANG], [b"ack", 60.0, t(5, 60_000), HANG])
    work = await bench.run(*[1.0] * 70)
    (gap,) = work.gaps
    assert (gap.kind, gap.cause, gap.id_from, gap.id_to, gap.state) == ("trade", "handover", 2, 5, "open")


async def test_a_stream_that_only_the_old_connection_sends_is_a_gap_until_it_comes() -> None:
    old: list[object] = [b"ack"]
    for n in range(1, 50):
        old += [[t(n, n * 1000), q(n, n * 1000)], 1.0]
    new: list[object] = [b"ack"]
    for n in range(2, 80):
        new += [t(n, n * 1000), 1.0]
    bench = Bench([*old[:2], b"leave planned", *old[2:]], [*new, [q(90, 90_000)], HANG])
    work = await bench.run(*[1.0] * 100)
    assert endings(work)[0] == "handover: to n-1-2, 1 of 2 streams joined by ids, 1 silent there"
    assert {gap.kind for gap in work.gaps} == {"quote"}
    begun, ended = work.gaps[0], work.gaps[-1]
    assert (begun.cause, begun.ts_to) == ("stalled", None)
    assert (ended.gap_id, ended.ts_to) == (begun.gap_id, T0 + 90 * SECOND)


async def test_a_cut_during_a_handover_is_a_bounded_gap() -> None:
    bench = Bench(
        [[t(1, 0), q(1, 0)], b"leave planned", 3.0, CUT],
        [b"ack", 6.0, [t(4, 6000), q(4, 6000)], HANG],
    )
    work = await bench.run(*[0.5] * 20)
    assert endings(work)[0].startswith("disconnect: 1006")
    ends = {gap.kind: (gap.cause, gap.id_from, gap.id_to, gap.ts_to) for gap in work.gaps}
    assert ends == {
        "trade": ("disconnect", 2, 4, T0 + 6 * SECOND + 1), "quote": ("disconnect", None, None, T0 + 6 * SECOND),
    }  # fmt: skip


@pytest.mark.parametrize("end", [[5.0, END], [4.0, t(2, 4000), 0.5, CUT]], ids=["closed in order", "torn"])
async def test_a_quiet_stream_is_handed_over_by_time_where_the_old_one_was_heard_behind_the_new_ones_answer(
    end: list[object],
) -> None:
    """An end in order comes behind all that was sent; of a torn one only what was heard before is sure."""
    bench = Bench(
        [b"ack", [t(1, 0), q(1, 0)], b"leave planned", *end],
        [b"ack", 40.0, [t(3, 45_000), q(2, 45_000)], HANG],
    )
    work = await bench.run(*[1.0] * 50)
    assert endings(work)[0].startswith("disconnect")
    assert [gap for gap in work.gaps if gap.kind == "quote"] == []
    assert covered(work, "quote") == [(0, 45_000)]


async def test_a_successor_that_ends_before_it_has_sent_anything_has_proven_nothing() -> None:
    bench = Bench(
        [b"ack", [t(1, 0), q(1, 0)], b"leave planned", 5.0, END],
        [b"ack", 8.0, CUT],
        [b"ack", [t(2, 14_000), q(2, 14_000)], HANG],
    )
    work = await bench.run(*[1.0] * 30)
    told = [(gap.cause, gap.ts_from, gap.ts_to, gap.state) for gap in work.gaps if gap.kind == "quote"]
    assert told[-1] == ("disconnect", T0, T0 + 14 * SECOND, "open")
    assert len({gap.gap_id for gap in work.gaps if gap.kind == "quote"}) == 1


async def test_a_successor_that_only_said_that_it_has_a_stream_is_a_gap_from_the_last_that_came() -> None:
    bench = Bench([b"ack", [t(1, 0), q(1, 0)], b"leave planned", 5.0, END], [b"ack", HANG])
    quiet = await bench.run(*[1.0] * 90)
    (gap,) = [gap for gap in quiet.gaps if gap.kind == "quote"]
    assert (gap.cause, gap.ts_from, gap.ts_to, gap.state) == ("stalled", T0, None, "open")


async def test_a_successor_that_is_cut_leaves_the_old_connection_and_another_one_comes() -> None:
    old: list[object] = [[t(1, 0), q(1, 0)], b"leave planned"]
    for n in range(2, 40):
        old += [0.5, [t(n, n * 500), q(n, n * 500)]]
    bench = Bench(old, [0.2, CUT], [3.0, CUT], [5.0, [t(20, 10_000), q(20, 10_000)], HANG])
    work = await bench.run(*[0.5] * 60)
    assert len(bench.venue.transports) == 4
    assert [ending.partition(":")[0] for ending in endings(work)] == ["disconnect", "disconnect", "handover", "stopped"]
    assert work.gaps == []


async def test_attempts_to_reach_a_successor_grow_rarer() -> None:
    bench = Bench([[t(1, 0), q(1, 0)], b"leave planned", HANG], *[ConnectFailed("no")] * 500)
    await bench.run(*[10.0] * 60)
    assert len(bench.venue.attempts) < 20


async def test_a_new_plan_begins_and_ends_streams_and_overlaps_those_that_stay() -> None:
    old: list[object] = [b"ack", [t(1, 0), q(1, 0), t(7, 0, "BBB"), q(7, 0, "BBB")]]
    for n in range(2, 40):
        old += [0.5, [t(n, n * 500), q(n, n * 500), t(n + 6, n * 500, "BBB")]]
    new = [b"ack", 2.0, [t(5, 2500), q(5, 2500), t(1, 2500, "CCC")], 20.0, [t(n, 12_000) for n in range(6, 30)], HANG]
    bench = Bench(old, new, [b"ack", [t(50, 60_000, "BBB"), q(50, 60_000, "BBB"), t(30, 61_000)], HANG])
    bench.driver = bench.drive("AAA", "BBB")
    work = await bench.run(
        1.0, lambda: bench.driver.replan(bench.plan("AAA", "CCC")), *[0.5] * 60,  # type: ignore[arg-type]
        lambda: bench.driver.replan(bench.plan("AAA", "BBB")), *[0.5] * 70,  # type: ignore[arg-type]
    )  # fmt: skip
    assert bench.driver.connection == bench.plan("AAA", "BBB")
    assert endings(work)[0] == "handover: to n-1-2, 2 of 2 streams joined by ids"
    assert [gap for gap in work.gaps if gap.symbol != "AAA"] == [], "nobody wanted BBB in between"
    assert (trades(work, "CCC"), trades(work, "BBB")[-1]) == ([1], 50)
    assert covered(work, "trade", "BBB")[0][0] == 0


async def test_a_plan_that_changes_before_the_first_connection_is_the_one_that_is_carried_out() -> None:
    bench = Bench(ConnectFailed("no"), [[t(1, 0, "BBB")], HANG])
    bench.driver.replan(bench.plan("BBB"))  # type: ignore[arg-type]
    work = await bench.run(5.0)
    assert (trades(work, "BBB"), len(bench.venue.transports)) == ([1], 1)


@pytest.mark.parametrize("end", [CUT, b"leave silence"])
async def test_streams_that_a_new_plan_leaves_out_are_unwanted_at_once_whatever_ends_the_old_connection(
    end: object,
) -> None:
    every = [t(1, 0), q(1, 0), t(7, 0, "BBB"), q(7, 0, "BBB")]
    bench = Bench([b"ack", every, 4.0, end], [1.0, b"ack", 8.0, [t(2, 9000), q(2, 9000)], HANG])
    bench.driver = bench.drive("AAA", "BBB")
    replan = lambda: bench.driver.replan(bench.plan("AAA"))  # noqa: E731  # type: ignore[arg-type]
    work = await bench.run(1.0, replan, *[0.5] * 30)
    assert endings(work)[0].partition(":")[0] in ("disconnect", "silence")
    assert {gap.symbol for gap in work.gaps} == {"AAA"}


async def test_a_gap_of_a_stream_that_is_wanted_no_more_ends_there() -> None:
    old: list[object] = [b"ack", [t(7, 0, "BBB"), q(7, 0, "BBB")]]
    for n in range(1, 90):
        old += [[t(n, n * 2000), q(n, n * 2000), t(n + 7, n * 2000, "BBB")], 2.0]
    new: list[object] = [b"ack", *itertools.chain(*([[t(n, n * 2000), q(n, n * 2000)], 2.0] for n in range(60, 99)))]
    bench = Bench(old, *[[b"ack", HANG]] * 3, new)
    bench.driver = bench.drive("AAA", "BBB")
    replan = lambda: bench.driver.replan(bench.plan("AAA"))  # noqa: E731  # type: ignore[arg-type]
    work = await bench.run(*[1.0] * 75, lambda: bench.pipeline.advance(bench.clock.now()), replan, *[1.0] * 60)
    gaps = {gap.gap_id: gap for gap in work.gaps if gap.symbol == "BBB"}.values()
    assert [(gap.kind, gap.cause, gap.ts_to) for gap in gaps] == [("quote", "silent_stream", T0 + 75 * SECOND)]


async def test_a_retired_connection_ends_without_a_gap_and_its_driver_returns() -> None:
    bench = Bench([[t(1, 0), q(1, 0)], HANG])
    running = asyncio.ensure_future(bench.driver.run(bench.stop))
    await bench.clock.advance(1.0)
    bench.driver.retire()
    await bench.clock.run(asyncio.wait_for(running, 60))
    bench.pipeline.advance(T0 + 10 * SECOND)
    work = bench.intake.collect(bench.clock.now())
    assert (endings(work), work.gaps) == (["retired"], [])


async def test_only_the_first_life_of_a_twin_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def session(connection: object, name: str) -> ToySession:
        seen.append(connection.age)  # type: ignore[attr-defined]
        return ToySession(name, connection.streams)  # type: ignore[attr-defined]

    monkeypatch.setattr(toy, "session", session)
    bench = Bench(ConnectFailed("no"), [t(1, 0), CUT], [t(2, 0), HANG])
    bench.driver = Driver(toy, msgspec.structs.replace(bench.plan("AAA"), age=11 * HOUR), bench.pipeline, bench.tools)
    await bench.run(*[1.0] * 6)
    assert seen == [11 * HOUR, 0]


async def test_a_connection_that_is_cut_every_second_keeps_the_rate_and_is_one_gap_a_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An hour of it: what is acknowledged and never heard is no end of an interruption."""
    limits = Limits(100, 100, 10.0, 300, 300 * SECOND, None, 60 * SECOND, 60 * SECOND)
    monkeypatch.setattr(toy, "LIMITS", {"spot": limits})
    bench = Bench([b"ack", [t(1, 0), q(1, 0)], CUT], *[[b"ack", 1.0, CUT]] * 2000)
    work = await bench.run(*[10.0] * 360)
    assert 60 < len(bench.venue.attempts) < 120, "the pauses grow to a minute"
    assert {(gap.kind, gap.cause) for gap in work.gaps} == {("trade", "disconnect"), ("quote", "disconnect")}
    assert len({gap.gap_id for gap in work.gaps}) == len(work.gaps) == 2


async def test_many_connections_that_are_cut_together_keep_the_venues_rate() -> None:
    bench = Bench(*[[b"ack", 1.0, CUT]] * 5000)
    times: list[float] = []
    connect = bench.tools.connect

    async def counted(url: str, *, max_frame: int, timeout: float, **_more: object) -> object:
        times.append(bench.clock.monotonic())
        return await connect(url, max_frame=max_frame, timeout=timeout, **_more)

    bench.tools = msgspec.structs.replace(bench.tools, connect=counted)  # type: ignore[arg-type]
    drivers = [bench.drive(f"S{n}") for n in range(20)]
    running = [asyncio.ensure_future(driver.run(bench.stop)) for driver in drivers]
    for _ in range(60):
        await bench.clock.advance(10.0)
    bench.stop.set()
    for one in running:
        await bench.clock.run(asyncio.wait_for(one, 60))
    for at in times:
        assert sum(at <= other < at + 300 for other in times) <= 300


async def test_what_came_between_two_cuts_is_no_part_of_a_gap() -> None:
    scripts = [[[t(3 * n, n * 2000), q(3 * n, n * 2000)], 0.5, CUT] for n in range(1, 20)]
    bench = Bench(*scripts)
    work = await bench.run(*[1.0] * 100)
    ids = sorted({(gap.id_from, gap.id_to) for gap in work.gaps if gap.kind == "trade" and gap.id_to is not None})
    assert ids == [(n + 1, n + 3) for n in trades(work)[:-1]]


async def test_a_connection_that_worked_is_made_again_quickly_but_not_for_ever() -> None:
    scripts = [[[t(3 * n, n * 2000), q(3 * n, n * 2000)], 1.0, CUT] for n in range(1, 2000)]
    bench = Bench(*scripts)
    times: list[float] = []
    connect = bench.tools.connect

    async def counted(url: str, *, max_frame: int, timeout: float, **_more: object) -> object:
        times.append(bench.clock.monotonic())
        return await connect(url, max_frame=max_frame, timeout=timeout, **_more)

    bench.tools = msgspec.structs.replace(bench.tools, connect=counted)  # type: ignore[arg-type]
    bench.driver = bench.drive("AAA")
    await bench.run(*[10.0] * 90)
    assert [round(b - a, 1) for a, b in itertools.pairwise(times[:30])] == [1.2] * 29
    for at in times:
        assert sum(at <= other < at + 300 for other in times) < 60


def forming(ms: int, told: int = 100) -> bytes:
    candle = (
        f'{{"t":{ms},"T":{ms + 59_999},"s":"BTCUSDT","i":"1m","o":"1","c":"1","h":"1","l":"1","v":"1","n":1,"x":false,'
        '"q":"1","V":"1","Q":"1"}'
    )
    data = f'{{"e":"kline","E":{ms + told},"s":"BTCUSDT","k":{candle}}}'
    return f'{{"stream":"btcusdt@kline_1m","data":{data}}}'.encode()


@pytest.mark.parametrize("heard", [True, False])
def test_a_twin_serves_what_it_produces_and_not_what_it_was_only_promised(heard: bool) -> None:
    binance = load("binance")
    pipeline = Pipeline("binance", "spot", intake := Intake(WritingConfig()), merger_maker(binance, "spot"))
    streams = binance.streams("spot", ["kline"], ["BTCUSDT"])
    (planned,) = binance.connections("spot", streams, binance.ENDPOINTS["spot"])
    links = []
    for number in (1, 2):
        session = binance.session(planned, f"n-{number}-1")
        links.append(pipeline.open(session, name="", source="ws", url=planned.url, now=T0)[0])
        pipeline.receive(links[-1], [b'{"result":null,"id":1}', *([forming(T0 // 1000)] if heard else [])], T0)
    pipeline.close(links[0], "disconnect", T0 + SECOND)
    assert bool(intake.collect(T0 + SECOND).gaps) != heard


def test_candles_and_what_is_silent_by_nature_hold_up_no_handover() -> None:
    binance = load("binance")
    pipeline = Pipeline("binance", "linear", Intake(WritingConfig()), merger_maker(binance, "linear"))
    streams = binance.streams("linear", ["kline", "liquidation"], ["BTCUSDT"])
    (planned,) = binance.connections("linear", streams, binance.ENDPOINTS["linear"])
    ms = T0 // 1000

    def opened(number: int, at: int) -> Link:
        session = binance.session(planned, f"n-{number}-1")
        return pipeline.open(session, name="", source="ws", url=planned.url, now=T0 + at * 1000)[0]

    def told(link: Link, at: int, *frames: bytes) -> None:
        pipeline.receive(link, frames, T0 + at * 1000)

    def shown() -> tuple[int, int, bool]:
        found = overlap(pipeline, old, heir)
        return found.taken, found.quiet, found.complete

    old, heir = opened(1, 0), opened(2, 1000)
    told(old, 200, b'{"result":null,"id":1}', forming(ms))
    told(old, 1000, forming(ms, 900))
    assert shown() == (0, 2, False), "nothing is acknowledged yet"
    told(heir, 1100, b'{"result":null,"id":1}')
    assert shown() == (1, 1, False), "the new one has not shown that it was there before the old one ends"
    told(heir, 1500, forming(ms, 1400))
    assert shown() == (1, 0, False), "the old one is behind"
    told(old, 1600, forming(ms, 1400))
    assert shown() == (2, 0, True)
    assert overlap(pipeline, old, heir).said("n-2-1") == "to n-2-1, 0 of 2 streams joined by ids, 2 taken on"


def test_candles_that_only_the_old_connection_sends_are_waited_for() -> None:
    binance = load("binance")
    pipeline = Pipeline("binance", "spot", Intake(WritingConfig()), merger_maker(binance, "spot"))
    streams = binance.streams("spot", ["kline"], ["BTCUSDT"])
    (planned,) = binance.connections("spot", streams, binance.ENDPOINTS["spot"])
    links = []
    for number in (1, 2):
        session = binance.session(planned, f"n-{number}-1")
        links.append(pipeline.open(session, name="", source="ws", url=planned.url, now=T0)[0])
        pipeline.receive(links[-1], [b'{"result":null,"id":1}'], T0)
    for second in range(9):
        pipeline.receive(links[0], [forming(T0 // 1000, second * 1000)], T0 + second * SECOND)
    found = overlap(pipeline, *links)
    assert ([stream.kind for stream in found.silent], found.complete) == (["kline"], False)
