"""Every verb sees one snapshot: while files are merged, replaced and deleted, no row is torn, doubled or missed."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lake import Lake
from lake.tables import Parent
from market.times import DAY, MINUTE, Interval
from tests.support import book_rows
from tests.support.lakes import TestLake, bar_table
from tests.support.market_rows import T0, table, trade

ROWS = 24
DATE = "2024-07-20"
CLOSED = [trade(T0 + n * MINUTE, "10", "1", seq=n + 1) for n in range(ROWS)]
MOVING = [trade(T0 + DAY + n * MINUTE, "10", "1", seq=ROWS + n + 1) for n in range(ROWS)]
BOOK = [
    book_rows.whole(T0 + DAY, 10, [("99", "1")], [("101", "1")]),
    *(book_rows.delta(T0 + DAY + n * MINUTE, 10 + n, [("99", str(n + 1))], []) for n in range(1, ROWS)),
]


class Compacting:
    """A day that goes from parts to an hour to a daily file to a revision, and begins again: rows stay the same."""

    def __init__(self, root: Path) -> None:
        self.made = TestLake(root)
        self.made.day("trade", CLOSED)
        self.made.day("bar_1m", bar_table(CLOSED, covered=Interval(T0, T0 + 2 * DAY)))
        self.made.cover(T0, T0 + 2 * DAY)
        self.live: dict[str, list] = {kind: [] for kind in ("trade", "bar_1m", "book_delta")}
        self.turn = 0
        bars = bar_table(MOVING, covered=Interval(T0, T0 + 2 * DAY))
        self.tables = {"trade": table("trade", MOVING), "bar_1m": bars, "book_delta": book_rows.table(BOOK)}
        self.step()

    def step(self) -> None:
        """One more state of the day: all kinds move, and what they replace is gone at once."""
        self.turn += 1
        state = ("parts", "hour", "day", "again")[self.turn % 4]
        for kind, held in self.live.items():
            old, parents = [row.path for row in held], tuple(Parent(row.path, row.sha256) for row in held)
            more = {"revision": self.turn, "remove": old, "parents": parents}
            if state == "parts" and kind == "trade":  # copies, as two connections give them
                self.live[kind] = [
                    self.made.part(kind, MOVING[:15], revision=self.turn, parents=parents),
                    self.made.part(kind, MOVING[12:], **more),
                ]
            elif state in ("parts", "hour"):
                self.live[kind] = [self.made.part(kind, self.tables[kind], level="hour", **more)]
            else:
                self.live[kind] = [self.made.day(kind, self.tables[kind], **more)]
            for path in old:
                (self.made.root / path).unlink()
            self.made.writer.mark_unlinked(old, T0)


def questions(lake: Lake) -> Iterator[tuple[str, Callable[[], object], object]]:
    ids = list(range(1, 2 * ROWS + 1))
    yield "read", lambda: lake.read("trade").column("seq").to_pylist(), ids
    yield "final and hot", lambda: lake.read("trade", columns=["seq"], start=T0 + 3).column("seq").to_pylist(), ids[1:]
    yield "batches", lambda: lake.batches("trade", batch_rows=5).read_all().column("seq").to_pylist(), ids
    yield (
        "bars",
        lambda: lake.bars("5m", columns=["trade_count"]).column("trade_count").to_pylist(),
        [5, 5, 5, 5, 4] * 2,
    )
    bars = lambda: lake.scan("bar_1m").select("trade_count").collect().to_series().to_list()  # noqa: E731
    yield "scan", bars, [1] * len(ids)
    yield "datasets", lambda: sum(one.rows for one in lake.datasets(kind="bar_1m")), len(ids)
    yield "coverage", lambda: [one.covered for one in lake.coverage(kind="bar_1h")], [2 * DAY]
    yield "book", lambda: lake.book("BTCUSDT", at=T0 + DAY + 9 * MINUTE).bids, [("99", "10")]
    yield "trace", lambda: {one.row["seq"] for one in lake.trace("trade", id=ROWS + 14)}, {ROWS + 14}
    current = lambda: sum(one.state == "current" for one in lake.versions("trade", date=DATE)) in (0, 1)  # noqa: E731
    yield "versions", current, True
    yield "gaps", lake.gaps, []


def hunt(root: Path, enough: Callable[[int, int], bool]) -> dict[str, int]:
    """Answers of each verb while the lake is compacted all the time; raises at the first that is not the same."""
    compacting = Compacting(root)
    stop, failed = threading.Event(), []

    def compact() -> None:
        try:
            while not stop.is_set():
                compacting.step()
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=compact)
    writer.start()
    counts: dict[str, int] = {}
    try:
        with Lake(root) as lake:
            asked = list(questions(lake))
            turns = 0
            while not failed and not enough(turns, compacting.turn):
                turns += 1
                for name, ask, expected in asked:
                    assert ask() == expected, (name, turns)
                    counts[name] = counts.get(name, 0) + 1
    finally:
        stop.set()
        writer.join()
        compacting.made.close()
    assert failed == []
    return counts


def test_every_verb_answers_the_same_beside_a_compaction(tmp_path):
    counts = hunt(tmp_path / "lake", lambda turns, compacted: turns >= 3 and compacted >= 6)
    assert min(counts.values()) >= 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_answers_beside_a_compaction(tmp_path):
    counts = hunt(tmp_path / "lake", lambda turns, _: turns >= 910)
    assert sum(counts.values()) >= 10_000
