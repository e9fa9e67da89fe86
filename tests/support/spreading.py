"""How the workers of a campaign share its tests: a file is one worker's, but for the few that all of them take of.

The tests of those share nothing that a worker does not make in seconds, and one of these files alone would keep one
processor busy for half an hour while the others wait.
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


def unit(test: str) -> str:
    """The tests that the same worker takes as this one: those of its file, or itself alone."""
    file = test.partition("::")[0]
    return test if file in SPREAD else file


class Spreading(LoadFileScheduling):
    """`--dist loadfile`, with the files of SPREAD taken apart."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
