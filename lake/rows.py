"""Rows of the manifest, as the rest of the system passes them around.

They say what is on disk, what was covered and what is missing. Times are int microseconds UTC; paths are POSIX,
relative to the lake's root. Gap, Coverage rows are those of `market.session`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SegmentState = Literal["open", "sealed", "transformed", "quarantined", "deleting", "deleted"]
Level = Literal["part", "hour", "day"]
FRAMES = "frames"
"""The `kind` of a segment row that is a frames file."""
FILES = ("archive", "import")
"""The `source` of sessions that are files: their rows never were lines of a segment."""
HISTORY = "history"
"""The `source` of a session that asked a venue for what is past: its rows (of source rest) are of no stream."""


class SegmentRow(msgspec.Struct, kw_only=True):
    """A raw segment (or frames file) and its seal. An empty segment has rows = bytes = 0, sha256 = "" and no file.

    [period_start, period_end) is the receive time it answers for: watermarks advance by it, silence included.
    """

    path: str
    exchange: str
    market_type: str
    kind: str
    state: SegmentState
    period_start: int
    period_end: int | None = None
    rows: int = 0
    bytes: int = 0
    sha256: str = ""
    recv_min: int | None = None
    recv_max: int | None = None
    event_min: int | None = None
    event_max: int | None = None
    recorded_at: int = 0
    """When this lake took it in: long after `period_end` where old frames are replayed. Retention counts from here."""
    clean: bool = True
    """False where recovery sealed it after a crash: such a segment is read line by line."""
    failures: int = 0
    error: str | None = None


class FileRow(msgspec.Struct, kw_only=True):
    """A published Parquet file. `symbol` is None where the file holds all symbols; `date` is YYYY-MM-DD of ts_event.

    `parents` are the paths (segments or files) it was made from; `late` counts rows whose bar window had been
    written before they came. `revision` is the generation of a day or hour (g in the file's name).
    """

    path: str
    exchange: str
    market_type: str
    kind: str
    level: Level
    symbol: str | None
    date: str
    hour: int | None
    revision: int
    rows: int
    bytes: int
    sha256: str
    ts_min: int
    ts_max: int
    seq_min: int | None = None
    seq_max: int | None = None
    late: int = 0
    schema_version: int = 1
    content_digest: str | None = None
    parents: tuple[str, ...] = ()
    created_at: int = 0
    state: Literal["live", "retired"] = "live"
    retired_at: int | None = None


class SessionRow(msgspec.Struct, kw_only=True):
    """One connection, REST job, or imported file: what provenance points to."""

    session: str
    exchange: str
    market_type: str
    source: str
    url: str
    opened_at: int
    closed_at: int | None = None
    close_cause: str | None = None
    frames: int = 0
    events: int = 0
    ignored: int = 0


class CheckRow(msgspec.Struct, kw_only=True):
    """An integrity check's finding on one symbol of one file: `count` rows, with an example in `detail`."""

    path: str
    check: str
    symbol: str
    count: int
    detail: str = ""


class QuarantineRow(msgspec.Struct, kw_only=True):
    """Bytes set aside: where they came from, why, and where they are now."""

    path: str
    origin: str
    reason: str
    count: int
    bytes: int
    at: int


class BarHole(msgspec.Struct, kw_only=True):
    """A hole in what the bars of a symbol (`*`: of every symbol of the market) are made of: they are null over it.

    Times in us; `ts_to` is None while the hole still grows.
    """

    exchange: str
    market_type: str
    symbol: str
    ts_from: int
    ts_to: int | None


class BanRow(msgspec.Struct, kw_only=True):
    """A venue told us to wait: no request to `host` before `until` (us). The last one of a host counts.

    `pool` names what the hosts of a venue share its request weight by: the others of the pool keep silent too.
    """

    exchange: str
    host: str
    until: int
    status: int
    at: int
    pool: str = ""


class CertificateRow(msgspec.Struct, kw_only=True):
    """The quality certificate of one daily file (a versioned row; never inside the file it certifies).

    Law: last_id - first_id + 1 = stored (rows) + void + missing, for kinds whose ids are contiguous.
    `late`, `out_of_order`, latencies and `skew` are of rows received live (`lake.heard`); latency percentiles in us
    (ts_recv - ts_event of those with a venue time), None where there are none.
    """

    path: str
    sha256: str
    exchange: str
    market_type: str
    kind: str
    symbol: str | None
    date: str
    revision: int
    issued_at: int
    rows: int
    first_id: int | None = None
    last_id: int | None = None
    missing: int = 0
    void: int = 0
    duplicates: int = 0
    late: int = 0
    out_of_order: int = 0
    crossed: int = 0
    estimated: int = 0
    open_gaps: int = 0
    gap_seconds: float = 0.0
    covered_seconds: float = 0.0
    latency_p50: int | None = None
    latency_p99: int | None = None
    skew: int | None = None
    inputs: dict[str, str] = {}
    """path -> SHA-256 of every direct parent."""
    parser_version: str = ""
    content_digest: str = ""
    reproduced: bool | None = None
    verified: str | None = None
    guarantees: str = ""
    """What the exchange's way of being collected promises: `full`, or `weaker (ccxt)`; follows from `exchange`."""

    def __post_init__(self) -> None:
        self.guarantees = "weaker (ccxt)" if self.exchange.startswith("ccxt-") else "full"


class Expectation(msgspec.Struct, kw_only=True):
    """What a committer believed: these files are live with these hashes; anything else is a CommitConflict."""

    files: dict[str, str] = {}
    """path -> SHA-256."""
    segments: dict[str, SegmentState] = {}
