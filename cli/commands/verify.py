"""`dl verify`: whether the lake is what it says it is."""

from __future__ import annotations

from cli.output import ERR, OUT, print_json, progress, size
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root


@command
def verify(lake: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Hash and decode every file, recompute every content digest, and prove the id law. Exit code 1 on any error."""
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
    for finding in result.findings:
        style = "red" if finding.severity == "error" else "yellow"
        ERR.print(f"[{style}]{finding.severity}[/] {finding.path}: {finding.problem}", highlight=False)
        if finding.hint:
            ERR.print(f"  {finding.hint}", markup=False)
    held = sum(law.holds for law in result.laws)
    OUT.print(
        f"{result.files:,} files, {result.rows:,} rows, {result.segments:,} segments read back "
        f"({size(result.bytes)}): {result.certificates:,} certificates reproduced, "
        f"id law holds in {held} of {len(result.laws)} daily files"
    )
    errors = sum(finding.severity == "error" for finding in result.findings)
    OUT.print("verified" if result.ok else f"{errors} errors")
    return 0 if result.ok else 1
