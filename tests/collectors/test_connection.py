"""The connection driver: what it reads, what it survives, and when it lets another take over."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import msgspec
import pytest

from collectors.budget import Budget
from collectors.config import ConnectionConfig, WritingConfig
from collectors.connection import Driver, Pacer, Tools
from collectors.http import Answer, Http, HttpFailed
from collectors.inquiry import Inquiry
from collectors.intake import Intake, Pass
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from collectors.transports import ConnectFailed, Frames
from market.admission import Admission
from market.session import Connection, Fetch, Leave, Output, Send
from market.times import SECOND
from tests.support import toy
from tests.support.clock import ManualClock
from tests.support.lines import events_of, frames_of
from tests.support.toy import T0, q, t
from tests.support.transport import CUT, END, HANG, ScriptedVenue

MARKET = ("binance", "spot")


class Bench:
    """A driver of one toy connection over scripted transports."""

    def __init__(self, *scripts: object, **config: object) -> None:
        self.clock = ManualClock(T0)
        self.venue = ScriptedVenue(*scripts, clock=self.clock)
        self.intake = Intake(WritingConfig())
        self.pipeline = Pipeline(*MARKET, self.intake, merger_maker(toy, "spot"))
        self.stop = asyncio.Event()
        numbers = iter(range(1, 1000))
        tools = Tools(
            clock=self.clock, config=ConnectionConfig.model_validate(config), connect=self.venue,
            http=Http(self.clock, *MARKET), next_session=lambda: f"n-1-{next(numbers)}",
            turn=Pacer(self.clock).turn, random=lambda: 1.0,
            spend=partial(Budget(self.clock).spend, toy.LIMITS["spot"]),
        )  # fmt: skip
        streams = toy.streams("spot", ["trade", "quote"], ["AAA"])
        (connection,) = toy.connections("spot", streams, toy.ENDPOINTS["spot"])
        self.driver = Driver(toy, connection, self.pipeline, tools)

    async def run(self, *acts: float | Callable[[], Awaitable[None] | None]) -> Pass:
        """Let the driver run while time passes (floats) and things happen, then stop it; all that it received."""
        running = asyncio.ensure_future(self.driver.run(self.stop))
        for act in acts:
            if isinstance(act, float):
                await self.clock.advance(act)
            else:
                act()
        self.stop.set()
        await self.clock.run(asyncio.wait_for(running, 60))
        self.pipeline.advance(self.clock.now(), covered=True)
        return self.intake.collect(self.clock.now())


def ids(work: Pass, kind: str = "trade") -> list[int]:
    return [
        e.seq if kind == "trade" else e.update_id
        for lane, held in work.events
        if lane[2] == kind
        for e in events_of(lane, held)
    ]


def endings(work: Pass) -> list[str]:
    return [row.close_cause for row in work.sessions if row.closed_at is not None]


async def test_what_a_tick_asked_for_is_sent_and_no_reason_to_look_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[float] = []

    def tick(_session: toy.ToySession, now: int) -> list[Send]:
        looks.append((now - T0) / SECOND)
        return [Send("ping")] if looks.count(looks[-1]) == 1 else []

    monkeypatch.setattr(toy.ToySession, "tick", tick)
    bench = Bench([HANG])
    await bench.run(3.5)
    assert looks[:3] == [1, 2, 3]
    (transport,) = bench.venue.transports
    assert transport.sent[:4] == ["subscribe", "ping", "ping", "ping"]


async def test_it_subscribes_receives_and_stops_in_order() -> None:
    bench = Bench([[b"ack", t(1, 0), q(1, 0)], t(2, 5)])
    work = await bench.run(1.0)
    assert bench.venue.transports[0].sent == ["subscribe"]
    assert ids(work) == [1, 2]
    assert endings(work) == ["stopped"]
    assert work.gaps == []
    assert bench.venue.transports[0].closed


async def test_the_receive_time_is_the_moment_of_the_read() -> None:
    bench = Bench([t(1, 0), 2.5, t(2, 5)])
    work = await bench.run(5.0)
    times = [line.ts_recv for _, held in work.frames for line in frames_of(held) if line.dir == "recv"]
    assert times == [T0, T0 + 2_500_000]


async def test_a_cut_is_reconnected_and_the_missing_ids_are_known() -> None:
    bench = Bench([t(1, 0), q(1, 0), CUT], [t(5, 900), q(7, 900), HANG])
    work = await bench.run(1.0, 1.0, 3.0)
    assert ids(work) == [1, 5]
    assert endings(work)[0].startswith("disconnect: 1006")
    last = {gap.kind: gap for gap in work.gaps}
    assert (last["trade"].cause, last["trade"].id_from, last["trade"].id_to) == ("disconnect", 2, 5)
    assert (last["quote"].cause, last["quote"].ts_to) == ("disconnect", T0 + 900_000)


async def test_it_never_gives_up_and_waits_longer_each_time_up_to_the_cap() -> None:
    refusals = [ConnectFailed("refused")] * 9
    bench = Bench(*refusals, [t(1, 0)], backoff_first_seconds=1, backoff_max_seconds=8)
    work = await bench.run(*[1.0] * 60)
    assert ids(work) == [1]
    waits = [seconds for seconds in bench.clock.slept if seconds in (1.0, 2.0, 4.0, 8.0)]
    assert len(bench.venue.attempts) == 10
    assert waits.count(8.0) >= 4


async def test_a_silent_socket_is_left_after_the_operators_bound() -> None:
    bench = Bench([t(1, 0), HANG], [t(2, 0), HANG], silent_socket_seconds=5)
    work = await bench.run(*[1.0] * 9)
    assert endings(work)[0].startswith("silence: no frame for")
    assert ids(work) == [1, 2]


async def test_what_came_while_the_loop_stood_still_is_heard_before_anything_is_called_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[tuple[int, int]] = []

    def tick(session: toy.ToySession, now: int) -> list[Leave]:
        heard.append((round((now - T0) / SECOND), session.frame_no))
        return []

    monkeypatch.setattr(toy.ToySession, "tick", tick)
    bench = Bench([[b"ack", t(1, 0)], 40.0, t(2, 5)], silent_socket_seconds=60)
    work = await bench.run(3.0, lambda: bench.clock.jump(100.0), 3.0)
    assert endings(work) == ["stopped"]
    assert ids(work) == [1, 2]
    assert [one for one in heard if one[0] < 105] == [(1, 2), (2, 2), (3, 2), (103, 3), (104, 3)]


async def test_the_session_may_ask_to_leave_and_its_reason_is_the_cause() -> None:
    bench = Bench([t(1, 0), b"leave garbage", HANG], [t(3, 5), HANG])
    work = await bench.run(1.0, 2.0, 3.0)
    assert endings(work)[0] == "garbage: so it was said"
    assert {gap.cause for gap in work.gaps} == {"garbage"}


@pytest.mark.parametrize("cause", ["silence", "planned"])
async def test_a_session_that_asks_to_leave_at_every_tick_is_left_once_and_nothing_stands_still(
    monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    def tick(session: toy.ToySession, _now: int) -> list[Leave]:
        return [Leave(cause, "said again and again")] if session.session_id == "n-1-1" and session.frame_no > 1 else []

    monkeypatch.setattr(toy.ToySession, "tick", tick)
    monkeypatch.setattr(toy.ToySession, "next_deadline", lambda _session: 0)
    bench = Bench([[b"ack", t(1, 0)], HANG], [[b"ack", t(1, 0), t(2, 5)], HANG])
    work = await bench.run(5.0)
    assert ids(work) == [1, 2]
    assert [end.split(":")[0] for end in endings(work)] == ["handover" if cause == "planned" else cause, "stopped"]


async def test_streams_are_looked_at_about_once_a_second_however_often_a_session_is_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, ticks = list[int](), list[int]()
    monkeypatch.setattr(Inquiry, "look", lambda _self, now: looks.append(now))
    monkeypatch.setattr(toy.ToySession, "tick", lambda _self, now: ticks.append(now) or [])
    monkeypatch.setattr(toy.ToySession, "next_deadline", lambda _session: 0)
    bench = Bench([[b"ack", t(1, 0)], HANG])
    await bench.run(*[0.25] * 40)
    assert len(ticks) >= 40
    assert 10 <= len(looks) <= 21
    assert max(b - a for a, b in itertools.pairwise(looks)) <= SECOND


async def test_where_nothing_ever_came_the_other_address_is_asked_and_kept_while_it_produces() -> None:
    silent, heard = [b"leave no_first_message", HANG], [t(1, 0), CUT]
    bench = Bench(silent, heard, [t(2, 5), HANG])
    bench.driver = Driver(
        toy,
        msgspec.structs.replace(bench.driver.connection, fallbacks=("wss://toy/unrouted",)),
        bench.pipeline,
        bench.driver._tools,
    )
    work = await bench.run(*[1.0] * 8)
    assert bench.venue.attempts == [bench.driver.connection.url, "wss://toy/unrouted", "wss://toy/unrouted"]
    assert {row.url for row in work.sessions} == set(bench.venue.attempts), "the session's row says where it was"


async def test_of_a_connection_that_never_brought_anything_all_is_missing_since_it_was_taken_on() -> None:
    bench = Bench([b"ack", 5.0, b"leave no_first_message", HANG], [b"ack", t(7, 60_000), HANG])
    work = await bench.run(*[1.0] * 12)
    assert endings(work)[0].startswith("no_first_message")
    begun = {gap.symbol: gap.ts_from - T0 for gap in work.gaps}
    assert begun
    assert max(begun.values()) <= SECOND, "not since it was given up"


async def test_an_announced_end_is_handed_over_without_a_gap() -> None:
    bench = Bench(
        [[t(1, 0), q(1, 0)], b"leave planned", 3.0, t(2, 3000), 30.0, t(99, 0), HANG],
        [1.5, [t(1, 0), q(1, 0)], 2.0, [t(2, 3000), t(3, 4000), q(4, 4000)], HANG],
    )
    work = await bench.run(*[1.0] * 12)
    assert ids(work) == [1, 2, 3]
    assert endings(work) == ["handover: to n-1-2, 2 of 2 streams joined by ids", "stopped"]
    assert work.gaps == []
    assert bench.venue.transports[0].closed


async def test_a_successor_that_cannot_be_reached_leaves_the_old_connection_alone() -> None:
    bench = Bench([[t(1, 0), q(1, 0)], b"leave server_shutdown", 20.0, t(2, 3000)], *[ConnectFailed("no")] * 50)
    work = await bench.run(*[1.0] * 22)
    assert ids(work) == [1, 2]
    assert endings(work) == ["stopped"]
    assert 2 < len(bench.venue.attempts) < 40


async def test_a_defect_of_ours_ends_one_session_only() -> None:
    bench = Bench([t(1, 0), b"boom"], [t(2, 5), HANG])
    work = await bench.run(1.0, 2.0)
    assert ids(work) == [1, 2]
    assert endings(work)[0].startswith("internal_error: ZeroDivisionError")


async def test_a_stalled_stream_is_said_is_a_gap_and_is_asked_for_again() -> None:
    quiet: list[object] = [[t(n, n * 1000), 1.0] for n in range(3, 100)]
    script: list[object] = [[q(1, 0), q(2, 100), t(1, 0), t(2, 1000)]]
    for step in quiet:
        script += step  # type: ignore[arg-type]
    bench = Bench(script, [[t(70, 70_000), q(50, 99_000)], HANG])
    work = await bench.run(*[1.0] * 110)
    found = [gap for gap in work.gaps if gap.kind == "quote"]
    assert (found[0].cause, found[0].detail) == ("silent_stream", "10 trades of the symbol in 10 s")
    assert found[-1].ts_to is not None
    assert len(bench.venue.transports) == 2
    assert endings(work)[0] == "handover: to n-1-2, 1 of 2 streams joined by ids, 1 without overlap"


async def test_stopping_does_not_wait_for_a_handshake() -> None:
    bench = Bench()

    async def never(url: str, *, max_frame: int, timeout: float, **_more: object) -> object:
        await asyncio.Event().wait()
        raise AssertionError

    bench.driver._tools = Tools(
        **{name: getattr(bench.driver._tools, name) for name in Tools.__struct_fields__} | {"connect": never}
    )
    work = await bench.run(1.0)
    assert work.sessions == []


async def test_a_busy_connection_lets_others_have_their_turn() -> None:
    bench = Bench([[t(n + k * 256, 0) for n in range(256)] for k in range(50)] + [HANG])
    seen: list[int] = []

    async def other() -> None:
        for _ in range(60):
            seen.append(bench.pipeline.totals.frames)
            await asyncio.sleep(0)

    neighbour = asyncio.ensure_future(other())
    work = await bench.run(1.0)
    await neighbour
    assert len(ids(work)) == 50 * 256
    assert max(b - a for a, b in itertools.pairwise(seen)) <= 256


async def test_reading_waits_while_trades_find_no_room() -> None:
    bench = Bench([[t(n, 0)] for n in range(1, 200)])
    bench.pipeline._blocking[0].max_bytes = 1
    running = asyncio.ensure_future(bench.driver.run(bench.stop))
    await bench.clock.advance(1.0)
    held = sum(len(events) for _, events in bench.intake.collect(T0).events)
    assert held <= 2
    bench.pipeline._blocking[0].max_bytes = 1 << 30
    await bench.clock.advance(1.0)
    assert sum(len(events) for _, events in bench.intake.collect(T0).events) == 199 - held
    bench.stop.set()
    await bench.clock.run(running)


async def test_after_a_few_at_once_connects_to_one_host_follow_each_other_at_a_distance() -> None:
    clock = ManualClock()
    pacer = Pacer(clock)
    times: list[float] = []

    async def connect(host: str) -> None:
        await pacer.turn(host, 2.0)
        times.append(clock.monotonic())

    async def all_of_them() -> None:
        await asyncio.gather(*(connect("one") for _ in range(7)), connect("other"))
        await clock.sleep(100.0)
        await asyncio.gather(*(connect("one") for _ in range(5)))

    await clock.run(all_of_them())
    assert sorted(times) == [0.0] * 5 + [2.0, 4.0, 6.0] + [106.0] * 4 + [108.0]


async def test_a_stop_ends_an_ordinary_life_with_its_coverage() -> None:
    bench = Bench([[t(1, 0), q(1, 0)], 1.0, [t(2, 1000), q(2, 1000)], END], [HANG])
    work = await bench.run(1.5, 1.0)
    assert {(row.kind, row.ts_to - row.ts_from) for row in work.coverage} == {("trade", SECOND), ("quote", SECOND)}
    assert endings(work)[0].startswith("disconnect: 1000")


class Admitted:
    """The toy venue, where it wants to be asked before every connection."""

    def __init__(self, *said: object) -> None:
        self.said = list(said)

    def __getattr__(self, name: str) -> object:
        return getattr(toy, name)

    def admission(self, connection: Connection) -> Fetch | None:
        return Fetch("token", "POST", f"{connection.url}/token", 3)

    def admitted(self, connection: Connection, status: int, headers: Mapping[str, str], body: bytes) -> Admission | str:
        return Admission(f"{connection.url}?token={body.decode()}", 7) if status == 200 else f"status {status}"


class Asked:
    """HTTP that gives the answers it is told."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.urls: list[str] = []

    async def fetch(self, method: str, url: str) -> Answer:
        self.urls.append(f"{method} {url}")
        answer = self.answers.pop(0) if self.answers else HttpFailed("nothing more is planned")
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_where_the_venue_wants_to_be_asked_first_every_connection_asks_anew_and_its_token_is_not_kept() -> None:
    bench = Bench([b"ack", t(1, 0), CUT], [b"ack", t(2, 5), END])
    http = Asked(HttpFailed("no answer"), Answer(503, {}, b""), Answer(200, {}, b"one"), Answer(200, {}, b"two"))
    tools = msgspec.structs.replace(bench.driver._tools, http=http)
    bench.driver = Driver(Admitted(), bench.driver.connection, bench.pipeline, tools)
    work = await bench.run(30.0)
    url = bench.driver.connection.url
    assert set(http.urls) == {f"POST {url}/token"}
    assert bench.venue.attempts == [f"{url}?token=one", f"{url}?token=two"]
    assert {row.url for row in work.sessions} == {url}
    assert ids(work) == [1, 2]


