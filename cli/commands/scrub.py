"""`dl scrub`: every stored file read from the disk and hashed again, and what is broken set right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import ERR, OUT, counted, print_json, progress, size
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root, reading

if TYPE_CHECKING:
    from pathlib import Path

    from cli.jobs import Report
    from daemon.config import Config
    from lake.writer import LakeWriter
    from runtime.workers import Workers

BECAME = {
    "remade": "dl transform and dl compact (or the daemon) make it again from what it was made of",
    "restored": "its twin in tables/ took its place",
    "dropped": "what was made of it is in the tables",
    "lost": "its rows are lost: dl gaps names the hole; dl gaps --repair asks for them again, dl import takes the file"
    " that they came of again, dl replay fills it while frames are kept",
    "left": "the file is right and the manifest is not: run dl rebuild",
    "held": "nothing was changed, for too many are broken at once: is every disk mounted? run it again for these",
    "": "nothing was changed",
}


@command
def scrub(
    lake: LakeOption = None,
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing: only read, and say what is broken.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Read every live file, sealed segment and frames file from the disk and hold it against its SHA-256, now.

    What is broken goes to quarantine/ and is made again from raw, or a gap says that it is lost. The daemon does the
    same slowly, every file once in `scrub.interval_days`. Exit code 1 if anything was broken or could not be read.
    """
    from cli.jobs import run_job, settings

    root = lake_root(lake, config)
    done = _look(root, quiet=as_json) if dry_run else run_job("scrub", {}, root, settings(config), as_json, work)
    ok = not (done["found"] or done["unreadable"])
    if as_json:
        print_json({"ok": ok, **done})
        return 0 if ok else 1
    for found in done["found"]:
        what = "missing" if found["verdict"] == "missing" else "not what was written"
        ERR.print(f"{found['path']}: {what}; {BECAME[found['outcome']]}", markup=False)
    for path in done["unreadable"]:
        ERR.print(f"{path}: the disk does not read it: check the disk; it stays where it is", markup=False)
    broken = len(done["found"]) + len(done["unreadable"])
    found = f"{broken:,} broken" if broken else "ok"
    OUT.print(f"{counted(done['files'], 'file')} read again ({size(done['bytes'])}): {found}")
    return 0 if ok else 1


def _look(root: Path, *, quiet: bool) -> dict[str, Any]:
    """Beside whoever writes the lake."""
    import msgspec

    from compactor.care import look_only
    from lake import scrub as scrubbing

    with reading(root) as manifest:
        targets = scrubbing.due(manifest)
    with progress("scrub", quiet=quiet) as report:
        made: dict[str, Any] = msgspec.to_builtins(look_only(root, targets, report))
    return made


def work(writer: LakeWriter, _workers: Workers, now: int, _config: Config, report: Report) -> dict[str, Any]:
    """Everything that is stored, once."""
    import msgspec

    from compactor.care import scrub_once

    made: dict[str, Any] = msgspec.to_builtins(scrub_once(writer, now, report))
    return made
