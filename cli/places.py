"""Which lake a command means, and how its errors end: a sentence on stderr and a documented exit code."""

from __future__ import annotations

import contextlib
import functools
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, ParamSpec

import typer

from cli.output import ERR, discard_output
from daemon.errors import DaemonError
from lake.errors import LakeError, NotALake
from lake.layout import LEDGER, MANIFEST
from lake.refused import cure
from market import times
from market.errors import MarketError
from market.times import Interval
from runtime.service import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_STORAGE

if TYPE_CHECKING:
    from lake.manifest import Manifest

P = ParamSpec("P")

LakeOption = Annotated[
    Path | None, typer.Option("--lake", help="The lake's folder.", show_default=False, readable=False)
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="A config.yml that names the lake (default: ./config.yml).", readable=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
KindOption = Annotated[str | None, typer.Option(help="Only this kind, e.g. trade.")]
ExchangeOption = Annotated[str | None, typer.Option(help="Only this exchange.")]
MarketTypeOption = Annotated[
    str | None, typer.Option("--market-type", "--market", help="Only this market: spot, linear, …")
]
SymbolOption = Annotated[str | None, typer.Option(help="Only this symbol, as the venue spells it.")]
SymbolsOption = Annotated[
    list[str] | None,
    typer.Option("--symbol", help="Only this symbol, as the venue spells it; may be given often."),
]
StartOption = Annotated[
    str | None, typer.Option("--start", "--from", help="From this time on (UTC): 2026-11-20 or 2026-11-20T13:45:00Z.")
]
EndOption = Annotated[str | None, typer.Option("--end", "--to", help="Before this time (UTC).")]


def lake_root(lake: Path | None, config: Path | None, *, must_exist: bool = True) -> Path:
    """The folder that --lake, or the config's `lake`, names. Raises NotALake where there is none."""
    if lake is None:
        from daemon.config import load_config

        lake = Path(load_config(config or Path("config.yml")).lake)
    if lake.exists() and not lake.is_dir():
        raise NotALake(f"{lake} is not a folder", "name one with --lake DIR or --config FILE")
    if must_exist and not (lake / MANIFEST).is_file():
        lost = (lake / LEDGER).is_dir()
        hint = "run: dl rebuild" if lost else "name one with --lake DIR or --config FILE"
        raise NotALake(f"{lake} is no lake: it has no {MANIFEST}", hint)
    return lake


@contextlib.contextmanager
def reading(root: Path) -> Iterator[Manifest]:
    """The manifest of a lake, read-only. Raises NotALake, CorruptManifest."""
    from lake.manifest import Manifest

    manifest = Manifest.read_only(root)
    try:
        yield manifest
    finally:
        manifest.close()


class UsageError(LakeError):
    """Options that ask for nothing possible; the message says which."""

    exit_code = 2


class NoDaemon(LakeError):
    """Something was to be done by a daemon, and none runs."""

    exit_code = 69


def unmet(symbols: list[str] | None, there: Callable[[str], bool]) -> list[str]:
    """Of several symbols those that are not `there`: one that is misspelt may not hide behind the others."""
    return [one for one in symbols if not there(one)] if symbols is not None and len(symbols) > 1 else []


def span_of(start: str | None, end: str | None) -> Interval | None:
    """What --start and --end limit, None where neither is given. Raises Malformed, UsageError for an empty span."""
    if start is None and end is None:
        return None
    low = times.parse(start) if start is not None else -(2**62)
    high = times.parse(end) if end is not None else 2**62
    if low >= high:
        raise UsageError(f"--start {start} is not before --end {end}", "the end itself is not included")
    return Interval(low, high)


def command(function: Callable[P, int | None]) -> Callable[P, None]:
    """Run a command: its return value is the exit code, an error of ours is a sentence and its own exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = function(*args, **kwargs)
        except (LakeError, DaemonError) as error:
            _end(f"error: {error}", error.exit_code)
        except MarketError as error:
            _end(f"error: {error}", 2)
        except BrokenPipeError:
            discard_output()
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            _end("interrupted", EXIT_INTERRUPTED)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            fix = f" ({cure(error)})" if cure(error) else ""
            _end(f"error: {where}{error.strerror or error}{fix}", EXIT_STORAGE)
        except Exception as error:  # noqa: BLE001 - a defect of ours: one line, and the rest for who asks for it
            if _interrupted(error):
                _end("interrupted", EXIT_INTERRUPTED)
            if os.environ.get("DL_TRACEBACK"):
                traceback.print_exc()
            place = traceback.extract_tb(error.__traceback__)[-1]
            _end(
                f"internal error: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno}; "
                "DL_TRACEBACK=1 shows all of it)",
                EXIT_INTERNAL,
            )
        raise typer.Exit(code or 0)

    return run


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: a library whose import it breaks off makes an ImportError of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


def _end(message: str, code: int) -> NoReturn:
    ERR.print(message, markup=False)
    raise typer.Exit(code) from None
