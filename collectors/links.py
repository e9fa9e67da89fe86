"""A session in its pipeline, what a pipeline counts, and how it says its gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from collectors import liveness
from collectors.drift import Radar, Sampler
from collectors.intake import RejectedFrame
from lake.rows import SessionRow
from market.history import Past
from market.kinds import Event
from market.session import Batching, Booked, Fetch, Gap, Heeding, Output, Refused, Rejected, Session, Stream
from market.times import SECOND
from runtime import metrics, telemetry


@runtime_checkable
class Recalling(Protocol):
    """A session that is pushed what happened before it subscribed: told how to learn whether anything of (kind, symbol)
    was collected before. What lies before everything collected is history, the rest fills an interruption.
    """

    def recall(self, begun: Callable[[str, str], bool]) -> None: ...


@runtime_checkable
class Reminded(Protocol):
    """A session of which some messages tell only what changed: told of an event that earlier frames, which it is not
    given, had made.
    """

    def remind(self, event: Event) -> None: ...


@runtime_checkable
class Holding(Protocol):
    """A session that holds back what is no row yet: until when (us) all of a stream is told, 0 where it cannot say."""

    def told(self, kind: str, symbol: str) -> int: ...


LAG = 2 * SECOND
"""By how much one connection may be behind another."""
TORN = (None, 1002, 1005, 1006, 1007, 1009, 1011)
"""Close codes of an end without the venue's word: none, or our own. What it has sent last may be lost."""


class Link:
    """One session in its pipeline, from `open` to `close`."""

    def __init__(self, session: Session, row: SessionRow, name: str, radar: Radar | None = None) -> None:
        self.session = session
        self._radar = radar
        self.sampler = Sampler(radar, session) if radar is not None else None
        """Which of its frames the drift radar wants to see."""
        self.booked = session if isinstance(session, Booked) else None
        self.batching = session if isinstance(session, Batching) else None
        self.heeding = session if isinstance(session, Heeding) else None
        self.past = isinstance(session, Past)
        self.row = row
        self.name = name
        self.streams = sum(1 for _ in session.streams())
        self.settled = 0
        """Streams that the venue has accepted or refused."""
        self.rejected = 0
        self.ended = False
        self.heard = 0
        """When (us) frames came last."""
        self.unwanted: dict[tuple[str, str], int] = {}
        """(kind, symbol) of the streams that a new plan left out, and since when (us): it may go on sending them."""

    def reject(self, out: Rejected, frame: bytes, now: int) -> RejectedFrame:
        """Count what broke the venue's rules, and say it; what to set aside."""
        self.rejected += 1
        market = {"exchange": self.row.exchange, "market_type": self.row.market_type}
        session = self.session.session_id
        if self._radar is not None:
            self._radar.offer(frame, session)
        telemetry.rejected(**market, reason=out.reason, session=session, frame_no=out.frame_no)
        return RejectedFrame(
            **market, session=session, frame_no=out.frame_no, ts_recv=now, reason=out.reason, frame=frame
        )

    def answered(self, asked: Fetch, status: int, body: bytes, said: Sequence[Output], now: int) -> None:
        """Show the drift radar an answer that the session took for data: a refusal looks otherwise by its nature."""
        if self._radar is not None and not any(isinstance(one, Rejected | Refused) for one in said):
            self._radar.answer(asked.tag, status, body, self.session.session_id, now)

    def tick(self, now: int) -> None:
        """Time has passed for what the drift radar wants."""
        if self.sampler is not None:
            self.sampler.tick(now, self.by_kind)

    def want(self, streams: Iterable[Stream], now: int) -> None:
        """Only these of its streams are wanted from now on."""
        wanted = {(stream.kind, stream.symbol) for stream in streams}
        held = ((kind, symbol) for kind, symbols in self.by_kind().items() for symbol in symbols)
        self.unwanted = {key: self.unwanted.get(key, now) for key in held if key not in wanted}

    def wants(self, stream: Stream) -> bool:
        return (stream.kind, stream.symbol) not in self.unwanted

    def told(self, kind: str, symbol: str) -> int:
        """Until when (us) its session has certainly told all of a stream; 0 where it does not say."""
        return self.session.told(kind, symbol) if isinstance(self.session, Holding) else 0

    def by_kind(self, *, wanted: bool | None = None) -> dict[str, list[str]]:
        """Kind -> the symbols of its streams; all of them, or those that are wanted, or are not."""
        found: dict[str, list[str]] = {}
        for stream in (state.stream for state in self.session.streams()):
            if wanted is None or wanted == self.wants(stream):
                found.setdefault(stream.kind, []).append(stream.symbol)
        return found

    def reported(self, now: int) -> dict[str, str]:
        """Name -> state of its streams that are wanted, should send and do not."""
        states = ((state.stream, liveness.status(state, now)) for state in self.session.streams())
        return {stream.name: told for stream, told in states if told in liveness.ALARMS and self.wants(stream)}

    def producing(self, now: int) -> Iterator[tuple[str, str]]:
        """(kind, symbol) of the streams that have sent something and not stalled."""
        for state in self.session.streams():
            if liveness.status(state, now) == "producing":
                yield state.stream.kind, state.stream.symbol

    def standing_by(self, heard: int, now: int) -> Iterator[tuple[str, str]]:
        """(kind, symbol) of the streams without an event yet that it was told it has, while another connection that
        was `heard` until then (us) still had them: between the two nothing is missing, if this one does send them.

        Where ids follow each other they say it better.
        """
        for state in self.session.streams():
            since = state.acknowledged_at
            taken = 0 < since <= heard - LAG and not state.stream.contiguous
            if taken and liveness.status(state, now) == "acknowledged":
                yield state.stream.kind, state.stream.symbol


