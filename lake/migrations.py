"""Forward-only migrations of the manifest: numbered lists of statements, applied in one transaction.

Once released a migration is never edited; what the next version needs is the next entry. A manifest of a newer
version than this program knows is refused by name and left untouched.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from lake.errors import NotALake, UnknownVersion

APPLICATION_ID = 0x4D4C414B
"""In the header of the SQLite file ("MLAK"): tells a manifest from any other database."""

_FIRST = (
    """CREATE TABLE meta (
        one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1), lake_id TEXT NOT NULL, schema_version INTEGER NOT NULL,
        simulated BOOLEAN NOT NULL, epoch INTEGER NOT NULL, version INTEGER NOT NULL, created_at INTEGER NOT NULL
    )""",
    """CREATE TABLE segments (
        path TEXT NOT NULL PRIMARY KEY, exchange TEXT NOT NULL, market_type TEXT NOT NULL, kind TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'sealed', 'transformed', 'quarantined', 'deleted')),
        period_start INTEGER NOT NULL, period_end INTEGER, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL, recv_min INTEGER, recv_max INTEGER, event_min INTEGER, event_max INTEGER,
        recorded_at INTEGER NOT NULL, clean BOOLEAN NOT NULL, failures INTEGER NOT NULL, error TEXT
    ) WITHOUT ROWID""",
    "CREATE INDEX segments_by_state ON segments (state, exchange, market_type, kind, period_start)",
    "CREATE INDEX segments_by_period ON segments (exchange, market_type, kind, period_end)",
    """CREATE TABLE files (
        path TEXT NOT NULL PRIMARY KEY, exchange TEXT NOT NULL, market_type TEXT NOT NULL, kind TEXT NOT NULL,
        level TEXT NOT NULL CHECK (level IN ('part', 'hour', 'day')), symbol TEXT, date TEXT NOT NULL, hour INTEGER,
        revision INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
        ts_min INTEGER NOT NULL, ts_max INTEGER NOT NULL, seq_min INTEGER, seq_max INTEGER, late INTEGER NOT NULL,
        schema_version INTEGER NOT NULL, content_digest TEXT, created_at INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('live', 'retired')), retired_at INTEGER, unlinked_at INTEGER
    ) WITHOUT ROWID""",
    "CREATE INDEX files_live ON files (state, kind, exchange, market_type, date, symbol)",
    """CREATE UNIQUE INDEX files_one_live_day ON files (exchange, market_type, kind, date, ifnull(symbol, ''),
        ifnull(hour, -1)) WHERE state = 'live' AND level = 'day'""",
    """CREATE TABLE lineage (
        child TEXT NOT NULL, parent TEXT NOT NULL, PRIMARY KEY (child, parent)
    ) WITHOUT ROWID""",
    "CREATE INDEX lineage_by_parent ON lineage (parent)",
    """CREATE TABLE sessions (
        session TEXT NOT NULL PRIMARY KEY, exchange TEXT NOT NULL, market_type TEXT NOT NULL, source TEXT NOT NULL,
        url TEXT NOT NULL, opened_at INTEGER NOT NULL, closed_at INTEGER, close_cause TEXT,
        frames INTEGER NOT NULL, events INTEGER NOT NULL, ignored INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE coverage (
        exchange TEXT NOT NULL, market_type TEXT NOT NULL, kind TEXT NOT NULL, symbol TEXT NOT NULL,
        session TEXT NOT NULL, ts_from INTEGER NOT NULL, ts_to INTEGER NOT NULL,
        PRIMARY KEY (exchange, market_type, kind, symbol, session, ts_from)
    ) WITHOUT ROWID""",
    """CREATE TABLE gaps (
        gap_id TEXT NOT NULL PRIMARY KEY, exchange TEXT NOT NULL, market_type TEXT NOT NULL, kind TEXT NOT NULL,
        symbol TEXT NOT NULL, ts_from INTEGER NOT NULL, ts_to INTEGER, id_from INTEGER, id_to INTEGER,
        cause TEXT NOT NULL, proof TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'repaired', 'empty', 'void', 'unrepairable')), session TEXT,
        detected_at INTEGER NOT NULL, closed_at INTEGER, source TEXT, detail TEXT
    ) WITHOUT ROWID""",
    "CREATE INDEX gaps_by_stream ON gaps (exchange, market_type, kind, symbol, ts_from)",
    "CREATE TABLE cursors (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE certificates (
        path TEXT NOT NULL, issued_at INTEGER NOT NULL, sha256 TEXT NOT NULL, exchange TEXT NOT NULL,
        market_type TEXT NOT NULL, kind TEXT NOT NULL, symbol TEXT, date TEXT NOT NULL, revision INTEGER NOT NULL,
        rows INTEGER NOT NULL, first_id INTEGER, last_id INTEGER, missing INTEGER NOT NULL, void INTEGER NOT NULL,
        duplicates INTEGER NOT NULL, late INTEGER NOT NULL, out_of_order INTEGER NOT NULL, crossed INTEGER NOT NULL,
        estimated INTEGER NOT NULL, open_gaps INTEGER NOT NULL, gap_seconds REAL NOT NULL,
        covered_seconds REAL NOT NULL, latency_p50 INTEGER, latency_p99 INTEGER, skew INTEGER, inputs TEXT NOT NULL,
        parser_version TEXT NOT NULL, content_digest TEXT NOT NULL, reproduced BOOLEAN, verified TEXT,
        PRIMARY KEY (path, issued_at)
    ) WITHOUT ROWID""",
    """CREATE TABLE checks (
        path TEXT NOT NULL, "check" TEXT NOT NULL, symbol TEXT NOT NULL, count INTEGER NOT NULL, detail TEXT NOT NULL,
        PRIMARY KEY (path, "check", symbol)
    ) WITHOUT ROWID""",
    """CREATE TABLE quarantine (
        path TEXT NOT NULL PRIMARY KEY, origin TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
        bytes INTEGER NOT NULL, at INTEGER NOT NULL
    ) WITHOUT ROWID""",
)

