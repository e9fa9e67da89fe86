"""`dl status`: is it running, how far is it, what is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.output import OUT, print_json, print_table, size, when
from cli.places import ConfigOption, JsonOption, LakeOption, command, lake_root, reading
from market import times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from collectors.drift import Drift
    from lake.clock_files import ClockLook, Latencies
    from lake.lock import LockInfo
    from market.session import Gap

    Delays: TypeAlias = Mapping[tuple[str, str, str], dict[str, int] | None]

SOON_SECONDS = 5.0
"""The daemon's own word on its streams is waited for no longer."""
DRIFT_DAYS = 30
"""How far back changes of the venues' messages are shown."""


@command
def status(lake: LakeOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show the lake in one screen: who writes it, each stream's watermark and latency, files, open gaps, our clock, the
    last certificate, changes of venues' messages; of a running daemon also the streams that should send and do not.
    """
    import msgspec

    from cli.jobs import settings
    from compactor.service import parked
    from lake.clock_files import newest
    from lake.lock import seen_lock
    from runtime.clock import SystemClock

    root = lake_root(lake, config)
    with reading(root) as manifest:
        with manifest.snapshot() as now:
            meta, stats = now.meta(), now.stats()
            streams = [(*stream, now.watermark(*stream)) for stream in now.streams()]
            open_gaps = now.gaps(state="open")
            certificates = now.certificates()
        stuck = parked(manifest, SystemClock().now(), settings(config).compactor)
    holder, unknown = seen_lock(root)
    clock, heard = newest(root)
    delays = {stream: _delays(found) for stream, found in heard.items()}
    (silent, why), drifts = _silent(holder), _drifts(root)
    last = max(certificates, key=lambda row: row.issued_at, default=None)
    if as_json:
        writer = None if holder is None else {"pid": holder.pid, "port": holder.port}
        print_json({
            "lake": str(root), "meta": meta, "writer": writer, "writer_unknown": unknown or None, "stats": stats,
            "streams": [_stream(*stream, open_gaps, delays) for stream in streams], "clock": clock, "silent": silent,
            "parked": stuck, "drift": drifts, "last_certificate": last and msgspec.to_builtins(last),
        })  # fmt: skip
        return 0
    kind = "simulated" if meta.simulated else "real"
    who = "nobody writes it" if holder is None else f"written by process {holder.pid}"
    who = f"who writes it is not known: {unknown}" if unknown else who
    OUT.print(f"{root}: {kind} lake {meta.lake_id}, schema {meta.schema_version}, {who}", markup=False)
    rows = [[e, m, k, when(w), _open(open_gaps, e, m, k), *_ms(delays.get((e, m, k)))] for e, m, k, w in streams]
    columns = ["exchange", "market", "kind", "watermark", "open gaps", "latency p50 ms", "p99 ms"]
    print_table("streams", columns, rows, "no streams yet")
    _show(silent, why)
    files = [[f.kind, f.level, f.files, f.rows, size(f.bytes)] for f in stats.files]
    print_table("files", ["kind", "level", "files", "rows", "bytes"], files, "no files yet")
    counts = ", ".join(f"{count:,} {state}" for state, count in stats.segments.items()) or "none"
    OUT.print(f"segments: {counts} ({size(stats.raw_bytes)}) · quarantined: {stats.quarantined}")
    holes = ", ".join(f"{count:,} {state}" for state, count in sorted(stats.gaps.items())) or "none"
    OUT.print(f"gaps: {holes}{' · dl gaps --repair --dry-run says what can be done' if open_gaps else ''}")
    for job in stuck:
        OUT.print(f"parked after too many failures: {job} · dl compact tries it again", markup=False)
    _tell(clock, drifts)
    if last is not None:
        name = last.symbol or "all symbols"
        OUT.print(f"last certificate: {last.exchange} {last.market_type} {last.kind} {name} {last.date} {last.sha256}")
    return 0


def _drifts(root: Path) -> list[Drift]:
    """How the venues' messages have changed lately."""
    from collectors.drifted import told
    from runtime.clock import SystemClock

    return list(told(root, SystemClock().now() - DRIFT_DAYS * times.DAY))


def _tell(clock: ClockLook | None, drifts: list[Drift]) -> None:
    if clock is not None:
        OUT.print(_clock(clock))
    for drift in drifts:
        where = f" {drift.path}" if drift.path else ""
        OUT.print(
            f"drift: {drift.exchange} {drift.market_type} {drift.message}: {drift.change}{where}"
            f"{f' ({drift.detail})' if drift.detail else ''} since {when(drift.at)}",
            markup=False,
        )


def _silent(holder: LockInfo | None) -> tuple[list[dict[str, str]] | None, str]:
    """The streams that should send and do not, as the daemon says; None where nobody does, and why."""
    from cli.jobs import JobFailed, ask

    if holder is None or not holder.port:
        return None, ""
    try:
        return ask(holder, "silent", {}, lambda _done, _total, _what: None, patience=SOON_SECONDS), ""
    except JobFailed as error:
        return None, str(error)


def _show(silent: list[dict[str, str]] | None, why: str) -> None:
    if why:
        OUT.print(f"whether streams are silent is not known: {why}", markup=False)
    if silent:
        rows = [[one[name] for name in ("exchange", "market_type", "stream", "state", "connection")] for one in silent]
        print_table("silent streams", ["exchange", "market", "stream", "state", "connection"], rows, "")


def _open(gaps: Sequence[Gap], exchange: str, market_type: str, kind: str) -> int:
    return sum((g.exchange, g.market_type, g.kind) == (exchange, market_type, kind) for g in gaps)


def _stream(
    exchange: str, market_type: str, kind: str, watermark: int | None, gaps: Sequence[Gap], delays: Delays
) -> dict[str, object]:
    """A row of the JSON."""
    return {
        "exchange": exchange, "market_type": market_type, "kind": kind, "watermark": watermark,
        "open_gaps": _open(gaps, exchange, market_type, kind), "latency_us": delays.get((exchange, market_type, kind)),
    }  # fmt: skip


def _delays(found: Latencies) -> dict[str, int] | None:
    """From event to receipt, of a stream's last segment, in us."""
    from lake.latency import merged

    total = merged(minute.event_to_receive for minute in found.minutes)
    return None if total is None else {"p50": total.quantile(0.5), "p99": total.quantile(0.99)}


def _ms(delay: dict[str, int] | None) -> tuple[float | None, float | None]:
    return (None, None) if delay is None else (delay["p50"] / times.MS, delay["p99"] / times.MS)


def _clock(look: ClockLook) -> str:
    """The last look at the clocks: the kernel's word, and what each venue's clock was away."""
    kernel = {True: "synchronised", False: "NOT synchronised", None: look.unknown or "unknown"}[look.synchronised]
    bound = "" if look.max_error_us is None else f", error at most {look.max_error_us / times.MS:.3f} ms"
    venues = [
        f"{v.exchange} {v.market_type} {v.offset_us / times.MS:+.3f} ms (+-{v.round_trip_us / 2 / times.MS:.3f})"
        for v in look.venues
    ]
    ours = f" · ours less theirs: {', '.join(venues)}" if venues else ""
    return f"clock at {when(look.at)}: {kernel}{bound}{ours} · dl latency tells more"
