"""What the catalogue of faults shares: lakes to harm, in memory where possible, and how to have a failure again."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import loguru
import pytest

from scripts import figures
from tests.support import invariants
from tests.support.faults import FIGURE, SEED, Lives, memory

_measured: Counter[tuple[str, str]] = Counter()
"""By figure and unit, what the tests of this run told of (`record_property("figure: name", (count, unit))`)."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Figures add up in the process that reports, whichever worker ran the test."""
    if report.when == "call" and report.passed:
        for name, told in report.user_properties:
            if name.startswith(FIGURE):
                count, unit = told
                _measured[name.removeprefix(FIGURE), unit] += count


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A whole campaign without a failure writes its figures down (`make test-faults`)."""
    whole = exitstatus == 0 and not hasattr(session.config, "workerinput") and _measured
    if whole and os.environ.get("LAKE_FIGURES"):
        figures.record({name: (count, unit) for (name, unit), count in _measured.items()}, "make test-faults")


@pytest.fixture(autouse=True)
def _replayable() -> None:
    """A failure shows the seed that repeats it."""
    print(f"LAKE_SEED={SEED}")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Hundreds of small lives have nothing to say."""
    loguru.logger.remove()


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with invariants.quick_engines():
        yield


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder, in memory where possible."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def lives() -> Iterator[Lives]:
    loguru.logger.remove()
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        yield Lives(Path(folder))
