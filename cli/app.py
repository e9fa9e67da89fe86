"""`dl`: one program for everything a person or a timer asks of a lake.

`dl --help` says what the exit codes mean.
"""

from __future__ import annotations

import sys

import typer

from cli import output
from cli.verbs import COMMANDS, MARKUP, Verbs

EXIT_CODES = (
    "Exit codes: 0 done, 1 something was found or failed, 2 wrong command line, "
    "66 no such lake, file or configuration, 69 a venue that does not answer or no daemon, 70 internal error, "
    "73 another process writes the lake, "
    "74 storage failed or manifest.db is damaged, 78 configuration, version or simulated against real, "
    "130 interrupted."
)

app = typer.Typer(
    cls=Verbs,
    name="dl",
    help="Ask and tend a market-data lake: the folder that the daemon (python -m daemon) writes.\n\n"
    "First steps: `dl ls`, then `dl bars 15m --symbol BTCUSDT`, `dl gaps`; `dl COMMAND --help` says more. The lake is "
    "found by --lake DIR, or by --config FILE (./config.yml if nothing is said). --json is for scripts.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=MARKUP,
)

OLDER = [name for name, verb in COMMANDS.items() if verb.hidden]
"""Names of commands in other lakes, left out of the list of commands."""


@app.callback()
def dl() -> None:
    """All commands are in `cli.verbs`."""


def main() -> None:
    """The entry point of the script `dl`: warnings go to stderr, what went well is the command's own answer."""
    output.quiet_logs()
    if len(sys.argv) == 1 or "--help" in sys.argv:
        output.end_with_reader()  # what prints help makes an error of a reader that has left
    app()
