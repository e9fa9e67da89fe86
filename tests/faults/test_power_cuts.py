"""F04: power cuts at every step of a lake's life, in every way a file system may have reordered what was not synced."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.support import invariants, life
from tests.support.faults import FIGURE, FULL, SEED, Lives
from tests.support.life import Promise
from tests.support.powercut import Recording, State, record, states

PARTS = 4 if FULL else 1
"""Tests that share the states of a stage."""
WANTED = 21_000 if FULL else 320
"""States of all stages together."""
SHARE = dict(zip(life.STAGES, (0.26, 0.1, 0.12, 0.08, 0.2, 0.08, 0.1, 0.06), strict=True))


_RECORDED: dict[str, Recording[Promise]] = {}
"""By stage: nothing is changed in them."""


def recorded(lives: Lives, stage: str, place: Path) -> Recording[Promise]:
    if stage not in _RECORDED:
        root = lives.before(stage, place / f"recorded-{stage}")
        _RECORDED[stage] = record(lambda tell: life.STAGES[stage](root, tell), root, lives.promises[stage])
    return _RECORDED[stage]


def endless(recording: Recording[Promise]) -> Iterator[tuple[str, State, Promise]]:
    """States of one seed after another, cut finer and finer, each once."""
    seen: set[tuple[int, Promise]] = set()
    for turn in range(200):
        fresh = 0
        for where, state, promised in states(recording, SEED + turn, cuts=2 + 2 * turn, extra=4 + 4 * turn):
            key = (state.key, promised)
            if key not in seen:
                seen.add(key)
                fresh += 1
                yield where, state, promised
        if not fresh:
            return


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("stage", life.STAGES)
@pytest.mark.timeout(3600 if FULL else 300)
def test_f04_whatever_a_power_cut_leaves_is_recovered(
    lives: Lives, place: Path, stage: str, part: int, record_property: Callable[[str, object], None]
) -> None:
    count = round(WANTED * SHARE[stage] / PARTS)
    recording = recorded(lives, stage, place)
    # a short run spreads its states over the whole stage
    stride = PARTS if FULL else max(1, len(list(states(recording, SEED))) // count)
    wrong: list[str] = []
    checked = 0
    for where, state, promised in islice(islice(endless(recording), part % stride, None, stride), count):
        root = place / "cut"
        root.mkdir()
        state.build(root)
        found = invariants.check(root, promised, floor=state.floor, thorough=checked % 5 == 0)
        wrong += [f"{stage}, {where}: {what}" for what in found]
        checked += 1
        shutil.rmtree(root)
    print(f"{checked} states")
    assert wrong == []
    assert checked > 0.9 * count
    record_property(FIGURE + "power-cut states", (checked, "states"))


def test_f04_every_step_of_every_stage_is_seen(lives: Lives, place: Path) -> None:
    """The search is only as good as what it watches."""
    names = {step.op.name for stage in life.STAGES for step in recorded(lives, stage, place).steps if step.op}
    assert names == {"create", "write", "sync", "fsync", "fsync_dir", "mkdir", "rename", "link", "unlink"}
    commits = [s for stage in ("collect", "close") for s in recorded(lives, stage, place).steps if s.image]
    assert len(commits) > 20
