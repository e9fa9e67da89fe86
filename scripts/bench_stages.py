"""What a frame costs inside the live path, without a socket: the stages of `bench_ingest.py --stage`.

The frames are those of `scripts/blast.py`; a stage is this project's own code over them in this process, in batches as
a busy connection reads them (`--batch 1` is a quiet one). `session`: the protocol state alone, frames to events;
`pipeline`: with the mergers and the lines, frames kept, up to the channels; `noframes`: the same without frames;
`write`: `pipeline` with its write passes, to synced files. CPU time of all threads, the least of some rounds: what
changes from run to run is the machine.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from blast import Load

from collectors import exchanges
from collectors.config import WritingConfig
from collectors.intake import Intake
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from collectors.writing import GroupCommit
from lake.writer import LakeWriter
from market.kinds import KINDS as KINDS_OF
from market.kinds import Event
from market.session import Batching, Session
from simulator.instruments import names

KINDS = ("agg_trade", "quote", "book_delta")
PASS_FRAMES = 20_000
"""Frames between two write passes: what comes in 100 ms at full rate."""
STEP = 20
"""us between two frames' receive times."""


def payloads(load: Load) -> list[bytes]:
    """The frames without their WebSocket headers."""
    found, start = [], 0
    for end in load.ends:
        size = load.data[start + 1]
        found.append(load.data[start + (2 if size < 126 else 4 if size == 126 else 10) : end])
        start = end
    return found


def session_of(symbols: Sequence[str], now: int) -> Session:
    """A session that has asked for everything and had its answer."""
    exchange = exchanges.load("binance")
    streams = exchange.streams("spot", list(KINDS), symbols)
    (connection,) = exchange.connections("spot", streams, exchange.ENDPOINTS["spot"])
    session = exchange.session(connection, f"bench-{now}-1")
    session.start(now)
    session.receive(b'{"result":null,"id":1}', now)
    return session


class Stages:
    """The stages over one load. Each takes the session's frames and their times, batch by batch."""

    def __init__(self, frames: int, mix: str, batch: int) -> None:
        load = Load(frames, 10, mix, seed=1)
        self.symbols = names(10)
        self.frames = payloads(load)
        self.began = time.time_ns() // 1000
        times = [self.began + STEP * n for n in range(frames)]
        self.batches = [(self.frames[n : n + batch], times[n : n + batch]) for n in range(0, frames, batch)]
        self.stages: dict[str, Callable[[], float]] = {
            "session": self.session, "pipeline": self.pipeline, "noframes": self.noframes, "write": self.write,
        }  # fmt: skip

    def session(self) -> float:
        """CPU seconds of frames to events."""
        session = session_of(self.symbols, self.began)
        assert isinstance(session, Batching)
        found: list[Event] = []
        puts = {KINDS_OF[kind].struct: found.append for kind in KINDS}
        watch = time.process_time()
        for frames, times in self.batches:
            taken = 0
            while taken < len(frames):
                taken += session.receive_all(frames[taken:], times[taken:], puts)[0]  # type: ignore[arg-type] # no None
            found.clear()
        return time.process_time() - watch

    def pipeline(self) -> float:
        """CPU seconds of frames to lines in their channels, frames kept."""
        return self._pipeline(frames=True)

    def noframes(self) -> float:
        """CPU seconds of frames to lines in their channels."""
        return self._pipeline(frames=False)

    def write(self) -> float:
        """CPU seconds of frames to synced files."""
        place = Path(tempfile.mkdtemp())
        try:
            with LakeWriter.open(place / "lake", "bench", self.began) as writer:
                commit = GroupCommit(writer, "bench", WritingConfig())
                return self._pipeline(frames=True, commit=commit)
        finally:
            shutil.rmtree(place)

    def _pipeline(self, *, frames: bool, commit: GroupCommit | None = None) -> float:
        intake = Intake(WritingConfig())
        exchange = exchanges.load("binance")
        pipeline = Pipeline("binance", "spot", intake, merger_maker(exchange, "spot"), frames=frames)
        session = session_of(self.symbols, self.began)
        link, _ = pipeline.open(session, name="bench", source="ws", url="ws://bench", now=self.began)
        held = 0
        watch = time.process_time()
        for some, times in self.batches:
            pipeline.take_in(link, some, times)
            held += len(some)
            if held >= PASS_FRAMES:
                held = 0
                work = intake.collect(times[-1] + 1, sync=True)
                if commit is not None:
                    commit.commit(work)
        work = intake.collect(self.began + STEP * len(self.frames) + 1, sync=True, final=True)
        if commit is not None:
            commit.commit(work)
        took = time.process_time() - watch
        stored = sum(pipeline.totals.events.values())
        if stored != len(self.frames):
            raise SystemExit(f"{stored:,} of {len(self.frames):,} frames became events")
        return took


def run(names: Sequence[str], *, frames: int, mix: str, rounds: int, batch: int) -> dict[str, Any]:
    """us a frame of each stage; rounds are interleaved."""
    stages = Stages(frames, mix, batch)
    runs: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(stages.stages[name]())
    return {name: min(made) / frames * 1e6 for name, made in runs.items()}
