"""What the catalogue of faults shares: lakes to harm, in memory where possible, and how to have a failure again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import loguru
import pytest

from tests.support.faults import SEED, Lives, memory


@pytest.fixture(autouse=True)
def _replayable() -> None:
    """A failure shows the seed that repeats it."""
    print(f"LAKE_SEED={SEED}")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Hundreds of small lives have nothing to say."""
    loguru.logger.remove()


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
