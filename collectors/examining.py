"""A test of a venue's contract: is what an adapter says of its venue still true.

Every route and channel that it offers is asked for one symbol, over the product's own client and transports, and what
comes is held against what the adapter says (`market.described`).
One channel is one connection, so that what comes on it is known to be its. Nothing is written.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from collectors.budget import POLL, Budget
from collectors.hearing import Heard, Talk
from collectors.http import Answer, Http, HttpFailed
from collectors.transports import Connect, ConnectFailed
from market.admission import Admission, Admitting
from market.described import Described
from market.kinds import Contract, Event
from market.session import (
    SERVER_TIME,
    Connection,
    Endpoint,
    Exchange,
    Fetch,
    Informed,
    Output,
    Polled,
    Refused,
    Rejected,
    ServerTime,
    Stream,
)
from market.shapes import Difference, differences
from market.times import HOUR
from runtime.clock import Clock, within

Verdict = Literal["ok", "changed", "broken", "refused", "silent", "unreachable"]
CONTRACT = "contract"
BROKEN, SILENT = 1, 69
ENOUGH = 3
"""Frames of a channel after which it has been heard."""
FETCHES = 4
"""Requests of one poller: lists may have many pages, and the first ones tell."""
AT_ONCE = 4
"""Channels of a market that are listened to together."""
BREAKING = frozenset({"missing", "type", "unit"})
"""Changes that break what the adapter says; a field or a message more does not."""


class Examined(msgspec.Struct, frozen=True):
    """What came of one route or channel. `changed` is said since the adapter's date, `as_of`."""

    exchange: str
    market_type: str
    what: Literal["route", "channel"]
    name: str
    kind: str
    symbol: str
    verdict: Verdict
    answer: str
    changed: tuple[Difference, ...] = ()
    as_of: str = ""
    kept: tuple[bytes, ...] = msgspec.field(default=(), name="-")


class Tools(msgspec.Struct, frozen=True):
    """What an examination is done with. `seconds` is how long a channel may be silent."""

    clock: Clock
    connect: Connect
    budget: Budget
    seconds: float
    told: Callable[[Examined], None] = lambda _: None


async def examine(
    exchange: Exchange, market_type: str, endpoint: Endpoint, symbol: str, tools: Tools, only: str | None = None
) -> list[Examined]:
    """All routes of a market, one after the other, then all its channels; of one kind `only`, where it is given. A
    venue that does not answer is an answer.
    """
    limits = exchange.LIMITS[market_type]
    async with Http(
        tools.clock, exchange.NAME, market_type, limits=limits, budget=tools.budget, timeout=3 * tools.seconds,
        silence=tools.seconds,
    ) as http:  # fmt: skip
        market = _Market(exchange, market_type, endpoint, symbol, tools, http)
        found: list[Examined] = []
        polls = exchange.POLLS[market_type]
        chosen = [kind for kind in polls if only in (None, kind) or kind == CONTRACT]
        for kind in sorted(chosen, key=lambda kind: (kind != SERVER_TIME, kind != CONTRACT, kind)):
            for one in await market.route(kind):
                tools.told(one)
                found.append(one)
        turns = asyncio.Semaphore(AT_ONCE)

        async def in_turn(kind: str) -> Sequence[Examined]:
            async with turns:
                heard = await market.channel(kind)
                for one in heard:
                    tools.told(one)
                return heard

        offered = [kind for kind in exchange.OFFERS[market_type] if only in (None, kind)]
        kinds = [kind for kind in offered if exchange.streams(market_type, [kind], [symbol])]
        for heard in await asyncio.gather(*(in_turn(kind) for kind in kinds)):
            found += heard
        return found