_BANS = (
    """CREATE TABLE bans (
        exchange TEXT NOT NULL, host TEXT NOT NULL, pool TEXT NOT NULL, until INTEGER NOT NULL,
        status INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (exchange, host)
    ) WITHOUT ROWID""",
)

_CARE = (
    # what a CHECK allows cannot be altered: the table is made anew around its rows
    """CREATE TABLE segments_anew (
        path TEXT NOT NULL PRIMARY KEY, exchange TEXT NOT NULL, market_type TEXT NOT NULL, kind TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'sealed', 'transformed', 'quarantined', 'deleting', 'deleted')),
        period_start INTEGER NOT NULL, period_end INTEGER, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL, recv_min INTEGER, recv_max INTEGER, event_min INTEGER, event_max INTEGER,
        recorded_at INTEGER NOT NULL, clean BOOLEAN NOT NULL, failures INTEGER NOT NULL, error TEXT
    ) WITHOUT ROWID""",
    """INSERT INTO segments_anew SELECT path, exchange, market_type, kind, state, period_start, period_end, rows, bytes,
        sha256, recv_min, recv_max, event_min, event_max, recorded_at, clean, failures, error FROM segments""",
    "DROP TABLE segments",
    "ALTER TABLE segments_anew RENAME TO segments",
    "CREATE INDEX segments_by_state ON segments (state, exchange, market_type, kind, period_start)",
    "CREATE INDEX segments_by_period ON segments (exchange, market_type, kind, period_end)",
    "CREATE TABLE scrubs (path TEXT NOT NULL PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX scrubs_by_time ON scrubs (at)",
)

