"""`dl transform`: sealed segments to Parquet and provisional bars, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cli.output import OUT, print_json
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root

if TYPE_CHECKING:
    from cli.jobs import Report
    from daemon.config import Config
    from lake.writer import LakeWriter
    from runtime.workers import Workers


@command
def transform(lake: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Transform every sealed segment; run by the daemon where one writes the lake.

    Exit code 1 if a job failed, a segment was not what its seal says, or lines went to quarantine.
    """
    from cli.jobs import run_job, settings

    root = lake_root(lake, config)
    done = run_job("transform", {}, root, settings(config), as_json, work)
    if as_json:
        print_json(done)
        return _code(done)
    OUT.print(
        f"{done['segments']:,} segments: {done['lines']:,} lines became {done['rows']:,} rows "
        f"in {done['files']:,} files ({done['duplicates']:,} duplicates, {done['quarantined']:,} quarantined), "
        f"{done['bars']:,} minute bars"
    )
    if done["failed"] or done["parked"]:
        OUT.print(
            f"{done['failed']} jobs failed and are tried again, {done['parked']} were set aside: dl verify names them"
        )
    if done["altered"]:
        OUT.print(f"{done['altered']} segments were not what their seals say: dl gaps and dl verify name them")
    return _code(done)


def _code(done: Mapping[str, int]) -> int:
    return 1 if any(done[name] for name in ("failed", "parked", "altered", "quarantined")) else 0


def work(writer: LakeWriter, workers: Workers, now: int, config: Config, report: Report) -> dict[str, int]:
    """One pass over everything that is sealed."""
    import msgspec

    from transformer.service import transform_once

    made: dict[str, int] = msgspec.to_builtins(transform_once(writer, workers, now, config.transformer, report))
    return made
