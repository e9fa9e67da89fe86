"""Repair of gaps: what is open is planned, asked for and judged, market by market; by hand and by itself.

The same for `dl gaps --repair` and for the daemon, whose service looks again and again: only at gaps that are over for
long enough to be final at the venue, a few at a time, after everything else that the venue is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import msgspec

from collectors import repair, venues
from collectors.backfill import Report, Summary
from collectors.history_plan import Wish, hole
from collectors.repair import Scope
from collectors.repair_plan import (
    ARCHIVE,
    EARLY,
    OWN,
    REST,
    Known,
    RepairPlan,
    Road,
    Sources,
    Step,
    plan,
    ranked,
)
from collectors.repair_proofs import by_ids, given_up, read_again
from compactor.recertify import recertify
from daemon import repair_frames
from daemon.backfilling import endpoint_of
from daemon.came import files_came
from daemon.config import Config
from lake.errors import LakeError
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.errors import MarketError
from market.session import EVERY_SYMBOL, Endpoint, Exchange, Gap
from market.times import Interval, date_of
from runtime import mending, telemetry
from runtime.clock import Clock
from runtime.threads import to_the_end

WINDOW = 500
"""Open gaps of a market that one look of the daemon considers."""
SHORT = "what came does not cover it"
Market = tuple[str, str]
Ask = Callable[[Exchange, str, Endpoint, Sequence[Wish], Report], Awaitable[Summary]]
Fetch = Callable[[Mapping[str, Any], Report], Awaitable[object]]
"""`dl archive`'s job."""


async def nobody(_wish: Wish) -> None:
    """Who is told of nothing."""


class Tools(msgspec.Struct, frozen=True):
    """Who asks: venues over REST, and their archives; and who reads frames again (None: nobody). `begun` is told of
    each part that is not asked of a venue over REST.
    """

    ask: Ask
    archive: Fetch | None = None
    read: Fetch | None = None
    begun: Callable[[Wish], Awaitable[None]] = nobody


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


class Brought(msgspec.Struct):
    """What was told of gaps that were asked for, by their names: rows of files and frames, why not all came, and of
    those of which not all was final the ids that came. `broken_off`: whoever asks venues stopped before the end.
    """

    rows: dict[str, int] = {}
    why: dict[str, str] = {}
    early: dict[str, list[Interval]] = {}
    broken_off: bool = False


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


class Looked(msgspec.Struct, frozen=True):
    """What one market's gaps were found to need, and what was known of them."""

    gaps: Sequence[Gap]
    made: RepairPlan
    sources: Sources
    before: Known


async def mend(
    writer: LakeWriter,
    config: Config,
    clock: Clock,
    scope: Scope,
    tools: Tools,
    report: Report,
    *,
    turn: Callable[[Market], AbstractAsyncContextManager[None]] = lambda _market: nullcontext(),
) -> Done:
    """Ask for what is missing and write down what is proven; a market in its `turn`. Raises StorageFailed, Fenced."""
    done, archive = Done(), tools.archive is not None and not writer.manifest.meta().simulated
    gaps = await asyncio.to_thread(scope.gaps, writer.manifest)
    for market, mine in sorted(repair.markets(gaps).items()):
        async with turn(market):
            made, sources, before = await asyncio.to_thread(
                look, writer.manifest, market, mine, clock.now(), None, archive=archive
            )
            steps = tuple(step for step in made.steps if tools.read is not None or step.road != OWN)
            made = msgspec.structs.replace(made, steps=steps)
            brought = await carry_out(writer, config, clock, market, made, tools, report, done)
            await to_the_end(settle, writer, Looked(mine, made, sources, before), brought, clock.now(), done)
    return done


async def carry_out(
    writer: LakeWriter, config: Config, clock: Clock, market: Market, made: RepairPlan, tools: Tools, report: Report,
    done: Done,
) -> Brought:  # fmt: skip
    """Ask for the steps of a plan, by each of its roads. Raises StorageFailed, Fenced."""
    brought, venue = Brought(), _venue(market[0])
    if venue is not None:
        if wishes := made.wishes():
            await _ask(venue, market[1], config, wishes, made, tools, report, done, brought)
        for wish in dict.fromkeys(made.wishes(ARCHIVE)):
            if tools.archive is not None:
                await tools.begun(wish)
                await _fetch(tools.archive, market, wish, made, report, done, brought)
    if tools.read is not None:
        done.problems += await repair_frames.read_again(
            writer, made.steps, tools.read, report, clock, begun=tools.begun, why=brought.why
        )
    return brought


async def _ask(
    venue: Exchange, market_type: str, config: Config, wishes: Sequence[Wish], made: RepairPlan, tools: Tools,
    report: Report, done: Done, brought: Brought,
) -> None:  # fmt: skip
    try:
        fetched = await tools.ask(venue, market_type, endpoint_of(venue, market_type, config), wishes, report)
    except MarketError as error:
        done.problems.append(f"{venue.NAME} {market_type}: {error}")
        return
    done.rows += fetched.rows
    done.requests += fetched.requests
    brought.broken_off = fetched.done + len(fetched.early) + len(fetched.failed) < fetched.chunks
    done.problems += [f"{one.chunk.kind} {one.chunk.symbol}: {one.reason}" for one in fetched.failed]
    for one in fetched.failed:
        brought.why |= dict.fromkeys(_of(made, REST, one.chunk), one.reason)
    for early in fetched.early:
        for name in _meeting(made, early.chunk):
            brought.early.setdefault(name, []).extend(early.ids)


