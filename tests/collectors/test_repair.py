"""Gaps cut into a recorded day: found, asked of a simulated Binance, closed by proof only, and the day made anew."""

import asyncio
import atexit
import itertools
import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from collectors import alone, repair
from collectors.adapters import paging
from collectors.backfill import LACKING
from collectors.budget import REPAIR
from collectors.exchanges import binance
from collectors.exchanges.binance import history
from collectors.repair import Scope
from collectors.repair_plan import Sources
from collectors.replay import replay
from compactor.config import CompactorConfig
from compactor.service import compact_once
from daemon.config import Config
from daemon.repairing import Limits, Tools, judge, mend, planned
from lake import Lake
from lake.errors import LakeError, WrongQuestion
from lake.rows import SessionRow
from lake.verify import verify_lake
from lake.writer import LakeWriter
from market.history import Offer
from market.session import Coverage, Endpoint, Gap
from market.times import DAY, HOUR, MINUTE, MS, SECOND
from runtime.workers import InlineExecutor
from tests.cli.test_commands import ask
from tests.support.lakes import STREAM, TestLake
from tests.support.market_rows import T0, trade
from tests.support.past import BEGAN, CONFIG, Killed, Quick, past
from tests.support.rounds import Rounds, never
from tests.support.written import combined, line, write
from transformer.config import TransformerConfig
from transformer.service import transform_once

SYMBOL = "BTCUSDT"
CONN = "box-1-1"
CLOSES = 14 * HOUR
MADE: list[Path] = []
TURN = 66
"""The place of the trade with which another connection begins."""
CUT = [10, 11, 12, 20, *range(TURN - 4, TURN)]
"""Places of trades that were missed: the last four right before it, and behind the still minute."""
FIRST, LAST = BEGAN + 18 * MINUTE, BEGAN + 23 * MINUTE
COMMON = ("exchange", "market_type", "symbol", "date", "ts_event", "ts_estimated", "ts_recv", "frame_no", "item")
STILL = BEGAN + 20 * MINUTE
"""A minute in which nothing is traded."""


