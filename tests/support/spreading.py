"""How workers share tests: the longest files are begun first, and a file is one worker's, but for a few in a campaign.

All workers take of those few. Their tests share nothing that a worker does not make in seconds, and one of these files
alone would keep one processor busy for half an hour while the others wait.
"""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadFileScheduling

SPREAD: Final = (
    "tests/faults/test_kills.py",
    "tests/faults/test_power_cuts.py",
    "tests/faults/test_storage.py",
    "tests/properties/test_lake_model.py",
    "tests/properties/test_parser_fuzz.py",
)
LONGEST: Final = (
    "tests/collectors/test_filling.py",
    "tests/faults/test_damage.py",
    "tests/faults/test_power_cuts.py",
    "tests/system/test_crash_anywhere.py",
    "tests/system/test_losses_are_rows.py",
    "tests/system/test_midnight_and_restarts.py",
    "tests/system/test_twins.py",
)
"""Half a minute each: one that is begun last is waited for by everybody."""


def file_of(test: str) -> str:
    return test.partition("::")[0]


def unit(test: str) -> str:
    """The tests that the same worker takes as this one: those of its file, or itself alone."""
    file = file_of(test)
    return test if file in SPREAD else file


class Spreading(LoadFileScheduling):
    """`--dist loadfile`, with the files of SPREAD taken apart."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