_INPUTS = (
    # what many files were made of is told once (lake/input_sets.py); `lineage` and `certificates` become views of that
    "CREATE TABLE inputs (id INTEGER NOT NULL PRIMARY KEY, path TEXT NOT NULL, sha256 TEXT NOT NULL)",
    "CREATE UNIQUE INDEX inputs_once ON inputs (path, sha256)",
    """CREATE TABLE input_sets (
        id INTEGER NOT NULL, input INTEGER NOT NULL, PRIMARY KEY (id, input)
    ) WITHOUT ROWID""",
    "CREATE INDEX input_sets_by_input ON input_sets (input)",
    "CREATE TABLE made_of (child TEXT NOT NULL PRIMARY KEY, input_set INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX made_of_by_set ON made_of (input_set)",
    """CREATE TABLE certified (
        path TEXT NOT NULL, issued_at INTEGER NOT NULL, sha256 TEXT NOT NULL, exchange TEXT NOT NULL,
        market_type TEXT NOT NULL, kind TEXT NOT NULL, symbol TEXT, date TEXT NOT NULL, revision INTEGER NOT NULL,
        rows INTEGER NOT NULL, first_id INTEGER, last_id INTEGER, missing INTEGER NOT NULL, void INTEGER NOT NULL,
        duplicates INTEGER NOT NULL, late INTEGER NOT NULL, out_of_order INTEGER NOT NULL, crossed INTEGER NOT NULL,
        estimated INTEGER NOT NULL, open_gaps INTEGER NOT NULL, gap_seconds REAL NOT NULL,
        covered_seconds REAL NOT NULL, latency_p50 INTEGER, latency_p99 INTEGER, skew INTEGER, input_set INTEGER,
        parser_version TEXT NOT NULL, content_digest TEXT NOT NULL, reproduced BOOLEAN, verified TEXT,
        PRIMARY KEY (path, issued_at)
    ) WITHOUT ROWID""",
    "CREATE INDEX certified_by_set ON certified (input_set)",
    # every distinct set as the text that certificates held it in: {path: SHA-256}, of a file's parents {path: ""}
    "CREATE TABLE told (id INTEGER NOT NULL PRIMARY KEY, inputs TEXT NOT NULL UNIQUE)",
    "CREATE TABLE told_of (child TEXT NOT NULL PRIMARY KEY, inputs TEXT NOT NULL) WITHOUT ROWID",
    """INSERT INTO told_of SELECT child, json_group_object(parent, '')
        FROM (SELECT child, parent FROM lineage ORDER BY child, parent) GROUP BY child""",
    """INSERT INTO told (inputs) SELECT inputs FROM told_of
        UNION SELECT inputs FROM certificates WHERE inputs <> '{}'""",
    """INSERT INTO inputs (path, sha256) SELECT DISTINCT one."key", one.value
        FROM told, json_each(told.inputs) AS one ORDER BY 1, 2""",
    """INSERT INTO input_sets SELECT told.id, inputs.id
        FROM told, json_each(told.inputs) AS one, inputs WHERE inputs.path = one."key" AND inputs.sha256 = one.value""",
    "INSERT INTO made_of SELECT told_of.child, told.id FROM told_of JOIN told ON told.inputs = told_of.inputs",
    """INSERT INTO certified SELECT path, issued_at, sha256, exchange, market_type, kind, symbol, date, revision, rows,
        first_id, last_id, missing, void, duplicates, late, out_of_order, crossed, estimated, open_gaps, gap_seconds,
        covered_seconds, latency_p50, latency_p99, skew, (SELECT id FROM told WHERE told.inputs = certificates.inputs),
        parser_version, content_digest, reproduced, verified FROM certificates""",
    "DROP TABLE told_of",
    "DROP TABLE told",
    "DROP TABLE lineage",
    "DROP TABLE certificates",
    """CREATE VIEW lineage AS SELECT made_of.child AS child, inputs.path AS parent FROM made_of
        JOIN input_sets ON input_sets.id = made_of.input_set JOIN inputs ON inputs.id = input_sets.input""",
    """CREATE VIEW certificates AS SELECT path, issued_at, sha256, exchange, market_type, kind, symbol, date, revision,
        rows, first_id, last_id, missing, void, duplicates, late, out_of_order, crossed, estimated, open_gaps,
        gap_seconds, covered_seconds, latency_p50, latency_p99, skew, (
            SELECT json_group_object(path, sha256) FROM (
                SELECT inputs.path, inputs.sha256 FROM input_sets JOIN inputs ON inputs.id = input_sets.input
                WHERE input_sets.id = certified.input_set ORDER BY inputs.path
            )
        ) AS inputs, parser_version, content_digest, reproduced, verified FROM certified""",
)

