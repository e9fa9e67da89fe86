"""The commands of `dl` by name, each imported when it is called: all forty of them take a tenth of a second.

The list that `dl --help` shows needs a line of each only, which is written down here: what a newcomer looks for, in
the panel that it is looked for in.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, MutableMapping
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

MARKUP: Final = "markdown"
"""Of the three ways in which help is shown, the one that flows paragraphs."""


class Once(TyperCommand):
    """A command that refuses an option given twice where it takes one value, since it cannot know which is meant; and
    one given an empty text, which is what a script makes of a variable that is not set.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        left = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            said, _, order = self.make_parser(ctx).parse_args(given)
            for param, times in Counter(order).items():
                name, often = " / ".join(param.opts), getattr(param, "multiple", False)
                if times > 1 and not (often or getattr(param, "is_flag", False)):
                    ctx.fail(f"{name} is given {times} times, and takes one value.")
                if param.param_type_name == "option" and param.default != "":
                    value = said[param.name or ""]
                    if "" in (value if often else (value,)):
                        ctx.fail(f"{name} is given an empty text. Leave it out, or say what is meant.")
        return left


class Verb:
    """Where a command is, `module:function` or `module:app` inside `cli.commands`; the panel of the help that it is
    shown in, and what it is in a line.
    """

    def __init__(self, place: str, panel: str, line: str, *, hidden: bool = False) -> None:
        self.module, _, self.name = place.partition(":")
        self.name = self.name or self.module
        self.panel, self.line, self.hidden = panel, line, hidden

    def load(self, called: str) -> Any:
        """The command itself, by the name it was called."""
        found = getattr(importlib.import_module(f"cli.commands.{self.module}"), self.name)
        if isinstance(found, typer.Typer):
            for info in found.registered_commands:
                info.cls = Once
            made: Any = get_command(found)
        else:
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=MARKUP)
            alone.command(cls=Once)(found)
            made = get_command(alone)
        made.name, made.hidden = called, self.hidden
        for one in (made, *getattr(made, "commands", {}).values()):
            _without_types_of_flags(one.get_params(typer.Context(one)))
        return made


def _without_types_of_flags(params: list[Any]) -> list[Any]:
    """The same; help shows what an option takes, and `--json <bool>` would look as if it took a word."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


LOOK, READ, SURE = "Look", "Read", "How complete, how sure"
BRING, TEND, SERVE = "Bring data in", "Tend the lake", "Serve it"
COMMANDS = {
    "status": Verb("status", LOOK, "Who writes the lake, what comes in and how late, what is open."),
    "ls": Verb("ls", LOOK, "What is held, by kind, symbol and day."),
    "exchanges": Verb("exchanges", LOOK, "What each exchange offers: kinds, channels, how far back."),
    "symbols": Verb("symbols", LOOK, "The instruments of a venue, asked now."),
    "latency": Verb("latency", LOOK, "Our clock, the venues', and how late what comes is."),
    "estimate": Verb("estimate", LOOK, "How much a configuration will take, and how long the disk has room."),
    "read": Verb("read", READ, "Rows of a kind: trade, quote, bar_1m, …"),
    "bars": Verb("bars", READ, "Bars of any interval: 90s, 15m, 4h, 1w."),
    "book": Verb("book", READ, "An order book as it was at a time."),
    "sql": Verb("sql", READ, "One SELECT over everything (DuckDB)."),
    "export": Verb("export", READ, "Files for other tools: CSV, Parquet, tardis.dev's, hftbacktest, nautilus."),
    "features": Verb("feature_changes:app", READ, "Values computed elsewhere: put in, read, joined onto bars."),
    "gaps": Verb("gaps", SURE, "Every hole that is known, with its cause; --repair asks for what is missing."),
    "coverage": Verb("coverage", SURE, "When each stream was collected, and what is missing in it."),
    "certificate": Verb("certificate", SURE, "What was proven of one closed day."),
    "lineage": Verb("lineage", SURE, "The files that a day was made from, with their hashes."),
    "trace": Verb("trace", SURE, "One row's way back to the frame that the venue sent."),
    "verify": Verb("verify", SURE, "Prove the whole lake: hashes, digests, ids."),
    "reconcile": Verb("reconcile", SURE, "Hold closed days against the venue's own candles."),
    "backfill": Verb("backfill", BRING, "Ask a venue's API for its past."),
    "archive": Verb("archive", BRING, "Take history from the files that a venue publishes."),
    "import": Verb("import_:import_files", BRING, "Take in files of other origin: CSV, Parquet, JSON, …"),
    "replay": Verb("replay", BRING, "Take recorded frames in; or serve a lake's history as a venue would."),
    "jobs": Verb("jobs", BRING, "What was asked for and how far it is; pause, resume, cancel."),
    "init": Verb("older:init", TEND, "Make an empty lake."),
    "delete": Verb("delete", TEND, "Delete the closed days of a symbol."),
    "transform": Verb("transform", TEND, "Sealed segments to Parquet and bars, now."),
    "compact": Verb("compact", TEND, "Merge what is ready, close days, apply retention, now."),
    "reparse": Verb("reparse", TEND, "Read stored frames again with today's parsers."),
    "scrub": Verb("scrub", TEND, "Read every file from the disk and mend what it lost."),
    "rebuild": Verb("rebuild", TEND, "Make the manifest anew from files and ledger."),
    "reload": Verb("reload", TEND, "Apply a changed configuration to the running daemon."),
    "resume": Verb("resume", TEND, "Let the daemon leave safe mode."),
    "probe": Verb("probe", TEND, "Test whether an exchange still speaks as its adapter expects."),
    "serve": Verb("serve", SERVE, "The lake over HTTP: REST, Swagger UI."),
    "token": Verb("token", SERVE, "Tokens for it: make, list, end."),
    "download-symbols": Verb("symbols", BRING, "dl symbols.", hidden=True),
    "download-history": Verb("older:download_history", BRING, "Candles of a venue's past: dl backfill.", hidden=True),
    "ingest": Verb("older:download_history", BRING, "Candles of a venue's past: dl backfill.", hidden=True),
    "list": Verb("ls", LOOK, "dl ls.", hidden=True),
    "upload-feature": Verb("feature_changes:put", READ, "dl features put.", hidden=True),
}


class Loaded(MutableMapping[str, Any]):
    """Name -> command, imported where it is asked for; names alone import nothing."""

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._held:
            self._held[name] = COMMANDS[name].load(name)
        return self._held[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._held[name] = command

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*COMMANDS, *self._held)))

    def __len__(self) -> int:
        return len(list(iter(self)))


class Verbs(TyperGroup):
    """A group of commands that are known by name and a line until one of them is called."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = Loaded()

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 # as the group has it
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 # as the group has it
        """What a list of commands shows of one; None where there is none of that name."""
        verb = COMMANDS.get(cmd_name)
        if verb is None:
            return None
        return TyperCommand(
            name=cmd_name, help=verb.line, short_help=verb.line, hidden=verb.hidden, rich_help_panel=verb.panel
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is called."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found if found is None or name is None else self.commands[name], rest