async def _fetch(
    archive: Fetch, market: Market, wish: Wish, made: RepairPlan, report: Report, done: Done, brought: Brought
) -> None:
    last = date_of(wish.end - 1).isoformat()
    wanted = {"exchange": market[0], "market_type": market[1], "kind": wish.kind, "symbols": [wish.symbol],
              "first": date_of(wish.start).isoformat(), "last": last}  # fmt: skip
    if wish.kind == "kline":
        wanted["interval"] = "1m"
    mine = _of(made, ARCHIVE, wish)
    try:
        told: Any = msgspec.to_builtins(await archive(wanted, report)) or {}
    except (LakeError, MarketError) as error:
        done.problems.append(f"{wish.kind} {wish.symbol} {last}: {error}")
        brought.why |= dict.fromkeys(mine, str(error))
        return
    came = files_came(told.get("files", ()), told.get("missing", {}).get(wish.symbol, ()))
    brought.rows |= dict.fromkeys(mine[:1], came.rows)
    if came.error is not None:
        brought.why |= dict.fromkeys(mine, came.error)


def _of(made: RepairPlan, road: Road, wish: Wish) -> list[str]:
    """The gaps, by name, whose step asks for that part."""
    return [step.gap.gap_id for step in made.steps if step.road == road and wish in step.parts]


def _meeting(made: RepairPlan, wish: Wish) -> list[str]:
    """The gaps, by name, that are asked for over REST and meet that part, whosever it is."""
    gaps = [step.gap for step in made.steps if step.road == REST]
    span = Interval(wish.start, wish.end)
    mine = [gap for gap in gaps if gap.kind == wish.kind and gap.symbol in (wish.symbol, EVERY_SYMBOL)]
    return [gap.gap_id for gap in mine if hole(gap).overlaps(span)]


def settle(writer: LakeWriter, looked: Looked, brought: Brought, now: int, done: Done) -> dict[str, str]:
    """Verdicts; gaps that nothing can close; and attempts that came to nothing: why, by the name of the gap.

    Reads tables: call it in a thread where a loop runs. Raises StorageFailed, Fenced.
    """
    gaps, made, before = looked.gaps, looked.made, looked.before
    closed, waiting = repair.close(writer, gaps, looked.sources, now)
    after = msgspec.structs.replace(before, reread=repair.reread(writer.manifest, gaps))
    again = [row for gap in gaps if (row := read_again(gap, after, now)) is not None]
    over = {gap.gap_id for gap in closed}
    again += [
        row
        for gap in gaps
        if gap.gap_id not in over and (row := by_ids(gap, brought.early.get(gap.gap_id, ()), now)) is not None
    ]
    over = {row.gap_id for row in again}
    hopeless = [given_up(one, now) for one in made.hopeless if one.gap.gap_id not in over]
    if again or hopeless:
        writer.record(gaps=[*again, *hopeless], now=now)
    closed += again
    recertify(writer, [*closed, *hopeless], now)
    done.closed += [*closed, *hopeless]
    over = {gap.gap_id for gap in done.closed}
    short = [gap for gap in _not_asked(writer.manifest, made.steps, looked.sources, now) if gap.gap_id not in over]
    early = [gap for gap in short if gap.gap_id in brought.early and gap.gap_id not in brought.why]
    lost = [gap for gap in short if gap not in early]
    tried = repair_frames.patient(made.steps, before.tried)
    repair.remember(writer, [*lost, *(one.gap for one in made.left if one.rests)], tried, now, early)
    for gap in (*closed, *hopeless):
        telemetry.gap_closed(
            exchange=gap.exchange, market_type=gap.market_type, kind=gap.kind, symbol=gap.symbol, state=gap.state,
            source=gap.source,
        )  # fmt: skip
    vain = {gap.gap_id: brought.why.get(gap.gap_id, done.problems[-1] if done.problems else SHORT) for gap in lost}
    for gap in lost:
        mending.repair_failed(
            exchange=gap.exchange, market_type=gap.market_type, kind=gap.kind, symbol=gap.symbol,
            reason=vain[gap.gap_id],
        )  # fmt: skip
    how = {name: f"its frames, read again, tell {rows:,} rows and not all of it" for name, rows in after.reread.items()}
    how |= dict.fromkeys(vain, "asking for it failed")
    how |= {gap.gap_id: EARLY for gap in early}
    how |= {one.gap.gap_id: one.why for one in (*made.left, *waiting)}
    done.left += [
        Told(gap, "leave", how.get(gap.gap_id, "its turn has not come")) for gap in gaps if gap.gap_id not in over
    ]
    brought.rows |= {name: rows for name, rows in after.reread.items() if name not in before.reread}
    return vain


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


async def refused(_arguments: Mapping[str, Any], _progress: Report) -> object:
    """The control port's job where nothing is collected."""
    raise LakeError("this daemon does not collect", "stop it, or start it without --only")
