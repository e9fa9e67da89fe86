"""The seed of a run says which examples property tests take; without one they are the same each time."""

from __future__ import annotations

import pytest
from hypothesis import core, given, settings
from hypothesis import strategies as st

from tests.support.seeds import BY_SEED, SEED


def test_this_run_takes_its_examples_as_it_says(pytestconfig: pytest.Config) -> None:
    assert settings.default is not None
    assert settings.default.derandomize is not BY_SEED
    if pytestconfig.getoption("--hypothesis-seed") is None:
        assert core.global_force_seed == (SEED if BY_SEED else None)


def test_a_seed_gives_the_same_examples_again_and_another_one_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def examples(seed: int) -> list[int]:
        seen = list[int]()

        @settings(derandomize=False, database=None, max_examples=20)
        @given(st.integers())
        def take(number: int) -> None:
            seen.append(number)

        monkeypatch.setattr(core, "global_force_seed", seed)
        take()
        return seen

    assert examples(SEED) == examples(SEED)
    assert examples(SEED) != examples(SEED + 1)
