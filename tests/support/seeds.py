"""The seed of a run: what it takes by chance is taken again with LAKE_SEED.

A campaign (`LAKE_FAULTS=full`) and a run that is given a seed take the examples of property tests by it too; else these
are the same each time, so that a landing is judged by the same ones twice.
"""

from __future__ import annotations

import os
import random

FULL = os.environ.get("LAKE_FAULTS") == "full"
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID")
SEED = int(os.environ.get("LAKE_SEED") or (random.Random(_RUN) if _RUN else random.SystemRandom()).randrange(2**32))
"""The same in all processes of one run."""
BY_SEED = FULL or bool(os.environ.get("LAKE_SEED"))
"""Whether property tests take their examples by it."""
