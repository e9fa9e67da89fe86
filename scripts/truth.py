"""Compares a lake with what the simulator really sent: `scripts/truth.py demo-lake`, after `--simulate` or beside one.

`python -m daemon --simulate` leaves the simulator's log in the lake (`simulator.jsonl`, of several exchanges one each:
`simulator-okx.jsonl`); one that was started by hand (`python -m simulator --log FILE`) is given with --truth. Judged by
`simulator.oracle`, as the soak is: of every stream each event that happened is stored once as it was, or an open gap
covers it; and gaps cover what is missing, or lie beside a fault. Exit code 0: nothing was found, 1: something was, 2:
it cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from soak_compare import compare  # which puts the packages, one folder up, where they are found

from lake.errors import LakeError
from lake.manifest import Manifest
from simulator import oracle

GRACE = 45.0
SHOWN = 40


def compare_all(lake: Path, given: Path | None, until: int | None, grace: float) -> dict[str, Any]:
    """The verdict by exchange. `until` (us, the simulator's clock) is when collecting was to stop: else the last
    session's end.

    Raises LakeError for a lake that cannot be compared, ValueError for a log that cannot be read.
    """
    manifest = Manifest.read_only(lake)
    try:
        waiting = sum(
            row.state in ("open", "sealed") and row.rows > 0 for row in manifest.segments() if row.kind != "frames"
        )
        sessions = manifest.sessions()
        known = sorted({stream[0] for stream in manifest.streams()})
    finally:
        manifest.close()
    if waiting:
        raise LakeError(f"{waiting} segments are no rows yet", f"stop the daemon, then run: dl transform --lake {lake}")
    if not sessions:
        raise LakeError(f"{lake} holds nothing that was collected")
    end = until or max(row.closed_at or row.opened_at for row in sessions)
    found = {}
    for exchange in known:
        log = truth_of(given or lake / "simulator.jsonl", exchange)
        _, verdict = compare(lake, log, exchange, end, grace)
        found[exchange] = {"ok": verdict.good, **msgspec.to_builtins(verdict)}
    return found


def truth_of(log: Path, exchange: str) -> Path:
    """The log of one exchange: where several ran, each has one of its own. Raises LakeError where there is none."""
    for path in (log.with_stem(f"{log.stem}-{exchange}"), log):
        if path.is_file():
            return path
    raise LakeError(f"there is no log {log}", "name the simulator's with --truth FILE")


def show(exchange: str, found: dict[str, Any]) -> None:
    """For people."""
    print(exchange)
    for name, value in found.items():
        if name not in ("findings", "ok"):
            print(f"  {name.replace('_', ' '):20} {value:,}" if isinstance(value, int) else f"  {name:20} {value}")
    for one in found["findings"][:SHOWN]:
        where = " ".join((one["market"], one["kind"], one["symbol"]))
        print(f"  ! {where}: {one['count']} {oracle.RULES.get(one['rule'], one['rule'])}: {one['detail']}")
    print("the lake is what was sent" if found["ok"] else f"{len(found['findings'])} findings")


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--truth", type=Path, help="the simulator's log (default: simulator.jsonl in the lake)")
    parser.add_argument("--until", type=int, help="us of its clock at which collecting was told to stop")
    parser.add_argument("--grace", type=float, default=GRACE, help="seconds after a fault that its gaps may begin in")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(given)
    try:
        found = compare_all(options.lake, options.truth, options.until, options.grace)
    except (LakeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found, indent=1))
    for exchange, verdict in found.items() if not options.json else ():
        show(exchange, verdict)
    return 0 if all(verdict["ok"] for verdict in found.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
