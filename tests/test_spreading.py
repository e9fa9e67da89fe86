"""The longest files are begun first; the campaign's are shared by all workers, test by test, and no other is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.spreading import LONGEST, SPREAD, file_of, unit

ROOT = Path(__file__).parents[1]


def test_only_tests_of_spread_files_are_taken_apart() -> None:
    for file in SPREAD:
        assert unit(f"{file}::test_a[x::y-0]") == f"{file}::test_a[x::y-0]"
    assert unit("tests/faults/test_damage.py::test_a[0]") == unit("tests/faults/test_damage.py::test_b")


def test_spread_files_are_there_and_their_tests_wait_for_nothing_of_a_module() -> None:
    for file in SPREAD:
        assert 'scope="module"' not in (ROOT / file).read_text()


def test_the_longest_files_are_there_and_before_all_others(request: pytest.FixtureRequest) -> None:
    assert all((ROOT / file).is_file() for file in LONGEST)
    late = [file_of(item.nodeid) not in LONGEST for item in request.session.items]
    assert late == sorted(late)