_JOBS = (
    """CREATE TABLE jobs (
        job TEXT NOT NULL PRIMARY KEY, what TEXT NOT NULL, work TEXT NOT NULL, arguments TEXT NOT NULL,
        priority INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'paused', 'done', 'failed', 'cancelled')),
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, asked_by TEXT NOT NULL, error TEXT
    ) WITHOUT ROWID""",
    "CREATE INDEX jobs_by_state ON jobs (state, priority, created_at)",
    """CREATE TABLE job_chunks (
        job TEXT NOT NULL, chunk INTEGER NOT NULL, exchange TEXT NOT NULL, market_type TEXT NOT NULL,
        kind TEXT NOT NULL, symbol TEXT NOT NULL, ts_from INTEGER NOT NULL, ts_to INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')), tries INTEGER NOT NULL,
        due_at INTEGER, PRIMARY KEY (job, chunk)
    ) WITHOUT ROWID""",
    """CREATE TABLE job_attempts (
        job TEXT NOT NULL, chunk INTEGER NOT NULL, attempt INTEGER NOT NULL, started_at INTEGER NOT NULL,
        ended_at INTEGER, rows INTEGER NOT NULL, requests INTEGER NOT NULL, error TEXT, permanent BOOLEAN,
        PRIMARY KEY (job, chunk, attempt)
    ) WITHOUT ROWID""",
)

_FEATURES = (
    """CREATE TABLE featured (
        feature_id TEXT NOT NULL PRIMARY KEY, exchange TEXT NOT NULL, market_type TEXT NOT NULL, symbol TEXT NOT NULL,
        feature_set TEXT NOT NULL, version TEXT NOT NULL, path TEXT NOT NULL, rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, content_digest TEXT NOT NULL, ts_min INTEGER NOT NULL,
        ts_max INTEGER NOT NULL, columns TEXT NOT NULL, known TEXT NOT NULL, computed_on TEXT NOT NULL, as_of INTEGER,
        input_set INTEGER, note TEXT NOT NULL, created_at INTEGER NOT NULL, latest_at INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('live', 'deleted')), deleted_at INTEGER
    ) WITHOUT ROWID""",
    "CREATE INDEX featured_by_name ON featured (exchange, market_type, symbol, feature_set)",
    "CREATE INDEX featured_by_set ON featured (input_set)",
    """CREATE VIEW features AS SELECT feature_id, exchange, market_type, symbol, feature_set, version, path, rows,
        bytes, sha256, content_digest, ts_min, ts_max, columns, known, computed_on, as_of, (
            SELECT json_group_object(path, sha256) FROM (
                SELECT inputs.path, inputs.sha256 FROM input_sets JOIN inputs ON inputs.id = input_sets.input
                WHERE input_sets.id = featured.input_set ORDER BY inputs.path
            )
        ) AS inputs, note, created_at, latest_at, state, deleted_at FROM featured""",
)

