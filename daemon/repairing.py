"""Repair of gaps: what is open is planned, asked for and judged, market by market; by hand and by itself.

The same for `dl gaps --repair` and for the daemon, whose service looks again and again: only at gaps that are over for
long enough to be final at the venue, a few at a time, after everything else that the venue is asked for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from collectors import repair, venues
from collectors.backfill import Report, Summary
from collectors.budget import REPAIR
from collectors.history_plan import Wish
from collectors.repair import Scope
from collectors.repair_plan import ARCHIVE, OWN, Known, RepairPlan, Sources, Step, given_up, plan, ranked, read_again
from collectors.service import CollectorsService
from compactor.recertify import recertify
from daemon import repair_frames
from daemon.backfilling import endpoint_of
from daemon.config import Config
from lake.errors import LakeError, WrongQuestion
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.errors import MarketError
from market.session import Endpoint, Exchange, Gap
from market.times import HOUR, date_of
from runtime import mending, telemetry
from runtime.clock import Clock, pause

WINDOW = 500
"""Open gaps of a market that one look of the daemon considers."""
SHOWN = 5
"""Reasons that `/status` names."""
T = TypeVar("T")
Ask = Callable[[Exchange, str, Endpoint, Sequence[Wish], Report], Awaitable[Summary]]
Fetch = Callable[[Mapping[str, Any], Report], Awaitable[object]]
"""`dl archive`'s job."""


class Tools(msgspec.Struct, frozen=True):
    """Who asks: venues over REST, and their archives; and who reads frames again (None: nobody)."""

    ask: Ask
    archive: Fetch | None = None
    read: Fetch | None = None


