"""Every Prometheus metric of the process, declared once, and the few that are set without saying anything in the log.

Events (a log line and a count each) are in `runtime.telemetry`; here are the quantities: rates, levels and delays.
Label sets are small on purpose: a market and a kind, never a symbol.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call] # untyped in the library; half of the text would be start times
REGISTRY = CollectorRegistry(auto_describe=True)
STREAM = ("exchange", "market_type", "kind")

EVENTS = Counter(
    "lake_log_events", "What happened, one count per line of the log", ("event", "level"), registry=REGISTRY
)
RECEIVED = Counter("lake_received_events", "Events received and not seen before", STREAM, registry=REGISTRY)
DUPLICATES = Counter(
    "lake_duplicate_events", "Events dropped because they were stored already", STREAM, registry=REGISTRY
)
FRAMES = Counter("lake_received_frames", "Frames received", ("exchange", "market_type"), registry=REGISTRY)
FRAME_BYTES = Counter("lake_received_bytes", "Bytes of frames received", ("exchange", "market_type"), registry=REGISTRY)
REJECTED = Counter(
    "lake_rejected_frames",
    "Frames or items that broke the venue's own rules",
    ("exchange", "market_type"),
    registry=REGISTRY,
)
DRIFT = Counter(
    "lake_drift_messages",
    "Messages of those looked at that were not as the adapter says, by what had changed",
    ("exchange", "market_type", "change"),
    registry=REGISTRY,
)
SHED = Counter("lake_shed_events", "Events given up under pressure; each episode is a gap", STREAM, registry=REGISTRY)
SILENT = Gauge(
    "lake_silent_streams", "Streams that should send and do not: unanswered, silent, stalled", STREAM, registry=REGISTRY
)
PROBES = Counter(
    "lake_stream_probes",
    "What asking about suspected streams found: quiet, missed, unknown",
    (*STREAM, "verdict"),
    registry=REGISTRY,
)
CONNECTIONS = Gauge("lake_connections", "Open connections", ("exchange", "market_type"), registry=REGISTRY)
REST_USED = Gauge(
    "lake_rest_weight_used",
    "Part of a venue's request weight that its last answer said is used in this minute, by all of this address",
    ("pool",),
    registry=REGISTRY,
)
REST_WAITING = Gauge("lake_rest_requests_waiting", "Requests that wait for their turn", ("pool",), registry=REGISTRY)
CLOCK_OFFSET = Gauge(
    "lake_clock_offset_seconds",
    "Our clock less the venue's at the middle of a request for its time",
    ("exchange", "market_type"),
    registry=REGISTRY,
)
CLOCK_OFFSET_ERROR = Gauge(
    "lake_clock_offset_error_seconds",
    "By how much that may be wrong: half of the round trip of the request",
    ("exchange", "market_type"),
    registry=REGISTRY,
)
CLOCK_SKEW = Gauge(
    "lake_clock_skew_seconds",
    "Median of receive less event time over the newest minute of a market's trades, quotes and book updates",
    ("exchange", "market_type"),
    registry=REGISTRY,
)
CLOCK_SYNCHRONISED = Gauge(
    "lake_clock_synchronised",
    "1 where the kernel says that its clock is synchronised, 0 where it says not, -1 where it does not say",
    registry=REGISTRY,
)
CLOCK_ERROR = Gauge(
    "lake_clock_error_seconds", "The kernel's error of its clock, where it says: estimated, largest", ("which",),
    registry=REGISTRY,
)  # fmt: skip
LATENCY = Gauge(
    "lake_latency_seconds",
    "Latency of the newest minute that is transformed: event_to_publish, publish_to_receive, event_to_receive",
    (*STREAM, "measure", "quantile"), registry=REGISTRY,
)  # fmt: skip
SEALED_ROWS = Counter("lake_sealed_rows", "Rows in sealed segments", STREAM, registry=REGISTRY)
SEALED_BYTES = Counter("lake_sealed_bytes", "Bytes in sealed segments", STREAM, registry=REGISTRY)
TABLE_ROWS = Counter("lake_published_rows", "Rows published as Parquet", (*STREAM, "level"), registry=REGISTRY)
GAPS_OPENED = Counter("lake_gaps_opened", "Holes found", (*STREAM, "cause"), registry=REGISTRY)
GAPS_CLOSED = Counter("lake_gaps_closed", "Holes closed, by how", (*STREAM, "state"), registry=REGISTRY)
JOBS_ENDED = Counter("lake_jobs_ended", "Jobs worked on to their end, by how", ("state",), registry=REGISTRY)
REPAIRS_FAILED = Counter("lake_gap_repairs_failed", "Gaps asked for in vain", STREAM, registry=REGISTRY)
CERTIFIED = Counter("lake_certified_files", "Daily files certified", STREAM, registry=REGISTRY)
QUARANTINED = Counter("lake_quarantined_items", "Lines, frames or files set aside", registry=REGISTRY)
RESTARTS = Counter("lake_service_restarts", "Services started again after an error", ("service",), registry=REGISTRY)
DURABLE_LAG = Gauge("lake_durable_lag_seconds", "Age of the oldest event not yet forced to the disk", registry=REGISTRY)
SYNC_SECONDS = Histogram(
    "lake_write_pass_seconds",
    "Duration of one write pass: what had come is in files then, but for files that are being sealed or made",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0),
    registry=REGISTRY,
)
WATERMARK = Gauge(
    "lake_watermark_seconds", "Receive time up to which a stream is sealed (unix)", STREAM, registry=REGISTRY
)
LOOP_LAG = Gauge("lake_loop_lag_seconds", "How late the event loop last ran what was due", registry=REGISTRY)
LOOP_DELAYS = Histogram(
    "lake_loop_delay_seconds",
    "How late the event loop ran what was due, asked ten times a second",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5),
    registry=REGISTRY,
)
QUEUE_BYTES = Gauge(
    "lake_queue_bytes",
    "Bytes that waited in a bounded channel when it was last emptied",
    ("channel",),
    registry=REGISTRY,
)
CLOCK_SANE = Gauge(
    "lake_clock_sane", "1 while wall time may decide what is old enough to be deleted", registry=REGISTRY
)
SAFE_MODE = Gauge("lake_safe_mode", "1 while raw data are collected and nothing else is done", registry=REGISTRY)
BACKUPS = Counter("lake_manifest_backups", "Copies of the manifest: made, failed", ("result",), registry=REGISTRY)
BACKUP_TIME = Gauge(
    "lake_manifest_backup_seconds", "When the newest copy of the manifest began (unix)", registry=REGISTRY
)
INTEGRITY = Gauge(
    "lake_manifest_integrity", "1 where the last integrity_check of a copy of the manifest said ok", registry=REGISTRY
)
SCRUBBED = Counter("lake_scrubbed_bytes", "Bytes of stored files that were read again", registry=REGISTRY)
SCRUB_OLDEST = Gauge(
    "lake_scrub_oldest_seconds", "When the file that was not read again for longest was read (unix)", registry=REGISTRY
)
BITROT = Counter(
    "lake_bitrot_files", "Stored files that were not as written, by outcome", ("outcome",), registry=REGISTRY
)
REPRODUCED = Counter(
    "lake_reproduced_files", "Certified files made again from frames: same, different, not_provable, failed",
    ("result",), registry=REGISTRY,
)  # fmt: skip
REPRODUCED_DAY = Gauge(
    "lake_reproduced_day_seconds", "The newest closed day that its frames made again (unix)",
    ("exchange", "market_type"), registry=REGISTRY,
)  # fmt: skip
AUDITED = Counter(
    "lake_audited_files", "Certified files held against the venue's word: verified, unexplained, not_told, failed",
    ("result",), registry=REGISTRY,
)  # fmt: skip
VERIFIED_DAY = Gauge(
    "lake_verified_day_seconds", "The newest closed day that the venue's word confirmed (unix)",
    ("exchange", "market_type"), registry=REGISTRY,
)  # fmt: skip
DISK_LEVEL = Gauge("lake_disk_level", "How full the lake's disk is: 0 ok, 1 low, 2 critical, 3 full", registry=REGISTRY)
DISK_FREE = Gauge("lake_disk_free_bytes", "Bytes that are free on the lake's disk", registry=REGISTRY)
DISK_TOTAL = Gauge("lake_disk_total_bytes", "Bytes of the lake's disk, free and used", registry=REGISTRY)
DISK_BALLAST = Gauge("lake_disk_ballast_bytes", "Bytes that are set aside for a full disk", registry=REGISTRY)
OUTAGE = Gauge("lake_storage_outage", "1 while nothing can be written, by cause", ("cause",), registry=REGISTRY)
UP = Gauge("lake_up", "1 while the daemon runs and is ready", registry=REGISTRY)


def received(exchange: str, market_type: str, kind: str, new: int, duplicates: int = 0) -> None:
    """`new` events went on to the segments, `duplicates` were dropped. Called once per batch."""
    RECEIVED.labels(exchange, market_type, kind).inc(new)
    if duplicates:
        DUPLICATES.labels(exchange, market_type, kind).inc(duplicates)


def frames(exchange: str, market_type: str, count: int, nbytes: int) -> None:
    """`count` frames of `nbytes` in all came in. Called once per batch."""
    FRAMES.labels(exchange, market_type).inc(count)
    FRAME_BYTES.labels(exchange, market_type).inc(nbytes)


def write_pass(seconds: float, oldest_seconds: float = 0.0) -> None:
    """A write pass took `seconds`; the oldest event that it left unsynced is `oldest_seconds` old."""
    SYNC_SECONDS.observe(seconds)
    DURABLE_LAG.set(oldest_seconds)


def clock_offset(exchange: str, market_type: str, seconds: float, error: float) -> None:
    """Our clock is `seconds` (+- `error`) ahead of the venue's."""
    CLOCK_OFFSET.labels(exchange, market_type).set(seconds)
    CLOCK_OFFSET_ERROR.labels(exchange, market_type).set(error)


def kernel_clock(synchronised: bool | None, estimated: float | None, largest: float | None) -> None:
    """What the kernel says of its clock; errors in seconds. What it does not say has no value."""
    CLOCK_SYNCHRONISED.set(-1 if synchronised is None else synchronised)
    for which, error in (("estimated", estimated), ("largest", largest)):
        if error is None:
            CLOCK_ERROR.labels(which)
            CLOCK_ERROR.remove(which)
        else:
            CLOCK_ERROR.labels(which).set(error)


def loop_delay(seconds: float) -> None:
    """The event loop was `seconds` late."""
    LOOP_DELAYS.observe(seconds)


def watermark(exchange: str, market_type: str, kind: str, time: int) -> None:
    """A stream is sealed up to `time` (us)."""
    WATERMARK.labels(exchange, market_type, kind).set(time / 1e6)


def exposition() -> bytes:
    """Everything in the Prometheus text format."""
    return generate_latest(REGISTRY)
