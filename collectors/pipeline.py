"""Pipeline of one market: sessions' output to mergers, new events to their channels, gaps and coverage to the record.

Synchronous and without a clock: live connections and replay drive the same code, with time as an argument. The hot
path is `receive`: a batch of frames in, at most a merge and an append for each event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from collectors import drifted
from collectors.clocks import VenueClock
from collectors.coverage import CoverageTracker
from collectors.departures import Departures
from collectors.drift import Radar
from collectors.holes import HANDOVER, STALLED, Memory
from collectors.intake import Intake, Lines, line_of, lines_of_frames
from collectors.links import Gaps, Link, Recalling, Totals, tally
from collectors.pressed import Sieve
from collectors.rhythm import Rhythms
from collectors.routes import Keeper, Route, Routes
from collectors.told import Told
from lake.frames import FrameLine, payload
from lake.rows import SessionRow
from market.kinds import Contract, Event
from market.session import (
    Acknowledged,
    Batching,
    Coverage,
    Fetch,
    Gap,
    Informed,
    Leave,
    Merger,
    Output,
    Refused,
    Rejected,
    Renewal,
    Resume,
    Send,
    ServerTime,
    Session,
    Stream,
)
from market.times import SECOND
from runtime import telemetry
from runtime.channel import Channel

POLL = "poll"
"""Tag of the open line of a session that only fetches; its headers say what it asks for (`collectors.recorded`)."""
Task = Send | Fetch | Leave | ServerTime
"""What a session asks of its driver."""


class Pipeline:
    """One (exchange, market_type). `merger` makes the memory of a kind; `frames` tells whether frames are kept, `clock`
    what is known of the venue's.
    """

    def __init__(
        self, exchange: str, market_type: str, intake: Intake, merger: Callable[[str], Merger], *, frames: bool = True,
        keeper: Keeper | None = None, clock: VenueClock | None = None,
    ) -> None:  # fmt: skip
        self.exchange = exchange
        self.market_type = market_type
        self.market = (exchange, market_type)
        self.links: list[Link] = []
        self._intake = intake
        self._frames: Channel[Lines] | None = intake.frames((exchange, market_type)) if frames else None
        self._blocking: list[Channel[Lines]] = [self._frames] if self._frames is not None else []
        self._totals = Totals()
        self.radar: Radar | None = None  # a replay has none
        self._coverage = CoverageTracker(exchange, market_type)
        self._covered: dict[tuple[str, str, str, int], Coverage] = {}
        """Coverage rows that are not recorded yet: they are, with the next seal or at the end of a session."""
        self.contracts: dict[str, Contract] = {}
        """Symbol -> what the reference data last said of it, for the sessions that want to know."""
        self.rhythms = Rhythms()  # how quiet each stream may be, whichever connection carries it
        self._gaps = Gaps()
        self._told = Told(self.links, self.route)
        self._around = (clock or VenueClock(exchange, market_type)).around
        self._departures = Departures(self.links, self.route, self._found, self._around)
        self._routes = Routes(self.market, intake, merger, self._told.given_up, self._blocking, keeper)

    def route(self, kind: str) -> Route:
        """The route of a kind, made at first use."""
        return self._routes.of(kind)

    # --- sessions ---

    def open(
        self, session: Session, *, name: str, source: str, url: str, now: int, polled: Mapping[str, str] | None = None
    ) -> tuple[Link, Sequence[Task]]:
        """A session begins; what it wants done first. Its row is recorded before any event that names it.

        `polled` is what a session that only fetches is about: a replay has to know it.
        """
        row = SessionRow(
            session=session.session_id, exchange=self.exchange, market_type=self.market_type, source=source, url=url,
            opened_at=now,
        )  # fmt: skip
        link = Link(session, row, name, self.radar)
        self.links.append(link)
        if isinstance(session, Informed):
            for contract in self.contracts.values():
                session.know(contract)
        if isinstance(session, Recalling):
            session.recall(self._begun)
        self._intake.record(sessions=[msgspec.structs.replace(row)])
        opened = FrameLine(ts_recv=now, conn=session.session_id, dir="open", n=session.frame_no, url=url)
        if polled is not None:
            opened.tag, opened.headers = POLL, dict(polled)
        self._note(opened)
        return link, self._said(link, session.start(now), now, b"")

    def receive(self, link: Link, frames: Sequence[bytes], ts_recv: int) -> Sequence[Task]:
        """Frames that were read together at `ts_recv`; what the session wants done about them."""
        return self._receive(link, frames, [ts_recv] * len(frames))

    def take_in(self, link: Link, frames: Sequence[bytes], times: Sequence[int]) -> Sequence[Task]:
        """Frames that are handed over together and were read at `times` (at least one); see `receive`.

        Segments end at whole seconds: lines of two seconds are never one piece.
        """
        first = times[0] // SECOND
        if times[-1] // SECOND == first:
            return self._receive(link, frames, times)
        cut = next(place for place, time in enumerate(times) if time // SECOND != first)
        return [*self._receive(link, frames[:cut], times[:cut]), *self.take_in(link, frames[cut:], times[cut:])]

    def _receive(self, link: Link, frames: Sequence[bytes], times: Sequence[int]) -> Sequence[Task]:
        session = link.session
        sieve = Sieve(self._intake, self.market, session, self._frames) if self._intake.pressed else None
        if self._frames is not None and sieve is None:
            kept = lines_of_frames(session.session_id, times, session.frame_no + 1, frames)
            self._frames.offer((kept,), len(kept.data))
        link.heard = times[-1]
        self._totals.frames += len(frames)
        self._totals.nbytes += sum(map(len, frames))
        try:
            if sieve is None and link.batching is not None:
                return self._together(link, link.batching, frames, times)
            receive = session.receive if sieve is None else sieve.receive
            tasks: list[Task] = []
            for frame, at in zip(frames, times, strict=False):
                tasks += self._take(link, receive(frame, at), at, frame)
            return tasks
        finally:
            if sieve is not None:
                sieve.keep()
            sampler = link.sampler
            if sampler is not None and (sampler.wanted or len(session.ignored) != sampler.words):
                sampler.take(frames, self._routes.batch)
            self._hand_on(link)

    def _together(self, link: Link, session: Batching, frames: Sequence[bytes], times: Sequence[int]) -> Sequence[Task]:
        """The hot path. What is no event is seen to after the events before it."""
        tasks, place = list[Task](), 0
        while place < len(frames):
            taken, said = session.receive_all(frames[place:], times[place:], self._routes.puts)
            place += taken
            tasks += self._take(link, said, times[place - 1], frames[place - 1])
        return tasks

    def respond(
        self, link: Link, asked: Fetch, status: int, headers: Mapping[str, str], body: bytes, ts_recv: int
    ) -> Sequence[Task]:
        """The answer to a Fetch, read at `ts_recv`."""
        session = link.session
        outputs = self._routes.past(link, session.respond(asked.tag, status, headers, body, ts_recv))
        self._inform(outputs)
        link.answered(asked, status, body, outputs, ts_recv)
        self._note(
            FrameLine(
                ts_recv=ts_recv, conn=session.session_id, dir="http", n=session.frame_no, url=asked.url,
                method=asked.method, status=status, tag=asked.tag, headers=dict(headers), **payload(body),  # type: ignore[arg-type] # str fields
            )
        )  # fmt: skip
        return self._said(link, outputs, ts_recv, body)

    def tick(self, link: Link, now: int) -> Sequence[Task]:
        """Time has passed for one session."""
        self._told.known(link)
        link.tick(now)
        tasks = self._said(link, link.session.tick(now), now, b"")
        self._told.asked(link, now)
        return tasks

    def sent(self, link: Link, text: str, now: int) -> None:
        """A frame went out: kept among the frames, since an answer means nothing without its question."""
        session = link.session
        self._note(FrameLine(ts_recv=now, conn=session.session_id, dir="send", n=session.frame_no, frame=text))
        if link.heeding is not None:
            link.heeding.sent(text, now)

    def close(
        self, link: Link, cause: str, now: int, *, code: int | None = None, detail: str = "", wanted: bool = True
    ) -> None:
        """The session is over. While its streams are still `wanted` they stand interrupted, unless another session
        produces them already; the causes HANDOVER and RETIRED say themselves what is wanted.
        """
        if link.ended:
            return
        link.ended = True
        self.links.remove(link)
        session = link.session
        reason = f"{cause}: {detail}" if detail else cause
        closing = FrameLine(ts_recv=now, conn=session.session_id, dir="close", n=session.frame_no, code=code)
        closing.reason = reason[:500]
        self._note(closing)
        self._cover(self._coverage.close(session))
        self._hand_over_coverage()
        self._departures.over(link, cause, now, code, wanted=wanted)
        self._found(self._routes.release(self.links, self._totals))
        tally(self._totals.ignored, session.ignored)
        row = link.row
        row.closed_at, row.close_cause = now, reason[:200]
        row.frames, row.ignored = session.frame_no, sum(session.ignored.values())
        self._intake.record(sessions=[row])

    # --- time ---

    def advance(self, now: int, *, covered: bool = False) -> None:
        """Time has passed for the market: what the mergers no longer wait for, what has been counted; with `covered`
        also what every session has covered so far: asked for before segments are sealed.
        """
        for route in self._routes:
            self._found(route.merger.tick(now))
        self._found(self._routes.release(self.links, self._totals))
        if covered:
            for link in self.links:
                self._cover(self._coverage.update(link.session))
            self._hand_over_coverage()
        drifted.tell(self.radar, self._intake, now)
        for route in self._routes:  # metrics: once a pass and not once an event
            route.report()
        self._totals.report(*self.market)

    def seed(self, last: Mapping[str, Mapping[str, Resume]]) -> None:
        """Kind -> symbol -> where the stored stream stopped, so that what follows joins it or is a gap."""
        for kind, symbols in last.items():
            self.route(kind).merger.resume(symbols)

    def stalled(self, link: Link, stream: Stream, now: int, proof: str = "", since: int = 0) -> None:
        """One stream fell silent on a connection that lives on: a gap, at most `since` (us), as `proof` says if any."""
        merger, session, one = self.route(stream.kind).merger, link.session.session_id, stream.symbol
        if link.wants(stream) and proof and isinstance(merger, Memory):
            self._found(merger.silenced(session, one, since, now, proof))
        elif link.wants(stream):
            self._found(merger.interrupt(session, [one], STALLED, now))
        self._found(self._routes.release(self.links, self._totals))

    def joined(self, link: Link, stream: Stream) -> bool:
        """Whether what a session sends of a stream is shown to overlap with what was there before it."""
        return self.route(stream.kind).merger.joined(link.session.session_id, stream.symbol)

    @property
    def full(self) -> bool:
        """Whether reading must wait: a slow disk makes the venue's buffers hold what follows. Never in an outage."""
        if self._intake.outage:
            return False
        for channel in self._blocking:  # noqa: SIM110 -- asked at every wake-up: no generator, no property
            if channel.bytes >= channel.max_bytes:
                return True
        return False

    async def room(self) -> None:
        """Wait until nothing is full that may not shed."""
        for channel in self._blocking:
            await channel.room()

    def relieve(self) -> int:
        """What is given up no longer has its end, even where nothing follows it; how many such gaps there are."""
        ended = [gap for route in self._routes for gap in route.relieve(self._intake)]
        self._found(ended)
        return len(ended)

    @property
    def totals(self) -> Totals:
        for route in self._routes:
            self._totals.events[route.kind] = route.new
            self._totals.duplicates[route.kind] = route.merger.duplicates
        return self._totals

    # --- inside ---

    def _begun(self, kind: str, symbol: str) -> bool:
        """Whether anything of a symbol was collected before."""
        return self.route(kind).merger.begun(symbol)

    def _inform(self, outputs: Iterable[Output]) -> None:
        """Tell the sessions what the reference data says of their instruments."""
        for contract in (out for out in outputs if isinstance(out, Contract)):
            self.contracts[contract.symbol] = contract
            for session in (link.session for link in self.links):
                if isinstance(session, Informed):
                    session.know(contract)

    def _hand_over_coverage(self) -> None:
        if self._covered:
            self._intake.record(coverage=self._covered.values())
            self._covered.clear()

    def _cover(self, rows: Iterable[Coverage]) -> None:
        """Coverage so far; a row that has grown takes the place of its shorter self."""
        for row in rows:
            self._covered[row.kind, row.symbol, row.session, row.ts_from] = row

    def _note(self, line: FrameLine) -> None:
        if self._frames is not None and not (line.dir == "http" and self._intake.loses(self.market)):
            kept = line_of(line)
            self._frames.offer((kept,), len(kept.data))

    def _said(self, link: Link, outputs: Sequence[Output], now: int, data: bytes) -> Sequence[Task]:
        """Outputs that come of anything but received frames."""
        tasks = self._take(link, outputs, now, data)
        self._hand_on(link)
        return tasks

    def _take(self, link: Link, outputs: Sequence[Output], now: int, data: bytes) -> Sequence[Task]:
        """What a session said, in its order; `data` is what it was said of. `_hand_on` comes after it."""
        tasks: list[Task] = []
        for out in outputs:
            if isinstance(out, Event):
                self._routes.put(out)
                continue
            self._routes.merge()
            if isinstance(out, Rejected):
                self._reject(link, out, data, now)
            elif isinstance(out, Acknowledged | Refused):
                self._settle(link, out, now)
            elif isinstance(out, Renewal):
                self._renewed(link, out, now)
            else:
                tasks.append(out)
        return tasks

    def _hand_on(self, link: Link) -> None:
        """The new events of a batch to their channels, as lines."""
        events, gaps = self._routes.hand_on(self._totals)
        link.row.events += events
        if gaps:
            self._found(gaps)

    def _reject(self, link: Link, out: Rejected, data: bytes, now: int) -> None:
        tally(self._totals.rejected, {out.reason: 1})
        self._intake.record(rejected=[link.reject(out, data, now)])

    def _settle(self, link: Link, out: Acknowledged | Refused, now: int) -> None:
        """The venue's word on some streams."""
        for stream in (stream for stream in out.streams if stream.sparse and isinstance(out, Acknowledged)):
            merger = self.route(stream.kind).merger
            self._found(merger.acknowledged(link.session.session_id, [stream.symbol], now, self._around(now)))
        before = link.settled
        link.settled += len(out.streams)
        if isinstance(out, Refused):
            named = [one.name if one.symbol in one.name.upper() else f"{one.name} {one.symbol}" for one in out.streams]
            telemetry.refused(
                exchange=self.exchange, market_type=self.market_type, streams=named, reason=out.reason
            )  # fmt: skip
        if before < link.streams <= link.settled:
            telemetry.subscribed(
                exchange=self.exchange, market_type=self.market_type, connection=link.name, streams=link.streams
            )

    def _renewed(self, link: Link, out: Renewal, now: int) -> None:
        """Streams are asked for anew, or were: what came in between nobody knows to be all there was. What is silent by
        nature was there as long as what comes with it spoke.
        """
        named = [(stream, self.route(stream.kind).merger) for stream in out.streams if link.wants(stream)]
        held = [(stream, merger) for stream, merger in named if isinstance(merger, Memory)]
        spoke = min((merger.seen(stream.symbol)[0] for stream, merger in held if not stream.sparse), default=0)
        session = link.session.session_id
        for stream, merger in held:
            if out.done:
                self._found(merger.restored(session, stream.symbol, now))
            else:
                since = spoke if stream.sparse else 0
                self._found(merger.suspended(session, stream.symbol, now, since))

    def _found(self, gaps: Iterable[Gap]) -> None:
        """Gaps to record; of a handover that lost nothing only the coverage."""
        found = list(gaps)
        self._cover(self._coverage.bridge(found))
        found = [gap for gap in found if not (gap.cause == HANDOVER and gap.state == "empty")]
        self._totals.gaps += self._gaps.say(found)
        self._intake.record(gaps=found)