class Limits(msgspec.Struct, frozen=True):
    """What is done without being asked to: gaps of a market that are asked for at a look, and how long one may be (us);
    of many open ones WINDOW are looked at, others at the next `turn`.
    """

    most: int
    longest: int
    turn: int = 0

    def some(self, gaps: Sequence[Gap]) -> list[Gap]:
        """Those that it is the turn of."""
        mine = ranked(gaps)
        turns = -(-len(mine) // WINDOW)
        first = self.turn % turns * WINDOW if turns else 0
        return mine[first : first + WINDOW]


class Told(msgspec.Struct, frozen=True):
    """One gap: `will` is ask, wait, leave or give_up, and `how` says by which road, or why not."""

    gap: Gap
    will: str
    how: str


class Done(msgspec.Struct, kw_only=True):
    """What came of a repair: gaps as they are now, or why they are open still."""

    closed: list[Gap] = []
    left: list[Told] = []
    rows: int = 0
    requests: int = 0
    problems: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether no gap is open any more."""
        return not self.left


def _venue(name: str) -> Exchange | None:
    """The adapter of an exchange; None where none knows it (a lake may hold what was imported)."""
    try:
        return venues.load(name)
    except MarketError:
        return None


def look(
    manifest: Manifest, market: tuple[str, str], gaps: Sequence[Gap], now: int, limits: Limits | None, *, archive: bool
) -> tuple[RepairPlan, Sources, Known]:
    """What is to be done about the gaps of one market. Reads the manifest: call it in a thread where a loop runs."""
    sources = repair.sources(_venue(market[0]), market[1], archive=archive)
    known = repair.known(manifest, gaps, sources, now, patient=limits is not None)
    made = plan(gaps, sources, known, now, longest=limits.longest if limits is not None else None)
    return made, sources, known


def told(made: RepairPlan) -> list[Told]:
    """A plan for a person, in the order of its work."""
    roads = {OWN: "its own frames, read again"}
    found = [Told(step.gap, "ask", roads.get(step.road, f"{step.road} by {step.by}")) for step in made.steps]
    found += [Told(gap, "wait", "all of it was asked for; the verdict waits for the tables") for gap in made.asked]
    found += [Told(one.gap, "give_up", one.why) for one in made.hopeless]
    return found + [Told(one.gap, "leave", one.why) for one in made.left]


def planned(manifest: Manifest, scope: Scope, now: int) -> list[Told]:
    """What a repair by hand would do."""
    found: list[Told] = []
    archive = not manifest.meta().simulated
    for market, gaps in sorted(repair.markets(scope.gaps(manifest)).items()):
        found += told(look(manifest, market, gaps, now, None, archive=archive)[0])
    return found


async def mend(
    writer: LakeWriter,
    config: Config,
    clock: Clock,
    scope: Scope,
    tools: Tools,
    report: Report,
    *,
    limits: Limits | None = None,
    stop: asyncio.Event | None = None,
) -> Done:
    """Ask for what is missing and write down what is proven. Raises StorageFailed, Fenced."""
    done, archive = Done(), tools.archive is not None and not writer.manifest.meta().simulated
    gaps = await asyncio.to_thread(scope.gaps, writer.manifest)
    for market, every in sorted(repair.markets(gaps).items()):
        if stop is not None and stop.is_set():
            break
        mine = every if limits is None else limits.some(every)
        made, sources, before = await asyncio.to_thread(
            look, writer.manifest, market, mine, clock.now(), limits, archive=archive
        )
        steps = [step for step in made.steps if tools.read is not None or step.road != OWN]
        made = msgspec.structs.replace(made, steps=tuple(steps[: None if limits is None else limits.most]))
        venue = _venue(market[0])
        if made.steps and venue is not None:
            await _carry_out(venue, market[1], config, made, tools, report, done)
        if tools.read is not None:
            done.problems += await repair_frames.read_again(writer, made.steps, tools.read, report, clock)
        if stop is None or not stop.is_set():
            await asyncio.to_thread(_settle, writer, mine, made, sources, before, clock.now(), done)
    return done


async def _carry_out(
    venue: Exchange, market_type: str, config: Config, made: RepairPlan, tools: Tools, report: Report, done: Done
) -> None:
    if wishes := made.wishes():
        try:
            fetched = await tools.ask(venue, market_type, endpoint_of(venue, market_type, config), wishes, report)
        except MarketError as error:
            done.problems.append(f"{venue.NAME} {market_type}: {error}")
        else:
            done.rows += fetched.rows
            done.requests += fetched.requests
            done.problems += [f"{one.chunk.kind} {one.chunk.symbol}: {one.reason}" for one in fetched.failed]
    for wish in made.wishes(ARCHIVE):
        if tools.archive is None:
            return
        last = date_of(wish.end - 1).isoformat()
        wanted = {"exchange": venue.NAME, "market_type": market_type, "kind": wish.kind, "symbols": [wish.symbol],
                  "first": date_of(wish.start).isoformat(), "last": last}  # fmt: skip
        if wish.kind == "kline":
            wanted["interval"] = "1m"
        try:
            await tools.archive(wanted, report)
        except (LakeError, MarketError) as error:
            done.problems.append(f"{wish.kind} {wish.symbol} {last}: {error}")


def _settle(
    writer: LakeWriter, gaps: Sequence[Gap], made: RepairPlan, sources: Sources, before: Known, now: int, done: Done
) -> None:
    """Verdicts; gaps that nothing can close; and attempts that came to nothing."""
    closed, waiting = repair.close(writer, gaps, sources, now)
    after = msgspec.structs.replace(before, reread=repair.reread(writer.manifest, gaps))
    again = [row for gap in gaps if (row := read_again(gap, after, now)) is not None]
    over = {row.gap_id for row in again}
    hopeless = [given_up(one, now) for one in made.hopeless if one.gap.gap_id not in over]
    if again or hopeless:
        writer.record(gaps=[*again, *hopeless], now=now)
    closed += again
    recertify(writer, [*closed, *hopeless], now)
    done.closed += [*closed, *hopeless]
    over = {gap.gap_id for gap in done.closed}
    lost = _not_asked(writer.manifest, made.steps, sources, now)
    tried = repair_frames.patient(made.steps, before.tried)
    repair.remember(writer, [*lost, *(one.gap for one in made.left if one.rests)], tried, now)
    for gap in (*closed, *hopeless):
        telemetry.gap_closed(
            exchange=gap.exchange, market_type=gap.market_type, kind=gap.kind, symbol=gap.symbol, state=gap.state,
            source=gap.source,
        )  # fmt: skip
    for gap in lost:
        reason = done.problems[-1] if done.problems else "what came does not cover it"
        mending.repair_failed(
            exchange=gap.exchange, market_type=gap.market_type, kind=gap.kind, symbol=gap.symbol, reason=reason
        )
    how = {name: f"its frames, read again, tell {rows:,} rows and not all of it" for name, rows in after.reread.items()}
    how |= {gap.gap_id: "asking for it failed" for gap in lost}
    how |= {one.gap.gap_id: one.why for one in (*made.left, *waiting)}
    done.left += [
        Told(gap, "leave", how.get(gap.gap_id, "its turn has not come")) for gap in gaps if gap.gap_id not in over
    ]


def judge(writer: LakeWriter, scope: Scope, done: Done, now: int) -> Done:
    """What came of it once more, where what came is in tables by now. Raises StorageFailed, Fenced, CorruptFile."""
    for market, gaps in sorted(repair.markets(scope.gaps(writer.manifest)).items()):
        closed, left = repair.close(writer, gaps, repair.sources(_venue(market[0]), market[1]), now)
        why = {one.gap.gap_id: one.why for one in left}
        over = {gap.gap_id for gap in closed}
        recertify(writer, closed, now)
        done.closed += closed
        done.left = [
            msgspec.structs.replace(one, how=why.get(one.gap.gap_id, one.how))
            for one in done.left
            if one.gap.gap_id not in over
        ]
    done.left = _still(writer.manifest, scope, done)
    return done


def judged(writer: LakeWriter, scope: Scope, now: int) -> int:
    """How many gaps what is in tables by now closes. Raises as `judge`."""
    return len(judge(writer, scope, Done(), now).closed)


def _still(manifest: Manifest, scope: Scope, done: Done) -> list[Told]:
    """The gaps that are open now: closing a day may have closed some, and found others."""
    how = {one.gap.gap_id: one.how for one in done.left}
    return [
        Told(gap, "leave", how.get(gap.gap_id, "found when its day was closed: run it again"))
        for gap in scope.gaps(manifest)
    ]


def _not_asked(manifest: Manifest, steps: Sequence[Step], sources: Sources, now: int) -> list[Gap]:
    """The gaps of steps that were carried out, and are still to be asked for."""
    gaps = [step.gap for step in steps]
    if not gaps:
        return []
    known = repair.known(manifest, gaps, sources, now, patient=False)
    again = {step.gap.gap_id for step in plan(gaps, sources, known, now).steps}
    return [gap for gap in gaps if gap.gap_id in again]


class RepairService:
    """The daemon's repair (runtime.service.Service): a look at the open gaps every `repair.every_seconds`."""

    name = "repair"
    phase = 0

    def __init__(
        self,
        config: Config,
        writer: LakeWriter,
        clock: Clock,
        collectors: CollectorsService,
        archive: Fetch,
        waits: Callable[[], bool],
        read: Fetch | None = None,
    ) -> None:
        self._config = config
        self._writer = writer
        self._clock = clock
        self._collectors = collectors
        self._archive = archive
        self._read = read
        self._waits = waits
        self._one = asyncio.Lock()
        self._looks = 0
        self._last: dict[str, object] | None = None
        self._closed: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Looks until told to stop; what is under way then goes on at the next start."""
        if not self._config.repair.enabled:
            return
        while not await pause(self._clock, stop, self._config.repair.every_seconds):
            if not self._waits() and self._collectors.outage is None:
                await self.once(stop)

    async def once(self, stop: asyncio.Event) -> Done:
        """One look. Raises StorageFailed, Fenced."""
        told = self._config.repair
        archive = partial(self._until_told, stop, self._archive) if told.archives else None
        read = None if self._read is None else partial(self._until_told, stop, self._read)
        tools = Tools(partial(self._ask_one, stop), archive, read)
        limits = Limits(told.gaps_at_once, round(told.longest_hours * HOUR), self._looks)
        self._looks += 1
        async with self._one:
            done = await mend(
                self._writer, self._config, self._clock, Scope(), tools, _silent, limits=limits, stop=stop
            )  # fmt: skip
        self._closed.update(gap.state for gap in done.closed)
        if done.closed or done.requests:
            mending.repaired(closed=len(done.closed), rows=done.rows, requests=done.requests, still_open=len(done.left))
        why = Counter(one.how for one in done.left)
        self._last = {
            "at": self._clock.now(), "closed": len(done.closed), "rows": done.rows, "requests": done.requests,
            "open": len(done.left), "why": dict(why.most_common(SHOWN)),
        }  # fmt: skip
        return done

    def status(self) -> Mapping[str, object]:
        """What the last look found, and what was closed since the start, for /status."""
        return {"enabled": self._config.repair.enabled, "last": self._last, "closed": dict(self._closed)}

    async def by_hand(self, arguments: Mapping[str, Any], progress: Report) -> object:
        """What the control port's job does."""
        try:
            scope = msgspec.convert(dict(arguments), Scope)
        except msgspec.ValidationError as error:
            raise WrongQuestion(f"which gaps are to be repaired: {error}", "see dl gaps --help") from error
        async with self._one:
            done = await mend(
                self._writer,
                self._config,
                self._clock,
                scope,
                Tools(self._ask_many, self._archive, self._read),
                progress,
            )
        self._closed.update(gap.state for gap in done.closed)
        return msgspec.to_builtins(done)

    @staticmethod
    async def _until_told(stop: asyncio.Event, job: Fetch, wanted: Mapping[str, Any], report: Report) -> object:
        return await _until(stop, job(wanted, report))

    async def _ask_one(
        self, stop: asyncio.Event, venue: Exchange, market_type: str, endpoint: Endpoint, wishes: Sequence[Wish],
        report: Report,
    ) -> Summary:  # fmt: skip
        work = self._collectors.backfill(venue, market_type, endpoint, wishes, report, priority=REPAIR, at_once=1)
        return await _until(stop, work) or Summary()

    async def _ask_many(
        self, venue: Exchange, market_type: str, endpoint: Endpoint, wishes: Sequence[Wish], report: Report
    ) -> Summary:
        return await self._collectors.backfill(venue, market_type, endpoint, wishes, report, priority=REPAIR)


async def _until(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """What `work` gives; None where it was told to stop before: who waits out a ban is waited for by nobody."""
    async with asyncio.TaskGroup() as group:
        asked, ended = group.create_task(_outcome(work)), group.create_task(stop.wait())
        await asyncio.wait((asked, ended), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        ended.cancel()
    if asked.cancelled():
        return None
    value, error = asked.result()
    if error is not None:
        raise error
    return value


async def _outcome(work: Awaitable[T]) -> tuple[T | None, Exception | None]:
    """What is expected to go wrong is a value: it ends nothing else."""
    try:
        return await work, None
    except (LakeError, MarketError) as error:
        return None, error


def _silent(_done: int, _total: int, _what: str) -> None:
    """Nobody watches."""


async def refused(_arguments: Mapping[str, Any], _progress: Report) -> object:
    """The control port's job where nothing is collected."""
    raise LakeError("this daemon does not collect", "stop it, or start it without --only")
