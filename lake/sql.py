"""SQL over a lake: one SELECT on DuckDB views, one a kind, over the files of one manifest snapshot.

Only what the query can name is opened, each file hashed first. Before the query runs the connection may read those
files and nothing else, its settings are locked, and one parsed SELECT is all that is let through, so that nothing can
be written. That keeps a mistake harmless; it holds no attacker, who would run as the user who asks (see SECURITY.md).
"""

# ruff: noqa: S608 # identifiers are declared names, paths are quoted, and the user's query is never built into another
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from lake import tables
from lake.errors import WrongQuestion
from lake.manifest_reads import Snapshot
from lake.reading import check
from lake.rows import CertificateRow, FileRow
from lake.sizes import SIZED, SQL
from market.kinds import BARS, KINDS, PROVENANCE, kind
from market.session import Coverage, Gap

_LISTING = frozenset({"show", "information_schema", "duckdb_tables", "duckdb_views", "duckdb_columns"})
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_MARKET = ("exchange", "market_type", "symbol")
_ROWS: dict[str, tuple[type[msgspec.Struct], Callable[[Snapshot], Sequence[msgspec.Struct]]]] = {
    "gaps": (Gap, lambda snapshot: snapshot.gaps()),
    "coverage": (Coverage, lambda snapshot: snapshot.coverage()),
    "certificates": (CertificateRow, lambda snapshot: snapshot.certificates()),
    "files": (FileRow, lambda snapshot: snapshot.files()),
}


class Gathered(msgspec.Struct, frozen=True):
    """What a query may need of the manifest: live files of the kinds that it can name, and tables of rows."""

    files: dict[str, list[FileRow]]
    rows: dict[str, pa.Table]


def gather(snapshot: Snapshot, query: str) -> Gathered:
    """From one snapshot everything that `query` can name."""
    words = set(re.findall(r"[a-z0-9_]+", query.lower()))
    words |= {"book_delta"} if "book_delta_levels" in words else set()
    everything = bool(words & _LISTING)
    return Gathered(
        {name: snapshot.files(name) for name in KINDS if everything or name in words},
        {name: _table(held, ask(snapshot)) for name, (held, ask) in _ROWS.items() if everything or name in words},
    )


def select(root: Path, gathered: Gathered, query: str) -> pa.Table:
    """The answer to `query`. Raises WrongQuestion (not one SELECT, or what is wrong with it) and CorruptFile."""
    conn = duckdb.connect(":memory:", config=_CONFIG)
    try:
        _check_query(conn, query)
        opened: list[Path] = []
        for name, files in gathered.files.items():
            opened += _view(conn, root, files, name)
        for name, table in gathered.rows.items():
            conn.register(f"#{name}", table)
            conn.execute(f'CREATE TABLE {name} AS FROM "#{name}"')
            conn.unregister(f"#{name}")
        _lock(conn, opened)
        return conn.execute(query).to_arrow_table()
    except duckdb.Error as error:
        raise WrongQuestion(f"SQL: {error}", f"views: {', '.join((*KINDS, *_ROWS))}") from error
    finally:
        conn.close()


def _check_query(conn: duckdb.DuckDBPyConnection, query: str) -> None:
    statements = conn.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise WrongQuestion("SQL: a query is exactly one SELECT", "leave out everything else")


def _lock(conn: duckdb.DuckDBPyConnection, opened: Iterable[Path]) -> None:
    """From here on: these files, no other, no setting, nothing on disk."""
    paths = ", ".join(_quoted(str(path)) for path in opened)
    conn.execute("SET TimeZone = 'UTC'")
    conn.execute(f"SET allowed_paths = [{paths}]")
    conn.execute("SET temp_directory = ''")
    conn.execute("SET python_scan_all_frames = false")
    conn.execute("SET python_enable_replacements = false")
    conn.execute("SET enable_external_access = false")
    conn.execute("SET lock_configuration = true")


