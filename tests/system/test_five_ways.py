"""One question, asked five ways (Lake, SQL, CLI, REST, client), gives the same rows beside a compaction without end.

Of hot, final, repaired and revised data: none torn, doubled or missing, while what is replaced is gone at once.

Every answer is held against what may be known then: the first so many arrivals of that day, as many as any answer
before had or more. So two answers from one state of the lake are equal in every value, whichever way they came.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scripts import figures
from tests.support import commands
from tests.support.five_ways import Rows, Ways, in_text, served, served_here
from tests.support.leash import watched
from tests.support.market_rows import table
from tests.support.moving_lake import STATES, Moving, arrivals, at_once, keep_moving, span

READS = 10_000
ASKERS = 4
A_PROCESS_EVERY = 50
"""Of so many answers of `dl` one is of a process of its own."""


class Judge:
    """What answers may be, and how many there were of each way."""

    def __init__(self) -> None:
        self.seen = {state: at_once(state) for state in STATES}
        self.rows = {state: in_text(table("trade", arrivals(state))) for state in STATES}
        self.sizes: dict[int, tuple[float, float]] = {}
        self.answers: Counter[str] = Counter()

    def judge(self, way: str, state: str, rows: Rows) -> None:
        """Raises AssertionError where an answer is none of those that may be given."""
        known = len(rows)
        place = (way, state, known, self.seen[state])
        assert known >= self.seen[state], ("rows that an answer before had are missing", place)
        wanted = sorted(self.rows[state][:known], key=lambda row: int(row["seq"]))
        assert [row["seq"] for row in rows] == [row["seq"] for row in wanted], ("torn, doubled or missing", place)
        for got, right in zip(rows, wanted, strict=True):
            sizes = got.pop("qty_base"), got.pop("qty_quote")
            assert got == right, place
            if right["seq"] not in self.sizes:
                assert sizes == (right["qty"], pytest.approx(right["qty"] * right["price"])), place
                self.sizes[right["seq"]] = sizes
            assert sizes == self.sizes[right["seq"]], place
        self.seen[state] = known
        self.answers[way] += 1

    def moved(self) -> bool:
        """Whether every day that changes was seen before and after a change."""
        return all(self.seen[state] > at_once(state) for state in STATES[1:])


def ask(ways: Ways, judge: Judge, enough: Callable[[int], bool], first: int = 0) -> None:
    """Each way each question, of one state of the data after the other, until it was `enough` rounds."""
    rounds = 0
    while not enough(rounds):
        state = STATES[(first + rounds) % len(STATES)]
        for way, given in ways.each.items():
            own = way == "CLI" and rounds % A_PROCESS_EVERY == A_PROCESS_EVERY - 1
            judge.judge(way, state, (ways.by_dl if own else given)(*span(state)))
        rounds += 1


def compared(told: dict[str, Any], judge: Judge) -> None:
    """What was answered last is what the one who changed the lake knows; there was something to get wrong."""
    assert judge.seen["final"] == told["rows"]["final"]
    assert all(judge.seen[state] <= told["rows"][state] for state in STATES)
    assert judge.moved()
    assert told["revisions"]["repaired"] > 1
    assert told["revisions"]["revised"] > 1
    assert told["revisions"]["hot"] == 0, "that day is not closed"


def test_one_question_five_ways_gives_the_same_rows_beside_a_compaction(tmp_path: Path) -> None:
    root, judge, ended = tmp_path / "lake", Judge(), threading.Event()
    moving = Moving(root)
    with served_here(root) as address, ThreadPoolExecutor(1) as pool:
        moved = pool.submit(keep_moving, moving, ended.is_set)
        ways = Ways(root, address)
        try:
            ask(ways, judge, lambda rounds: moved.done() or (rounds >= 4 and judge.moved() and moving.turn >= 2))
        finally:
            ended.set()
            ways.close()
    compared(moved.result(), judge)
    assert min(judge.answers[way] for way in ("Lake", "SQL", "CLI", "REST", "client")) >= 4


@contextmanager
def mover(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process that changes the lake."""
    command = [sys.executable, "-m", "tests.support.moving_lake", str(root)]
    pipe = subprocess.PIPE
    with watched(
        subprocess.Popen(command, cwd=commands.ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"moving\n"
            yield process
        finally:
            process.kill()


def asker(root: Path, address: str, first: int, rounds: int) -> Judge:
    """One of those who ask: so many rounds, the first of them of the state `first`."""
    judge, ways = Judge(), Ways(root, address)
    try:
        ask(ways, judge, lambda done: done >= rounds, first)
    finally:
        ways.close()
    return judge


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_ten_thousand_answers_of_five_ways_beside_a_compaction(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Processes of their own: who changes the lake, who serves it, four that ask all the time, and those of `dl`."""
    root, spawn = tmp_path / "lake", multiprocessing.get_context("spawn")
    with mover(root) as process, served(root) as (address, server), ProcessPoolExecutor(ASKERS, spawn) as pool:
        rounds = READS // 5 // ASKERS
        asked = [pool.submit(asker, root, address, n, rounds) for n in range(ASKERS)]
        judges = [one.result() for one in asked]
        assert server.poll() is None
        assert process.poll() is None
        told = msgspec.json.decode(process.communicate(timeout=120)[0])
    answers = Counter[str]()
    for judge in judges:
        compared(told, judge)
        answers.update(judge.answers)
    assert answers == dict.fromkeys(("Lake", "SQL", "CLI", "REST", "client"), READS // 5)
    unit = f"answers beside {told['turns']} passes of the compactor"
    record_property(figures.FIGURE + "answers of five ways", (answers.total(), unit))
    record_property(figures.FIGURE + "answers torn, doubled or missing", (0, "answers"))