_IDLE = (
    # what is asked again and again, answered without reading all that the lake holds: by triggers, so that no writer
    # can leave it out
    "CREATE INDEX coverage_by_end ON coverage (exchange, market_type, kind, ts_to)",
    "CREATE INDEX coverage_by_begin ON coverage (exchange, market_type, kind, symbol, ts_from)",
    "CREATE INDEX gaps_by_state ON gaps (state, exchange, market_type, kind, symbol, ts_from)",
    """CREATE TABLE totals (
        exchange TEXT NOT NULL, market_type TEXT NOT NULL, kind TEXT NOT NULL, level TEXT NOT NULL,
        files INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
        PRIMARY KEY (exchange, market_type, kind, level)
    ) WITHOUT ROWID""",
    """INSERT INTO totals SELECT exchange, market_type, kind, level, count(*), sum(rows), sum(bytes) FROM files
        WHERE state = 'live' GROUP BY exchange, market_type, kind, level""",
    "CREATE TABLE segment_totals (state TEXT NOT NULL PRIMARY KEY, segments INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO segment_totals SELECT state, count(*) FROM segments GROUP BY state",
    """DELETE FROM scrubs WHERE path NOT IN (SELECT path FROM files WHERE state = 'live')
        AND path NOT IN (SELECT path FROM segments WHERE state IN ('sealed', 'transformed'))""",
    "INSERT OR IGNORE INTO scrubs SELECT path, created_at FROM files WHERE state = 'live'",
    """INSERT OR IGNORE INTO scrubs SELECT path, recorded_at FROM segments
        WHERE rows > 0 AND (state = 'transformed' OR (state = 'sealed' AND kind = 'frames'))""",
    """CREATE TRIGGER files_added AFTER INSERT ON files WHEN NEW.state = 'live' BEGIN
        INSERT INTO totals VALUES (NEW.exchange, NEW.market_type, NEW.kind, NEW.level, 1, NEW.rows, NEW.bytes)
            ON CONFLICT DO UPDATE SET files = files + 1, rows = rows + NEW.rows, bytes = bytes + NEW.bytes;
        INSERT INTO scrubs VALUES (NEW.path, NEW.created_at) ON CONFLICT DO UPDATE SET at = excluded.at;
    END""",
    """CREATE TRIGGER files_again AFTER UPDATE OF state ON files WHEN OLD.state <> 'live' AND NEW.state = 'live' BEGIN
        INSERT INTO totals VALUES (NEW.exchange, NEW.market_type, NEW.kind, NEW.level, 1, NEW.rows, NEW.bytes)
            ON CONFLICT DO UPDATE SET files = files + 1, rows = rows + NEW.rows, bytes = bytes + NEW.bytes;
        INSERT INTO scrubs VALUES (NEW.path, NEW.created_at) ON CONFLICT DO UPDATE SET at = excluded.at;
    END""",
    """CREATE TRIGGER files_over AFTER UPDATE OF state ON files WHEN OLD.state = 'live' AND NEW.state <> 'live' BEGIN
        UPDATE totals SET files = files - 1, rows = rows - OLD.rows, bytes = bytes - OLD.bytes WHERE
            exchange = OLD.exchange AND market_type = OLD.market_type AND kind = OLD.kind AND level = OLD.level;
        DELETE FROM totals WHERE files = 0;
        DELETE FROM scrubs WHERE path = OLD.path;
    END""",
    """CREATE TRIGGER segments_added AFTER INSERT ON segments BEGIN
        INSERT INTO segment_totals VALUES (NEW.state, 1) ON CONFLICT DO UPDATE SET segments = segments + 1;
        INSERT INTO scrubs SELECT NEW.path, NEW.recorded_at
            WHERE NEW.rows > 0 AND (NEW.state = 'transformed' OR (NEW.state = 'sealed' AND NEW.kind = 'frames'))
            ON CONFLICT DO UPDATE SET at = excluded.at;
    END""",
    """CREATE TRIGGER segments_moved AFTER UPDATE OF state ON segments WHEN OLD.state <> NEW.state BEGIN
        UPDATE segment_totals SET segments = segments - 1 WHERE state = OLD.state;
        DELETE FROM segment_totals WHERE segments = 0;
        INSERT INTO segment_totals VALUES (NEW.state, 1) ON CONFLICT DO UPDATE SET segments = segments + 1;
        DELETE FROM scrubs WHERE path = OLD.path;
        INSERT INTO scrubs SELECT NEW.path, NEW.recorded_at
            WHERE NEW.rows > 0 AND (NEW.state = 'transformed' OR (NEW.state = 'sealed' AND NEW.kind = 'frames'));
    END""",
)

MIGRATIONS: tuple[Sequence[str], ...] = (_FIRST, _BANS, _CARE, _INPUTS, (*_JOBS, *_FEATURES), _IDLE)
VERSION = len(MIGRATIONS)


def found_version(conn: Connection) -> int:
    """The manifest's schema version, 0 for an empty database. Raises NotALake for a database of something else."""
    tables = conn.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one()
    if tables == 0:
        return 0
    if conn.execute(text("PRAGMA application_id")).scalar_one() != APPLICATION_ID:
        raise NotALake("manifest.db is a database of another program", "point to a lake, or to an empty folder")
    return int(conn.execute(text("SELECT schema_version FROM meta")).scalar_one())


def check_version(version: int) -> None:
    """Raises UnknownVersion where the manifest is newer than this program."""
    if version > VERSION:
        raise UnknownVersion(
            f"the manifest has schema version {version}, this program knows {VERSION}",
            "run the newer program that wrote it; nothing was changed",
        )


def migrate(conn: Connection, lake_id: str, simulated: bool, now: int) -> None:
    """Bring an empty or older manifest to VERSION, inside the transaction of `conn`. `now` in us."""
    found = found_version(conn)
    check_version(found)
    if found == VERSION:
        return
    for statements in MIGRATIONS[found:]:
        for statement in statements:
            conn.execute(text(statement))
    if found == 0:
        conn.execute(text(f"PRAGMA application_id = {APPLICATION_ID}"))
        conn.execute(
            text("INSERT INTO meta VALUES (1, :lake_id, :version, :simulated, 0, 0, :now)"),
            {"lake_id": lake_id, "version": VERSION, "simulated": simulated, "now": now},
        )
    else:
        conn.execute(text("UPDATE meta SET schema_version = :version"), {"version": VERSION})
