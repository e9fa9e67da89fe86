"""F48, F49, F50: a wall clock that steps, clocks of venues that are off or drift, a machine that sleeps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import loguru
import polars as pl
import pytest

from collectors import exchanges
from collectors.clocks import VenueClock
from collectors.config import CollectorsConfig
from collectors.http import Answer, Http
from collectors.replay import replay
from collectors.service import CollectorsService
from lake import Lake
from lake.ledger import read_ledger
from lake.manifest import Manifest
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.session import Rejected
from market.times import DAY, HOUR, MINUTE, SECOND
from runtime import metrics
from runtime.clock_watch import EVERY_SECONDS, STEADY_SECONDS, ClockWatch, Step
from runtime.workers import InlineExecutor
from tests.collectors.test_connection import Bench, endings, ids
from tests.collectors.test_service import collect, service, stored
from tests.support import toy, written
from tests.support.clock import ManualClock
from tests.support.toy import T0, q, t
from tests.support.transport import HANG
from transformer.config import TransformerConfig
from transformer.service import transform_once

YEARS = 3653 * DAY
STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR, YEARS, -YEARS], ids=["+1h", "-1h", "+10y", "-10y"])
SLEEP = 8 * 3600.0


@pytest.fixture
def said() -> Iterator[Callable[[], list[str]]]:
    """The names of the events so far."""
    lines: list[str] = []
    sink = loguru.logger.add(lambda message: lines.append(message.record["extra"].get("event")), level="DEBUG")
    yield lambda: lines
    loguru.logger.remove(sink)


def each_second(first: int, count: int, symbol: str = "AAA") -> list[object]:
    """A script: a trade and a quote every second, numbered on."""
    steps: list[object] = []
    for n in range(first, first + count):
        steps += [[t(n, n * 1000, symbol), q(n, n * 1000, symbol)], 1.0]
    return steps


# --- F48: the wall clock steps ---


async def at_once(work: Callable[[], None]) -> None:
    work()


class Watched:
    """A clock watch that runs while a test moves time; what it does in a thread takes none."""

    def __init__(self, patch: pytest.MonkeyPatch, offsets: Callable[[], list[int]] = list) -> None:
        patch.setattr(asyncio, "to_thread", at_once)
        self.clock = ManualClock(T0)
        self.notes: list[Step] = []
        self.full = False
        self.watch = ClockWatch(self.clock, self._note, offsets)

    def _note(self, step: Step) -> bool:
        if not self.full:
            self.notes.append(step)
        return not self.full

    async def live(self, *acts: float | Callable[[], None]) -> None:
        stop = asyncio.Event()

        async def scenario() -> None:
            running = asyncio.ensure_future(self.watch.run(stop))
            for act in acts:
                await self.clock.sleep(act) if isinstance(act, float) else act()
            stop.set()
            await running

        await self.clock.run(scenario())


@pytest.mark.parametrize("step", [HOUR, -HOUR, YEARS, 600_000, -600_000])
async def test_f48_a_step_is_said_once_noted_and_counted(
    step: int, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Watched(monkeypatch)
    await bench.live(10.0, lambda: bench.clock.step(step), 10.0)
    assert said().count("clock_stepped") == 1
    (note,) = bench.notes
    assert note.seconds == pytest.approx(step / SECOND)
    assert abs(note.at - (T0 + 10 * SECOND)) <= EVERY_SECONDS * SECOND
    status = bench.watch.status()
    assert status["steps"] == 1
    assert status["sane"] is (step < HOUR)


async def test_f48_jitter_is_no_step(said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Watched(monkeypatch)
    acts: list[float | Callable[[], None]] = []
    for _ in range(20):
        acts += [lambda: bench.clock.step(400_000), 1.0, lambda: bench.clock.step(-400_000), 1.0]
    await bench.live(*acts)
    assert bench.notes == []
    assert "clock_stepped" not in said()


async def test_f48_nothing_is_deleted_for_a_steady_hour_after_a_long_step_forward(
    said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, asked = Watched(monkeypatch), []

    def ask() -> None:
        asked.append(bench.watch.clock_sane())

    def forward() -> None:
        bench.clock.step(HOUR + SECOND)

    def again() -> None:
        bench.clock.step(-2 * SECOND)

    half = STEADY_SECONDS / 2
    await bench.live(5.0, ask, forward, 2.0, ask, half, again, 2.0, half + 10, ask, half, ask)
    assert asked == [True, False, False, True]  # the second step began the hour anew
    assert (said().count("clock_doubted"), said().count("clock_believed")) == (1, 1)


async def test_f48_a_venue_s_clock_that_is_far_away_stops_deletion_too(monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = [0]
    bench = Watched(monkeypatch, lambda: offsets)
    assert bench.watch.clock_sane()
    offsets[0] = -2 * MINUTE
    assert not bench.watch.clock_sane()
    assert "-120 s away" in str(bench.watch.status()["deletion_rests"])


async def test_f48_what_cannot_be_noted_now_is_noted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Watched(monkeypatch)

    def full(value: bool) -> None:
        bench.full = value

    await bench.live(
        lambda: full(True), 2.0, lambda: bench.clock.step(HOUR), 5.0, lambda: full(False), 2.0
    )  # fmt: skip
    assert len(bench.notes) == 1


@STEPS
async def test_f48_a_connection_outlives_a_step_by_one_handover_without_a_gap(step: int) -> None:
    """The session's own timers (silence, end of life, pacing) do not see it; a successor takes over once."""
    heir = [[t(n, n * 1000) for n in range(1, 6)] + [q(n, n * 1000) for n in range(1, 6)], *each_second(6, 30)]
    bench = Bench(each_second(1, 40), heir, silent_socket_seconds=15)
    work = await bench.run(*[1.0] * 4, lambda: bench.clock.step(step), *[1.0] * 20)
    assert len(bench.venue.attempts) == 2
    assert endings(work)[0].startswith("handover: to n-1-2, 2 of 2 streams joined by ids")
    assert [gap for gap in work.gaps if gap.state == "open"] == []
    assert ids(work) == list(range(1, max(ids(work)) + 1))
    assert max(ids(work)) > 15


