"""`dl serve`: the lake over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import OUT, write_bytes
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root


@command
def serve(
    lake: LakeOption = None,
    config: ConfigOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default: serve.host); any but loopback asks for a token.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on (default: serve.port); 0 takes a free one.")
    ] = None,
    clock_offset_us: Annotated[
        int, typer.Option(help="us by which the lake's time is ahead of the machine's, as a simulation's daemon says.")
    ] = 0,
    as_json: JsonOption = False,
) -> int:
    """Serve the lake over HTTP until Ctrl-C: rows, datasets, gaps, certificates; docs/api.md, and /docs on the server.

    It reads only; what changes the lake it asks the running daemon for. Other machines reach it with a token only:
    make one with `dl token`. Exit code 1 where the address is taken, 2 where it is no loopback and there is no token.
    """
    import msgspec

    from api.serving import run
    from cli.jobs import settings
    from daemon.backfilling import endpoint_of
    from runtime.clock import SystemClock

    root = lake_root(lake, config)
    changed = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    whole = settings(config)
    told = whole.serve.model_copy(update=changed)

    def ready(address: str) -> None:
        if as_json:
            write_bytes(msgspec.json.encode({"serving": address}) + b"\n")
            return
        OUT.print(f"serving {root} on {address}; what can be asked: {address}/docs", markup=False)
        OUT.print("Ctrl-C ends it")

    run(root, told, SystemClock(clock_offset_us), ready, lambda venue, market: endpoint_of(venue, market, whole))
    return 0
