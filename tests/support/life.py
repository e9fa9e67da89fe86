"""A small lake's whole life, from the first line to the last file that goes: what faults are injected into.

Stages follow each other as a daemon's days do, each with the real code over its own writer: lines are written and
sealed, transformed, merged by the hour, closed by the day, revised by late rows, and let go of. All times are given,
so that the same stage on the same lake takes the same steps.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import msgspec

from collectors.config import WritingConfig
from collectors.intake import Pass, lines_of, lines_of_frames
from collectors.recovery import settle
from collectors.writing import GroupCommit
from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake.rows import SessionRow
from lake.writer import LakeWriter
from market import times
from market.kinds import Event, Quote, Trade
from market.session import Coverage, Gap
from market.times import DAY, HOUR, MINUTE, SECOND
from runtime.workers import InlineExecutor
from transformer.config import TransformerConfig
from transformer.service import transform_once

NODE = "n"
MARKET = ("binance", "linear")
T0 = times.parse("2026-11-20T12:00:05Z")
MIDNIGHT = times.parse("2026-11-21T00:00:00Z")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
HOLE = frozenset({5, 6})
"""Ids of the first symbol that never came: recorded as a gap when they were missed."""
GAPS = frozenset({"hole"})
LANES = [(*MARKET, "trade"), (*MARKET, "quote")]
COMPACTOR = CompactorConfig(rehash_hours=1, raw_days=0.1, frames_days=1, forget_days=1, book_sample_ms=None)
TRANSFORMER = TransformerConfig()

Id = tuple[str, str, int]
"""(kind, symbol, id)."""


class Promise(msgspec.Struct, frozen=True):
    """What the caller has been told is durable: rows, and gaps that were recorded."""

    ids: frozenset[Id] = frozenset()
    gaps: frozenset[str] = frozenset()
    leaving: bool = False
    """Whether retention is at work, so that files may be gone that the manifest still names as replaceable."""


NOTHING = Promise()
Told = Callable[[Promise], None]
Stage = Callable[[Path, Told], None]


def nobody(_promise: Promise) -> None:
    """Is told and does not care."""


def event(kind: str, symbol: str, number: int, at: int, session: str, frame: int, ts_event: int | None = None) -> Event:
    time = at - 2_000 if ts_event is None else ts_event
    if kind == "trade":
        return Trade(
            symbol, f"{symbol.lower()}@trade", time, None, at, session, frame, 0, "ws", f"{100 + number % 7}.{number}",
            f"0.{number}", "buy" if number % 2 else "sell", number, "market",
        )  # fmt: skip
    return Quote(
        symbol, f"{symbol.lower()}@bookTicker", time, None, at, session, frame, 0, "ws", "99.5", "1", "100.5", "2",
        number,
    )  # fmt: skip


def id_of(made: Event) -> Id:
    return ("trade", made.symbol, made.seq) if isinstance(made, Trade) else ("quote", made.symbol, made.update_id)


class Collecting:
    """One session's data on their way to disk, a pass at a time, as the daemon's writing thread takes them."""

    def __init__(self, writer: LakeWriter, number: int, start: int, tell: Told, held: Promise = NOTHING) -> None:
        self.session = f"{NODE}-{start}-{number}"
        self.start = start
        self.writer = writer
        self.tell = tell
        self.promise = held
        self.frame = 0
        self.pending: set[Id] = set()
        self.commit = GroupCommit(writer, NODE, WritingConfig())
        self.commit.begin(LANES, start, [MARKET])
        self.take(Pass(start, sessions=[self._row()]))

    def _row(self, **ended: object) -> SessionRow:
        row = SessionRow(
            session=self.session,
            exchange=MARKET[0],
            market_type=MARKET[1],
            source="ws",
            url="wss://x",
            opened_at=self.start,
        )
        return msgspec.structs.replace(row, frames=self.frame, events=self.frame, **ended)

    def take(self, work: Pass) -> None:
        self.commit.commit(work)
        if work.sync or work.final or work.coverage:
            gaps = {gap.gap_id for gap in work.gaps}
            ids = self.promise.ids | self.pending
            self.promise = Promise(ids, self.promise.gaps | gaps)
            self.pending.clear()
            self.tell(self.promise)

    def batch(self, at: int, made: Sequence[tuple[str, str, int]], *, ts_event: int | None = None) -> Pass:
        """A pass with one frame an event, all received at `at`."""
        lanes: dict[tuple[str, str, str], list[Event]] = {}
        first = self.frame + 1
        for kind, symbol, number in made:
            self.frame += 1
            lanes.setdefault((*MARKET, kind), []).append(
                event(kind, symbol, number, at, self.session, self.frame, ts_event)
            )
            self.pending.add((kind, symbol, number))
        frames = [b'{"id":%d}' % number for _, _, number in made]
        work = Pass(at + 1_000, events=[(lane, [lines_of(events)]) for lane, events in lanes.items()])
        if frames:
            work.frames = [(MARKET, [lines_of_frames(self.session, [at] * len(frames), first, frames)])]
        return work

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.commit.close()

    def end(self, now: int) -> None:
        self.take(
            Pass(now, sessions=[self._row(closed_at=now, close_cause="stopped")], coverage=self._coverage(now),
                 final=True)
        )  # fmt: skip

    def _coverage(self, until: int) -> list[Coverage]:
        return [
            Coverage(*MARKET, kind, symbol, self.session, self.start, until)
            for kind in ("trade", "quote")
            for symbol in SYMBOLS
        ]


def hole(at: int, session: str) -> Gap:
    return Gap(
        gap_id="hole", exchange=MARKET[0], market_type=MARKET[1], kind="trade", symbol=SYMBOLS[0], ts_from=at - SECOND,
        ts_to=at, id_from=min(HOLE), id_to=max(HOLE) + 1, cause="missing_ids", proof="ids", state="open",
        session=session, detected_at=at,
    )  # fmt: skip


def start(root: Path, now: int) -> LakeWriter:
    """What a daemon does first. The caller closes."""
    writer = LakeWriter.open(root, NODE, now)
    try:
        settle(writer, writer.recover(now), now)
    except BaseException:
        writer.close()
        raise
    return writer


PASSES = 8
MORE = T0 + 10 * MINUTE


def ids_of(n: int) -> list[Id]:
    """What pass `n` brings."""
    ids = [("trade", SYMBOLS[0], i) for i in (2 * n + 1, 2 * n + 2) if i not in HOLE]
    return [*ids, ("trade", SYMBOLS[1], 100 + n), ("quote", SYMBOLS[0], 10 + n)]


def collect(root: Path, tell: Told = nobody) -> None:
    """Five passes over a minute and a half, every second one synced; a hole in the ids; a clean end."""
    with start(root, T0) as writer, Collecting(writer, 1, T0, tell) as made:
        for n in range(5):
            at = T0 + n * 17 * SECOND
            work = made.batch(at, ids_of(n))
            work.sync = n % 2 == 1
            if n == 3:
                work.gaps = [hole(at, made.session)]
            made.take(work)
        made.end(T0 + 90 * SECOND)


def interrupted(root: Path) -> Promise:
    """Two passes that reached the disk, and a process that went away; what they promised."""
    with start(root, T0) as writer, Collecting(writer, 1, T0, nobody) as made:
        for n in range(2):
            work = made.batch(T0 + n * 17 * SECOND, ids_of(n))
            work.sync = True
            made.take(work)
    return made.promise


def more(root: Path, tell: Told = nobody) -> None:
    """Three passes more of the same hour, by another session."""
    held = Promise(frozenset(i for n in range(5) for i in ids_of(n)), GAPS)
    with start(root, MORE) as writer, Collecting(writer, 1, MORE, tell, held) as made:
        for n in range(5, PASSES):
            work = made.batch(MORE + n * SECOND, ids_of(n))
            work.sync = n % 2 == 0
            made.take(work)
        made.end(MORE + MINUTE)


def transform(root: Path, _tell: Told = nobody, now: int = T0 + 5 * MINUTE) -> None:
    """Sealed segments to hot parts and provisional bars."""
    with start(root, now) as writer:
        transform_once(writer, InlineExecutor(), now, TRANSFORMER)


def compact(root: Path, now: int) -> None:
    with start(root, now) as writer:
        compact_once(writer, InlineExecutor(), now, COMPACTOR)


def merge(root: Path, _tell: Told = nobody) -> None:
    """A second part of the hour; then its parts to one file, and its bars again."""
    transform(root, now=MORE + 5 * MINUTE)
    compact(root, T0 + HOUR + 5 * MINUTE)


def close(root: Path, _tell: Told = nobody) -> None:
    """The day to daily files with certificates, its bars final."""
    compact(root, MIDNIGHT + 20 * MINUTE)


LATE = MIDNIGHT + HOUR
LATE_ID = ("trade", SYMBOLS[0], 2 * PASSES + 1)


def late(root: Path, tell: Told = nobody) -> None:
    """A row of the closed day that came an hour after it."""
    held = Promise(everything() - {LATE_ID}, GAPS)
    with start(root, LATE) as writer, Collecting(writer, 1, LATE, tell, held) as made:
        work = made.batch(LATE, [LATE_ID], ts_event=MORE + 30 * SECOND)
        work.sync = True
        made.take(work)
        made.end(LATE + 10 * SECOND)


def revise(root: Path, tell: Told = nobody) -> None:
    """The late row transformed, and the day closed once more."""
    transform(root, now=LATE + MINUTE)
    tell(Promise(everything(), GAPS, leaving=True))  # this pass of the compactor also finds files to let go of
    compact(root, LATE + 2 * HOUR)


def retain(root: Path, tell: Told = nobody) -> None:
    """The day read again, raw and frames and replaced files let go of, and their rows forgotten."""
    tell(Promise(everything(), GAPS, leaving=True))
    compact(root, MIDNIGHT + 10 * HOUR)
    compact(root, MIDNIGHT + 3 * DAY)


STAGES: dict[str, Stage] = {
    "collect": collect, "transform": transform, "more": more, "merge": merge, "close": close, "late": late,
    "revise": revise, "retain": retain,
}  # fmt: skip


def everything() -> frozenset[Id]:
    """Every row that a life without faults stores."""
    return frozenset({LATE_ID, *(i for n in range(PASSES) for i in ids_of(n))})


NOW_AFTER = MIDNIGHT + 4 * DAY
"""Later than everything that the stages do (us)."""


def one_stage(stage: str, root: Path, told: Path) -> None:
    """A stage that writes down what it was promised where a kill cannot take it."""

    def tell(promised: Promise) -> None:
        temp = told.with_suffix(".new")
        temp.write_bytes(pickle.dumps(promised))
        temp.replace(told)

    STAGES[stage](root, tell)
