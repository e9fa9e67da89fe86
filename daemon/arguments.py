"""The command line of `python -m daemon`, and the exit codes it documents."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from runtime.service import EXIT_USAGE

PARTS = ("collectors", "transformer", "compactor", "serve")
_EPILOG = """\
exit codes:
    0  stopped as asked                     64  wrong command line
   66  no configuration file, no lake       70  internal error
   73  another process writes the lake      74  storage failed, or manifest.db is damaged
   78  wrong configuration, or a lake of another kind or version
  130  interrupted a second time

Ctrl-C (or SIGTERM) stops in phases within shutdown_seconds; a second one stops at once.
SIGHUP (or `dl reload`) reads the configuration again and applies what changed of collectors.sources.
"""


class Options(msgspec.Struct, frozen=True):
    """What the command line said. `only` are the parts to run; `duration` in seconds, None for ever."""

    config: Path = Path("config.yml")
    check: bool = False
    explain: bool = False
    only: tuple[str, ...] = PARTS
    simulate: bool = False
    duration: float | None = None
    lake: Path | None = None


class _Once(argparse.Action):
    """An option that takes one value: given twice it is not known which is meant."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, name: str | None = None
    ) -> None:
        given = vars(namespace).setdefault("given", set())
        if self.dest in given:
            parser.error(f"argument {name}: is given twice, and takes one value")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """What the command line may say; `docs/cli.md` is made from it."""
    made = _Parser(
        prog="python -m daemon",
        description="Collect, transform and compact market data until told to stop.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.register("action", None, _Once)
    add = made.add_argument
    add("--config", type=Path, default=Path("config.yml"), metavar="FILE", help="configuration (default: config.yml)")
    add("--lake", type=Path, metavar="DIR", help="folder of the lake, in place of the configured one")
    add("--check", action="store_true", help="say whether the configuration is right, then end")
    add("--explain", action="store_true", help="print every setting, its meaning and its current value, then end")
    add("--only", type=_parts, default=PARTS, metavar="PART,…", help=f"run only these parts of {', '.join(PARTS)}")
    add("--simulate", action="store_true", help="collect from a local exchange, starting yesterday before midnight")
    add("--duration", type=_seconds, metavar="SECONDS", help="stop by itself after this long")
    return made


def parse(arguments: Sequence[str]) -> Options:
    """The options; a wrong line ends the process with 64, --help with 0."""
    given = parser().parse_args(arguments)
    return Options(
        config=given.config,
        check=given.check,
        explain=given.explain,
        only=given.only,
        simulate=given.simulate,
        duration=given.duration,
        lake=given.lake,
    )


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise argparse.ArgumentTypeError(
            f"unknown part {', '.join(unknown) or '(none given)'}; known: {', '.join(PARTS)}"
        )
    return parts


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above zero")
    return value
