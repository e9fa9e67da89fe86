"""What holds for every test: hypothesis knows no deadline, since the machine may be busy with other tests.

Which examples it takes is said in `tests/support/seeds.py`; a failure of a run that takes new ones says its seed.
And what tests have measured is added up, whichever folder they are in.

Folders of tests are in memory where there is room: a test syncs hundreds of times, and what it is told of that it asks
of the steps that were taken, never of a disk. A folder is gone when its test has passed (`tmp_path_retention_policy`).

The logger is imported here, since it goes on writing to the stderr that there was when it was: one of a command that a
test runs is closed with it, and what a later test says would end in "I/O operation on closed file".
"""

from __future__ import annotations

import asyncio.constants
import os
import shutil
import traceback
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import loguru  # noqa: F401 # see above
import pytest
from hypothesis import core, settings
from xdist.remote import Producer

from scripts import figures
from tests.support.engines import quick_engines
from tests.support.seeds import BY_SEED, SEED
from tests.support.spreading import LONGEST, Spreading, file_of

MEMORY = Path("/dev/shm")
ROOM = 4_000_000_000
"""Bytes that must be free there, and half of it at least: a daemon that is tested finds its disk far from low."""
if os.access(MEMORY, os.W_OK):
    usage = shutil.disk_usage(MEMORY)
    if usage.free > max(ROOM, usage.total // 2):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# asyncio's debug mode notes where each future, task and call was made: the innermost frames say it, and all forty took
# as long as the tests themselves
FRAMES = 3
asyncio.constants.DEBUG_STACK_DEPTH = FRAMES
traceback.extract_stack.__defaults__ = (None, FRAMES)

settings.register_profile("lake", deadline=None, print_blob=True, derandomize=not BY_SEED)
settings.load_profile("lake")
if BY_SEED:
    core.global_force_seed = SEED  # as --hypothesis-seed does, which counts where it is given


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if BY_SEED and report.failed:
        report.sections.append(("seed of the run", f"LAKE_SEED={SEED}"))
    return report


@pytest.fixture(scope="session", autouse=True)
def _quick_engines() -> Iterator[None]:
    with quick_engines():
        yield


SLOW_SECONDS = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who asks for the slow tests waits for them, on a busy machine too; the longest files are begun first."""
    items.sort(key=lambda item: file_of(item.nodeid) not in LONGEST)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Spreading | None:
    """Every worker of a campaign takes part in its longest files; else a file is one worker's."""
    spread = os.environ.get("LAKE_FAULTS") == "full" and config.getvalue("dist") == "loadfile"
    return Spreading(config, log) if spread else None


_measured: Counter[tuple[str, str]] = Counter()
"""By figure and unit, what the tests of this run told of (`record_property("figure: name", (count, unit))`)."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Figures add up in the process that reports, whichever worker ran the test."""
    if report.when == "call" and report.passed:
        for name, told in report.user_properties:
            if name.startswith(figures.FIGURE):
                count, unit = told
                _measured[name.removeprefix(figures.FIGURE), unit] += count


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A campaign without a failure writes its figures down, as those of the command in LAKE_FIGURES."""
    whole = exitstatus == 0 and not hasattr(session.config, "workerinput") and _measured
    command = os.environ.get("LAKE_FIGURES")
    if whole and command:
        figures.record({name: (count, unit) for (name, unit), count in _measured.items()}, command)