def frame(fill):
    payload = {"e": "trade", "E": fill.ts // MS, "s": SYMBOL, "t": fill.id, "p": fill.price, "q": fill.qty,
               "T": fill.ts // MS, "m": fill.maker, "M": True}  # fmt: skip
    return combined(f"{SYMBOL.lower()}@trade", payload)


def recording(fills, turn, folder):
    """Frames of the fills; those from `turn` on by another connection."""
    lines, n, conn, last = [], 0, CONN, 0
    for fill in fills:
        if fill.id == turn or not lines:
            if lines:
                lines.append(line(n, at=last + SECOND, dir="close", reason="disconnect", conn=CONN))
            conn, n = (CONN, 0) if not lines else ("box-2-1", 0)
            lines.append(line(0, dir="open", url="wss://stream.binance.com/stream", at=fill.ts, conn=conn))
        n, last = n + 1, fill.ts + MS
        lines.append(line(n, frame(fill), at=last, conn=conn))
    lines.append(line(n, at=last + SECOND, dir="close", reason="stopped", conn=conn))
    return write(folder / "day.frames.jsonl", lines)


class Day:
    """A venue, and a lake of what was collected of it: some trades are not in the frames."""

    def __init__(self, venue, cut):
        self.venue = venue
        (book,) = venue.books("spot")
        self.book = book
        self.fills = [fill for fill in book.trades if FIRST <= fill.ts < LAST]
        self.cut = {self.fills[place].id for place in cut}

    async def record(self, folder):
        """The lake of that day, which is the same each time: made once, then copied."""
        await self.venue.clock.sleep(CLOSES / SECOND)
        if not MADE:
            kept, now = [fill for fill in self.fills if fill.id not in self.cut], self.venue.clock.now()
            with self.venue.writer() as writer:
                done = replay([recording(kept, self.fills[TURN].id, folder)], "binance", "spot", writer, CONFIG, now)
                assert done.damage == []
                publish(writer, now)
            MADE.append(Path(tempfile.mkdtemp(prefix="repair-")) / "lake")
            atexit.register(shutil.rmtree, MADE[0].parent, ignore_errors=True)
            shutil.copytree(self.venue.root, MADE[0])
        elif not self.venue.root.exists():
            shutil.copytree(MADE[0], self.venue.root)

    async def ask(self, writer, venue, market, endpoint, wishes, report, watch=None, *, patient=True):
        rest = Endpoint(rest=f"http://{self.venue.host}/{market}", ws={})
        return await alone.alone(
            venue,
            market,
            rest,
            writer,
            CONFIG,
            self.venue.clock,
            wishes,
            report,
            asyncio.Event(),
            REPAIR,
            watch=watch,
            patient=patient,
        )

    async def repair(self, scope=Scope()):  # noqa: B008 -- it is frozen
        """What the command does where no daemon runs."""
        with self.venue.writer() as writer, self.venue._watched():

            async def ask(*asked):
                return await self.ask(writer, *asked)

            done = await mend(writer, Config(), self.venue.clock, scope, Tools(ask), lambda *_: None)
            await self.venue.clock.sleep(1)
            publish(writer, self.venue.clock.now())
            done = judge(writer, scope, done, self.venue.clock.now())
            publish(writer, self.venue.clock.now())
            return done

    def gaps(self, **wanted):
        with self.venue.writer() as writer:
            return writer.manifest.gaps(**wanted)

    def stored(self):
        with Lake(self.venue.root) as lake:
            rows = lake.read("trade", exchange="binance", symbol=SYMBOL)
            return {seq: (source, price) for seq, source, price in zip(
                *(rows.column(name).to_pylist() for name in ("seq", "source", "price")), strict=True)}  # fmt: skip

    def certificate(self):
        with self.venue.writer() as writer:
            return writer.manifest.certificates(kind="trade")[-1]

    def verified(self):
        with self.venue.writer() as writer, writer.manifest.snapshot() as now:
            return verify_lake(self.venue.root, now, lambda *_: None)


def publish(writer, now):
    assert transform_once(writer, InlineExecutor(), now, TransformerConfig()).failed == 0
    done = compact_once(writer, InlineExecutor(), now, CompactorConfig.model_validate({}), final=True, retention=False)
    assert done.failures == []


@pytest.fixture
async def day(tmp_path: Path):
    quiet = range(STILL - 2 * SECOND, STILL + MINUTE + 2 * SECOND)
    async with past(tmp_path, "spot", symbols=SYMBOL, rate="1", quiet=quiet) as venue:
        made = Day(venue, CUT)
        await made.record(tmp_path)
        yield made


def still(day):
    at = STILL
    assert [fill for fill in day.fills if at <= fill.ts < at + MINUTE] == []
    gap = Gap(
        "still", "binance", "spot", "trade", SYMBOL, at, at + MINUTE - 1, None, None, "stalled", "interval", "open",
        CONN, at,
    )  # fmt: skip
    with day.venue.writer() as opened:
        opened.record(gaps=[gap], now=day.venue.clock.now())


async def test_gaps_cut_into_a_day_are_found_repaired_and_proven_and_a_still_minute_is_empty(day: Day):
    still(day)
    before = day.certificate()
    assert before.missing == len(day.cut) == 8
    found = [(gap.cause, gap.missing) for gap in day.gaps(state="open")]
    assert sorted(found, key=str) == [("disconnect", 4), ("jump", 1), ("jump", 3), ("stalled", None)]
    with day.venue.writer() as writer:
        told = planned(writer.manifest, Scope(), day.venue.clock.now())
    assert [(one.will, one.how) for one in told] == told_of(told)
    done = await day.repair()
    assert (done.ok, done.problems) == (True, [])
    closed = {gap.cause: (gap.state, gap.source, gap.proof) for gap in day.gaps(state=("repaired", "empty"))}
    assert closed == {
        "disconnect": ("repaired", "rest", "ids"), "jump": ("repaired", "rest", "ids"),
        "stalled": ("empty", "rest", "interval"),
    }  # fmt: skip
    stored = day.stored()
    assert sorted(stored) == [fill.id for fill in day.fills]
    assert {seq for seq, (source, _) in stored.items() if source == "rest"} == day.cut
    after = day.certificate()
    assert (after.revision, after.missing, after.open_gaps, after.gap_seconds) == (before.revision + 1, 0, 0, 0)
    assert after.rows == before.rows + len(day.cut)
    proof = day.verified()
    assert [one for one in proof.findings if one.severity == "error"] == []
    (trades,) = [one for one in proof.streams if one.kind == "trade"]
    assert (trades.ids.missing, trades.ids.unexplained, trades.ids.stored) == (0, 0, len(day.fills))
    asked = len(day.venue.asked)
    assert (await day.repair()).requests == 0
    assert len(day.venue.asked) == asked


def told_of(told):
    """Smallest first; by ids where they are known."""
    lengths = [one.gap.ts_to - one.gap.ts_from for one in told]
    assert lengths == sorted(lengths)
    return [("ask", "rest by time" if one.gap.missing is None else "rest by ids") for one in told]


async def test_a_kill_in_the_middle_costs_nothing(day: Day, monkeypatch):
    monkeypatch.setattr(history, "PAGE", 5)
    still(day)
    kills = 0
    for after in (1, 3, 6, None):
        day.venue.kill_after = after
        try:
            done = await day.repair()
        except Killed:
            kills += 1
        else:
            break
    assert kills == 3
    assert done.ok
    assert {gap.state for gap in day.gaps()} == {"repaired", "empty"}
    assert sorted(day.stored()) == [fill.id for fill in day.fills]
    assert [one for one in day.verified().findings if one.severity == "error"] == []


@pytest.mark.slow
async def test_ids_that_the_venue_lacks_too_are_unrepairable_and_never_asked_for_again(day: Day):
    gone = {day.fills[place].id for place in (10, 11, 12)}
    for fill in [fill for fill in day.book.trades if fill.id in gone]:
        day.book.trades.remove(fill)
    done = await day.repair()
    assert done.ok
    lost = day.gaps(state="unrepairable")
    assert [(gap.cause, gap.id_from, gap.missing) for gap in lost] == [(LACKING, min(gone), 3)]
    assert day.certificate().missing == 3
    assert [one for one in day.verified().findings if one.severity == "error"] == []
    asked = len(day.venue.asked)
    assert (await day.repair()).ok
    assert len(day.venue.asked) == asked


async def test_what_the_venue_tells_only_when_it_happens_is_given_up_with_the_reason(day: Day):
    at = day.fills[30].ts
    quote = Gap("q", "binance", "spot", "quote", SYMBOL, at, at + SECOND, None, None, "disconnect", "interval", "open",
                CONN, at)  # fmt: skip
    grows = msgspec.structs.replace(quote, gap_id="g", ts_to=None)
    other = msgspec.structs.replace(quote, gap_id="o", exchange="okx", kind="trade")
    with day.venue.writer() as writer:
        writer.record(gaps=[quote, grows, other], now=at)
    done = await day.repair(Scope(kind="quote"))
    (closed,) = done.closed
    assert (closed.state, closed.source) == ("unrepairable", None)
    assert "no REST route has them afterwards" in closed.detail
    assert [(one.gap.gap_id, one.how) for one in done.left] == [("g", "it still grows")]
    assert day.venue.asked == []
    (left,) = (await day.repair(Scope(exchange="okx"))).left
    assert left.gap.state == "open"


class Collectors:
    """Who collects, as far as a repair needs it."""

    outage = None

    def __init__(self, day, writer):
        self.asked = []
        self._day, self._writer = day, writer

    async def backfill(self, venue, market, endpoint, wishes, report, *, priority, at_once=4, watch=None, patient=True):
        self.asked.append((priority, at_once, len(wishes)))
        return await self._day.ask(self._writer, venue, market, endpoint, wishes, report, watch, patient=patient)


async def test_the_daemon_repairs_by_itself_and_waits_longer_after_each_failure(day: Day, monkeypatch):
    monkeypatch.setattr(paging, "TRIES", 2)
    clock = day.venue.clock
    with day.venue.writer() as writer:
        collectors = Collectors(day, writer)
        rounds = Rounds(writer, clock, collectors)
        host, day.venue.host = day.venue.host, "127.0.0.1:1"
        looks = []
        for _ in range(6):
            await clock.sleep(60)
            before = len(collectors.asked)
            await rounds.once()
            looks.append(len(collectors.asked) - before)
        assert looks[0] == 1
        assert 2 <= sum(looks) <= 3, looks  # after 1 and 2 minutes, and what an attempt takes
        assert len(writer.manifest.gaps(state="open")) == 3
        assert "attempts at it came to nothing" in json.dumps(rounds.service.status())
        day.venue.host = host
        await clock.sleep(DAY / SECOND)
        await rounds.once()
        assert {gap.state for gap in writer.manifest.gaps()} == {"repaired"}
        assert collectors.asked[-1][:2] == (REPAIR, 1)
        told = rounds.service.status()
        assert told["closed"] == {"repaired": 3}
        assert told["last"]["closed"] == 3
        assert told["last"]["rows"] >= len(day.cut)
        told = await rounds.work.by_hand({"symbol": SYMBOL}, lambda *_: None)
        assert told["left"] == []
        with pytest.raises(WrongQuestion, match="dl gaps"):
            await rounds.work.by_hand({"symbols": [SYMBOL]}, lambda *_: None)


class Fresh:
    """The newest hole of a day, seen when it has just ended: other gaps are closed, and time all but stands still while
    it is asked for.
    """

    def __init__(self, day, writer):
        self.day, self.writer, self.clock = day, writer, day.venue.clock
        self.rounds = Rounds(writer, self.clock, Collectors(day, writer))
        *others, self.gap = sorted(writer.manifest.gaps(state="open"), key=lambda gap: gap.ts_to)
        closed = [msgspec.structs.replace(gap, state="void", closed_at=gap.ts_to) for gap in others]
        writer.record(gaps=closed, now=self.clock.now())
        self.kept, self.sums = list(day.book.trades), list(day.book.aggregates)
        self.clock.sleep = lambda _seconds: Quick.sleep(self.clock, min(_seconds, 0.001))

    def tells(self, last):
        """The venue's history has trades up to that id."""
        self.day.book.trades.clear()
        self.day.book.trades.extend(fill for fill in self.kept if fill.id <= last)
        self.day.book.aggregates.clear()
        self.day.book.aggregates.extend(one for one in self.sums if one.last_id <= last)

    async def look(self, later):
        """A look so long after the hole: how often it was asked for until then, requests, and the gap's state."""
        self.clock.turn_back(self.gap.ts_to + later)
        await self.rounds.service.fresh(asyncio.Event())
        await self.rounds.carry_out()
        tried = [one for job in self.rounds.jobs() for one in self.writer.manifest.job_attempts(job.job)]
        assert {one.error for one in tried} <= {None}, "none has failed"
        (state,) = {gap.state for gap in self.writer.manifest.gaps() if gap.gap_id == self.gap.gap_id}
        return len(tried), sum(one.requests for one in tried), state


async def test_ids_that_have_just_been_missed_are_asked_for_before_all_gaps_are_looked_at(day: Day):
    with day.venue.writer() as writer:
        fresh = Fresh(day, writer)
        fresh.gap.detected_at = fresh.gap.ts_to  # it was found at once, not by a replay hours later
        writer.record(gaps=[fresh.gap], now=fresh.clock.now())
        assert await fresh.look(5 * MINUTE) == (0, 0, "open"), "it is none of the new ones any more"
        assert await fresh.look(9 * SECOND) == (0, 0, "open")
        assert await fresh.look(11 * SECOND) == (1, 2, "repaired")
        assert fresh.rounds.service.status()["last"] is None, "what was looked at last is all of them"


async def test_ids_that_came_are_proof_before_anything_behind_them_is_final(day: Day):
    with day.venue.writer() as writer:
        fresh = Fresh(day, writer)
        fresh.tells(fresh.gap.id_to - 1)
        assert await fresh.look(11 * SECOND) == (1, 2, "repaired")
        publish(writer, fresh.clock.now() + DAY)
    assert day.cut - set(day.stored()) == {day.fills[place].id for place in (10, 11, 12, 20)}


async def test_a_history_that_lags_is_no_proof_and_no_failure_and_is_asked_again_once_it_is_final(day: Day):
    with day.venue.writer() as writer:
        fresh = Fresh(day, writer)
        fresh.tells(fresh.gap.id_to - 3)
        tried, asked, state = await fresh.look(11 * SECOND)
        assert (tried, state) == (1, "open")
        assert await fresh.look(31 * SECOND) == await fresh.look(59 * SECOND) == (1, asked, "open")
        (left,) = (await fresh.rounds.service.once(asyncio.Event())).left
        assert left.how.startswith("it was asked for before all of it was final: asked for from")
        assert [job.state for job in fresh.rounds.jobs()] == ["done"]
        fresh.tells(2**62)
        assert await fresh.look(61 * SECOND) == (2, 2 * asked, "repaired")
        assert [gap for gap in writer.manifest.gaps() if gap.cause == LACKING] == []


async def test_a_still_time_is_empty_only_once_it_is_final(day: Day):
    still(day)
    with day.venue.writer() as writer:
        before = [fill.id for fill in day.book.trades if fill.ts < STILL]
        gaps = [gap for gap in writer.manifest.gaps(state="open") if gap.cause != "stalled"]
        closed = [msgspec.structs.replace(gap, state="void", closed_at=gap.ts_to) for gap in gaps]
        writer.record(gaps=closed, now=day.venue.clock.now())
        fresh = Fresh(day, writer)
        fresh.tells(before[-1])
        assert await fresh.look(29 * SECOND) == (0, 0, "open")
        assert await fresh.look(31 * SECOND) == (1, 1, "open")
        assert await fresh.look(59 * SECOND) == (1, 1, "open")
        assert await fresh.look(61 * SECOND) == (2, 2, "empty")


async def test_the_daemon_looks_until_told_to_stop(tmp_path: Path):
    clock, stop, asked = Quick(), asyncio.Event(), []

    class Outages:
        """Those of who collects, looked at before each look."""

        @property
        def outage(self):
            asked.append(clock.now())
            if len(asked) == 4:
                stop.set()
            return "no disk" if len(asked) < 3 else None

    with LakeWriter.open(tmp_path / "lake", "n", clock.now()) as writer:
        service = Rounds(writer, clock, Outages()).service
        await service.run(stop)
        assert [later - one for one, later in itertools.pairwise(asked)] == [MINUTE // 3] * 3
        assert service._looks == 1, "at the third of them: all gaps"
        assert service.status()["last"]["open"] == 0
        off = Config.model_validate({"repair": {"enabled": False}})
        await Rounds(writer, clock, Outages(), config=off).service.run(asyncio.Event())
        assert len(asked) == 4


async def test_looks_begin_every_twenty_seconds_however_long_they_take(tmp_path: Path, monkeypatch):
    clock, stop, begun = Quick(), asyncio.Event(), []

    def look(name, seconds):
        async def one(_stop):
            begun.append((name, clock.monotonic()))
            await clock.sleep(seconds)
            if len(begun) == 6:
                stop.set()

        return one

    with LakeWriter.open(tmp_path / "lake", "n", clock.now()) as writer:
        service = Rounds(writer, clock, SimpleNamespace(outage=None)).service
        monkeypatch.setattr(service, "fresh", look("new ones", 15))
        monkeypatch.setattr(service, "once", look("all", 30))
        await service.run(stop)
    names, times = [name for name, _ in begun], [round(at) for _, at in begun]
    assert names == ["new ones", "new ones", "all", "new ones", "new ones", "all"]
    assert times == [20, 40, 60, 91, 111, 127], "what took longer than that is followed by the next a second later"


async def test_the_command_says_what_it_would_do_does_it_and_tells_what_came_of_it(day: Day, monkeypatch, tmp_path):
    still(day)
    clock, source = day.venue.clock, {"exchange": "binance", "market_type": "spot", "symbols": [SYMBOL]}
    source |= {"kinds": ["trade"], "endpoint": {"rest": f"http://{day.venue.host}/spot"}}
    config = tmp_path / "config.yml"
    config.write_text(json.dumps({"lake": "lake", "collectors": {"node": "n", "sources": [source]}}))
    monkeypatch.setattr("runtime.clock.SystemClock", lambda: clock)
    monkeypatch.setattr("cli.jobs.SystemClock", lambda: clock)
    monkeypatch.setattr("cli.jobs.Workers", Inline)

    async def dl(*words, expect=0):
        return await asyncio.to_thread(ask, "gaps", *words, "--config", config, expect=expect)

    shown = (await dl("--repair", "--dry-run", expect=1)).stdout
    assert "is asked for: rest by ids" in shown
    assert "is asked for: rest by time" in shown
    told = json.loads((await dl("--repair", "--dry-run", "--day", "2020-01-01", "--json")).stdout)
    assert told == {"planned": []}
    assert day.venue.asked == []
    done = (await dl("--repair", "--kind", "trade")).stdout
    print(done)
    assert "3 repaired" in done
    assert "1 empty" in done
    closed = {gap.cause: (gap.state, gap.source) for gap in day.gaps(state=("repaired", "empty"))}
    assert closed == {"disconnect": ("repaired", "rest"), "jump": ("repaired", "rest"), "stalled": ("empty", "rest")}
    assert sorted(day.stored()) == [fill.id for fill in day.fills]
    assert (day.certificate().missing, day.certificate().open_gaps) == (0, 0)
    assert [one for one in day.verified().findings if one.severity == "error"] == []
    assert "no open gap" in (await dl("--repair")).stdout
    assert "no open gaps" in (await dl()).stdout
    for words, why in (
        (("--dry-run",), "--repair"), (("--repair", "--state", "all"), "open gaps are"),
        (("--repair", "--day", "2026-11-18", "--start", "2026-11-18"), "--day"),
        (("--day", "2026-11-18T10:00"), "no date"),
    ):  # fmt: skip
        assert why in (await dl(*words, expect=2)).output


class Inline(InlineExecutor):
    def __init__(self, *_, **__):
        super().__init__()

    def kill(self):
        pass


async def test_what_rest_does_not_give_comes_from_the_archive_and_an_attempt_in_vain_is_remembered(tmp_path: Path):
    lake, asked = TestLake(tmp_path / "lake"), []
    lake.cover(T0, T0 + DAY)
    lake.part("trade", [trade(T0 + n * MINUTE, "1.5", "2", n) for n in (1, 2, 6, 7)])
    lake.gap(T0 + 2 * MINUTE, T0 + 6 * MINUTE + 1, id_from=3, id_to=6, cause="jump", proof="ids", gap_id="g")
    clock = Quick(T0 + 3 * DAY)

    async def archive(wanted, _report):
        asked.append(wanted)
        if len(asked) == 1:
            raise LakeError("no such file", "wait")
        came = [trade(T0 + n * MINUTE, "1.5", "2", n, session="n-9-9", source="archive") for n in range(3, 6)]
        lake.part("trade", came)
        session = SessionRow(
            session="n-9-9", **STREAM, source="archive", url="file", opened_at=clock.now(), closed_at=clock.now()
        )
        covered = Coverage(**STREAM, kind="trade", symbol="BTCUSDT", session="n-9-9", ts_from=T0, ts_to=T0 + DAY)
        lake.writer.record(sessions=[session], coverage=[covered], now=clock.now())

    rounds = Rounds(lake.writer, clock, SimpleNamespace(outage=None, backfill=never), archive=archive)
    await rounds.once()
    assert "it rests until" in (await rounds.once()).left[0].how
    assert asked == [
        {
            "exchange": "binance",
            "market_type": "linear",
            "kind": "trade",
            "symbols": ["BTCUSDT"],
            "first": "2024-07-19",
            "last": "2024-07-19",
        }
    ]
    (job,) = rounds.jobs()
    assert (job.state, job.error) == ("failed", "1 of 1 parts failed: trade BTCUSDT: no such file (wait)")
    await clock.sleep(61)
    await rounds.once()
    assert len(asked) == 2
    (gap,) = lake.writer.manifest.gaps()
    assert (gap.state, gap.source, gap.proof) == ("repaired", "archive", "ids")
    assert [(one.job, one.state) for one in rounds.jobs()] == [(job.job, "done")]
    assert [one.error for one in lake.writer.manifest.job_attempts(job.job)] == ["no such file (wait)", None]
    lake.close()


@pytest.mark.parametrize("rests", [False, True])
def test_a_hole_in_candles_of_five_minutes_is_not_closed_by_those_of_one(tmp_path: Path, rests: bool):
    """History asks for minutes: that all of the gap's time was asked for says nothing of wider ones."""
    lake = TestLake(tmp_path / "lake")

    def candle(at: int, minutes: int, session: str, source: str) -> dict[str, object]:
        row = {name: value for name, value in trade(at + minutes * MINUTE - MS, "1", "1").items() if name in COMMON}
        prices = dict.fromkeys(("open", "high", "low", "close", "volume_base"), "1")
        own = {"interval": f"{minutes}m", "open_time": at, "revision": 0, "session": session, "source": source}
        return row | prices | own

    def ask(session: str, source: str, minutes: int) -> None:
        times = range(T0 + 5 * MINUTE, T0 + 15 * MINUTE, minutes * MINUTE)
        lake.part("kline", [candle(at, minutes, session, source) for at in times])
        row = SessionRow(session=session, **STREAM, source="history" if source == "rest" else source, url="x",
                         opened_at=T0 + DAY, closed_at=T0 + DAY)  # fmt: skip
        covered = Coverage(**STREAM, kind="kline", symbol=SYMBOL, session=session, ts_from=T0, ts_to=T0 + DAY)
        lake.writer.record(sessions=[row], coverage=[covered], now=T0 + DAY)

    lake.cover(T0 - HOUR, T0 + 5 * MINUTE, kind="kline")
    lake.part("kline", [candle(T0, 5, "n-1-1", "ws")])
    lake.gap(T0 + 5 * MINUTE, T0 + 15 * MINUTE - MS, kind="kline", session="n-1-1", gap_id="g")
    told, gaps, now = repair.sources(binance, "linear"), lake.writer.manifest.gaps(), T0 + 2 * DAY
    if rests:
        repair.remember(lake.writer, gaps, {}, now, ())
    ask("n-8-8", "rest", 1)
    assert repair.close(lake.writer, gaps, told, now) == ([], [])
    ask("n-9-9", "archive", 5)
    (closed,), left = repair.close(lake.writer, gaps, told, now)
    assert (closed.state, closed.source, left) == ("repaired", "archive", [])
    assert "2 rows came that were missing" in closed.detail
    lake.close()


@pytest.mark.parametrize(
    "kind, own",
    [("funding_rate", {"rate": "0.1", "interval_s": 28_800, "rate_kind": "ratio"}), ("mark_price", {"mark": "1"})],
)
def test_a_gap_of_what_is_told_by_its_time_has_its_verdict(tmp_path: Path, kind: str, own: dict[str, object]):
    """Its time is its key: the table was asked for it twice, which it refuses."""
    lake = TestLake(tmp_path / "lake")
    rows = [{name: trade(at, "1", "1")[name] for name in COMMON} for at in (T0, T0 + HOUR, T0 + 2 * HOUR)]
    own = own | {"source": "rest"}
    lake.part(kind, [row | own | {"session": f"n-{n}-{n}"} for row, n in zip(rows, (1, 9, 1), strict=True)])
    lake.cover(T0, T0 + 2 * HOUR, kind=kind)
    lake.gap(T0 + MINUTE, T0 + 2 * HOUR - MINUTE, kind=kind, session="n-1-1", gap_id="g")
    past = SessionRow(session="n-9-9", **STREAM, source="history", url="x", opened_at=T0 + DAY, closed_at=T0 + DAY)
    covered = Coverage(**STREAM, kind=kind, symbol=SYMBOL, session="n-9-9", ts_from=T0, ts_to=T0 + 2 * HOUR)
    lake.writer.record(sessions=[past], coverage=[covered], now=T0 + DAY)
    told = Sources(offers={kind: Offer(width=DAY, grain=SECOND)})
    (closed,), left = repair.close(lake.writer, lake.writer.manifest.gaps(), told, T0 + 2 * DAY)
    assert (closed.state, closed.source, left) == ("repaired", "rest", [])
    assert "1 rows came that were missing" in closed.detail
    lake.close()


async def test_of_very_many_gaps_each_has_its_turn():
    gaps = [
        Gap(str(n), "b", "s", "trade", "A", n, n + 1, None, None, "jump", "ids", "open", None, 0) for n in range(1200)
    ]
    turns = [Limits(9, DAY, turn).some(gaps) for turn in range(4)]
    assert [len(turn) for turn in turns] == [500, 500, 200, 500]
    assert {gap.gap_id for turn in turns for gap in turn} == {gap.gap_id for gap in gaps}
    assert Limits(9, DAY, 7).some([]) == []
