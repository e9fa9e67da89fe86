"""`dl rebuild`: manifest.db made anew from the ledger, the footers of the tables and the seals of the segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import ERR, OUT, counted, print_json, progress, size
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root

if TYPE_CHECKING:
    from lake.rebuild import Rebuilt

SHOWN = 20


@command
def rebuild(
    lake: LakeOption = None,
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing: say what would differ from the present manifest.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Make manifest.db anew where it is lost, damaged or older than the data; the old one is kept in quarantine/.

    No daemon may run. Exit code 1 where something that the lake should have is missing or damaged, or, with
    --dry-run, where the present manifest says something else.
    """
    from cli.jobs import settings
    from lake.place import shut_out_others
    from lake.rebuild import rebuild as make_anew
    from runtime.clock import SystemClock

    shut_out_others()
    root = lake_root(lake, config, must_exist=False)
    node = settings(config).collectors.node
    with progress("rebuilding", quiet=as_json) as report:
        made = make_anew(root, node, SystemClock().now(), dry_run=dry_run, report=report)
    if as_json:
        print_json({"ok": made.ok, **{name: getattr(made, name) for name in made.__struct_fields__}})
        return 0 if made.ok else 1
    _tell(made, dry_run=dry_run)
    return 0 if made.ok else 1


def _tell(made: Rebuilt, *, dry_run: bool) -> None:
    _warn("damaged ledger line", made.damaged_lines)
    _warn("contradiction in the ledger", made.contradictions)
    _warn("", [f"{f.severity}: {f.path}: {f.problem}" + (f" ({f.hint})" if f.hint else "") for f in made.findings])
    _warn("left for the next start", made.left)
    if made.unreadable:
        ERR.print(f"cannot compare: {made.unreadable}", markup=False)
    for d in (made.differences or [])[:SHOWN]:
        where = f"only in the {d.only} manifest" if d.only else ""
        changed = "; ".join(f"{name} is {a!r}, rebuilt {b!r}" for name, (a, b) in d.columns.items())
        OUT.print(f"{d.table} {' '.join(map(str, d.key))}: {where or changed}", markup=False)
    stats = made.stats
    said = ", ".join(f"{count:,} {state}" for state, count in stats.segments.items()) or "none"
    OUT.print(
        f"read {made.entries:,} ledger entries, {made.parquet_files:,} Parquet files ({size(made.parquet_bytes)})"
    )
    OUT.print(f"files: {made.live:,} live, {made.retired:,} replaced; segments: {said}")
    OUT.print(
        f"{stats.sessions:,} sessions, {sum(stats.gaps.values()):,} gaps, {stats.certificates:,} certificates, "
        f"{stats.quarantined:,} in quarantine"
    )
    if made.adopted or made.sealed:
        OUT.print(f"taken in from the disk alone: {len(made.adopted):,} files, {len(made.sealed):,} segments")
    if not dry_run:
        OUT.print("manifest.db was made anew" + (f"; the old one is {made.moved[0]}" if made.moved else ""))
    elif made.differences is not None:
        count = len(made.differences)
        OUT.print("no difference" if not count else counted(count, "difference"))


def _warn(what: str, lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        ERR.print(f"{what}: {line}" if what else line, markup=False)
    if len(lines) > SHOWN:
        ERR.print(f"and {len(lines) - SHOWN:,} more like these")
