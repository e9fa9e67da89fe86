"""A lake under everything that may happen to it, in any order, beside a model that is a few sets of ids.

Frames come (some lost, some twice, some late, of two symbols and two kinds) through the live path; segments rotate,
are transformed, merged, closed, revised and let go of; the process is dropped with a torn tail, or stopped; manifests
are rebuilt, frames replayed, readers hold on to what they saw. After each step the lake must hold exactly the rows that
the model says, once, and the gaps must name exactly the ids that never came. `LAKE_FAULTS=full` lives 1,000 lives of 50
steps.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from collectors.config import CollectorsConfig
from collectors.replay import replay
from lake import Lake
from lake.writer import LakeWriter
from market.times import DAY, HOUR, MINUTE, SECOND, floor_to
from runtime.workers import InlineExecutor
from tests.support import invariants
from tests.support.faults import FIGURE, FULL, SEED, memory
from tests.support.feeding import MARKET, NODE, VENUE, Feed
from tests.support.lake_model import GRACE, KEYS, SYMBOLS, Beside, kind_of, lines_in
from transformer.config import TransformerConfig
from transformer.service import transform_once

pytestmark = pytest.mark.timeout(7200 if FULL else 300)

LIVES, STEPS = (1_000, 50) if FULL else (5, 25)
PARTS = 4 if FULL else 1
"""Tests that share the lives."""


class LakeModel(Beside, RuleBasedStateMachine):
    """The rules are what may happen; the sets are what must be true."""

    @initialize()
    def begins(self) -> None:
        self.feed = Feed(self.root, self.now)

    def teardown(self) -> None:
        try:
            if hasattr(self, "feed"):
                self.feed.abandon()
                self.ends()
        finally:
            for _, lake, _, _ in self.seen:
                lake.close()
            self.engines.close()
            self.folder.cleanup()

    # --- what comes ---

    @rule(
        symbol=st.sampled_from(SYMBOLS), count=st.integers(1, 4), lose=st.sampled_from([0, 0, 0, 1, 3]),
        again=st.integers(0, 3), quotes=st.booleans(), sync=st.booleans(),
        wait=st.sampled_from([1, SECOND, 20 * SECOND]),
    )  # fmt: skip
    def receive(self, symbol: str, count: int, lose: int, again: int, quotes: bool, sync: bool, wait: int) -> None:
        """The venue numbers `lose` trades that never come, then `count` that do; the last ones come twice."""
        self.now += wait
        for _ in range(lose):
            self._happened("trade", symbol)
        new = [self._happened("trade", symbol) for _ in range(count)]
        new += [self._happened("quote", symbol)] if quotes else []
        frames = [self._frame(key) for key in new]
        self._take([*frames, *frames[len(frames) - min(again, len(frames)) :]], new, sync=sync)

    @precondition(lambda self: self._missing())
    @rule(data=st.data(), sync=st.booleans())
    def late_one(self, data: st.DataObject, sync: bool) -> None:
        """Something that was missing comes after all, with the time that it had."""
        key = data.draw(st.sampled_from(sorted(self._missing())))
        self.now += SECOND
        self.late.add(key)
        self._take([self._frame(key)], [key], sync=sync)

    @rule(data=st.data())
    def told_again(self, data: st.DataObject) -> None:
        """A connection that is made again repeats the last that it said."""
        symbol = data.draw(st.sampled_from(SYMBOLS))
        last = sorted(key for key in self.held if key[:2] == ("trade", symbol))[-3:]
        self.feed.cut(self.now)
        self.now += SECOND
        if last and self.at[last[0]] > self.now - 6 * DAY:
            self._take([self._frame(key) for key in last], [], sync=True)

    @rule(lose=st.sampled_from([0, 2]))
    def cut(self, lose: int) -> None:
        """The connection is lost, and with it what happens meanwhile."""
        self.feed.cut(self.now)
        for symbol in SYMBOLS:
            for _ in range(lose):
                self._happened("trade", symbol)
        self.now += SECOND

    @rule(seconds=st.sampled_from([3, 61, 700, 3_700]))
    def wait(self, seconds: int) -> None:
        """Time passes: segments are sealed, holes are rows."""
        self._pass_time(seconds * SECOND)
        self.law()

    @rule()
    def next_day(self) -> None:
        self._pass_time(floor_to(self.now, DAY) + DAY + 20 * MINUTE - self.now)

    # --- what is made of it ---

    @rule()
    def transform(self) -> None:
        done = transform_once(self.feed.writer, InlineExecutor(), self.now, TransformerConfig())
        assert (done.failed, done.parked, done.quarantined, done.conflicts) == (0, 0, 0, 0)
        self._sealed()
        self.read()

    @rule()
    def compact(self) -> None:
        self._compact()
        self.read()
        self.certified()

    @rule()
    def second_run(self) -> None:
        """What has been done is not done again; bars go on once more, where no row is left to tell a skew by."""
        for _ in range(2):
            self.transform()
            self._compact()
        before, files = invariants.manifest_rows(self.root), invariants.files_of(self.root)
        self.transform()
        self._compact()
        assert (found := invariants.differs(self.root, before, files)) == [], found

    @rule(days=st.sampled_from([1, 3]))
    def retention(self, days: int) -> None:
        """Days later everything is closed, read again, and raw and replaced files are gone."""
        self._pass_time(days * DAY)
        self.transform()
        for _ in range(2):
            self.now += 2 * HOUR
            self._compact()
        self.lost_frames = True
        self.read()
        self.certified()

    # --- what goes wrong ---

    @rule(shares=st.lists(st.floats(0, 1), min_size=4, max_size=4), rebuild=st.sampled_from([False, False, True]))
    def crash(self, shares: list[float], rebuild: bool) -> None:
        """The power goes: of each open file anything beyond what was synced may be gone, in the middle of a line."""
        self.feed.abandon()
        for path, share in zip(sorted(self.root.rglob("*.open")), shares, strict=False):
            data = path.read_bytes()
            low = self.synced.get(path, 0)
            keep = low + round((len(data) - low) * share)
            path.write_bytes(data[:keep])
            if path.name.endswith(".jsonl.open"):
                torn = Counter(lines_in(data, kind_of(path))) - Counter(lines_in(data[:keep], kind_of(path)))
                self.held -= set(torn)
            else:
                self.lost_frames = self.lost_frames or keep < len(data)
        assert self.durable <= self.held
        self._restart(rebuild=rebuild)

    @rule()
    def stop(self) -> None:
        """A stop in order loses nothing."""
        self.feed.stop(self.now)
        assert not list(self.root.rglob("*.open"))
        self.durable = set(self.held)
        self._restart(rebuild=False)

    # --- who looks ---

    @rule()
    def look(self) -> None:
        """A reader takes its files, and reads them later."""
        lake = Lake(self.root)
        self.seen.append((self.now, lake, {kind: lake.scan(kind) for kind in KEYS}, self._stored(self.root)))

    @precondition(lambda self: self.seen)
    @rule()
    def look_again(self) -> None:
        at, lake, frames, expected = self.seen.pop()
        if self.now - at < GRACE:
            found = Counter(
                (kind, row[0], row[1])
                for kind, frame in frames.items()
                for row in frame.select(pl.col("symbol").cast(pl.String), KEYS[kind]).collect().iter_rows()
            )
            assert found == expected
        lake.close()

    @rule()
    def replayed(self) -> None:
        """Frames alone tell the same rows."""
        self.feed.stop(self.now)
        self.durable = set(self.held)
        if not self.lost_frames:
            with tempfile.TemporaryDirectory(dir=memory()) as folder:
                other = Path(folder) / "lake"
                files = sorted(self.root.glob("frames/**/*.zst"))
                with LakeWriter.open(other, NODE, self.now) as writer:
                    replay(files, VENUE, MARKET, writer, CollectorsConfig(node=NODE), self.now)
                    transform_once(writer, InlineExecutor(), self.now, TransformerConfig())
                assert self._stored(other) == Counter(self.held)
        self._restart(rebuild=False)


def part_of(part: int) -> type[LakeModel]:
    """The model whose lives are those of one part of a campaign; a short run has the same ones each time."""
    if not FULL:
        return LakeModel
    print(f"LAKE_SEED={SEED}")
    return seed(f"{SEED}-{part}")(type("LakeModel", (LakeModel,), {}))


@pytest.mark.parametrize("part", range(PARTS))
def test_a_lake_holds_what_came_and_names_what_did_not_whatever_happens_to_it(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    run_state_machine_as_test(
        part_of(part),
        settings=settings(
            max_examples=LIVES // PARTS, stateful_step_count=STEPS, deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
    record_property(FIGURE + "lives of the lake model", (LIVES // PARTS, f"lives of {STEPS} steps at most"))


def test_a_gap_ends_after_restarts_although_the_session_before_it_lasted_an_instant() -> None:
    """The model found it: such a session covers nothing, so that its stream was forgotten once it was transformed."""
    lake = LakeModel()
    try:
        lake.begins()
        lake.receive(symbol="ETHUSDT", count=4, lose=1, again=1, quotes=False, sync=False, wait=1)
        lake.stop()
        lake.transform()
        lake.receive(symbol="BTCUSDT", count=3, lose=0, again=1, quotes=True, sync=True, wait=20 * SECOND)
        lake.stop()
        lake.receive(symbol="ETHUSDT", count=4, lose=3, again=3, quotes=False, sync=False, wait=1)
        lake.wait(seconds=3)
    finally:
        lake.teardown()


def test_a_gap_grows_no_more_once_a_power_cut_has_taken_the_lines_before_it() -> None:
    """It was told while they were not durable yet; after the start the stream goes on from an earlier line."""
    lake = LakeModel()
    try:
        lake.begins()
        lake.receive(symbol="BTCUSDT", count=2, lose=0, again=0, quotes=False, sync=True, wait=1)
        lake.receive(symbol="BTCUSDT", count=2, lose=0, again=0, quotes=False, sync=False, wait=1)
        lake.cut(lose=2)
        lake.crash(shares=[0.0] * 4, rebuild=False)
        lake.receive(symbol="BTCUSDT", count=1, lose=0, again=0, quotes=False, sync=True, wait=1)
        lake.wait(seconds=3)
    finally:
        lake.teardown()
