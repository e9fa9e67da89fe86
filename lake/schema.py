"""Tables of the manifest, as SQLAlchemy sees them; `lake.migrations` is what makes them.

Column names are the field names of `lake.rows` and `market.session`, so a row is a struct by keyword. `lineage` and
`certificates` are views, and tables in manifests before version 4: they are read by the same names.
Times are int microseconds UTC, paths are POSIX and relative to the lake's root.
"""

from typing import Any

from sqlalchemy import Boolean, Column, Float, Integer, MetaData, String, Table

METADATA = MetaData()


def _table(name: str, *columns: Column[Any]) -> Table:
    return Table(name, METADATA, *columns)


def _key(*names: str, kind: type[String] | type[Integer] = String) -> tuple[Column[Any], ...]:
    return tuple(Column(name, kind, primary_key=True) for name in names)


def _text(*names: str, null: bool = False) -> tuple[Column[Any], ...]:
    return tuple(Column(name, String, nullable=null) for name in names)


def _int(*names: str, null: bool = False) -> tuple[Column[Any], ...]:
    return tuple(Column(name, Integer, nullable=null) for name in names)


def _bool(*names: str, null: bool = False) -> tuple[Column[Any], ...]:
    return tuple(Column(name, Boolean, nullable=null) for name in names)


def _float(*names: str) -> tuple[Column[Any], ...]:
    return tuple(Column(name, Float, nullable=False) for name in names)


_MARKET = ("exchange", "market_type", "kind")

meta = _table(
    "meta",
    *_key("one", kind=Integer),
    *_text("lake_id"),
    *_int("schema_version"),
    *_bool("simulated"),
    *_int("epoch", "version", "created_at"),
)
segments = _table(
    "segments",
    *_key("path"),
    *_text(*_MARKET, "state"),
    *_int("period_start"),
    *_int("period_end", null=True),
    *_int("rows", "bytes"),
    *_text("sha256"),
    *_int("recv_min", "recv_max", "event_min", "event_max", null=True),
    *_int("recorded_at"),
    *_bool("clean"),
    *_int("failures"),
    *_text("error", null=True),
)
files = _table(
    "files",
    *_key("path"),
    *_text(*_MARKET, "level"),
    *_text("symbol", null=True),
    *_text("date"),
    *_int("hour", null=True),
    *_int("revision", "rows", "bytes"),
    *_text("sha256"),
    *_int("ts_min", "ts_max"),
    *_int("seq_min", "seq_max", null=True),
    *_int("late", "schema_version"),
    *_text("content_digest", null=True),
    *_int("created_at"),
    *_text("state"),
    *_int("retired_at", "unlinked_at", null=True),
)
lineage = _table("lineage", *_key("child", "parent"))
"""A view of the sets: written through `lake.input_sets`."""
inputs = _table("inputs", *_key("id", kind=Integer), *_text("path", "sha256"))
input_sets = _table("input_sets", *_key("id", "input", kind=Integer))
made_of = _table("made_of", *_key("child"), *_int("input_set"))
sessions = _table(
    "sessions",
    *_key("session"),
    *_text("exchange", "market_type", "source", "url"),
    *_int("opened_at"),
    *_int("closed_at", null=True),
    *_text("close_cause", null=True),
    *_int("frames", "events", "ignored"),
)
coverage = _table(
    "coverage",
    *_key(*_MARKET, "symbol", "session"),
    *_key("ts_from", kind=Integer),
    *_int("ts_to"),
)
gaps = _table(
    "gaps",
    *_key("gap_id"),
    *_text(*_MARKET, "symbol"),
    *_int("ts_from"),
    *_int("ts_to", "id_from", "id_to", null=True),
    *_text("cause", "proof", "state"),
    *_text("session", null=True),
    *_int("detected_at"),
    *_int("closed_at", null=True),
    *_text("source", "detail", null=True),
)
cursors = _table("cursors", *_key("name"), *_int("value"))


def _certificates(name: str, of: Column[Any]) -> Table:
    return _table(
        name,
        *_key("path"),
        *_key("issued_at", kind=Integer),
        *_text("sha256", *_MARKET),
        *_text("symbol", null=True),
        *_text("date"),
        *_int("revision", "rows"),
        *_int("first_id", "last_id", null=True),
        *_int("missing", "void", "duplicates", "late", "out_of_order", "crossed", "estimated", "open_gaps"),
        *_float("gap_seconds", "covered_seconds"),
        *_int("latency_p50", "latency_p99", "skew", null=True),
        of,
        *_text("parser_version", "content_digest"),
        *_bool("reproduced", null=True),
        *_text("verified", null=True),
    )


certified = _certificates("certified", *_int("input_set", null=True))
certificates = _certificates("certificates", *_text("inputs"))
"""A view of `certified`, each row with its set as JSON."""
checks = _table(
    "checks",
    *_key("path", "check", "symbol"),
    *_int("count"),
    *_text("detail"),
)
quarantine = _table(
    "quarantine",
    *_key("path"),
    *_text("origin", "reason"),
    *_int("count", "bytes", "at"),
)
bans = _table(
    "bans",
    *_key("exchange", "host"),
    *_text("pool"),
    *_int("until", "status", "at"),
)
scrubs = _table(
    "scrubs",
    *_key("path"),
    *_int("at"),
)
totals = _table(
    "totals",
    *_key(*_MARKET, "level"),
    *_int("files", "rows", "bytes"),
)
"""Live files, summed: kept by triggers (`lake.migrations`), as is the next."""
segment_totals = _table(
    "segment_totals",
    *_key("state"),
    *_int("segments"),
)
jobs = _table(
    "jobs",
    *_key("job"),
    *_text("what", "work", "arguments"),
    *_int("priority"),
    *_text("state"),
    *_int("created_at", "updated_at"),
    *_text("asked_by"),
    *_text("error", null=True),
)
job_chunks = _table(
    "job_chunks",
    *_key("job"),
    *_key("chunk", kind=Integer),
    *_text(*_MARKET, "symbol"),
    *_int("ts_from", "ts_to"),
    *_text("state"),
    *_int("tries"),
    *_int("due_at", null=True),
)
job_attempts = _table(
    "job_attempts",
    *_key("job"),
    *_key("chunk", "attempt", kind=Integer),
    *_int("started_at"),
    *_int("ended_at", null=True),
    *_int("rows", "requests"),
    *_text("error", null=True),
    *_bool("permanent", null=True),
)


def _features(name: str, of: Column[Any]) -> Table:
    return _table(
        name,
        *_key("feature_id"),
        *_text("exchange", "market_type", "symbol", "feature_set", "version", "path"),
        *_int("rows", "bytes"),
        *_text("sha256", "content_digest"),
        *_int("ts_min", "ts_max"),
        *_text("columns", "known", "computed_on"),
        *_int("as_of", null=True),
        of,
        *_text("note"),
        *_int("created_at", "latest_at"),
        *_text("state"),
        *_int("deleted_at", null=True),
    )


featured = _features("featured", *_int("input_set", null=True))
features = _features("features", *_text("inputs"))
"""A view of `featured`, each row with its set as JSON."""

VIEWS = (lineage, certificates, features)
NUMBERED = (inputs, input_sets, made_of, certified, featured)
"""What the views are made of: two manifests that say the same may number it differently."""
