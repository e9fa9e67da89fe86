"""F01, F03: processes killed before, in the middle of and after each durable step, and again while they recover.

Every kill is a real SIGKILL of a process of its own.
"""

from __future__ import annotations

import itertools
import pickle
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lake import durable
from tests.support import invariants, life
from tests.support.crash import KILLED, needs_fork, run_apart
from tests.support.faults import FIGURE, FULL, SEED, Lives, some
from tests.support.life import Id, Promise

pytestmark = [needs_fork, pytest.mark.timeout(3600 if FULL else 300)]

KILLS = 6
"""Kills a stage in a short run; each of the others is taken by another run."""
COLLECTING = {"collect", "more", "late"}
PROMISED = "promised"


class Counting(durable.Fault):
    """A failpoint that never strikes and keeps the names of the steps that it is asked about."""

    def __init__(self) -> None:
        super().__init__("*", 1, "KILL")
        self.names: list[str] = []

    def due(self, name: str) -> bool:
        self.names.append(name)
        return False


def steps_of(work: Callable[..., object], *arguments: object) -> list[str]:
    """Names of the durable steps that this takes or tries."""
    counting = Counting()
    durable.inject(counting)
    try:
        work(*arguments)
    finally:
        durable.inject(None)
    return counting.names


def kill(lives: Lives, stage: str, root: Path, fault: tuple) -> tuple[int, Promise]:
    """Run a stage at `root` until the failpoint strikes: its exit code, and what it had been promised."""
    lives.before(stage, root)
    told = root.with_name(f"{root.name}-{PROMISED}")
    code = run_apart(life.one_stage, stage, root, told, fault=fault)
    return code, pickle.loads(told.read_bytes()) if told.exists() else lives.promises[stage]


def points(names: list[str]) -> list[tuple[int, str]]:
    """(N, kind) of every kill in steps of these names; half of a write only where it is the first of its like."""
    found = [(n, kind) for n in range(1, len(names) + 1) for kind in ("KILL", "KILL_AFTER")]
    return found + [(n, "TORN") for n, name in enumerate(names, start=1) if name == "write"]


def contents(root: Path) -> Counter[Id]:
    return invariants.look(root, leaving=True).stored


def goes_on(lives: Lives, stage: str, root: Path) -> list[str]:
    """The rest of the life on a killed lake: it must end with the same rows as one that was never killed."""
    names = list(life.STAGES)
    later = names[names.index(stage) + (stage in COLLECTING) :]
    for name in later:
        life.STAGES[name](root, life.nobody)
    seen = invariants.look(root, leaving=True)
    wrong = list(seen.wrong)
    observed = {key for key in seen.stored if key[0] in invariants.OBSERVED}
    if stage not in COLLECTING and seen.stored != contents(lives.at("end")):
        wrong.append(f"other rows than without the kill: {seen.stored - contents(lives.at('end'))}")
    if not observed <= life.everything():
        wrong.append(f"invented: {observed - life.everything()}")
    days = {key for key in observed if not any(line[0] == key for line in seen.raw)} | observed
    live = {(r["kind"], r["level"]) for r in seen.rows["files"] if r["state"] == "live"}
    if days and any(level != "day" for _, level in live):
        wrong.append(f"not everything is in daily files: {live}")
    return wrong


LIKE_OTHERS = ("more", "late")
"""Stages whose steps are those of others, in another state of the lake."""
STAGES = [pytest.param(stage, marks=pytest.mark.slow) if stage in LIKE_OTHERS else stage for stage in life.STAGES]


@pytest.mark.parametrize("stage", STAGES)
def test_f01_a_kill_at_any_step_is_recovered_and_the_life_goes_on(
    lives: Lives, place: Path, stage: str, record_property: Callable[[str, object], None]
) -> None:
    names = steps_of(life.STAGES[stage], lives.before(stage, place / "whole"), life.nobody)
    wrong: list[str] = []
    struck = 0
    for number, (n, kind) in enumerate(some(points(names), KILLS, f"kill-{stage}")):
        root = place / "killed"
        code, promised = kill(lives, stage, root, ("*", n, kind))
        struck += code == KILLED
        found = []
        if number % 3 == 0:
            found += goes_on(lives, stage, shutil.copytree(root, place / "on"))
        found += invariants.check(root, promised, thorough=number % 3 == 1)
        wrong += [f"{stage} {kind} {n} of {len(names)}: {what}" for what in found]
        for made in ("killed", "on"):
            shutil.rmtree(place / made, ignore_errors=True)
        (place / f"killed-{PROMISED}").unlink(missing_ok=True)
    assert wrong == []
    # a step that fails by itself (no such file) has no after: few of all, but some of a sample's few
    assert struck >= (len(points(names)) * 0.7 if FULL else 1)
    record_property(FIGURE + "kill points", (struck, "kills"))


HURT = [("collect", 0.45), ("more", 0.8), ("transform", 0.7), ("close", 0.6), ("revise", 0.9)]


@pytest.mark.parametrize("stage, share", HURT, ids=[stage for stage, _ in HURT])
def test_f03_recovery_that_is_killed_three_times_ends_as_if_it_had_not_been(
    lives: Lives, place: Path, stage: str, share: float
) -> None:
    names = steps_of(life.STAGES[stage], lives.before(stage, place / "whole"), life.nobody)
    hurt = place / "hurt"
    code, promised = kill(lives, stage, hurt, ("*", max(1, int(share * len(names))), "TORN"))
    assert code == KILLED
    reference = shutil.copytree(hurt, place / "reference")
    recovering = steps_of(invariants.recover, reference, life.NOW_AFTER)
    expected = invariants.manifest_rows(reference), invariants.files_of(reference)
    chance = random.Random(f"{SEED}-{stage}")
    wrong = []
    for n, kind in some(list(itertools.product(range(1, len(recovering) + 1), ("KILL", "KILL_AFTER"))), 4, stage):
        root = shutil.copytree(hurt, place / "again")
        deeper = [(n, kind), *((chance.randrange(1, n + 3), chance.choice(["KILL", "TORN"])) for _ in range(2))]
        codes = [run_apart(invariants.recover, root, life.NOW_AFTER, fault=("*", *fault)) for fault in deeper]
        assert codes[0] == KILLED or kind == "KILL_AFTER", "a step that fails by itself (no such file) has no after"
        found = invariants.check(root, promised)
        found += invariants.differs(root, *expected)
        wrong += [f"{stage} at {deeper}: {what}" for what in found]
        shutil.rmtree(root)
    assert wrong == []
