"""`dl reload`: let the running daemon read its configuration again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from cli.output import OUT, print_json
from cli.places import ConfigOption, JsonOption, LakeOption, NoDaemon, command, lake_root

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")]
SHOWN = 20


@command
def reload(
    lake: LakeOption = None, config: ConfigOption = None, dry_run: DryRunOption = False, as_json: JsonOption = False
) -> int:
    """Apply what changed of collectors.sources without dropping what stays; the same as SIGHUP.

    The daemon reads the file that it was started with. One that is wrong is refused whole, with exit code 78. What
    needs a restart is named.
    """
    from cli.jobs import ask
    from lake.lock import read_lock

    root = lake_root(lake, config)
    holder = read_lock(root)
    if holder is None or not holder.port:
        raise NoDaemon(f"no daemon writes {root}: there is nothing to reload")
    done = ask(holder, "reload", {"dry_run": dry_run}, lambda _done, _total, _what: None)
    if as_json:
        print_json(done)
        return 0
    _show(done)
    return 0


def _show(done: Mapping[str, Any]) -> None:
    changed, would = done["changed"], "would be " if done["dry_run"] else ""
    for sign, streams in (("+", changed["added"]), ("-", changed["removed"])):
        _list(sign, streams)
    replaced, opened, closed = (len(changed[name]) for name in ("replaced", "opened", "closed"))
    what = [
        f"{len(changed['added']):,} streams {would}added, {len(changed['removed']):,} removed",
        f"{replaced:,} connections replaced, {opened:,} opened, {closed:,} closed",
    ]
    if changed["polls"]:
        what.append(f"polls of {', '.join(changed['polls'])}")
    same = not any(changed.values())
    said = "nothing changes of what is collected" if same else "; ".join(what)
    OUT.print(f"{done['config']}: {said}", markup=False)
    for path in done["restart"]:
        OUT.print(f"{path} needs a restart", markup=False)


def _list(sign: str, streams: Sequence[str]) -> None:
    for stream in streams[:SHOWN]:
        OUT.print(f"{sign} {stream}", markup=False)
    if len(streams) > SHOWN:
        OUT.print(f"{sign} and {len(streams) - SHOWN:,} more (--json lists all)", markup=False)
