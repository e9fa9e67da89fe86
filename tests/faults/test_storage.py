"""F06, F07, F08: storage that reports errors, at every step, once or from then on.

Whatever fails is either made good by the same process or reported as StorageFailed; a restart then finds what was
promised, and the same work done again ends as if nothing had happened. Many faults leave the same lake, byte for byte:
each is provoked, and what they leave is recovered and judged once.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lake import durable
from lake.durable import Fault, Op
from lake.errors import StorageFailed
from tests.faults.test_kills import COLLECTING, steps_of
from tests.support import invariants, life
from tests.support.faults import FIGURE, FULL, Lives, some
from tests.support.life import Promise

pytestmark = pytest.mark.timeout(3600 if FULL else 300)
PARTS = 4 if FULL else 1
"""Tests that share the faults of a stage."""
PROCESSING = [stage for stage in life.STAGES if stage not in COLLECTING]


class Struck:
    """A stage that ran into a fault: whether it came to its end, what it promised, which steps it took."""

    def __init__(self, lives: Lives, stage: str, root: Path, fault: Fault) -> None:
        self.promised = lives.promises[stage]
        self.ops: list[Op] = []
        self.failed: StorageFailed | None = None
        self.where = f"{stage}, {fault.op} {fault.number}{'+' if fault.repeat else ''} {fault.kind}"
        self.stage = stage

        def tell(promised: Promise) -> None:
            self.promised = promised

        durable.inject(fault)
        try:
            with durable.observe(self.ops.append):
                life.STAGES[stage](root, tell)
        except StorageFailed as error:
            self.failed = error
        finally:
            durable.inject(None)


def rows(root: Path, stage: str) -> dict:
    """What is stored; of bars only final ones: how far provisional ones are depends on what one pass has seen."""
    final = stage in ("close", "revise", "retain")
    stored = invariants.look(root, leaving=True).stored
    return {key: count for key, count in stored.items() if final or key[0] in invariants.OBSERVED}


_EXPECTED: dict[str, dict] = {}
"""By stage: the rows with which it ends."""
_JUDGED: dict[tuple[str, bool, Promise, bytes], list[str]] = {}
"""What was wrong with each lake that a fault left: it is recovered and judged once."""


def wrong_after(lives: Lives, stage: str, place: Path, fault: Fault) -> list[str]:
    root = lives.before(stage, place / "failing")
    try:
        ran = Struck(lives, stage, root, fault)
        if not fault.struck:
            return [f"{ran.where}: the fault did not strike"]
        left = (stage, ran.failed is not None, ran.promised, invariants.everything(root))
        if left not in _JUDGED:
            _JUDGED[left] = judge(lives, ran, root)
        return [f"{ran.where} at {fault.struck_at}: {what}" for what in _JUDGED[left]]
    finally:
        shutil.rmtree(root)


def judge(lives: Lives, ran: Struck, root: Path) -> list[str]:
    """What is wrong with the lake that a fault left, once the restarted process has done the work again."""
    wrong = []
    if ran.failed is not None and ran.stage in PROCESSING:
        life.STAGES[ran.stage](root, life.nobody)
        if ran.stage not in _EXPECTED:
            names = [*life.STAGES, "end"]
            _EXPECTED[ran.stage] = rows(lives.at(names[names.index(ran.stage) + 1]), ran.stage)
        if rows(root, ran.stage) != _EXPECTED[ran.stage]:
            wrong.append("done again it ends with other rows")
    return wrong + invariants.check(root, ran.promised, thorough=True)


_STEPS: dict[str, list[str]] = {}
"""By stage: it takes the same steps whenever it begins with the same lake."""


def numbers(lives: Lives, stage: str, place: Path, op: str) -> range:
    if stage not in _STEPS:
        _STEPS[stage] = steps_of(life.STAGES[stage], lives.before(stage, place / "whole"), life.nobody)
    return range(1, 1 + sum(op in ("*", name) for name in _STEPS[stage]))


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("stage", life.STAGES)
def test_f06_a_step_that_fails_once_or_from_then_on_loses_nothing_promised(
    lives: Lives, place: Path, stage: str, part: int, record_property: Callable[[str, object], None]
) -> None:
    steps = numbers(lives, stage, place, "*")
    faults = list(itertools.product(steps, ("EIO", "ENOSPC", "SHORT"), (False, True)))
    every = some(faults, 5, f"storage-{stage}")
    taken = every[len(every) * part // PARTS : len(every) * (part + 1) // PARTS]
    wrong = []
    for n, kind, repeat in taken:
        wrong += wrong_after(lives, stage, place, Fault("*", n, kind, repeat=repeat))
    print(f"{len(taken)} faults, {len(_JUDGED)} different lakes in this process so far")
    assert wrong == []
    record_property(FIGURE + "failing steps", (len(taken), "faults"))


@pytest.mark.parametrize("stage", sorted(COLLECTING))
def test_f07_after_a_failed_sync_the_bytes_are_written_again_to_another_file(
    lives: Lives, place: Path, stage: str
) -> None:
    """The kernel reports the error once and forgets the pages: a second sync of that file would lie."""
    wrong = []
    made_good = 0
    for n in some(numbers(lives, stage, place, "sync"), 5, f"fsyncgate-{stage}"):
        root = lives.before(stage, place / "lied")
        fault = Fault("sync", n, "EIO")
        ran = Struck(lives, stage, root, fault)
        (failed,) = fault.struck_at
        later = [op.name for op in ran.ops if op.path == failed and op.name in ("sync", "write")]
        before = sum(op.name == "sync" and op.path == failed for op in ran.ops)
        assert len([name for name in later if name == "sync"]) == before
        if ran.failed is None:
            made_good += 1
            data = failed.endswith((".open", ".tmp"))
            assert data, f"{failed} is not data: its failure must be told"
        elif failed.endswith(".open"):
            wrong.append(f"{failed}: one failed sync of a segment is made good by another file")
        wrong += [f"sync {n} of {failed}: {what}" for what in invariants.check(root, ran.promised)]
        shutil.rmtree(root)
    assert wrong == []
    assert made_good > 0 or not FULL, "a sample of the steps may hold those alone whose failure is told"


@pytest.mark.parametrize("stage", PROCESSING)
@pytest.mark.parametrize("op", ["fsync_dir", "fsync", "rename", "unlink", "link"])
def test_f08_a_job_whose_names_cannot_be_made_durable_is_done_again(
    lives: Lives, place: Path, stage: str, op: str
) -> None:
    wrong = []
    for n in some(numbers(lives, stage, place, op), 2, f"names-{stage}"):
        wrong += wrong_after(lives, stage, place, Fault(op, n, "EIO"))
    assert wrong == []
