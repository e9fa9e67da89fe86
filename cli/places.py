"""Which lake a command means, and how its errors end: a sentence on stderr and a documented exit code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from cli.output import ERR
from lake.errors import LakeError, NotALake
from lake.layout import MANIFEST
from market.errors import MarketError

P = ParamSpec("P")

LakeOption = Annotated[Path | None, typer.Option("--lake", help="The lake's folder.", show_default=False)]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A config.yml that names the lake (default: ./config.yml).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
KindOption = Annotated[str | None, typer.Option(help="Only this kind, e.g. trade.")]
ExchangeOption = Annotated[str | None, typer.Option(help="Only this exchange.")]
MarketTypeOption = Annotated[str | None, typer.Option("--market-type", help="Only this market: spot, linear, …")]
SymbolOption = Annotated[str | None, typer.Option(help="Only this symbol, as the venue spells it.")]
StartOption = Annotated[str | None, typer.Option(help="From this time on (UTC): 2026-11-20 or 2026-11-20T13:45:00Z.")]
EndOption = Annotated[str | None, typer.Option(help="Before this time (UTC).")]


def lake_root(lake: Path | None, config: Path | None, *, must_exist: bool = True) -> Path:
    """The folder that --lake, or the config's `lake`, names. Raises NotALake where there is none."""
    if lake is None:
        from daemon.config import load_config

        lake = Path(load_config(config or Path("config.yml")).lake)
    if must_exist and not (lake / MANIFEST).is_file():
        raise NotALake(f"{lake} holds no lake (no {MANIFEST} in it)", "name one with --lake DIR or --config FILE")
    return lake


def command(function: Callable[P, int | None]) -> Callable[P, None]:
    """Run a command: its return value is the exit code, an error of ours is a sentence and its own exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = function(*args, **kwargs)
        except LakeError as error:
            ERR.print(f"error: {error}", markup=False)
            raise typer.Exit(error.exit_code) from error
        except MarketError as error:
            ERR.print(f"error: {error}", markup=False)
            raise typer.Exit(2) from error
        except BrokenPipeError:
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            ERR.print("interrupted")
            raise typer.Exit(130) from None
        raise typer.Exit(code or 0)

    return run