def taken_on(link: Link) -> int:
    """When (us) the venue said first that it has a stream of a session, 0 where it never did: until then nothing of it
    could be missing, and from then on all of it is where nothing came.
    """
    return min((one.acknowledged_at for one in link.session.streams() if one.acknowledged_at), default=0)


def taken_late(link: Link, others: Iterable[Link], heard: int) -> Iterator[tuple[str, str, int]]:
    """(kind, symbol, since) of the sparse streams of `link`, which was `heard` last (us), that others were taken on for
    only after that, and since when: between the two nobody had them, and their silence proves nothing.
    """
    since: dict[tuple[str, str], int] = {}
    for state in (state for other in others for state in other.session.streams()):
        if state.stream.sparse and (at := state.acknowledged_at):
            key = (state.stream.kind, state.stream.symbol)
            since[key] = min(at, since.get(key, at))
    for state in link.session.streams():
        kind, symbol = state.stream.kind, state.stream.symbol
        at = since.get((kind, symbol), 0)
        if 0 < state.acknowledged_at < at and at > heard - LAG and link.wants(state.stream):
            yield kind, symbol, at


def alive_until(link: Link, now: int) -> int:
    """Until when (us) a session certainly brought whatever there was: a socket that answers may bring nothing any more,
    so it is what its streams brought that tells, where any of them is to speak.
    """
    speaking = any(not state.stream.sparse and state.events for state in link.session.streams())
    return min(now, link.session.venue_time) if speaking else now


def had_by(link: Link, others: Iterable[Link]) -> dict[str, dict[str, set[str]]]:
    """Kind -> symbol -> sessions of `others` to which the venue had confirmed the stream while `link` was heard, and
    by the venue's time before what `link` has brought.
    """
    found: dict[str, dict[str, set[str]]] = {}
    for other in others:
        for state in other.session.streams():
            before = 0 < state.since <= link.session.venue_time - LAG
            if before and 0 < state.acknowledged_at <= link.heard - LAG:
                streams = found.setdefault(state.stream.kind, {})
                streams.setdefault(state.stream.symbol, set()).add(other.session.session_id)
    return found


MOST_NAMES = 500
OTHER = "other"


def tally(counts: Counter[str], more: Mapping[str, int]) -> None:
    """Add counts by name. Names may be a venue's own words: after MOST_NAMES of them new ones are counted as OTHER."""
    for name, count in more.items():
        counts[name if name in counts or len(counts) < MOST_NAMES else OTHER] += count


class Totals(msgspec.Struct):
    """What a pipeline has seen since it was made: events by kind, frames of other channels and rejections by name."""

    frames: int = 0
    nbytes: int = 0
    events: Counter[str] = msgspec.field(default_factory=Counter)
    duplicates: Counter[str] = msgspec.field(default_factory=Counter)
    ignored: Counter[str] = msgspec.field(default_factory=Counter)
    rejected: Counter[str] = msgspec.field(default_factory=Counter)
    shed: Counter[str] = msgspec.field(default_factory=Counter)
    gaps: int = 0
    reported: tuple[int, int] = (0, 0)

    def report(self, exchange: str, market_type: str) -> None:
        """Count the frames that came since the last time in the metrics."""
        if self.frames != self.reported[0]:
            metrics.frames(exchange, market_type, self.frames - self.reported[0], self.nbytes - self.reported[1])
            self.reported = (self.frames, self.nbytes)


class Gaps:
    """Each gap is said once when it is new and once when it is closed."""

    def __init__(self) -> None:
        self._growing: set[str] = set()
        """Ids of the gaps that have been said to be open."""

    def say(self, gaps: Iterable[Gap]) -> int:
        """Returns how many are new."""
        new = 0
        for gap in gaps:
            stream = {"exchange": gap.exchange, "market_type": gap.market_type, "kind": gap.kind, "symbol": gap.symbol}
            if gap.state != "open":
                if gap.gap_id in self._growing:
                    self._growing.discard(gap.gap_id)
                    telemetry.gap_closed(**stream, state=gap.state, source=gap.source)
                continue
            if gap.gap_id not in self._growing:
                new += 1
                telemetry.gap_opened(
                    **stream, cause=gap.cause, ts_from=gap.ts_from, ts_to=gap.ts_to, missing=gap.missing
                )
            if gap.ts_to is None:
                self._growing.add(gap.gap_id)
            else:
                self._growing.discard(gap.gap_id)
        return new


def nonzero(counts: Mapping[str, int]) -> dict[str, int]:
    """Those that counted something, by name."""
    return {name: count for name, count in sorted(counts.items()) if count}
