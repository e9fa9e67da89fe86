"""`dl verify`: whether the lake is what it says it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.output import ERR, OUT, print_json, print_table, progress, size
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lake.finding import Finding
    from lake.law import StreamLaw


@command
def verify(lake: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Hash and decode every file, recompute every content digest, and prove the ledger law of every stream.

    The law: lines = rows + duplicates + set aside + waiting; and of numbered events last - first + 1 = stored + void +
    missing. Exit code 1 on any error.
    """
    from lake.manifest import Manifest
    from lake.verify import verify_lake

    root = lake_root(lake, config)
    manifest = Manifest.read_only(root)
    try:
        with manifest.snapshot() as now, progress("verifying", quiet=as_json) as report:
            result = verify_lake(root, now, report)
    finally:
        manifest.close()
    if as_json:
        print_json({"ok": result.ok, **{name: getattr(result, name) for name in result.__struct_fields__}})
        return 0 if result.ok else 1
    say(result.findings)
    _law(result.streams)
    for market in result.markets:
        OUT.print(
            f"{market.exchange} {market.market_type}: {market.frames:,} frames in {market.sessions:,} sessions told of"
            f" {market.events:,} new events, {market.rejected:,} rejected, {market.ignored:,} of other channels"
            + (f"; {market.untold:,} sessions ended before they could tell" if market.untold else "")
        )
    held = sum(law.holds for law in result.laws)
    OUT.print(
        f"{result.files:,} files, {result.rows:,} rows, {result.segments:,} segments read back "
        f"({size(result.bytes)}): {result.certificates:,} certificates reproduced, "
        f"id law holds in {held} of {len(result.laws)} daily files"
    )
    errors = sum(finding.severity == "error" for finding in result.findings)
    OUT.print("verified" if result.ok else f"{errors} errors")
    return 0 if result.ok else 1


def say(findings: Iterable[Finding]) -> None:
    """Each finding on stderr, with what to do."""
    for finding in findings:
        style = "red" if finding.severity == "error" else "yellow"
        ERR.print(f"[{style}]{finding.severity}[/] {finding.path}: ", end="", highlight=False)
        ERR.print(finding.problem, markup=False)
        if finding.hint:
            ERR.print(f"  {finding.hint}", markup=False)


def _law(streams: Iterable[StreamLaw]) -> None:
    rows = []
    for law in streams:
        ids = law.ids
        counted = (law.lines, law.rows, law.duplicates, law.set_aside, law.waiting, law.lost, law.gaps)
        numbered: tuple[int | None, ...] = (None,) * 6
        if ids is not None:
            numbered = (ids.numbered, ids.stored, ids.void, ids.missing, ids.uncollected, ids.unexplained)
        rows.append((law.exchange, law.market_type, law.kind, *counted, *numbered, "yes" if law.holds else "NO"))
    columns = (
        "exchange", "market", "kind", "lines", "rows", "copies", "set aside", "waiting", "lost", "gaps", "ids",
        "stored", "void", "missing", "not asked for", "unexplained", "law holds",
    )  # fmt: skip
    print_table("lines = rows + copies + set aside + waiting; ids = stored + void + missing + not asked for", columns,
                rows, "no stream holds anything yet")  # fmt: skip
