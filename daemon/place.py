"""Which lake a run means, and whether another process writes it: asked before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from daemon.arguments import Options
from daemon.config import Config
from lake.errors import LakeLocked, NotALake
from lake.lock import read_lock


def root_of(config: Config, options: Options) -> Path:
    """The folder of the lake: `--lake`, else the configured one of the mode."""
    return options.lake or (config.simulate.lake if options.simulate else config.lake)


def free_root(config: Config, options: Options) -> Path:
    """`root_of` where nobody writes it. Raises LakeLocked naming who does, NotALake; touches nothing."""
    root = root_of(config, options)
    try:
        holder = read_lock(root)
    except OSError as error:
        raise NotALake(f"{root} cannot hold a lake: {error.strerror}", "name another folder") from error
    if holder is not None:
        raise LakeLocked(f"{root} is being written by process {holder.pid}", "stop it first, or use --lake")
    return root
