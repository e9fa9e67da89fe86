"""Queries that want more than to read the lake, and how to see that they got nothing."""

import hashlib
from pathlib import Path

HOSTILE = [
    "",
    ";",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW trade",
    "DROP VIEW trade",
    "CREATE TABLE x AS SELECT * FROM trade",
    "CREATE OR REPLACE TEMP VIEW trade AS SELECT 1",
    "CREATE MACRO trades() AS TABLE SELECT 1",
    "INSERT INTO gaps SELECT * FROM gaps",
    "UPDATE gaps SET symbol = 'X'",
    "DELETE FROM gaps",
    "TRUNCATE gaps",
    "WITH x AS (INSERT INTO gaps SELECT * FROM gaps RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM gaps RETURNING *) SELECT * FROM x",
    "WITH x AS (COPY trade TO '{out}') SELECT * FROM x",
    "COPY (SELECT 1) TO '{out}'",
    "COPY (SELECT 1) TO '{file}' (FORMAT parquet)",
    "COPY trade TO '{file}'",
    "COPY gaps FROM '/etc/passwd'",
    "EXPLAIN SELECT * FROM trade",
    "EXPLAIN ANALYZE SELECT * FROM trade",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
    "SELECT * FROM (EXPLAIN ANALYZE SELECT 1)",
    "EXPORT DATABASE '{out}'",
    "IMPORT DATABASE '/etc'",
    "ATTACH '{out}' AS other",
    "ATTACH '{manifest}' AS m (TYPE sqlite)",
    "DETACH memory",
    "USE system",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET disabled_filesystems = ''",
    "RESET lock_configuration",
    "SELECT current_setting('allowed_directories')",
    "PRAGMA enable_external_access",
    "PRAGMA database_list",
    "PRAGMA enable_profiling = 'json'",
    "SET profiling_output = '{out}'",
    "SET VARIABLE x = 1",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{out}'",
    "CALL pragma_version()",
    "CALL enable_logging()",
    "CREATE SECRET s (TYPE s3)",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT content FROM read_text('{inside}')",
    "SELECT * FROM read_text('{manifest}')",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_text('{file}/../../../../../../../../../../../.lock')",
    "SELECT * FROM read_blob('{lock}')",
    "SELECT * FROM read_csv('{lock}')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv_auto('../../../../../etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_json('{lock}')",
    "SELECT * FROM read_ndjson_objects('{lock}')",
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM read_parquet('{link}')",
    "SELECT * FROM read_parquet('https://192.0.2.1/x.parquet')",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM parquet_kv_metadata('{file}')",
    "SELECT * FROM '{out}'",
    "SELECT * FROM '{file}'",
    "SELECT * FROM '{link}'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM glob('{root}/**')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{out}''')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT * FROM sqlite_scan('{manifest}', 'meta')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_temporary_files()",
    "SELECT * FROM pragma_database_size()",
    "SELECT * FROM force_checkpoint()",
    "SELECT * FROM lake",
    "SELECT * FROM os",
    "SELECT getenv('HOME')",
    "SELECT set_config('enable_external_access', 'true')",
    "SELECT nextval('s')",
    "SELECT * FROM trade WHERE symbol = $1",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN",
    "SELECT '" + "x" * 200_000 + "'",
    "SELECT " + "(SELECT " * 3_000 + "1" + ")" * 3_000,
    "SELECT 1 \x00; COPY (SELECT 1) TO '{out}'",
    "\ud800",
]


def spelt(query: str, root: Path, file: str) -> str:
    """A query with the places of a lake and around it filled in; `link` is one in a Parquet folder that leads out."""
    names = {
        "out": root.parent / "out.parquet", "file": root / file, "manifest": root / "manifest.db",
        "lock": root / ".lock", "root": root, "link": planted(root), "inside": root / "raw" / "secret.jsonl",
    }  # fmt: skip
    for name, path in names.items():
        query = query.replace(f"{{{name}}}", str(path).replace("'", "''"))
    return query


def planted(root: Path) -> Path:
    """A symbolic link in `tables/` to what lies outside of the lake."""
    link = root / "tables" / "link.parquet"
    if not link.is_symlink():
        link.parent.mkdir(exist_ok=True)
        link.symlink_to("/etc/passwd")
    return link


def fingerprint(root: Path) -> dict[str, str]:
    """Every file of a lake, and beside it, with its hash; those that SQLite's readers share apart."""
    planted(root)
    return {
        str(path.relative_to(root.parent)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.parent.rglob("*"))
        if path.is_file() and "manifest.db-" not in path.name
    }
