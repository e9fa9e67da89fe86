"""`dl`: one program for everything a person or a timer asks of a lake.

`dl --help` says what the exit codes mean.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from cli import output
from cli.commands import (
    archive,
    backfill,
    bars,
    book,
    certificate,
    compact,
    coverage,
    delete,
    estimate,
    exchanges,
    export,
    feature_changes,
    features,
    gaps,
    import_,
    jobs,
    latency,
    lineage,
    ls,
    older,
    probe,
    read,
    rebuild,
    reconcile,
    reload,
    reparse,
    replay,
    resume,
    scrub,
    serve,
    sql,
    status,
    symbols,
    token,
    trace,
    transform,
    verify,
)

EXIT_CODES = (
    "Exit codes: 0 done, 1 something was found or failed, 2 wrong command line, "
    "66 no such lake, file or configuration, 69 a venue that does not answer or no daemon, 70 internal error, "
    "73 another process writes the lake, "
    "74 storage failed or manifest.db is damaged, 78 configuration, version or simulated against real, "
    "130 interrupted."
)

app = typer.Typer(
    name="dl",
    help="Ask and tend a market-data lake. Every command takes --lake DIR or --config FILE, and --json.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

app.command("status")(status.status)
app.command("ls")(ls.ls)
app.command("exchanges")(exchanges.exchanges)
app.command("symbols")(symbols.symbols)
app.command("estimate")(estimate.estimate)
app.command("probe")(probe.probe)
app.command("read")(read.read)
app.command("bars")(bars.bars)
app.command("sql")(sql.sql)
app.command("book")(book.book)
app.command("gaps")(gaps.gaps)
app.command("coverage")(coverage.coverage)
app.command("certificate")(certificate.certificate)
app.command("lineage")(lineage.lineage)
app.command("latency")(latency.latency)
app.command("verify")(verify.verify)
app.command("scrub")(scrub.scrub)
app.command("rebuild")(rebuild.rebuild)
app.command("trace")(trace.trace)
app.command("archive")(archive.archive)
app.command("backfill")(backfill.backfill)
app.command("jobs")(jobs.jobs)
app.command("reconcile")(reconcile.reconcile)
app.command("replay")(replay.replay)
app.command("reparse")(reparse.reparse)
app.command("reload")(reload.reload)
app.command("resume")(resume.resume)
app.command("transform")(transform.transform)
app.command("compact")(compact.compact)
app.command("import")(import_.import_files)
app.command("export")(export.export)
app.add_typer(features.app, name="features")
app.command("delete")(delete.delete)
app.command("serve")(serve.serve)
app.command("token")(token.token)

OLDER: dict[str, Callable[..., None]] = {
    "init": older.init, "download-symbols": symbols.symbols, "download-history": older.download_history,
    "ingest": older.download_history, "list": ls.ls, "upload-feature": feature_changes.put,
}  # fmt: skip
"""Names of commands in other lakes, left out of the list of commands."""
for name, function in OLDER.items():
    app.command(name, hidden=True)(function)


def main() -> None:
    """The entry point of the script `dl`: warnings go to stderr, what went well is the command's own answer."""
    output.quiet_logs()
    app()
