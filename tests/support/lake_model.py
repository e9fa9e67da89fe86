"""What a lake must hold, as a few sets of ids, and how it is looked at: the model of `test_lake_model`.

The steps that change both are there; here is what they are made of, and what must be true after each.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from pathlib import Path

import loguru
import polars as pl

from compactor.config import CompactorConfig
from compactor.service import compact_once
from lake import Lake
from market.times import DAY, MINUTE, SECOND, date_of, parse
from runtime.workers import InlineExecutor
from tests.support import invariants
from tests.support.engines import quick_engines
from tests.support.faults import memory
from tests.support.feeding import Feed
from tests.support.written import quote, trade

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


class Beside:
    """A lake with a live path that feeds it, and the sets that say what must be in it."""

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
        self.readable: set[Id] = set()
        self.sealed: set[str] = set()
        self.synced: dict[Path, int] = {}
        self.lost_frames = False
        """Whether frames were let go of, or torn off: a replay cannot tell everything any more."""
        self.seen: list[tuple[int, Lake, dict[str, pl.LazyFrame], Counter[Id]]] = []
        self.engines = contextlib.ExitStack()
        self.engines.enter_context(quick_engines())
        self.feed: Feed

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
        frames = set(self.root.glob("frames/**/*.zst"))
        done = compact_once(self.feed.writer, InlineExecutor(), self.now, COMPACTOR)
        self.lost_frames = self.lost_frames or not all(path.exists() for path in frames)
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
            assert (named & ids) - came == set(), "held, never missing, and in a gap"

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
