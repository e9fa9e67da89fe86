"""The campaign's longest files are shared by all workers, test by test; every other file stays together."""

from __future__ import annotations

from pathlib import Path

from tests.support.spreading import SPREAD, unit

ROOT = Path(__file__).parents[1]


def test_only_tests_of_spread_files_are_taken_apart() -> None:
    for file in SPREAD:
        assert unit(f"{file}::test_a[x::y-0]") == f"{file}::test_a[x::y-0]"
    assert unit("tests/faults/test_damage.py::test_a[0]") == unit("tests/faults/test_damage.py::test_b")


def test_spread_files_are_there_and_their_tests_wait_for_nothing_of_a_module() -> None:
    for file in SPREAD:
        assert 'scope="module"' not in (ROOT / file).read_text()
