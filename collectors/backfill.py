"""Backfill: carrying out chunks of history, each a session of its own, some at a time, within the venue's budget.

A page is asked for when the page before it is durable and its coverage recorded: a kill costs the page in hand and no
more, and who plans again goes on where that ended. Every attempt at a chunk is a row of the sessions table (source
`history`), whose end says what came of it. Nothing passes through a merger: history is no stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from collectors import recorded
from collectors.adapters.answers import FIRST_PAUSE
from collectors.adapters.paging import Jump, Pages
from collectors.budget import BACKFILL, Budget
from collectors.giving import gap_id
from collectors.history_plan import CANDLE, FOREVER, Held, Wish, repaired, said
from collectors.http import Fetching, HttpFailed
from collectors.instruments import NOTHING, instruments
from collectors.intake import Intake
from collectors.links import Link
from collectors.pipeline import Pipeline, Task
from collectors.redundancy import merger_maker
from lake.lasting import lasting
from lake.manifest import Manifest
from lake.rows import HISTORY
from lake.widths import sessions_of
from lake.writer import LakeWriter
from market.errors import Malformed
from market.history import Absent, Offer
from market.kinds import Contract
from market.session import Endpoint, Exchange, Fetch, Gap, Polled
from market.times import SECOND, Interval
from runtime import polled as events
from runtime.clock import Clock

AT_ONCE = 4
"""Chunks under way together: a slow answer holds up no other."""
LACKING = "venue_lacks"
"""Cause of a gap of ids that the venue's own history does not have."""
INTERVAL = "1m"
"""The candles that are asked for, of every venue."""
LISTED_TRIES = 5
"""Times that a list of instruments is asked for."""
DONE, FAILED, REFUSED, STOPPED, EARLY = "done", "failed", "refused", "stopped", "early"
"""How an attempt at a chunk ends; a crash has its own word. EARLY: what is not final yet is left for another time."""
Report = Callable[[int, int, str], None]
"""(seconds of venue time that are done, of how many, what is at hand)."""


class Failure(msgspec.Struct, frozen=True):
    """A chunk that was not brought in whole. `permanent`: asking the same again changes nothing."""

    chunk: Wish
    reason: str
    permanent: bool


class Early(msgspec.Struct, frozen=True):
    """A chunk of which not all is final yet, and the ids that came, where they follow each other."""

    chunk: Wish
    ids: Sequence[Interval] = ()


class Summary(msgspec.Struct, kw_only=True):
    """What a backfill did."""

    chunks: int = 0
    done: int = 0
    rows: int = 0
    requests: int = 0
    repaired: int = 0
    """Open gaps that are closed now."""
    lacking: int = 0
    """Ids that the venue's own history lacks: gaps that cannot be repaired."""
    failed: list[Failure] = []
    early: list[Early] = []


def offers(exchange: Exchange, market_type: str) -> Mapping[str, Offer | Absent]:
    """What of a market's past can be asked for. Raises Malformed where the venue's adapter asks for none."""
    known: Mapping[str, Mapping[str, Offer | Absent]] = getattr(exchange, "HISTORY", {})
    if market_type not in known:
        raise Malformed("venue whose history is asked for over REST", f"{exchange.NAME} {market_type}")
    return known[market_type]


def held(root: Path, manifest: Manifest, exchange: str, market_type: str, symbols: Iterable[str] = ()) -> Held:
    """What the lake has of a market, and when its instruments were listed as far as their rows say it. `symbols` are
    those of whose candles it matters how wide they are.
    """
    market, wanted = (exchange, market_type), set(symbols)
    with manifest.snapshot() as now:
        opened = {row.session: row.opened_at for row in now.sessions(*market) if row.source == HISTORY}
        past = frozenset(opened)
        contracts = lasting(root, now, *market).contracts
        listed: dict[str, list[Interval]] = {}
        for one in contracts:
            end = FOREVER if one.expiry is None else one.expiry
            listed.setdefault(one.symbol, []).append(Interval(one.listed or 0, end))
        coverage = now.coverage(*market)
        streamed = {row.symbol for row in coverage if row.kind == CANDLE and row.session not in past} & wanted
        minutes = sessions_of(root, now, *market, streamed, INTERVAL)
        return Held(coverage, now.gaps(*market), past, listed, minutes, opened)


def contracts_of(writer: LakeWriter, exchange: str, market_type: str) -> tuple[Contract, ...]:
    """The instruments as the lake last knew them. Reads files: call it in a thread where a loop runs."""
    with writer.manifest.snapshot() as now:
        return lasting(writer.root, now, exchange, market_type).contracts


def close_gaps(writer: LakeWriter, exchange: Exchange, market_type: str, now: int) -> int:
    """Close the open gaps that history has filled; how many."""
    known = held(writer.root, writer.manifest, exchange.NAME, market_type)
    gaps = repaired(offers(exchange, market_type), known, now)
    if gaps:
        writer.record(gaps=gaps, now=now)
    return len(gaps)