def _view(conn: duckdb.DuckDBPyConnection, root: Path, files: Sequence[FileRow], name: str) -> list[Path]:
    """Make the view of one kind; the files it reads."""
    daily = [file for file in files if file.level == "day"]
    whole = {(f.exchange, f.market_type, f.date) for f in daily if f.symbol is None}
    hot = [f for f in files if f.level != "day" and (f.exchange, f.market_type, f.date) not in whole]
    check(root, [*daily, *hot])
    parts = []
    if daily:
        parts.append(f"SELECT * FROM {_parquet(root, daily)}")
    if hot:
        conn.execute(f'CREATE TABLE "#days_{name}" (exchange TEXT, market_type TEXT, symbol TEXT, date DATE)')
        dates = {file.date for file in hot}
        closed = [(f.exchange, f.market_type, f.symbol, f.date) for f in daily if f.date in dates and f.symbol]
        if closed:
            conn.executemany(f'INSERT INTO "#days_{name}" VALUES (?, ?, ?, ?)', closed)
        parts.append(_hot(root, name, hot))
    sizes = f", {SQL}" if name in SIZED else ""
    if not parts:
        conn.register(f"#{name}", tables.empty(name))
        conn.execute(f'CREATE TABLE "#empty_{name}" AS FROM "#{name}"')
        conn.unregister(f"#{name}")
        parts.append(f'SELECT * FROM "#empty_{name}"')
    conn.execute(f"CREATE VIEW {name} AS SELECT *{sizes} FROM ({' UNION ALL BY NAME '.join(parts)})")
    if name == "book_delta":
        _levels_view(conn)
    return [root / file.path for file in (*daily, *hot)]


def _hot(root: Path, name: str, hot: Sequence[FileRow]) -> str:
    """Rows of parts and hours without those whose day is closed, one of each identity: see `lake.reading`."""
    declared = kind(name)
    columns = ", ".join(f'h."{column}"' for column in tables.schema(name).names)
    if name in BARS:
        keys, order = [*_MARKET, "window_start"], "h.revision DESC, h.trade_count DESC"
    else:
        ids = tables.identity_columns(name)
        anonymous = " AND ".join(f"h.{column} IS NULL" for column in ids) or "false"
        keys = [*_MARKET, *declared.key, *(f"CASE WHEN {anonymous} THEN h.{column} END" for column in PROVENANCE)]
        way = " DESC NULLS LAST" if declared.keep == "last" else " ASC NULLS FIRST"
        order = ", ".join(f"h.{column}{way}" for column in ("ts_recv", *PROVENANCE))
    identity = ", ".join(key if key.startswith("CASE") else f"h.{key}" for key in keys)
    closed = f'(SELECT 1 FROM "#days_{name}" d WHERE d.exchange = h.exchange AND d.market_type = h.market_type'
    closed += " AND d.symbol = h.symbol AND d.date = h.date)"
    return (
        f"SELECT {columns} FROM {_parquet(root, hot)} h WHERE NOT EXISTS {closed} "
        f"QUALIFY row_number() OVER (PARTITION BY {identity} ORDER BY {order}) = 1"
    )


def _levels_view(conn: duckdb.DuckDBPyConnection) -> None:
    """`book_delta_levels`: one row a level of an update message."""
    columns = ", ".join(
        f'"{name}"' for name in tables.schema("book_delta").names if not name.startswith(("bids", "asks"))
    )
    sides = " UNION ALL ".join(
        f"SELECT {columns}, '{side}' AS side, level.price AS price, level.qty AS qty "
        f"FROM (SELECT *, unnest({column}) AS level FROM book_delta)"
        for side, column in (("bid", "bids"), ("ask", "asks"))
    )
    conn.execute(f"CREATE VIEW book_delta_levels AS {sides}")


def _parquet(root: Path, files: Sequence[FileRow]) -> str:
    paths = ", ".join(_quoted(str(root / file.path)) for file in files)
    return f"read_parquet([{paths}], hive_partitioning = false)"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_TYPES: dict[object, pa.DataType] = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}


def _table(struct: type[msgspec.Struct], rows: Sequence[msgspec.Struct]) -> pa.Table:
    """Rows of the manifest as a table; mappings and lists of paths as JSON text."""
    fields = [pa.field(field.name, _type_of(field.type)) for field in msgspec.structs.fields(struct)]
    plain = [
        {
            name: value
            if value is None or isinstance(value, (str, int, float))
            else msgspec.json.encode(value).decode()
            for name, value in msgspec.structs.asdict(row).items()
        }
        for row in rows
    ]
    return pa.Table.from_pylist(plain, schema=pa.schema(fields))


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    return msgspec.json.encode(value).decode()


def _type_of(annotation: object) -> pa.DataType:
    for inner in getattr(annotation, "__args__", ()) or (annotation,):
        if inner in _TYPES:
            return _TYPES[inner]
    return pa.string()
