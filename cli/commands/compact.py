"""`dl compact`: parts to hours to certified daily files, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.output import ERR, OUT, print_json
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root

if TYPE_CHECKING:
    from cli.jobs import Report
    from daemon.config import Config
    from lake.writer import LakeWriter
    from runtime.workers import Workers


@command
def compact(lake: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Merge what is ready, close past days, apply retention; what was parked is tried again.

    Exit code 1 if a job failed.
    """
    from cli.jobs import run_job, settings

    root = lake_root(lake, config)
    done = run_job("compact", {}, root, settings(config), as_json, work)
    if as_json:
        print_json(done)
        return 1 if done["failures"] else 0
    OUT.print(
        f"{done['hours']:,} hours merged, {done['days']:,} days closed, {done['files']:,} daily files "
        f"({done['rows']:,} rows, {len(done['certificates']):,} certificates), "
        f"{done['deleted']:,} replaced files deleted"
    )
    for failure in done["failures"]:
        ERR.print(f"failed: {failure}", markup=False)
    return 1 if done["failures"] else 0


def work(writer: LakeWriter, workers: Workers, now: int, config: Config, report: Report) -> dict[str, Any]:
    """One pass over everything that is ready."""
    import msgspec

    from collectors import exchanges
    from compactor.service import compact_once

    made = compact_once(writer, workers, now, config.compactor, report, again=True, parsers=exchanges.parsers)
    told: dict[str, Any] = msgspec.to_builtins(made)
    return told
