"""Intake: what has been received and waits for the next write pass. Bounded in bytes; full, it blocks or sheds by kind.

Filled by the event loop, emptied by it into a Pass, which the writing thread then owns alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from collectors.config import WritingConfig
from lake.frames import FrameLine, encode_frame_lines, encode_received
from lake.rows import BanRow, SessionRow
from lake.segments import Extent, encode_lines, extent
from market.kinds import KINDS, Contiguous, Event
from market.session import Coverage, Gap
from runtime.channel import Channel, WhenFull

MarketKey = tuple[str, str]
"""(exchange, market_type)."""
LaneKey = tuple[str, str, str]
"""(exchange, market_type, kind)."""


class Lines(msgspec.Struct, frozen=True):
    """Whole lines made of what came within the second of `ts_recv`, ready to be written.

    They are encoded as soon as they are known: the objects that they are made of are still in the processor's caches,
    and need not live until the next pass.
    """

    ts_recv: int
    data: bytes
    rows: int
    extent: Extent


def lines_of(events: Sequence[Event]) -> Lines:
    """The segment's lines of events that came together (at least one)."""
    return Lines(events[0].ts_recv, encode_lines(events), len(events), extent(events))


def lines_of_frames(session: str, times: Sequence[int], first_no: int, frames: Sequence[bytes]) -> Lines:
    """The lines of frames that one session read at `times`: `first_no` is the first one's number, the others follow."""
    data = encode_received(session, times, first_no, frames)
    low, high = min(times[0], times[-1]), max(times[0], times[-1])
    return Lines(times[0], data, len(frames), Extent(low, high, None, None))


def line_of(line: FrameLine) -> Lines:
    """Any other line among the frames."""
    return Lines(line.ts_recv, encode_frame_lines((line,)), 1, Extent(line.ts_recv, line.ts_recv, None, None))


class RejectedFrame(msgspec.Struct, frozen=True):
    """A frame, or part of one, that broke the venue's rules; `frame` is what to set aside."""

    exchange: str
    market_type: str
    session: str
    frame_no: int
    ts_recv: int
    reason: str
    frame: bytes


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
    sync: bool = False
    final: bool = False

    @property
    def empty(self) -> bool:
        return not (
            self.frames or self.events or self.sessions or self.gaps or self.coverage or self.rejected or self.bans
            or self.final
        )  # fmt: skip


def may_shed(kind: str) -> bool:
    """Whether events of `kind` are given up when memory is short. Never those that the venue numbers one by one."""
    return not any(isinstance(check, Contiguous) for check in KINDS[kind].checks)


class Intake:
    """The channels between the connections and the writer, and the rows to record with the next pass."""

    def __init__(self, config: WritingConfig) -> None:
        self._config = config
        self._lanes: dict[LaneKey, Channel[Lines]] = {}
        self._frames: dict[MarketKey, Channel[Lines]] = {}
        self._next = Pass(0)

    def lane(self, key: LaneKey) -> Channel[Lines]:
        """The channel of one kind of one market, made at first use."""
        channel = self._lanes.get(key)
        if channel is None:
            when_full: WhenFull = "drop_newest" if may_shed(key[2]) else "block"
            channel = self._lanes[key] = Channel("/".join(key), self._config.queue_bytes, when_full)
        return channel

    @property
    def lanes(self) -> list[LaneKey]:
        """Every kind of every market that has a channel."""
        return list(self._lanes)

    def frames(self, key: MarketKey) -> Channel[Lines]:
        """The channel of one market's frames, made at first use."""
        channel = self._frames.get(key)
        if channel is None:
            channel = self._frames[key] = Channel("/".join((*key, "frames")), self._config.queue_bytes, "block")
        return channel

    def record(
        self,
        *,
        sessions: Iterable[SessionRow] = (),
        gaps: Iterable[Gap] = (),
        coverage: Iterable[Coverage] = (),
        rejected: Iterable[RejectedFrame] = (),
        bans: Iterable[BanRow] = (),
    ) -> None:
        """Rows to write down with the next pass: sessions before its data, coverage and gaps after."""
        self._next.sessions.extend(sessions)
        self._next.gaps.extend(gaps)
        self._next.coverage.extend(coverage)
        self._next.rejected.extend(rejected)
        self._next.bans.extend(bans)

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
