"""`dl resume`: let the running daemon leave safe mode."""

from __future__ import annotations

from cli.output import OUT, print_json
from cli.places import ConfigOption, JsonOption, LakeOption, NoDaemon, command, lake_root


@command
def resume(lake: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Let the daemon leave safe mode now: after failed starts it collects raw data only, for some minutes.

    Exit code 69 where no daemon runs.
    """
    from cli.jobs import ask
    from lake.lock import read_lock

    root = lake_root(lake, config)
    holder = read_lock(root)
    if holder is None or not holder.port:
        raise NoDaemon(f"no daemon writes {root}: there is nothing to resume")
    done = ask(holder, "resume", {}, lambda _done, _total, _what: None)
    if as_json:
        print_json(done)
    else:
        OUT.print("safe mode is left" if done["safe_mode_left"] else "it was not in safe mode: nothing changes")
    return 0
