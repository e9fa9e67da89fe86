"""A lake under everything that may happen to it, in any order, beside a model that is a few sets of ids.

Frames come (some lost, some twice, some late, of two symbols and two kinds) through the live path; segments rotate,
are transformed, merged, closed, revised and let go of; the process is dropped with a torn tail, or stopped; manifests
are rebuilt, frames replayed, readers hold on to what they saw. After each step the lake must hold exactly the rows that
the model says, once, and the gaps must name exactly the ids that never came. `LAKE_FAULTS=full` lives 1,000 lives of 50
steps.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from pathlib import Path

import loguru
import polars as pl
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from collectors.config import CollectorsConfig
from collectors.replay import replay
from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake import Lake
from lake.writer import LakeWriter
from market.times import DAY, HOUR, MINUTE, SECOND, date_of, floor_to, parse
from runtime.workers import InlineExecutor
from tests.support import invariants
from tests.support.faults import FULL, memory
from tests.support.feeding import MARKET, NODE, VENUE, Feed
from tests.support.written import quote, trade
from transformer.config import TransformerConfig
from transformer.service import transform_once

pytestmark = pytest.mark.timeout(7200 if FULL else 240)

LIVES, STEPS = (1_000, 50) if FULL else (10, 25)
BEGIN = parse("2026-11-20T23:30:05Z")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
COMPACTOR = CompactorConfig(rehash_hours=1, raw_days=0.1, frames_days=1, forget_days=1)
GRACE = 14 * MINUTE
"""Replaced files stay readable a little longer than this."""
Id = tuple[str, str, int]
"""(kind, symbol, id)."""
KEYS = {"trade": "seq", "quote": "update_id"}


def lines_in(data: bytes, kind: str) -> list[Id]:
    """Ids of the whole lines."""
    rows = [json.loads(line) for line in data.split(b"\n")[:-1]]
    return [(kind, row["symbol"], row[KEYS[kind]]) for row in rows]


def kind_of(path: Path) -> str:
    return next(part.removeprefix("data_type=") for part in path.parts if part.startswith("data_type="))


class LakeModel(RuleBasedStateMachine):
    """The rules are what may happen; the sets are what must be true."""

    def __init__(self) -> None:
        super().__init__()
        loguru.logger.remove()
        self.folder = tempfile.TemporaryDirectory(dir=memory())
        self.root = Path(self.folder.name) / "lake"
        self.now = BEGIN
        self.next = dict.fromkeys(SYMBOLS, 1_000)
        self.at: dict[Id, int] = {}
        """When each thing that the venue numbered happened (us)."""
        self.held: set[Id] = set()
        """What reached the disk and was not torn off it."""
        self.durable: set[Id] = set()
        self.late: set[Id] = set()
        """What was missing and came after all: its gap may say so later."""
        self.overtold: set[str] = set()
        """Symbols with a gap behind events that a power cut took: it stands until a start finds what ended it."""
        self.readable: set[Id] = set()
        self.sealed: set[str] = set()
        self.synced: dict[Path, int] = {}
        self.lost_frames = False
        """Whether frames were let go of, or torn off: a replay cannot tell everything any more."""
        self.seen: list[tuple[int, Lake, dict[str, pl.LazyFrame], Counter[Id]]] = []
        self.engines = contextlib.ExitStack()
        self.engines.enter_context(invariants.quick_engines())
        self.feed: Feed

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
                self.overtold |= {symbol for kind, symbol, _ in torn if kind == "trade"}
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

    # --- the rules' means ---

    def _happened(self, kind: str, symbol: str) -> Id:
        key = (kind, symbol, self.next[symbol])
        self.next[symbol] += kind == "trade"
        if kind == "quote":
            key = (kind, symbol, 10 * self.next[symbol] + len(self.at) * 100_000)
        self.at[key] = self.now
        return key

    def _frame(self, key: Id) -> str:
        kind, symbol, number = key
        make = trade if kind == "trade" else quote
        return make(number, symbol, at=self.at[key] // 1_000 * 1_000)

    def _take(self, frames: list[str], new: list[Id], *, sync: bool) -> None:
        self.feed.receive(frames, self.now, sync=sync)
        self.held |= set(new)
        if sync:
            self._is_durable()

    def _pass_time(self, by: int) -> None:
        self.now += by
        self.feed.wait(self.now, sync=True)
        self._is_durable()

    def _is_durable(self) -> None:
        self.durable = set(self.held)
        self.synced = {path: path.stat().st_size for path in self.root.rglob("*.open")}

    def _first(self, symbol: str) -> int | None:
        """The first id that anybody asked for: what lies below it is no loss of ours."""
        known = self.held - self.late
        return min((key[2] for key in known if key[:2] == ("trade", symbol)), default=None)

    def _missing(self) -> set[Id]:
        """Trades that the venue numbered and nobody has, of the last days."""
        first = {symbol: self._first(symbol) for symbol in SYMBOLS}
        return {
            key
            for key, at in self.at.items()
            if key[0] == "trade" and key not in self.held and at > self.now - 6 * DAY
            if (low := first[key[1]]) is not None and key[2] > low
        }

    def _sealed(self) -> None:
        """Everything in a sealed segment is readable once it is transformed."""
        for path in self.root.glob("raw/**/*.jsonl"):
            if str(path) not in self.sealed:
                self.sealed.add(str(path))
                self.readable |= set(lines_in(path.read_bytes(), kind_of(path)))

    def _compact(self) -> None:
        done = compact_once(self.feed.writer, InlineExecutor(), self.now, COMPACTOR)
        assert (done.failures, done.conflicts, done.parked) == ([], 0, [])

    def _restart(self, *, rebuild: bool) -> None:
        self.now += SECOND
        if rebuild:
            for path in self.root.glob("manifest.db*"):
                path.unlink()
        self.feed = Feed(self.root, self.now, rebuild=rebuild)
        assert not [path for path in self.root.rglob("*") if path.name.endswith((".open", ".tmp"))]
        self._is_durable()
        self.read()

    def _stored(self, root: Path) -> Counter[Id]:
        with Lake(root) as lake:
            return Counter(
                (kind, row["symbol"], row[key])
                for kind, key in KEYS.items()
                for row in lake.read(kind, columns=["symbol", key]).to_pylist()
            )

    # --- what must be true ---

    def _same(self, found: Counter[Id]) -> None:
        lost, wanted = set(self.readable - found.keys()), Counter(self.readable)
        if lost:  # a closed day is read from its daily files: what comes later waits for its revision
            lost -= {key for key in lost if (key[0], date_of(self.at[key]).isoformat()) in self._revised_soon()}
        assert found - wanted == Counter(), f"too many, lost {lost}"
        assert lost == set()

    def _revised_soon(self) -> set[tuple[str, str]]:
        """(kind, date) of days that have both daily files and hot ones."""
        levels: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
        for row in invariants.manifest_rows(self.root)["files"]:
            if row["state"] == "live":
                levels[row["level"] == "day"].add((row["kind"], row["date"]))
        return levels[True] & levels[False]

    def read(self) -> None:
        """Exactly what was sealed and transformed, each once; all of it is what the venue sent."""
        self._same(self._stored(self.root))
        assert self.readable <= self.held

    def law(self) -> None:
        """Each symbol's ids from the first to the last are held, or in a gap; and what is held and never was missing
        is in none.
        """
        rows = [row for row in invariants.manifest_rows(self.root)["gaps"] if row["kind"] == "trade"]
        for symbol in SYMBOLS:
            ids = {number for kind, name, number in self.held if (kind, name) == ("trade", symbol)}
            first = self._first(symbol)
            if first is None:
                continue
            everything = set(range(first, max(ids) + 1))
            named = {
                number
                for row in rows
                if row["symbol"] == symbol and row["state"] == "open" and row["id_from"] is not None
                for number in range(row["id_from"], row["id_to"] if row["id_to"] is not None else max(ids) + 1)
            } & everything
            came = {number for _, name, number in self.late if name == symbol}
            assert everything - ids - named == set(), "neither held nor in a gap"
            assert symbol in self.overtold or (named & ids) - came == set(), "held, never missing, and in a gap"

    def certified(self) -> None:
        """The law of every daily file: last - first + 1 = rows + missing, and its rows are those of its day."""
        tables = invariants.manifest_rows(self.root)
        live = {row["path"] for row in tables["files"] if row["state"] == "live"}
        hot = {row["date"] for row in tables["files"] if row["state"] == "live" and row["level"] != "day"}
        for row in tables["certificates"]:
            if row["path"] not in live or row["kind"] not in KEYS:
                continue
            days = [
                key[2] for key in self.readable
                if key[:2] == (row["kind"], row["symbol"]) and date_of(self.at[key]).isoformat() == row["date"]
            ]  # fmt: skip
            assert row["rows"] <= len(days)
            if row["date"] not in hot:
                assert row["rows"] == len(days)
            if row["kind"] == "trade":
                assert (row["first_id"] >= min(days), row["last_id"] <= max(days)) == (True, True)
                assert row["last_id"] - row["first_id"] + 1 == row["rows"] + row["missing"] + row["void"]

    def ends(self) -> None:
        """Whatever has happened, the lake is whole, recovering twice is recovering once, and it can be made anew."""
        now = self.now + SECOND
        invariants.recover(self.root, now)
        seen = invariants.look(self.root, leaving=True)
        files = invariants.files_of(self.root)
        # what is told again where memory ends is stored again, and dropped by its key in reads and merges
        wrong = [what for what in seen.wrong if not (what.startswith("I2:") and " times " in what)]
        assert wrong == [], wrong
        invariants.recover(self.root, now + SECOND)
        assert (found := invariants.differs(self.root, seen.rows, files)) == [], found
        self._same(self._stored(self.root))


def test_a_lake_holds_what_came_and_names_what_did_not_whatever_happens_to_it() -> None:
    run_state_machine_as_test(
        LakeModel,
        settings=settings(
            max_examples=LIVES, stateful_step_count=STEPS, deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


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