class Attempt(msgspec.Struct, frozen=True):
    """How one attempt at a chunk ended: `outcome` is DONE, FAILED, REFUSED, STOPPED or EARLY, `reason` is why it failed
    or was refused; `ids` that came, where they follow each other.
    """

    chunk: Wish
    outcome: str
    reason: str = ""
    rows: int = 0
    requests: int = 0
    ids: Sequence[Interval] = ()


class Watcher(Protocol):
    """Who is told of each attempt, before it begins and once what it brought is durable."""

    async def begun(self, chunk: Wish) -> None: ...

    async def ended(self, attempt: Attempt) -> None: ...


class Sink(Protocol):
    """Where what comes goes: a pipeline of its own fills `intake`, `write` makes it last."""

    intake: Intake

    def next_session(self) -> str: ...

    async def room(self) -> None:
        """Return when more may be asked for: history waits for everything else."""
        ...

    async def write(self, pipeline: Pipeline, *, final: bool = False) -> None:
        """What has come is on disk when this returns, and then what it covers in the manifest."""
        ...


class Backfill:
    """One market's chunks, `at_once` of them side by side. `http` and `budget` are whoever else's asks this venue from
    here; `priority` is its place in that; `known` are instruments of which the venue may list some no more. Who is not
    `patient` does not wait until what is asked for is final.
    """

    def __init__(
        self,
        exchange: Exchange,
        market_type: str,
        endpoint: Endpoint,
        sink: Sink,
        http: Fetching,
        budget: Budget,
        clock: Clock,
        report: Report,
        *,
        frames: bool = True,
        priority: int = BACKFILL,
        at_once: int = AT_ONCE,
        known: Iterable[Contract] = (),
        watch: Watcher | None = None,
        patient: bool = True,
    ) -> None:
        self._patient = patient
        self._watch = watch
        self._priority = priority
        self._at_once = at_once
        self._exchange = exchange
        self._market = (exchange.NAME, market_type)
        self._endpoint = endpoint
        self._sink = sink
        self._http = http
        self._budget = budget
        self._clock = clock
        self._report = report
        self._limits = exchange.LIMITS[market_type]
        self._pipeline = Pipeline(*self._market, sink.intake, merger_maker(exchange, market_type), frames=frames)
        self._left: deque[Wish] = deque()
        self._total = self._finished = 0
        self._going: dict[str, Pages] = {}
        offered = offers(exchange, market_type)
        self._sized = {kind for kind, offer in offered.items() if isinstance(offer, Offer) and offer.sized}
        self._contracts = {one.symbol: one for one in known}
        self._unlisted = ""
        """Why some instrument is not known."""
        self.summary = Summary()

    async def run(self, chunks: Sequence[Wish], stop: asyncio.Event) -> Summary:
        """All of `chunks`, or as many as came before `stop`. Raises StorageFailed, Fenced."""
        self._left.extend(chunks)
        self._total = sum(one.end - one.start for one in chunks)
        self.summary.chunks = len(chunks)
        await self._list(tuple(dict.fromkeys(one.symbol for one in chunks if one.kind in self._sized)), stop)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._at_once, len(chunks))):
                    group.create_task(self._work(stop))
        except BaseExceptionGroup as failed:
            raise _first(failed) from failed
        finally:
            await self._sink.write(self._pipeline, final=True)
        return self.summary

    async def _work(self, stop: asyncio.Event) -> None:
        while self._left and not stop.is_set():
            chunk = self._left.popleft()
            if self._watch is not None:
                await self._watch.begun(chunk)
            attempt = await self._one(chunk, stop)
            self._count(attempt)
            if self._watch is not None:
                await self._watch.ended(attempt)

    async def _list(self, symbols: Sequence[str], stop: asyncio.Event) -> None:
        """Ask what the contracts of these symbols are worth."""
        exchange, market = self._exchange, self._market[1]
        for number in range(LISTED_TRIES if symbols else 0):
            found, self._unlisted = await instruments(
                exchange, market, self._endpoint, self._http, self._clock.now(), symbols, self._turn
            )
            self._contracts |= {one.symbol: one for one in found}
            if self._unlisted in ("", NOTHING) or stop.is_set():
                return
            await self._clock.sleep(FIRST_PAUSE * 2**number / SECOND)

    async def _turn(self, weight: int) -> None:
        await self._sink.room()
        await self._budget.spend(self._limits, weight, self._priority)

    async def _one(self, chunk: Wish, stop: asyncio.Event) -> Attempt:
        """One attempt at a chunk: a session from its opening to its end."""
        known: tuple[Contract, ...] = ()
        unknown = ""
        if chunk.kind in self._sized:
            contract = self._contracts.get(chunk.symbol)
            if contract is not None:
                known = (contract,)
            else:
                unknown = f"what a contract is worth is not known: {self._unlisted or 'the venue does not list it'}"
                if self._unlisted not in ("", NOTHING):
                    return Attempt(chunk, FAILED, unknown)
        polled = Polled(chunk.kind, (chunk.symbol,), known=known, span=(chunk.start, chunk.end))
        name = self._sink.next_session()
        try:
            session = self._exchange.poller(self._market[1], name, polled, self._endpoint)
        except Malformed as error:
            return Attempt(chunk, REFUSED, unknown or str(error))
        assert isinstance(session, Pages), "an adapter that offers history pages it"
        self._going[name] = session
        link, tasks = self._pipeline.open(
            session, name=f"history {said(chunk)}", source=HISTORY, url=self._endpoint.rest, now=self._clock.now(),
            polled=recorded.headers(polled),
        )  # fmt: skip
        cause, detail = STOPPED, ""
        try:
            while not session.done and not stop.is_set():
                for task in tasks:
                    if isinstance(task, Fetch):
                        await self._carry_out(link, task, chunk, session)
                if not self._patient and session.early(self._clock.now()):
                    cause, detail = EARLY, said(chunk)
                    break
                tasks = await self._wait(link, session, stop)
            if session.done:
                cause, detail = _outcome(session), session.failed or said(chunk)
        finally:
            self._pipeline.close(link, cause, self._clock.now(), detail=detail, wanted=False)
            del self._going[name]
        self._finished += (chunk.end if cause == DONE else session.venue_time) - chunk.start
        await self._sink.write(self._pipeline)
        return Attempt(chunk, cause, session.failed, link.row.events, session.requests, session.ids)

    async def _wait(self, link: Link, session: Pages, stop: asyncio.Event) -> Sequence[Task]:
        """What the session wants next, when it wants it."""
        deadline = session.next_deadline()
        while deadline is not None and not stop.is_set() and (left := (deadline - self._clock.now()) / SECOND) > 0:
            await self._clock.sleep(min(left, 1.0))
        return self._pipeline.tick(link, self._clock.now())

    async def _carry_out(self, link: Link, fetch: Fetch, chunk: Wish, session: Pages) -> None:
        await self._turn(fetch.weight)
        try:
            answer = await self._http.fetch(fetch.method, fetch.url)
        except HttpFailed as error:
            status, headers, body = 0, {"error": str(error)}, b""
        else:
            status, headers, body = answer.status, dict(answer.headers), answer.body
        known, rejected = len(session.jumps), link.rejected
        self._pipeline.respond(link, fetch, status, headers, body, self._clock.now())
        self._sink.intake.record(gaps=self._lacking(chunk, session, session.jumps[known:]))
        if link.rejected > rejected:
            self._tell(chunk, session, headers.get("error") or f"no data in an answer with status {status}")
        await self._sink.write(self._pipeline)
        under_way = sum(one.venue_time - one.start_at for one in self._going.values())
        done = self._finished + under_way
        self._report(done // SECOND, self._total // SECOND, link.name.removeprefix("history "))

    def _tell(self, chunk: Wish, session: Pages, reason: str) -> None:
        deadline = session.next_deadline()
        wait = None if deadline is None else max(0.0, (deadline - self._clock.now()) / SECOND)
        events.poll_failed(
            exchange=self._market[0], market_type=self._market[1], kind=f"{chunk.kind} of {chunk.symbol}",
            reason=reason[:300], retry_seconds=wait,
        )  # fmt: skip

    def _count(self, attempt: Attempt) -> None:
        summary = self.summary
        summary.rows += attempt.rows
        summary.requests += attempt.requests
        if attempt.outcome == DONE:
            summary.done += 1
        elif attempt.outcome == EARLY:
            summary.early.append(Early(attempt.chunk, attempt.ids))
        elif attempt.outcome != STOPPED:
            summary.failed.append(Failure(attempt.chunk, attempt.reason, attempt.outcome == REFUSED))

    def _lacking(self, chunk: Wish, session: Pages, jumps: Sequence[Jump]) -> list[Gap]:
        """Ids that are not there, twice asked, as gaps that nothing will fill."""
        now, found = self._clock.now(), []
        for jump in jumps:
            self.summary.lacking += jump.end - jump.first
            name = gap_id(*self._market, chunk.kind, chunk.symbol, jump.first - 1, jump.after)
            detail = "the venue's own history lacks these ids: it was asked twice"
            found.append(
                Gap(
                    name, *self._market, chunk.kind, chunk.symbol, jump.after, jump.before, jump.first, jump.end,
                    LACKING, "ids", "unrepairable", session.session_id, now, now, None, detail,
                )
            )  # fmt: skip
        return found


def _outcome(session: Pages) -> str:
    if not session.failed:
        return DONE
    return REFUSED if session.refused else FAILED


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ends it: the first that went wrong."""
    first: BaseException = failed
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
