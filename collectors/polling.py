"""Polling: driving the sessions that only fetch. Each of a source's polls is one session, open until it is stopped.

The session says what to ask and when, and how patient to be with what is no data; this waits for its deadlines and
for the venue's budget, and asks at most a few things at once. A venue's clock is measured here, since only the asker
knows when it asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from collectors import recorded
from collectors.budget import SHARE
from collectors.clocks import VenueClock
from collectors.config import SETTINGS, SourceConfig
from collectors.connection import Tools
from collectors.contracts import ContractMerger
from collectors.holes import RETIRED
from collectors.http import HttpFailed
from collectors.keyed import KeyedMerger
from collectors.liveness import Watch
from collectors.pipeline import Pipeline, Task
from lake.lasting import Lasting
from market.errors import Malformed
from market.session import EVERY_SYMBOL, Endpoint, Exchange, Fetch, Polled, Resume, ServerTime, Session
from market.times import SECOND
from runtime import polled as events
from runtime import telemetry
from runtime.clock import pause
from runtime.clock_watch import Steady
from runtime.retry import backoff

CONTRACT, FUNDING_RATE, CANDLE, BOOK_SNAPSHOT = "contract", "funding_rate", "kline", "book_snapshot"
REMEMBERED = (FUNDING_RATE,)
"""Kinds whose newest stored times a start has to know."""
ASKED_FOR = ("open_interest", FUNDING_RATE, CANDLE)
"""Kinds that are polled where a source names them; the others are polled by their setting."""
LATE = 3
"""Intervals without a row after which one is missing."""
AT_ONCE = 4
"""Requests of one session that may wait for their answers together: a slow answer holds up no other."""
LONGEST_WAIT_SECONDS = 60.0
FIRST_DELAY_SECONDS = 5.0
SILENT_SECONDS = 45.0
STEPPED = "clock_step"
"""Cause of an end after a step of the wall clock: the next session counts by the clock as it is now."""


def kinds(exchange: Exchange, source: SourceConfig) -> list[str]:
    """What of a source is polled: the kinds that it names and no stream carries, and what every source has."""
    return [
        kind
        for kind in exchange.POLLS[source.market_type]
        if source.polls.seconds(kind) is not None and (kind in source.kinds or kind not in ASKED_FOR)
    ]


def check(exchange: Exchange, source: SourceConfig) -> None:
    """Raises Malformed for a kind that the venue has by polls only and that nothing asks for."""
    market = source.market_type
    for kind in source.kinds:
        polled = kind in exchange.POLLS.get(market, {}) and source.polls.seconds(kind) is None
        if polled and not exchange.streams(market, [kind], source.symbols, source.channels):
            name = f"kind of {exchange.NAME} {market} without an interval in polls, since no stream carries it"
            raise Malformed(f"{name} (give polls.{SETTINGS[kind]})", kind)


def polls(
    exchange: Exchange, source: SourceConfig, symbols: Sequence[str], named: Sequence[str], recalled: Lasting
) -> list[Polled]:
    """What of a source is polled, for `symbols`; `named` are those of it that may be over already: the rates settled
    before a contract's end are asked for after it. `recalled` is what the lake remembers of the market.
    """
    found = []
    for kind in kinds(exchange, source):
        every = round((source.polls.seconds(kind) or 0) * SECOND)
        times = recalled.times.get(kind, {})
        asked = tuple(dict.fromkeys((*symbols, *named))) if kind == FUNDING_RATE else tuple(symbols)
        since = {symbol: times[symbol] for symbol in asked if symbol in times}
        known = recalled.contracts if kind == CONTRACT else ()
        found.append(Polled(kind, asked, every, source.book_levels, since, known))
    return found


def remember(pipeline: Pipeline, known: Lasting) -> None:
    """Tell the mergers what is stored, and the sessions to come what is known of their instruments."""
    pipeline.contracts.update((contract.symbol, contract) for contract in known.contracts)
    contracts = pipeline.route(CONTRACT).merger
    if isinstance(contracts, ContractMerger):
        contracts.remember(known.contracts)
    for kind in REMEMBERED:
        times = known.times.get(kind)
        if not times:
            continue
        merger = pipeline.route(kind).merger
        if isinstance(merger, KeyedMerger):
            merger.stored(times)


def stopped(
    exchange: Exchange, source: SourceConfig, kind: str, stops: Mapping[str, Resume], symbols: Iterable[str], now: int
) -> dict[str, Resume]:
    """Those of `stops` from which on something is missing: instruments, settled rates and polled candles are asked for
    from there on, but for the notices of a market's instruments, and what is asked for at an interval is not late yet
    within a few of them. Nothing is missing of whole books that are asked for when others have to begin anew; but the
    same one again is a copy, though a venue says the time of its answer (KuCoin).
    """
    candles = kind == CANDLE and CANDLE in exchange.POLLS[source.market_type]
    if kind == CONTRACT:
        return {one: stop for one, stop in stops.items() if one == EVERY_SYMBOL}
    if kind == FUNDING_RATE or candles:
        return {}
    seconds = source.polls.seconds(kind) if kind in ASKED_FOR and kind != CANDLE else None
    least = round((seconds or 0) * SECOND * LATE)
    held = {one: stops[one] for one in (*symbols, EVERY_SYMBOL) if one in stops}
    # our clock may be behind that of the venue, or have been set back: then nobody knows how long ago it was
    late = {one: stop for one, stop in held.items() if abs(now - stop.ts_event) >= least}
    if kind == BOOK_SNAPSHOT and kind not in source.kinds:
        return {one: msgspec.structs.replace(stop, cause="") for one, stop in late.items()}
    return late


class Stop(asyncio.Event):
    """When to end polls. `retired`: others are asked for in their place, or nothing of them is wanted any more."""

    retired = False


async def poll(
    exchange: Exchange,
    polled: Polled,
    endpoint: Endpoint,
    pipeline: Pipeline,
    tools: Tools,
    clock: VenueClock,
    stop: Stop,
) -> None:
    """Ask until `stop` is set, or until the session wants nothing more. A defect of ours ends one session only."""
    delays = backoff(tools.random, first=FIRST_DELAY_SECONDS, cap=LONGEST_WAIT_SECONDS)
    restarts = 0
    while not stop.is_set():
        if polled.kind == CONTRACT:
            polled = _knowing(polled, pipeline)
        session = exchange.poller(pipeline.market_type, tools.next_session(), polled, endpoint)
        try:
            cause = await _Poller(exchange, session, polled, endpoint, pipeline, tools, clock).run(stop)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the other polls and connections go on
            restarts += 1
            delay = next(delays)
            name = f"{pipeline.exchange} {pipeline.market_type} {polled.kind}"
            telemetry.service_restarted(service=name, error=error, restarts=restarts, delay_seconds=delay)
            await pause(tools.clock, stop, delay)
        else:
            if cause != STEPPED:
                return


def _knowing(polled: Polled, pipeline: Pipeline) -> Polled:
    """With what is known by now of the instruments that it is about."""
    held = {contract.symbol: contract for contract in (*polled.known, *pipeline.contracts.values())}
    wanted = polled.symbols or sorted(held)
    return msgspec.structs.replace(polled, known=tuple(held[one] for one in wanted if one in held))


class _Poller:
    """One session while it is open."""

    def __init__(
        self,
        exchange: Exchange,
        session: Session,
        polled: Polled,
        endpoint: Endpoint,
        pipeline: Pipeline,
        tools: Tools,
        venue_clock: VenueClock,
    ) -> None:
        self._limits = exchange.LIMITS[pipeline.market_type]
        self._each = exchange.POLLS[pipeline.market_type][polled.kind].each
        self._session = session
        self._polled = polled
        self._pipeline = pipeline
        self._tools = tools
        self._clock = tools.clock
        self._steady = Steady(tools.clock)
        self._venue_clock = venue_clock
        self._facts = {"exchange": pipeline.exchange, "market_type": pipeline.market_type}
        self._watch = Watch(round(SILENT_SECONDS * SECOND) + polled.every)
        self._todo: deque[Fetch] = deque()
        self._going: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._rejected = 0
        self._said_loaded = self._said_late = False
        self._link, tasks = pipeline.open(
            session,
            name=polled.kind,
            source="rest",
            url=endpoint.rest,
            now=self._clock.now(),
            polled=recorded.headers(polled),
        )  # fmt: skip
        self._do(tasks)

    async def run(self, stop: Stop) -> str:
        """Until the end, whose cause is returned."""
        cause = "internal_error"
        try:
            cause = await self._drive(stop)
        except asyncio.CancelledError:
            cause = "cancelled"
            raise
        finally:
            self._pipeline.close(self._link, cause, self._clock.now(), wanted=cause == "internal_error")
        return cause

    async def _drive(self, stop: Stop) -> str:
        """Until the end, whose cause is returned."""
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(self._until(stop))
            while not stop.is_set() and not self._steady.away:
                while self._todo and len(self._going) < AT_ONCE:
                    self._begin(self._todo.popleft(), group)
                deadline = self._session.next_deadline()
                if deadline is None and not self._todo and not self._going:
                    break
                await self._wait(deadline)
                now = self._steady.now()
                if not self._steady.away:
                    self._look(now)
                    self._do(self._pipeline.tick(self._link, now))
            stopping.cancel()
            for task in self._going:
                task.cancel()
        if stop.is_set():
            return RETIRED if stop.retired else "stopped"
        return STEPPED if self._steady.away else "done"

    async def _until(self, stop: Stop) -> None:
        await stop.wait()
        self._wake.set()

    async def _wait(self, deadline: int | None) -> None:
        """Until the session's deadline, or until an answer or the end has come."""
        left = LONGEST_WAIT_SECONDS if deadline is None else (deadline - self._steady.now()) / SECOND
        await pause(self._clock, self._wake, min(max(left, 0.05), LONGEST_WAIT_SECONDS))
        self._wake.clear()

    def _begin(self, fetch: Fetch, group: asyncio.TaskGroup) -> None:
        if not self._said_late:
            self._said_late = True
            self._say_late(fetch)
        task = group.create_task(self._carry_out(fetch))
        self._going.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._going.discard(done)
            self._wake.set()

        task.add_done_callback(ended)

    async def _carry_out(self, fetch: Fetch) -> None:
        await self._tools.spend(fetch.weight)
        began = self._clock.monotonic()
        try:
            answer = await self._tools.http.fetch(fetch.method, fetch.url)
        except HttpFailed as error:
            status, said, body = 0, {"error": str(error)}, b""
        else:
            status, said, body = answer.status, dict(answer.headers), answer.body
        now = self._clock.now()
        took = round((self._clock.monotonic() - began) * SECOND)
        tasks = self._pipeline.respond(self._link, fetch, status, said, body, now)
        for task in tasks:
            if isinstance(task, ServerTime):
                self._venue_clock.measured(task.venue_time, now, took)
        self._do(tasks)
        self._say(status, said)

    def _do(self, tasks: Sequence[Task]) -> None:
        self._todo.extend(task for task in tasks if isinstance(task, Fetch))

    def _look(self, now: int) -> None:
        """Symbols that have not been answered for so long that a row is missing: also those that an earlier session
        asked for, and this one has no answer of.
        """
        for change in self._watch.look(self._session.streams(), now):
            stream = change.stream
            if change.alarm:
                telemetry.silent_stream(
                    **self._facts, kind=stream.kind, symbol=stream.symbol, seconds=change.quiet / SECOND
                )
            begun = self._pipeline.route(stream.kind).merger.begun(stream.symbol)
            if change.status == "stalled" or (change.alarm and begun):
                self._pipeline.stalled(self._link, stream, now)

    def _say(self, status: int, said: Mapping[str, str]) -> None:
        if self._link.rejected > self._rejected:
            self._rejected = self._link.rejected
            deadline = self._session.next_deadline()
            wait = None if deadline is None else max(0.0, (deadline - self._clock.now()) / SECOND)
            reason = said.get("error") or f"no data in an answer with status {status}"
            events.poll_failed(**self._facts, kind=self._polled.kind, reason=reason[:300], retry_seconds=wait)
        elif self._polled.kind == CONTRACT and not self._said_loaded and status == 200:
            self._said_loaded = True
            events.reference_loaded(**self._facts, contracts=len(self._pipeline.contracts))

    def _say_late(self, fetch: Fetch) -> None:
        allowed = self._limits.weight_per_minute * SHARE
        requests = len(self._polled.symbols) if self._each else 1
        takes = requests * fetch.weight * 60 / allowed if allowed else 0.0
        if takes * SECOND > self._polled.every > 0:
            events.poll_late(
                **self._facts, kind=self._polled.kind, every_seconds=self._polled.every / SECOND, takes_seconds=takes
            )
