"""Intake: what has been received and waits for the next write pass. Bounded in bytes; full, it blocks or sheds by kind.

Filled by the event loop, emptied by it into a Pass, which the writing thread then owns alone. It also knows what the
disk has no room for: kinds that are stopped, and an outage, in which nothing can be written and, once memory is full,
all of a market is given up together, frames too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from collectors.config import WritingConfig
from collectors.shedding import SHED, numbered, rank
from lake.frames import FrameLine, encode_frame_lines, encode_received
from lake.rows import BanRow, SessionRow
from lake.segments import Extent, encode_lines, extent
from market.kinds import Event
from market.session import Coverage, Gap
from runtime.channel import Channel, WhenFull

MarketKey = tuple[str, str]
"""(exchange, market_type)."""
LaneKey = tuple[str, str, str]
"""(exchange, market_type, kind)."""


class Lines(msgspec.Struct, frozen=True):
    """Whole lines made of what came within the second of `ts_recv`, ready to be written.

    They are encoded as soon as they are known: the objects that they are made of are still in the processor's caches,
    and need not live until the next pass. `conn` is the session whose frames they are, which stay in their order.
    """

    ts_recv: int
    data: bytes
    rows: int
    extent: Extent
    conn: str = ""


def lines_of(events: Sequence[Event]) -> Lines:
    """The segment's lines of events that came together (at least one)."""
    return Lines(events[0].ts_recv, encode_lines(events), len(events), extent(events))


def lines_of_frames(session: str, times: Sequence[int], first_no: int, frames: Sequence[bytes]) -> Lines:
    """The lines of frames that one session read at `times`: `first_no` is the first one's number, the others follow."""
    data = encode_received(session, times, first_no, frames)
    low, high = min(times[0], times[-1]), max(times[0], times[-1])
    return Lines(times[0], data, len(frames), Extent(low, high, None, None), session)


def line_of(line: FrameLine) -> Lines:
    """Any other line among the frames."""
    held = Extent(line.ts_recv, line.ts_recv, None, None)
    return Lines(line.ts_recv, encode_frame_lines((line,)), 1, held, line.conn)


class RejectedFrame(msgspec.Struct, frozen=True):
    """A frame, or part of one, that broke the venue's rules; `frame` is what to set aside."""

    exchange: str
    market_type: str
    session: str
    frame_no: int
    ts_recv: int
    reason: str
    frame: bytes


FRAME_HEAD = 1024
"""Bytes that are left of a rejected frame when too many of them wait."""