@STEPS
async def test_f48_where_no_successor_can_be_had_the_connection_goes_on(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its session is told of time goes on as if nothing had been: it neither leaves nor waits for hours."""
    told: list[int] = []
    monkeypatch.setattr(toy.ToySession, "tick", lambda _session, now: told.append(now) or ())
    bench = Bench(each_second(1, 60), silent_socket_seconds=15)
    work = await bench.run(*[1.0] * 4, lambda: bench.clock.step(step), *[1.0] * 40)
    assert len(bench.venue.transports) == 1
    assert ids(work) == list(range(1, 46))
    assert endings(work) == ["stopped"]
    assert work.gaps == []
    assert all(0 <= after - before <= 2 * SECOND for before, after in itertools.pairwise(told))


async def test_f48_small_steps_are_followed_and_change_nothing() -> None:
    bench = Bench(each_second(1, 60), silent_socket_seconds=15)
    work = await bench.run(*[1.0] * 4, lambda: bench.clock.step(-2 * SECOND), *[1.0] * 20)
    assert len(bench.venue.attempts) == 1
    assert work.gaps == []


@pytest.mark.parametrize("off", [-HOUR, YEARS], ids=["-1h", "+10y"])
def test_f48_events_outside_the_time_bounds_are_rejected_and_the_connection_stays(off: int) -> None:
    """A new connection would meet the same wrong clock: it would be a storm."""
    venue = exchanges.load("binance")
    streams = venue.streams("linear", ["trade"], ["BTCUSDT"])
    (connection,) = venue.connections("linear", streams, venue.ENDPOINTS["linear"])
    session = venue.session(connection, "n-1-1")
    session.start(written.T0 + off)
    found = []
    for n in range(500):
        at = written.T0 + n * 1000
        found += session.receive(written.trade(n, at=at).encode(), at + off)
    assert [type(out) for out in found] == [Rejected] * 500
    assert session.receive(written.trade(501).encode(), written.T0)[0].seq == 501


@pytest.fixture
def toy_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    """`binance` is the toy exchange here, and its REST route answers at once."""

    async def fetch(_self: Http, _method: str, _url: str) -> Answer:
        return Answer(200, {}, b"{}")

    monkeypatch.setattr(exchanges, "load", lambda _name: toy)
    monkeypatch.setattr(Http, "fetch", fetch)


async def stepping(made: CollectorsService, clock: ManualClock, *acts: float | Callable[[], None]) -> None:
    """Collect while the acts follow each other."""
    total = sum(act for act in acts if isinstance(act, float))

    async def script() -> None:
        for act in acts:
            await clock.sleep(act) if isinstance(act, float) else act()

    acting = asyncio.ensure_future(script())
    await collect(made, clock, total)
    await acting


@STEPS
@pytest.mark.usefixtures("toy_venue")
async def test_f48_files_end_at_the_step_nothing_is_lost_and_the_next_ones_are_sealed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    clock = ManualClock(T0)
    heir = [[t(n, n * 1000) for n in range(1, 31)] + [q(n, n * 1000) for n in range(1, 31)], *each_second(31, 200)]
    with LakeWriter.open(tmp_path / "lake", "n", T0) as writer:
        made = service(monkeypatch, writer, clock, each_second(1, 240), heir)
        await stepping(made, clock, 30.0, lambda: clock.step(step), 150.0)
        rows = [row for row in writer.manifest.segments("binance", "spot", "trade") if row.rows]
        ends = [(row.period_start, row.period_end) for row in writer.manifest.segments("binance", "spot", "trade")]
        held = sorted(stored(writer))  # by path, which is by the clock
        assert held == list(range(1, held[-1] + 1))
        assert held[-1] >= 170
        assert len(ends) < 12, "the time between is nobody's silence"
        for row in rows:
            assert row.recv_max - row.recv_min <= MINUTE
            assert row.period_end - row.period_start <= MINUTE
        assert [gap for gap in writer.manifest.gaps() if gap.state == "open"] == []
    manifest = Manifest.read_only(tmp_path / "lake")
    with manifest.snapshot() as snapshot:
        assert verify_lake(tmp_path / "lake", snapshot, lambda *_: None).findings == []
    manifest.close()


# --- F50: the machine sleeps ---


@pytest.mark.parametrize("how", ["only the wall clock", "both clocks"])
async def test_f50_a_sleep_of_eight_hours_is_one_gap_a_stream_and_one_new_connection(how: str) -> None:
    asleep = {"only the wall clock": ManualClock.suspend, "both clocks": ManualClock.jump}[how]
    later = [[t(90_000, int(SLEEP * 1000) + 10_000), q(90_000, int(SLEEP * 1000) + 10_000)], HANG]
    bench = Bench([*each_second(1, 10)[:-1], HANG], later, *[[HANG]] * 5, silent_socket_seconds=15)
    work = await bench.run(*[1.0] * 12, lambda: asleep(bench.clock, SLEEP), *[1.0] * 10)
    assert len(bench.venue.attempts) == 2, "no storm"
    first = endings(work)[0]
    assert first.startswith("suspended: the machine slept for 28800 s" if how[0] == "o" else "silence: no frame for")
    gaps = {(gap.kind, gap.gap_id): gap for gap in work.gaps}
    assert sorted(kind for kind, _ in gaps) == ["quote", "trade"]
    trade = next(gap for (kind, _), gap in gaps.items() if kind == "trade")
    assert (trade.id_from, trade.id_to) == (11, 90_000)
    for gap in gaps.values():
        assert gap.ts_to is not None
        assert gap.ts_to - gap.ts_from >= SLEEP * SECOND


async def test_f50_a_sleep_is_said_and_freezes_nothing(
    said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Watched(monkeypatch)
    await bench.live(5.0, lambda: bench.clock.suspend(SLEEP), 5.0)
    assert said().count("machine_slept") == 1
    assert "clock_stepped" not in said(), "the wall clock is right"
    assert bench.watch.clock_sane()
    assert [(round(step.seconds), step.asleep) for step in bench.notes] == [(SLEEP, SLEEP)]


# --- F49: the venue's clock is off, or drifts ---


def offset_said() -> float:
    labels = {"event": "clock_offset", "level": "WARNING"}
    return metrics.REGISTRY.get_sample_value("lake_log_events_total", labels) or 0


@pytest.mark.parametrize("off", [10, -10])
def test_f49_a_clock_that_is_off_is_an_alarm_once(off: int) -> None:
    clock, before = VenueClock("binance", "spot"), offset_said()
    for n in range(20):
        clock.measured(T0 + n * MINUTE - off * SECOND, T0 + n * MINUTE + 20_000, 40_000)
    assert offset_said() - before == 1
    assert clock.status() == {"offset_seconds": off, "round_trip_seconds": 0.04}


def test_f49_a_clock_that_drifts_is_an_alarm_when_it_crosses_a_second() -> None:
    clock, before = VenueClock("binance", "spot"), offset_said()
    crossed = None
    for n in range(100):
        drift = n * 30_000
        clock.measured(T0 + n * MINUTE - drift, T0 + n * MINUTE + 20_000, 40_000)
        if crossed is None and offset_said() > before:
            crossed = drift
    assert crossed == pytest.approx(SECOND, abs=60_000)
    assert offset_said() - before == 1


def bars_of(root: Path, skew: Callable[[int], int]) -> pl.DataFrame:
    """Bars of 150 trades, one a second, that were received `skew` (us) after the venue's time."""
    lines = [written.opened()]
    for n in range(150):
        at = written.T0 + n * SECOND
        lines.append(written.line(n + 1, written.trade(1000 + n, at=at, p=f"{100 + n % 7}.5"), at=at + skew(at)))
    last = written.T0 + 150 * SECOND
    lines.append(written.line(150, at=last + skew(last), dir="close", reason="stopped"))
    root.mkdir()
    frames = written.write(root / "frames.jsonl", lines)
    with LakeWriter.open(root / "lake", "n", last + HOUR) as writer:
        done = replay([frames], "binance", "linear", writer, CollectorsConfig(node="n"), last + HOUR)
        assert done.rejected == {}
        transform_once(writer, InlineExecutor(), last + HOUR, TransformerConfig())
    columns = ["window_start", "open", "high", "low", "close", "trade_count", "first_seq", "last_seq"]
    found = [Lake(root / "lake").read(kind, symbol="BTCUSDT") for kind in ("bar_1s", "bar_1m")]
    bars = pl.concat([pl.DataFrame(pl.from_arrow(table)).select(columns) for table in found])
    return bars.filter(pl.col("window_start").cast(pl.Int64) < written.T0 + MINUTE)


@pytest.mark.parametrize("off", [10 * SECOND, -10 * SECOND], ids=["+10s", "-10s"])
def test_f49_bars_follow_the_venue_s_time(tmp_path: Path, off: int) -> None:
    right = bars_of(tmp_path / "right", lambda _at: 1000)
    assert right.height == 60 + 1
    assert bars_of(tmp_path / "off", lambda _at: off).equals(right)


def test_f49_bars_follow_the_venue_s_time_while_its_clock_drifts(tmp_path: Path) -> None:
    right = bars_of(tmp_path / "right", lambda _at: 1000)
    assert bars_of(tmp_path / "drifts", lambda at: (at - written.T0) // 10 - 5 * SECOND).equals(right)


def notes_of(root: Path) -> list[bytes]:
    bad: list[object] = []
    found = [bytes(entry.data) for entry in read_ledger(root, bad.append) if entry.type == "note"]
    assert bad == []
    return found


def test_f48_a_note_in_the_ledger_survives(tmp_path: Path) -> None:
    with LakeWriter.open(tmp_path / "lake", "n", T0) as writer:
        writer.note({"clock_step": {"at": T0, "seconds": 3600.0}}, T0 + HOUR)
    assert notes_of(tmp_path / "lake") == [b'{"clock_step":{"at":1700000000000000,"seconds":3600.0}}']


def test_f48_a_ledger_of_ten_years_ahead_is_gone_on_with_so_that_the_last_word_stays_the_last(tmp_path: Path) -> None:
    for n, now in enumerate((T0, T0 + YEARS, T0 + HOUR, T0 + 2 * DAY)):
        with LakeWriter.open(tmp_path / "lake", "n", now) as writer:
            writer.note({"word": n}, now)
    assert notes_of(tmp_path / "lake") == [b'{"word":%d}' % n for n in range(4)]
    assert [path.name for path in sorted((tmp_path / "lake/ledger").iterdir())] == [
        "2023-11-14-n.jsonl", "2033-11-14-n.jsonl",
    ]  # fmt: skip