class _Market:
    """One market of one venue. `contracts` are those that its list of instruments gave."""

    def __init__(
        self, exchange: Exchange, market_type: str, endpoint: Endpoint, symbol: str, tools: Tools, http: Http
    ) -> None:
        self._exchange = exchange
        self._market_type = market_type
        self._endpoint = endpoint
        self._symbol = symbol
        self._tools = tools
        self._http = http
        self._numbers = itertools.count(1)
        self._contracts: list[Contract] = []
        self._shapes = exchange.SHAPES.get(market_type, {}) if isinstance(exchange, Described) else {}

    # --- routes ---

    async def route(self, kind: str) -> list[Examined]:
        """What is polled for a kind: each of its routes once."""
        now = self._tools.clock.now
        polled = Polled(kind, (self._symbol,), HOUR, levels=50)
        session = self._exchange.poller(self._market_type, self._session_id(), polled, self._endpoint)
        tasks = deque(out for out in session.start(now()) if isinstance(out, Fetch))
        found: dict[str, Examined] = {}
        for _ in range(FETCHES):
            if not tasks:
                break
            asked = tasks.popleft()
            began = self._tools.clock.monotonic()
            answer = await self._fetch(asked)
            took = self._tools.clock.monotonic() - began
            route = asked.tag.partition(" ")[0]
            if isinstance(answer, str):
                found.setdefault(route, self._route(kind, route, "unreachable", answer))
                break
            said = session.respond(asked.tag, answer.status, answer.headers, answer.body, now())
            self._contracts += [out for out in said if isinstance(out, Contract)]
            found.setdefault(route, self._answered(kind, route, answer, said, took))
            tasks += (out for out in (*said, *session.tick(now())) if isinstance(out, Fetch))
        return list(found.values())

    async def _fetch(self, asked: Fetch) -> Answer | str:
        """An answer, or why there is none."""
        limits = self._exchange.LIMITS[self._market_type]
        try:
            await self._tools.budget.spend(limits, asked.weight, POLL)
            return await self._http.fetch(asked.method, asked.url)
        except HttpFailed as error:
            return str(error)

    def _answered(self, kind: str, route: str, answer: Answer, said: Sequence[Output], took: float) -> Examined:
        text = f"{answer.status}, {len(answer.body):,} bytes in {took * 1000:.0f} ms"
        if (problem := _problem(said)) is not None:
            verdict: Verdict = "refused" if isinstance(problem, Refused) or answer.status != 200 else "broken"
            if answer.status >= 500 or answer.status in (418, 429):
                verdict = "unreachable"
            return self._route(kind, route, verdict, f"{text}: {problem.reason}"[:300])
        shape = self._shapes.get(f"GET {route}")
        try:
            changed = differences(shape, msgspec.json.decode(answer.body)) if shape is not None else []
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return self._route(kind, route, "broken", f"{text}: {error}"[:300])
        rows = sum(isinstance(out, Event | ServerTime) for out in said)
        answered = f"{text}, {rows} row{'s' if rows != 1 else ''}"
        return self._route(kind, route, _verdict(changed), answered, changed, (answer.body,))

    def _route(
        self, kind: str, name: str, verdict: Verdict, answer: str, changed: Iterable[Difference] = (),
        kept: tuple[bytes, ...] = (),
    ) -> Examined:  # fmt: skip
        return self._examined("route", kind, name, verdict, answer, changed, kept)

    # --- channels ---

    async def channel(self, kind: str) -> list[Examined]:
        """The channel of a kind, on a connection of its own."""
        streams = self._exchange.streams(self._market_type, [kind], [self._symbol])
        name = self._exchange.OFFERS[self._market_type][kind]
        connections = self._exchange.connections(self._market_type, streams, self._endpoint)
        heard = Heard(self._exchange, self._shapes)
        try:
            for connection in connections:
                await within(self._tools.clock, 2 * self._tools.seconds, self._listen(connection, heard))
        except ConnectFailed as failed:
            return [self._examined("channel", kind, name, "unreachable", failed.reason)]
        except TimeoutError:
            return [self._examined("channel", kind, name, "unreachable", "no connection in time")]
        return [self._heard(kind, name, heard, streams)]

    def _heard(self, kind: str, name: str, heard: Heard, streams: Sequence[Stream]) -> Examined:
        quiet = all(stream.sparse for stream in streams)
        changed = heard.changed()
        verdict, answer = _verdict(changed), f"{heard.frames} frames, {heard.events} rows in {heard.seconds:.1f} s"
        if heard.refused:
            verdict, answer = "refused", heard.refused
        elif 2 * heard.rejected > heard.frames:
            verdict, answer = "broken", f"{heard.rejected} of {heard.frames} frames not understood: {heard.reason}"
        elif not heard.frames:
            ended = f", then {heard.ended}" if heard.ended else ""
            answer = f"nothing in {heard.seconds:.1f} s{ended}"
            verdict = "ok" if quiet and not heard.ended else "silent"
            answer += ", which is ordinary" if verdict == "ok" else ""
        return self._examined("channel", kind, name, verdict, answer[:300], changed, tuple(heard.kept))

    async def _listen(self, connection: Connection, heard: Heard) -> None:
        """Listen until enough was heard, or for the seconds allowed. Raises ConnectFailed."""
        clock, limits = self._tools.clock, self._exchange.LIMITS[self._market_type]
        opened = msgspec.structs.replace(connection, rest=self._endpoint.rest, book_levels=50)
        url = opened.url
        if isinstance(self._exchange, Admitting) and (fetch := self._exchange.admission(opened)) is not None:
            admitted = await self._admitted(self._exchange, opened, fetch)
            url, opened = admitted.url, msgspec.structs.replace(opened, ping_every=admitted.ping_every)
        transport = await self._tools.connect(
            url, max_frame=limits.max_frame, timeout=self._tools.seconds, now=clock.now
        )
        try:
            session = self._exchange.session(opened, self._session_id())
            if isinstance(session, Informed):
                for contract in self._contracts:
                    session.know(contract)
            await Talk(session, transport, heard, clock, self._fetch).run(ENOUGH, self._tools.seconds)
        finally:
            await transport.close()

    async def _admitted(self, exchange: Admitting, connection: Connection, asked: Fetch) -> Admission:
        answer = await self._fetch(asked)
        if isinstance(answer, str):
            raise ConnectFailed(f"{asked.tag}: {answer}")
        said = exchange.admitted(connection, answer.status, answer.headers, answer.body)
        if isinstance(said, str):
            raise ConnectFailed(f"{asked.tag}: {said}"[:300])
        return said

    def _examined(
        self,
        what: Literal["route", "channel"],
        kind: str,
        name: str,
        verdict: Verdict,
        answer: str,
        changed: Iterable[Difference] = (),
        kept: tuple[bytes, ...] = (),
    ) -> Examined:
        as_of = self._exchange.AS_OF if isinstance(self._exchange, Described) else ""
        return Examined(
            self._exchange.NAME, self._market_type, what, name, kind, self._symbol, verdict, answer, tuple(changed),
            as_of, kept,
        )  # fmt: skip

    def _session_id(self) -> str:
        return f"probe-{self._tools.clock.now()}-{next(self._numbers)}"


def _problem(said: Sequence[Output]) -> Refused | Rejected | None:
    """Why an answer is none."""
    return next((out for out in said if isinstance(out, Refused | Rejected)), None)


def _verdict(changed: Iterable[Difference]) -> Verdict:
    changes = {one.change for one in changed}
    return "broken" if changes & BREAKING else "changed" if changes else "ok"


def exit_code(found: Iterable[Examined]) -> int:
    """0 where all is as described or has more in it, BROKEN where something is not, else SILENT where one did not
    answer.
    """
    verdicts = {one.verdict for one in found}
    if verdicts & {"broken", "refused"}:
        return BROKEN
    return SILENT if verdicts & {"silent", "unreachable"} else 0
