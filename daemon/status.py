"""What `/status` and `/ready` say: services, streams with watermark, lag, gaps and files, and the last certificate."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import msgspec
from sqlalchemy import Connection, func, select

from daemon.safe_mode import SafeMode
from lake import manifest_stats, schema
from lake.manifest import Manifest
from lake.manifest_reads import Snapshot
from lake.rows import CertificateRow
from market import times
from runtime.clock import Clock

Stream: TypeAlias = tuple[str, str, str]
"""(exchange, market_type, kind)"""
CERTIFICATE_DAYS = 7
"""How far back the last certificate is looked for."""


class Services(Protocol):
    """What is asked of the supervisor."""

    def states(self) -> Mapping[str, str]: ...

    def status(self) -> Mapping[str, object]: ...


class Status:
    """The state of one running daemon."""

    def __init__(
        self, clock: Clock, manifest: Manifest, services: Services, mode: str, safe_mode: SafeMode | None = None
    ) -> None:
        self._clock = clock
        self._manifest = manifest
        self._services = services
        self._mode = mode
        self._safe_mode = safe_mode
        self._began = clock.monotonic()

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Whether everything runs, and the services that do not. Cheap; reads nothing from disk."""
        waiting = {name: state for name, state in self._services.states().items() if state not in ("running", "done")}
        answer: dict[str, object] = {"ready": not waiting, "waiting": waiting}
        if self._safe_mode is not None and (said := self._safe_mode.said()):
            answer["safe_mode"] = said
        return not waiting, answer

    def services(self) -> Mapping[str, object]:
        """What the services say of themselves: asked in the loop's thread, where what they tell of changes."""
        return self._services.status()

    def report(self, services: Mapping[str, object]) -> dict[str, Any]:
        """Everything, as JSON values. Reads the manifest: call it in a thread, with what `services` answered."""
        now = self._clock.now()
        with self._manifest.snapshot() as snapshot:
            meta = snapshot.meta()
            stats = snapshot.stats()
            last = _last_certificate(snapshot, now)
            streams = _streams(snapshot, now)
        ready, _ = self.ready()
        return {
            "lake": str(self._manifest.root),
            "lake_id": meta.lake_id,
            "mode": self._mode,
            "safe_mode": dict(self._safe_mode.status()) if self._safe_mode is not None else None,
            "simulated": meta.simulated,
            "epoch": meta.epoch,
            "manifest_version": meta.version,
            "now": times.text(now),
            "uptime_seconds": round(self._clock.monotonic() - self._began, 1),
            "ready": ready,
            "services": services,
            "streams": streams,
            "gaps": stats.gaps,
            "gaps_open": stats.gaps.get("open", 0),
            "segments": stats.segments,
            "raw_bytes": stats.raw_bytes,
            "files": [msgspec.to_builtins(entry) for entry in stats.files],
            "sessions": stats.sessions,
            "certificates": stats.certificates,
            "quarantined": stats.quarantined,
            "last_certificate": _certificate(last) if last is not None else None,
        }


def _streams(snapshot: Snapshot, now: int) -> list[dict[str, Any]]:
    """One entry a stream: how far it is sealed, how late that is, what is open, what is on disk."""
    gaps, files, rows = snapshot.run(_totals)
    found = []
    for key in snapshot.streams():
        mark = snapshot.watermark(*key)
        exchange, market_type, kind = key
        found.append(
            {
                "exchange": exchange,
                "market_type": market_type,
                "kind": kind,
                "watermark": times.text(mark) if mark is not None else None,
                "lag_seconds": round((now - mark) / times.SECOND, 3) if mark is not None else None,
                "gaps_open": gaps[key],
                "files": dict(files[key]),
                "rows": rows[key],
            }
        )
    return found


def _totals(conn: Connection) -> tuple[Counter[Stream], dict[Stream, Counter[str]], Counter[Stream]]:
    """Open gaps, live files by level, and their rows, by stream: summed where the rows are, not here."""
    g, t = schema.gaps, manifest_stats.live_totals(conn)
    by_level = select(*(t.c[name] for name in ("exchange", "market_type", "kind", "level", "files", "rows")))
    files: dict[Stream, Counter[str]] = defaultdict(Counter)
    rows: Counter[Stream] = Counter()
    for exchange, market_type, kind, level, count, total in conn.execute(by_level):
        files[exchange, market_type, kind][level] += count
        rows[exchange, market_type, kind] += total
    stream = (g.c.exchange, g.c.market_type, g.c.kind)
    opened = select(*stream, func.count()).where(g.c.state == "open").group_by(*stream)
    gaps = Counter({(row[0], row[1], row[2]): int(row[3]) for row in conn.execute(opened)})
    return gaps, files, rows


def _last_certificate(snapshot: Snapshot, now: int) -> CertificateRow | None:
    """That of a live file of the last days that was issued last."""
    f, c = schema.files, schema.certified
    since = times.date_of(now - CERTIFICATE_DAYS * times.DAY).isoformat()
    streams = snapshot.streams()

    def read(conn: Connection) -> str | None:
        last: tuple[int, str] | None = None
        for exchange, market_type, kind in streams:
            mine = (f.c.state == "live", f.c.kind == kind, f.c.exchange == exchange, f.c.market_type == market_type)
            paths = select(f.c.path).where(*mine, f.c.date >= since)
            newest = select(c.c.issued_at, c.c.path).where(c.c.path.in_(paths)).order_by(c.c.issued_at.desc()).limit(1)
            for issued, path in conn.execute(newest):
                last = max(last or (issued, path), (issued, path))
        return None if last is None else last[1]

    path = snapshot.run(read)
    return snapshot.certificates(path)[-1] if path is not None else None


def _certificate(row: CertificateRow) -> dict[str, Any]:
    shown = msgspec.to_builtins(row)
    shown["inputs"] = len(row.inputs)
    shown["issued_at"] = times.text(row.issued_at)
    return dict(shown)