class Asking(toy.ToySession):
    """A session that asks for something as it begins."""

    def start(self, now: int) -> Sequence[Output]:
        return [*super().start(now), Fetch("info", "GET", "http://toy.test/info")]


async def test_an_answer_is_numbered_behind_what_was_read_before_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames wait up to a turn: numbered as they are handed on, an answer between two files would change its place."""
    monkeypatch.setattr(toy, "session", lambda connection, session_id: Asking(session_id, connection.streams))
    bench = Bench([b"ack", HANG])

    class Slow(Asked):
        async def fetch(self, method: str, url: str) -> Answer:
            await bench.clock.sleep(1.01)
            (transport,) = bench.venue.transports
            transport.waiting = Frames([t(1, 980), t(2, 990)], [T0 + 980_000, T0 + 990_000])
            return Answer(200, {}, b"{}")

    bench.driver = Driver(
        toy, bench.driver.connection, bench.pipeline, msgspec.structs.replace(bench.driver._tools, http=Slow())
    )
    work = await bench.run(2.0)
    ((_, held),) = work.frames
    told = [(line.n, line.dir, line.ts_recv - T0) for line in frames_of(held) if line.dir in ("recv", "http")]
    assert told == [(1, "recv", 0), (2, "recv", 980_000), (3, "recv", 990_000), (4, "http", 1_010_000)]
    assert ids(work) == [1, 2]


async def test_what_was_to_be_asked_as_its_session_is_left_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coroutine that is made and never awaited is a warning in the daemon's log, and one here."""
    begun: list[str] = []

    async def ask() -> None:
        begun.append("asked")

    def look(inquiry: Inquiry, now: int) -> None:
        inquiry._remedy("leave", "silent")
        inquiry._spawn(ask)

    monkeypatch.setattr(Inquiry, "look", look)
    bench = Bench([b"ack", HANG], [b"ack", HANG])
    work = await bench.run(1.5)
    assert any(ending.startswith("silent") for ending in endings(work))
    gc.collect()
    assert begun == []
