"""`dl status`: is it running, how far is it, what is open."""

from __future__ import annotations

from cli.output import OUT, print_json, print_table, size, when
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root, reading


@command
def status(lake: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show the lake in one screen: who writes it, each stream's watermark, files, open gaps, the last certificate."""
    import msgspec

    from cli.jobs import settings
    from compactor.service import parked
    from lake.lock import read_lock
    from runtime.clock import SystemClock

    root = lake_root(lake, config)
    with reading(root) as manifest:
        with manifest.snapshot() as now:
            meta, stats = now.meta(), now.stats()
            streams = [(*stream, now.watermark(*stream)) for stream in now.streams()]
            open_gaps = now.gaps(state="open")
            certificates = now.certificates()
        stuck = parked(manifest, SystemClock().now(), settings(config).compactor)
    holder = read_lock(root)
    last = max(certificates, key=lambda row: row.issued_at, default=None)
    if as_json:
        print_json(
            {
                "lake": str(root),
                "meta": meta,
                "writer": None if holder is None else {"pid": holder.pid, "port": holder.port},
                "stats": stats,
                "streams": [
                    {"exchange": e, "market_type": m, "kind": k, "watermark": w, "open_gaps": _open(open_gaps, e, m, k)}
                    for e, m, k, w in streams
                ],
                "parked": stuck,
                "last_certificate": None if last is None else msgspec.to_builtins(last),
            }
        )
        return 0
    kind = "simulated" if meta.simulated else "real"
    writer = "nobody writes it" if holder is None else f"written by process {holder.pid}"
    OUT.print(f"{root}: {kind} lake {meta.lake_id}, schema {meta.schema_version}, {writer}")
    rows = [[e, m, k, when(w), _open(open_gaps, e, m, k)] for e, m, k, w in streams]
    print_table("streams", ["exchange", "market", "kind", "watermark", "open gaps"], rows, "no streams yet")
    files = [[f.kind, f.level, f.files, f.rows, size(f.bytes)] for f in stats.files]
    print_table("files", ["kind", "level", "files", "rows", "bytes"], files, "no files yet")
    counts = ", ".join(f"{count:,} {state}" for state, count in stats.segments.items()) or "none"
    OUT.print(f"segments: {counts} ({size(stats.raw_bytes)}) · quarantined: {stats.quarantined}")
    for job in stuck:
        OUT.print(f"parked after too many failures: {job} · dl compact tries it again", markup=False)
    if last is not None:
        name = last.symbol or "all symbols"
        OUT.print(f"last certificate: {last.exchange} {last.market_type} {last.kind} {name} {last.date} {last.sha256}")
    return 0


def _open(gaps: list, exchange: str, market_type: str, kind: str) -> int:  # type: ignore[type-arg]  # market.session.Gap, imported late
    return sum((g.exchange, g.market_type, g.kind) == (exchange, market_type, kind) for g in gaps)
