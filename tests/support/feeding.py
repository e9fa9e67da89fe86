"""The live path without sockets: frames go in at given times, and what a daemon makes durable comes out.

A `Feed` is one process on a lake: it takes the lock, recovers, merges, writes and syncs as the daemon does, but where
its time goes and which passes are synced is the test's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from collectors import exchanges, recovery
from collectors.config import CollectorsConfig
from collectors.intake import Intake
from collectors.links import Link
from collectors.merger import HOLD
from collectors.pipeline import Pipeline
from collectors.redundancy import merger_maker
from collectors.writing import GroupCommit
from lake import Lake
from lake.manifest import Manifest
from lake.writer import LakeWriter
from market.session import Connection, Gap, Output, Stream
from market.times import MINUTE
from runtime.workers import InlineExecutor
from transformer.config import TransformerConfig
from transformer.service import transform_once

NODE = "n"
VENUE, MARKET = "binance", "linear"
URL = "wss://x/stream"


class Feed:
    """One process. It has one connection at a time, which carries `streams` (whatever comes, where there are none)."""

    def __init__(self, root: Path, now: int, streams: Sequence[Stream] = (), *, rebuild: bool = False) -> None:
        self.root = root
        self.now = now
        self.streams = tuple(streams)
        self.told: list[Output] = []
        """What sessions wanted done: sends, fetches, leaves."""
        self.link: Link | None = None
        self._sessions = 0
        on_rebuild = (lambda _why, _what: None) if rebuild else None
        self.writer = LakeWriter.open(root, NODE, now, simulated=None, on_rebuild=on_rebuild)
        config = CollectorsConfig(node=NODE).writing
        self.intake = Intake(config)
        self.commit = GroupCommit(self.writer, NODE, config)
        try:
            stops = recovery.settle(self.writer, self.writer.recover(now), now)
        except BaseException:
            self.writer.close()
            raise
        venue = exchanges.load(VENUE)
        self.pipeline = Pipeline(VENUE, MARKET, self.intake, merger_maker(venue, MARKET))
        for (exchange, market_type, kind), symbols in stops.items():
            if (exchange, market_type) == (VENUE, MARKET):
                self.pipeline.seed({kind: symbols})

    def connect(self, now: int) -> None:
        """A new connection; without streams it takes what comes, as a replay does."""
        self.now = max(self.now, now)
        self._sessions += 1
        connection = Connection(VENUE, MARKET, "x", URL, self.streams)
        name = f"{NODE}-{self.now}-{self._sessions}"
        session = exchanges.load(VENUE).session(connection, name, learn=not self.streams)
        self.link, wanted = self.pipeline.open(session, name="x", source="ws", url=URL, now=self.now)
        self.told += wanted

    def receive(self, frames: Sequence[str | bytes], now: int, *, sync: bool = False) -> None:
        """Frames that were read together, and the pass that writes what they say."""
        self.now = max(self.now, now)
        if self.link is None:
            self.connect(self.now)
        assert self.link is not None
        data = [frame.encode() if isinstance(frame, str) else frame for frame in frames]
        self.told += self.pipeline.receive(self.link, data, self.now)
        self.wait(self.now, sync=sync)

    def wait(self, now: int, *, sync: bool = False) -> None:
        """Time has passed: sessions and mergers are told, and what is due is sealed."""
        self.now = max(self.now, now)
        if self.link is not None:
            self.told += self.pipeline.tick(self.link, self.now)
        due = self.commit.due(self.now)
        self.pipeline.advance(self.now, covered=due)
        self.commit.commit(self.intake.collect(self.now, sync=sync or due))

    def cut(self, now: int, cause: str = "disconnect", *, wanted: bool = True) -> None:
        """The connection is lost."""
        if self.link is not None:
            self.now = max(self.now, now)
            self.pipeline.close(self.link, cause, self.now, wanted=wanted)
            self.link = None
            self.wait(self.now)

    def stop(self, now: int) -> None:
        """A stop in order: everything is written, synced and sealed."""
        self.cut(now, "stopped", wanted=False)
        self.now = max(self.now, now)
        self.pipeline.advance(self.now + HOLD, covered=True)  # what is still waited for will not come any more
        self.commit.commit(self.intake.collect(self.now, sync=True, final=True))
        self.abandon()

    def abandon(self) -> None:
        """The process is gone, whatever it was doing."""
        self.commit.close()
        self.writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abandon()


def finished(feed: Feed) -> None:
    """Stop in order, and make rows of what was stored."""
    now = feed.now + MINUTE
    feed.stop(now)
    with Feed(feed.root, now) as after:
        done = transform_once(after.writer, InlineExecutor(), now, TransformerConfig())
    assert (done.failed, done.parked, done.quarantined) == (0, 0, 0)


def stored(root: Path, kind: str = "trade", symbol: str = "BTCUSDT") -> list[int]:
    with Lake(root) as lake:
        table = lake.read(kind, exchange=VENUE, symbol=symbol)
        return list(table.column("seq" if kind == "trade" else "update_id").to_pylist())


def told(root: Path) -> tuple[list[Gap], int, int]:
    """Gaps of trades, frames in quarantine, frames that were ignored."""
    manifest = Manifest.read_only(root)
    try:
        quarantined = sum(row.count for row in manifest.quarantine())
        return manifest.gaps(VENUE, MARKET, "trade"), quarantined, sum(row.ignored for row in manifest.sessions())
    finally:
        manifest.close()


def missing(root: Path, *states: str) -> set[int]:
    """Ids that gaps of these states (open ones) name."""
    return {
        number
        for gap in told(root)[0]
        if gap.state in (states or ("open",)) and gap.id_from is not None and gap.id_to is not None
        for number in range(gap.id_from, gap.id_to)
    }
