"""What a newcomer meets first: every command in a panel and a line, one spelling of options, completion that works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from cli import rows
from cli.app import OLDER, app
from cli.verbs import COMMANDS
from cli.written import write_batches

TWINS = [{"--market", "--market-type"}, {"--start", "--from"}, {"--end", "--to"}]
DATES = ("archive", "reparse")
"""Whose --to is a date that is included, and which have no --end for it."""


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


GROUP: Any = typer.main.get_command(app)
EVERY = dict(commands(GROUP))


def test_every_command_has_a_panel_and_a_line() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for name, verb in COMMANDS.items():
        assert GROUP.commands[name].name == name
        assert GROUP.commands[name].help
        assert f"╭─ {verb.panel} ─" in shown
        assert (f"│ {name} " in shown) is (name not in OLDER), name
        assert verb.line in shown or verb.hidden, name
        assert len(verb.line) < 90


@pytest.mark.parametrize("name", [name for name in EVERY if not EVERY[name].hidden])
def test_one_thing_has_the_same_names_everywhere(name: str) -> None:
    options = [set(param.opts) for param in EVERY[name].params]
    for twins in TWINS:
        for given in options:
            if given & twins and not (name in DATES and given & {"--from", "--to"}):
                assert twins <= given, f"dl {name} takes {given}"


@pytest.mark.parametrize(
    "words, at, wanted",
    [("dl ba", 1, {"backfill", "bars"}), ("dl features ro", 2, {"rollback"}), ("dl read --sy", 2, {"--symbol"})],
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_complete_commands_and_options(words: str, at: int, wanted: set[str], shell: str) -> None:
    asked = {"_DL_COMPLETE": f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    asked["_TYPER_COMPLETE_ARGS"] = words
    said = CliRunner().invoke(app, [], prog_name="dl", env=asked).output
    found = {word for one in wanted for word in [one] if word in said}
    assert found == wanted, said


@pytest.mark.parametrize(
    "value, cell",
    [(1e-05, "0.00001"), (0.6413437000000001, "0.6413437"), (64134.4, "64134.4"), (2.0, "2"), (-1e21, "-1" + "0" * 21),
     (float("nan"), "nan"), (None, None), (True, True), (7, "7"),
     ([{"price": 64126.5, "qty": 0.478}, {"price": 64126.0, "qty": 0.0}], "0.478@64126.5, 0@64126"), ([], "")],
)  # fmt: skip
def test_numbers_on_the_screen_have_no_exponent_and_no_noise(value: object, cell: object) -> None:
    assert rows.spelt(value) == cell


def test_csv_holds_every_column_lists_too(tmp_path: Path) -> None:
    table = pa.table({"at": [1], "bids": [[{"price": 1.5, "qty": 2.0}]], "note": ["=1+1"]})
    write_batches(table.schema, table.to_batches(), tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == 'at,bids,note\n1,"[{""price"":1.5,""qty"":2.0}]",\'=1+1\n'


@pytest.mark.parametrize("command", ["", "read", "features", "features put"])
def test_an_option_that_takes_nothing_is_not_shown_to_take_something(command: str) -> None:
    said = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"}).output
    assert "--help" in said
    assert "bool" not in said
    assert ("--install-completion" in said) is (not command)