class Pass(msgspec.Struct):
    """What one write pass makes durable. `sync` forces it to the disk, `final` also seals every segment at `now`."""

    now: int
    frames: list[tuple[MarketKey, list[Lines]]] = []
    events: list[tuple[LaneKey, list[Lines]]] = []
    sessions: list[SessionRow] = []
    gaps: list[Gap] = []
    coverage: list[Coverage] = []
    rejected: list[RejectedFrame] = []
    bans: list[BanRow] = []
    notes: list[dict[str, Any]] = []
    """What no table holds, for the ledger."""
    sync: bool = False
    final: bool = False
    stepped_from: int | None = None
    """What the wall clock would say had it not been stepped to `now`: files end there and begin anew."""

    @property
    def empty(self) -> bool:
        return not (
            self.frames or self.events or self.sessions or self.gaps or self.coverage or self.rejected or self.bans
            or self.notes or self.final
        )  # fmt: skip

    def condense(self) -> None:
        """Fewer rows that claim no more: the newest of each gap, one gap a stream where those are too many still, no
        coverage, and of rejected frames what was wrong with them.
        """
        self.gaps = list({gap.gap_id: gap for gap in self.gaps}.values())
        if len(self.gaps) > MOST_ROWS // 2:
            self.gaps = list(_one_a_stream(self.gaps).values())
        self.coverage = []
        first = self.rejected[: MOST_ROWS // 20]
        self.rejected = [msgspec.structs.replace(each, frame=each.frame[:FRAME_HEAD]) for each in first]


def _one_a_stream(gaps: Iterable[Gap]) -> dict[tuple[str, ...], Gap]:
    """Each stream's gaps as one interval that holds them all; those that are closed already are none."""
    found: dict[tuple[str, ...], Gap] = {}
    for gap in gaps:
        key = (gap.exchange, gap.market_type, gap.kind, gap.symbol)
        held = found.get(key)
        if held is None and gap.state == "open":
            found[key] = msgspec.structs.replace(gap)
        elif held is not None and gap.state == "open":
            held.ts_from = min(held.ts_from, gap.ts_from)
            held.ts_to = None if held.ts_to is None or gap.ts_to is None else max(held.ts_to, gap.ts_to)
            known = None not in (held.id_from, gap.id_from, held.id_to, gap.id_to)
            held.id_from = min(held.id_from or 0, gap.id_from or 0) if known else None
            held.id_to = max(held.id_to or 0, gap.id_to or 0) if known else None
    return found


DISK_FULL = "disk_full"
NEGLIGIBLE = 256 * 1024
"""Bytes of a lane below which it is not asked whether all lanes together hold too much."""
MOST_ROWS = 20_000
"""Rows that may wait for an outage to end; beyond them those of one stream become one."""


def may_shed(kind: str) -> bool:
    """Whether events of `kind` are given up when memory is short. Never those that the venue numbers one by one."""
    return not numbered(kind)


class Intake:
    """The channels between the connections and the writer, and the rows to record with the next pass."""

    def __init__(self, config: WritingConfig) -> None:
        self._config = config
        self._lanes: dict[LaneKey, Channel[Lines]] = {}
        self._frames: dict[MarketKey, Channel[Lines]] = {}
        self._next = Pass(0)
        self._stopped: frozenset[str] = frozenset()
        self.parked: dict[LaneKey, str] = {}
        """Lanes that cannot be written while others can, with the causes of their gaps."""
        self._lost: set[MarketKey] = set()
        self.outage = ""
        """Why nothing can be written: the cause of the gaps that come of it. Empty where all is well."""
        self.pressed = False
        """Whether anything is given up, or may be, for want of a disk that takes it."""

    def lane(self, key: LaneKey) -> Channel[Lines]:
        """The channel of one kind of one market, made at first use."""
        channel = self._lanes.get(key)
        if channel is None:
            when_full: WhenFull = "drop_newest" if may_shed(key[2]) else "block"
            channel = self._lanes[key] = Channel("/".join(key), self._config.queue_bytes, when_full)
            self._share()
        return channel

    def _share(self) -> None:
        """Half of all memory is for what may be shed, the other half in equal parts for what makes reading wait."""
        half = self._config.queue_total_bytes // 2
        blocking = [c for c in (*self._lanes.values(), *self._frames.values()) if c.when_full == "block"]
        for channel in blocking:
            channel.max_bytes = min(self._config.queue_bytes, half // len(blocking))

    # --- pressure ---

    def press(self, stopped: frozenset[str]) -> None:
        """These kinds are given up from now on, since the disk has no room for them."""
        self._stopped = stopped
        self._note_pressure()

    def park(self, lanes: Mapping[LaneKey, str]) -> None:
        """These lanes cannot be written, for the causes given, while the others can."""
        self.parked = dict(lanes)
        self._note_pressure()

    def begin_outage(self, cause: str) -> None:
        """Nothing can be written from now on: what fits is held, the rest is given up, and reading never waits."""
        self.outage = cause
        self._note_pressure()
        for channel in (*self._lanes.values(), *self._frames.values()):
            channel.let_on()

    def end_outage(self) -> None:
        self.outage = ""
        self._lost.clear()
        self._note_pressure()

    def _note_pressure(self) -> None:
        self.pressed = bool(self.outage or self._stopped or self.parked)

    def loses(self, market: MarketKey) -> bool:
        """Whether all of a market is given up: from when its memory is full in an outage, to the end of that."""
        if not self.outage or market in self._lost:
            return bool(self.outage)
        lanes = (channel for key, channel in self._lanes.items() if key[:2] == market and channel.when_full == "block")
        frames = self._frames.get(market)
        if any(channel.full for channel in lanes) or (frames is not None and frames.full):
            self._lost.add(market)
            return True
        return False

    def gives_up(self, lane: LaneKey) -> tuple[str, str] | None:
        """Why events of a lane are not kept, as (cause, words); None where they are."""
        if self.pressed:
            if self.loses(lane[:2]):
                return self.outage, f"nothing can be written, and {self.waiting_bytes:,} bytes wait already"
            if lane[2] in self._stopped:
                return DISK_FULL, "the disk has hardly any room: this kind is stopped before others"
            if lane in self.parked:
                return self.parked[lane], "its folder takes nothing"
        channel = self.lane(lane)
        if channel.when_full == "block" or not self._crowded(lane[2], channel):
            return None
        return self.outage or SHED, f"{self.waiting_bytes:,} bytes are waiting for the disk"

    def _crowded(self, kind: str, channel: Channel[Lines]) -> bool:
        """Whether a kind that may be shed has to be: its own channel is full, or all such are together, at its rank."""
        if channel.full:
            return True
        if channel.bytes < NEGLIGIBLE:
            return False
        held = sum(one.bytes for one in self._lanes.values() if one.when_full == "drop_newest")
        return held >= self._config.queue_total_bytes // 2 * rank(kind)

    # --- what waits ---

    @property
    def lanes(self) -> list[LaneKey]:
        """Every kind of every market that has a channel."""
        return list(self._lanes)

    def frames(self, key: MarketKey) -> Channel[Lines]:
        """The channel of one market's frames, made at first use."""
        channel = self._frames.get(key)
        if channel is None:
            channel = self._frames[key] = Channel("/".join((*key, "frames")), self._config.queue_bytes, "block")
            self._share()
        return channel

    def record(
        self,
        *,
        sessions: Iterable[SessionRow] = (),
        gaps: Iterable[Gap] = (),
        coverage: Iterable[Coverage] = (),
        rejected: Iterable[RejectedFrame] = (),
        bans: Iterable[BanRow] = (),
        notes: Iterable[dict[str, Any]] = (),
    ) -> None:
        """Rows to write down with the next pass: sessions before its data, coverage and gaps after."""
        self._next.sessions.extend(sessions)
        self._next.gaps.extend(gaps)
        self._next.coverage.extend(coverage)
        self._next.rejected.extend(rejected)
        self._next.bans.extend(bans)
        self._next.notes.extend(notes)
        if self.outage and len(self._next.gaps) + len(self._next.coverage) + len(self._next.rejected) > MOST_ROWS:
            self._next.condense()

    def urgent(self, now: int) -> Pass:
        """What may be recorded though no data can be: sessions that began, gaps, and bans."""
        held = self._next
        work = Pass(now, sessions=[row for row in held.sessions if row.closed_at is None], bans=held.bans)
        work.gaps = [gap for gap in held.gaps if gap.state == "open"]
        held.sessions = [row for row in held.sessions if row.closed_at is not None]
        held.gaps = [gap for gap in held.gaps if gap.state != "open"]
        held.bans = []
        return work

    @property
    def waiting_bytes(self) -> int:
        """Bytes of frames, or of events where frames are off, that no pass has taken yet."""
        frames = sum(channel.bytes for channel in self._frames.values())
        return frames or sum(channel.bytes for channel in self._lanes.values())

    def collect(self, now: int, *, sync: bool = False, final: bool = False) -> Pass:
        """Everything that waits, as the next pass. `now` (us) is no earlier than any receive time in it."""
        work, self._next = self._next, Pass(0)
        work.now, work.sync, work.final = now, sync, final
        work.frames = [(key, channel.drain()) for key, channel in self._frames.items() if len(channel)]
        work.events = [(key, channel.drain()) for key, channel in self._lanes.items() if len(channel)]
        return work
