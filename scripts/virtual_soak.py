"""Days, months or years of the daemon on a clock that jumps, every day compared with what happened.

The real services against the twins of the six venues, faults drawn from a seed, at one venue after the other:

    python scripts/virtual_soak.py [--seed 1] [--days 30] [--faults 200] [--rate 0.4] [--venues binance,okx] [--json]
    python scripts/virtual_soak.py --campaign --days 30 --faults 200 [--record]

One process, one thread, no sockets: whatever it finds is found again with the same seed (the report ends with the
command). `--only 17,18` carries out these faults of the schedule alone, `--kinds kill,outage` draws from these only,
`--log` shows what the daemon says, `--frames` makes the lake's rows of its frames once more at the end. Each lake has
one market of each venue and one of its kinds (`--wide`: three), by the seed: twenty-four seeds that follow each other
have them all. One venue alone lives all its markets. See `tests/support/virtual/`.

A campaign is two lakes that live through all the days, each with half of the venues, and two more of all of them that
live through a day or two of the worst, two processes at a time. Its rate is two trades or quotes of six venues in five
seconds: 30 days are more than three million events. `--record` writes its figures to docs/reliability-figures.json.

Writes nothing outside a temporary folder, or `--out`. Exit code 0, 1 for findings.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("POLARS_MAX_THREADS", "1")  # before polars is imported: what one core takes is what is said

from runtime.loop import GC_THRESHOLDS  # noqa: E402 -- the packages are one folder up
from tests.support.virtual.soak import main  # noqa: E402

if __name__ == "__main__":
    gc.freeze()  # as the daemon's own loop does
    gc.set_threshold(*GC_THRESHOLDS)
    raise SystemExit(main(sys.argv[1:] or ["--days", "30"]))
