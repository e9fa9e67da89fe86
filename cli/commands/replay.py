"""`dl replay`: recorded frames through the pipeline of live data, up to certified daily files; or history served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.output import ERR, OUT, counted, print_json, progress, write_bytes
from cli.places import ConfigOption, JsonOption, LakeOption, UsageError, command, lake_root
from lake.errors import LakeError, LakeLocked, NotALake

REASONS_SHOWN = 10
LOOPBACK, PORT = "127.0.0.1", 8000


@command
def replay(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE…", help="Frames files, or raw data of tardis.dev.", show_default=False, readable=False
        ),
    ] = None,
    exchange: Annotated[str | None, typer.Option(help="Whose frames they are, e.g. binance.")] = None,
    market_type: Annotated[
        str | None, typer.Option("--market-type", "--market", help="Which market's: spot, linear, …")
    ] = None,
    lake: LakeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the lake's history on tardis-machine's routes (docs/replay.md).")
    ] = False,
    host: Annotated[str, typer.Option(help="Where to listen; other than loopback only with --token-file.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65534, help="The port; WebSockets also at the one above it.")] = PORT,
    speed: Annotated[
        float,
        typer.Option(min=0, max=1e6, help="Times as fast as it happened, where a client does not say; 0: at once."),
    ] = 0,
    connections: Annotated[int, typer.Option(min=1, max=64, help="Replays at a time, at most.")] = 8,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="A file (mode 600) with the token that clients have to send.", readable=False
        ),
    ] = None,
) -> int:
    """Take frames files into a lake (made where there is none), transform them, and close days that are past.

    Files are frames of ours, plain or zstd, or what tardis.dev's API of raw data answered, plain or gz. Replaying the
    same frames again adds nothing. Exit code 1 where frames were rejected (they are in quarantine/), something in the
    files was no frame, or a job failed. Not possible while another process writes the lake.

    With --serve nothing is taken: what is stored is sent again over HTTP and WebSocket until Ctrl-C, as the venue's own
    frames or normalised, from any date and at any speed, beside a daemon or without one. Exit code 1 where the address
    is taken.
    """
    if serve:
        if files or exchange or market_type:
            raise UsageError("--serve takes no files, exchange or market", "clients say what they want")
        return _serve(lake_root(lake, config), host, port, (connections, speed), token_file, as_json=as_json)
    if not files or exchange is None or market_type is None:
        raise UsageError("files, --exchange and --market-type are needed", "or --serve, to serve what is stored")
    return _take(files, exchange, market_type, lake, config, as_json)


def _serve(root: Path, host: str, port: int, most: tuple[int, float], token_file: Path | None, *, as_json: bool) -> int:
    from daemon.replay_server import Limits
    from daemon.replay_serving import run, token_of
    from lake import Lake
    from runtime.clock import SystemClock

    token = token_of(host, token_file)

    def ready(addresses: list[str]) -> None:
        if as_json:
            write_bytes(msgspec.json.encode({"serving": addresses}) + b"\n")
            return
        for address in addresses:
            OUT.print(f"serving {root} on {address} and {address.replace('http', 'ws', 1)}", markup=False)
        OUT.print("Ctrl-C ends it")

    with Lake(root) as held:
        run(held, SystemClock(), Limits(*most), host, port, token, ready)
    return 0


def _take(
    files: list[Path], exchange: str, market_type: str, lake: Path | None, config: Path | None, as_json: bool
) -> int:
    from cli.jobs import settings
    from collectors import exchanges, venues
    from collectors.replay import Summary
    from collectors.replay import replay as take
    from compactor.recertify import recertify
    from compactor.service import compact_once
    from lake.lock import read_lock
    from lake.place import shut_out_others
    from lake.writer import LakeWriter
    from runtime.clock import SystemClock
    from runtime.workers import Workers
    from transformer.service import transform_once

    offered = venues.load(exchange).ENDPOINTS
    if market_type not in offered:
        raise UsageError(f"{exchange} has no market {market_type!r}", f"use --market-type {' or '.join(offered)}")
    root, clock = lake_root(lake, config, must_exist=False), SystemClock()
    _look(files, clock.now())
    if (holder := read_lock(root)) is not None:
        raise LakeLocked(
            f"{root} is being written by process {holder.pid}", "stop it first, or replay into a lake of its own"
        )
    shut_out_others()
    told = settings(config)
    workers = Workers(told.workers.processes, recycle_after=told.workers.recycle_after)
    with LakeWriter.open(root, told.collectors.node, clock.now(), simulated=None) as writer:
        try:
            with progress("replaying", quiet=as_json) as report:

                def said(so_far: Summary) -> None:
                    report(so_far.files, len(files), f"{so_far.frames:,} frames")

                now = clock.now()
                done = take(files, exchange, market_type, writer, told.collectors, now, said)
            with progress("transforming", quiet=as_json) as report:
                transformed = transform_once(writer, workers, clock.now(), told.transformer, report)
            closed = writer.manifest.gaps(exchange, market_type, state="repaired")
            recertify(writer, (gap for gap in closed if gap.closed_at == now), clock.now())
            with progress("compacting", quiet=as_json) as report:
                compacted = compact_once(
                    writer, workers, clock.now(), told.compactor, report, final=True, parsers=exchanges.parsers
                )
        finally:
            workers.kill()
    if as_json:
        print_json({"replayed": done, "transformed": transformed, "compacted": compacted})
    else:
        _say(done, transformed, compacted)
    failed = transformed.failed or transformed.parked or transformed.altered or transformed.quarantined
    return 1 if done.rejected or done.damaged or failed or compacted.failures else 0


class NoFrames(LakeError):
    """None of the files holds anything that can be taken."""


def _look(files: list[Path], now: int) -> None:
    """What cannot be read, or has nothing in it, ends this before anything is written."""
    from collectors import recorded, slices

    for path in files:
        if not path.is_file():
            if path.is_dir():
                raise NotALake(f"{path} is a folder", f"name the files in it: {path / '*'}")
            raise NotALake(f"there is no frames file {path}", "scripts/frames_from.py makes them of text recordings")
        path.open("rb").close()
    none: list[str] = []
    for path in files:
        if slices.is_slice(path):
            why = f"{path.name} has no message that can be read" if slices.begins(path) is None else None
        else:
            why = recorded.frameless(path, now)
        if why is None:
            return
        none.append(why)
    raise NoFrames("; ".join(none), "docs/format/frames.md says what a frames file is")


def _say(done: Any, transformed: Any, compacted: Any) -> None:
    OUT.print(
        f"{counted(done.frames, 'frame')} of {counted(done.sessions, 'session')} in {counted(done.files, 'file')}"
        + (f", {done.passed_over:,} more were in the lake already" if done.passed_over else "")
    )
    for name, counts in (
        ("events", done.events),
        ("duplicates", done.duplicates),
        ("left out (the lake has that time, and no id tells what is the same)", done.covered),
        ("ignored (channels not collected)", done.ignored),
    ):
        if counts:
            OUT.print(f"  {name}: " + ", ".join(f"{what} {count:,}" for what, count in counts.items()), markup=False)
    for told in done.not_taken:
        OUT.print(f"  not taken: {told}", markup=False)
    if done.rejected:
        OUT.print(f"  rejected: {sum(done.rejected.values()):,}, set aside in quarantine/, because of")
        reasons = sorted(done.rejected.items(), key=lambda item: -item[1])
        for reason, count in reasons[:REASONS_SHOWN]:
            OUT.print(f"    {count:,} x {reason}", markup=False)
        if len(reasons) > REASONS_SHOWN:
            rest = sum(count for _, count in reasons[REASONS_SHOWN:])
            OUT.print(f"    {rest:,} x {len(reasons) - REASONS_SHOWN} other reasons (--json names them)")
    OUT.print(
        f"  gaps: {done.gaps} · transformed {counted(transformed.rows, 'row')} · "
        f"{counted(compacted.days, 'day')} of a kind closed, {counted(compacted.files, 'daily file')}, "
        f"{counted(len(compacted.certificates), 'certificate')}"
    )
    for line in (*done.damage, *compacted.failures):
        ERR.print(f"  {line}", markup=False)
