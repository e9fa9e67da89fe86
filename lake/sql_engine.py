"""DuckDB over the files of one query: the views it names, and its answer within limits.

The connection may read the lake's Parquet folders and nothing else, and its settings are locked. Whoever uses it has
asked `lake.sql_plan` first, which lets through one SELECT that names no file. No manifest is needed here, nor polars.
"""

# ruff: noqa: S608 # identifiers are declared names, values are quoted, and the user's query is never built into another
from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lake import identity, layout, sql_features, sql_plan, sql_views, tables
from lake.errors import CorruptFile, TooMuch
from lake.sql_features import Catalog, quoted
from lake.sql_views import MARKET
from market import times
from market.kinds import BARS, KINDS, PROVENANCE, kind
from market.session import EVERY_SYMBOL

FOREVER = 2**62
"""The end of a hole that still grows, us."""
WIDTHS = {"bar_1s": times.SECOND, "bar_1m": times.MINUTE}
PARQUET = (layout.HOT, layout.TABLES, layout.VERSIONS, layout.FEATURES)
"""Folders that a query's files are in."""
_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_BATCH = 8192


class Source(msgspec.Struct, frozen=True):
    """Where the rows of a kind are. Paths are relative to the lake's root.

    `closed` are (exchange, market_type, symbol, date) of which hot rows do not count; `holes` (exchange, market_type,
    symbol, start, end) over which bars are hidden; `span` limits hot rows in time, since of two with one identity the
    one that is asked for is to stay.
    """

    kind: str
    daily: tuple[str, ...] = ()
    hot: tuple[str, ...] = ()
    closed: tuple[tuple[str, str, str, str], ...] = ()
    holes: tuple[tuple[str, str, str, int, int], ...] = ()
    span: tuple[int | None, int | None] = (None, None)


class Limits(msgspec.Struct, frozen=True):
    """What one query may take: seconds, rows and bytes of its answer, and MB of memory. None is no limit."""

    seconds: float | None = None
    rows: int | None = None
    bytes: int | None = None
    memory: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """Rows, and the sentence that says that there are more, or None."""

    table: pa.Table
    capped: str | None = None


class Engine:
    """DuckDB for the queries of one lake, shared by threads."""

    def __init__(self, prefix: str, limits: Limits | None = None, threads: int | None = None) -> None:
        """`prefix` is the lake's root as DuckDB is to see it, with a slash behind it, or nothing."""
        self._prefix = prefix
        held = dict(sql_plan.CONFIG)
        if threads is not None:
            held["threads"] = threads
        if limits is not None and limits.memory is not None:
            held["memory_limit"] = f"{limits.memory}MB"
        self._conn = duckdb.connect(":memory:", config=held)
        run = self._conn.execute
        run("SET TimeZone = 'UTC'")
        run("SET enable_external_file_cache = false")  # memory that no query gives back
        if run("SELECT 1 FROM duckdb_settings() WHERE name = 'asof_loop_join_threshold'").fetchone():
            run("SET asof_loop_join_threshold = 0")  # a loop takes six times as long where rows are few on one side
        folders = ", ".join(quoted(f"{prefix}{name}/") for name in PARQUET)
        run(f"SET allowed_directories = [{folders}]")
        sql_plan.lock(self._conn)

    def answer(
        self,
        query: str,
        sources: Mapping[str, Source],
        rows: Mapping[str, pa.Table],
        limits: Limits | None = None,
        features: Catalog = (),
    ) -> Answer:
        """The answer to a query that the planner let through. Raises WrongQuestion, TooMuch, CorruptFile.

        `features` are told to one query of an engine at most: their schema is everybody's who asks it.
        """
        limits = limits or Limits()
        over = threading.Event()
        with self._conn.cursor() as conn:

            def stop() -> None:
                over.set()
                conn.interrupt()

            timer = None if limits.seconds is None else threading.Timer(limits.seconds, stop)
            try:
                self._prepare(conn, query, sources, rows)
                if features:
                    conn.execute(f"CREATE SCHEMA {sql_features.SCHEMA}")
                for table in features:
                    conn.execute(sql_features.view(table, sql_features.select(table, self._prefix)))
                if timer is not None:
                    timer.daemon = True
                    timer.start()
                return _heeding(conn, lambda: _fetched(conn, query, limits, over))
            except duckdb.InterruptException as error:
                raise TooMuch(f"SQL: the query took longer than {limits.seconds:g} s", NARROW) from error
            except duckdb.OutOfMemoryException as error:
                raise TooMuch("SQL: the query needs more memory than it may have", NARROW) from error
            except duckdb.IOException as error:
                raise CorruptFile(f"SQL: {error}", "run: dl verify") from error
            except duckdb.Error as error:
                raise sql_plan.wrong(error) from error
            finally:
                if timer is not None:
                    timer.cancel()

    def close(self) -> None:
        self._conn.close()

    def _prepare(
        self, conn: duckdb.DuckDBPyConnection, query: str, sources: Mapping[str, Source], rows: Mapping[str, pa.Table]
    ) -> None:
        """All that the query names, seen by this connection only."""
        words = set(re.findall(r"[a-z0-9_]+", query.lower()))
        everything = bool(words & sql_plan.LISTING)
        known = (*sql_views.NAMES, *(name for name in sql_views.MACROS if name not in sql_views.VIEWS))
        wanted = [name for name in known if everything or name in words or name in sources]
        for name in sql_views.needed(wanted):
            if name in KINDS:
                source = sources.get(name) or Source(name)
                conn.execute(f"CREATE TEMP VIEW {name} AS {self._kind(source)}")
            elif name in sql_views.ROWS:
                conn.register(name, rows.get(name, sql_views.rows_table(name, ())))
            for statement in sql_views.create(name, "TEMP"):
                conn.execute(statement)

    def _kind(self, source: Source) -> str:
        parts = []
        if source.daily:
            parts.append(f"SELECT * FROM {self._parquet(source.daily)}")
        if source.hot:
            parts.append(_hot(source, self._parquet(source.hot)))
        held = " UNION ALL BY NAME ".join(parts) or sql_views.nothing(source.kind)
        return sql_views.view_of(source.kind, _hiding(source, held) if source.kind in BARS else held)

    def _parquet(self, files: Sequence[str]) -> str:
        paths = ", ".join(quoted(f"{self._prefix}{path}") for path in files)
        return f"read_parquet([{paths}], hive_partitioning = false)"


def _heeding(conn: duckdb.DuckDBPyConnection, work: Callable[[], Answer]) -> Answer:
    """What `work` gives, in a thread of its own where this one hears Ctrl-C: DuckDB asks for signals between its tasks
    only, which may be never, and makes another error of it.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    done: Future[Answer] = Future()

    def carry_out() -> None:
        if done.set_running_or_notify_cancel():  # else Ctrl-C came before it had begun
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001 # whoever asks is told
                done.set_exception(error)

    try:
        threading.Thread(target=carry_out, name="sql").start()  # Ctrl-C while it starts is heard too
        while not wait([done], HEARS).done:
            pass
    except KeyboardInterrupt:
        while not done.cancel() and not done.done():
            conn.interrupt()
            wait([done], HEARS)
        raise
    return done.result()


HEARS = 0.2
"""Seconds until a query that somebody interrupts is told so again."""
NARROW = "narrow it by exchange, symbol and date, or ask for less"


def _fetched(conn: duckdb.DuckDBPyConnection, query: str, limits: Limits, over: threading.Event) -> Answer:
    reader = conn.execute(query).to_arrow_reader(_BATCH)
    held: list[pa.RecordBatch] = []
    count = size = 0
    capped = None
    for batch in reader:
        if over.is_set():
            raise duckdb.InterruptException
        held.append(batch)
        count += batch.num_rows
        size += batch.nbytes
        if limits.rows is not None and count > limits.rows:
            capped = f"the first {limits.rows:,} rows; there are more"
            held[-1] = batch.slice(0, batch.num_rows - (count - limits.rows))
            break
        if limits.bytes is not None and size > limits.bytes:
            kept = int(batch.num_rows * max(0.0, 1 - (size - limits.bytes) / batch.nbytes))
            held[-1] = batch.slice(0, kept)
            shown = count - batch.num_rows + kept
            if not shown:
                raise TooMuch(f"SQL: a row of the answer is larger than {limits.bytes:,} bytes", "ask for less of it")
            capped = f"the first {shown:,} rows, which are {limits.bytes:,} bytes; there are more"
            break
    return Answer(_settled(pa.Table.from_batches(held, reader.schema)), capped)


def _settled(table: pa.Table) -> pa.Table:
    """Names once, and types that every format of an answer can hold: docs/sql.md lists what becomes what."""
    names: list[str] = []
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        made = name
        while made in names:
            made += "_"
        names.append(made)
        columns.append(_held(column))
    return pa.table(columns, names=names)


def _held(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_date32(kind) or (pa.types.is_timestamp(kind) and kind.unit == "us"):
        known = _known(column)
        # DuckDB calls the zone Etc/UTC
        return known.cast(tables.TIME) if pa.types.is_timestamp(kind) and kind.tz else known
    if kind == pa.decimal128(38, 0):
        try:
            return column.cast(pa.int64())  # sums of integers
        except pa.ArrowInvalid:
            return column
    if pa.types.is_interval(kind):
        return pa.chunked_array([pa.array([_interval(value) for value in column.to_pylist()], pa.string())])
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        texts = [None if value is None else value.hex() for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return column


def _known(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times and dates of the years 1 to 9999, null for others: no format but DuckDB's own knows infinity."""
    numbers = column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64())
    low, high = _YEARS if pa.types.is_timestamp(column.type) else (edge // times.DAY for edge in _YEARS)
    held = pc.min_max(numbers).as_py()
    if held["min"] is None or (held["min"] >= low and held["max"] <= high):
        return column
    inside = pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))
    return pc.if_else(inside, numbers, None).cast(column.type)


def _interval(value: pa.MonthDayNano | None) -> str | None:
    """Such as `1 month 2 days 3.5 s`."""
    if value is None:
        return None
    months, days, nanoseconds = value
    parts = ((months, "months"), (days, "days"), (nanoseconds / 1e9, "s"))
    return " ".join(f"{count:g} {unit}" for count, unit in parts if count) or "0 s"


def _hot(source: Source, parquet: str) -> str:
    """Rows of parts and hours without those whose day is closed, one of each identity: see `lake.reading`."""
    name = source.kind
    kept = kind(name)
    columns = ", ".join(f'h."{column}"' for column in tables.schema(name).names)
    if name in BARS:
        alike, order = ["h.symbol", "h.window_start"], "h.revision DESC, h.trade_count DESC"
    else:
        alike = identity.in_sql(name, "h")
        way = " DESC NULLS LAST" if kept.keep == "last" else " ASC NULLS FIRST"
        order = ", ".join(f"h.{column}{way}" for column in ("ts_recv", *PROVENANCE))
    keys = ", ".join(("h.exchange", "h.market_type", *alike))
    low, high = source.span
    time = "window_start" if name in BARS else "ts_event"
    where = [] if low is None else [f"h.{time} >= make_timestamptz({low})"]
    where += [] if high is None else [f"h.{time} <= make_timestamptz({high})"]
    if source.closed:
        days = ", ".join(f"({', '.join(map(quoted, day))})" for day in source.closed)
        where.append(
            f"NOT EXISTS (SELECT 1 FROM (VALUES {days}) d(exchange, market_type, symbol, date) WHERE "
            "d.exchange = h.exchange AND d.market_type = h.market_type AND d.symbol = h.symbol "
            "AND d.date::DATE = h.date)"
        )
    return (
        f"SELECT {columns} FROM {parquet} h WHERE {' AND '.join(where) or 'true'} "
        f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"
    )


def _hiding(source: Source, held: str) -> str:
    """Bars with a column that says whether their window touches a gap, or was flagged when they were made."""
    joins, touched = "", "b.gap"
    for name, mine, keys in (
        ("g", [hole for hole in source.holes if hole[2] != EVERY_SYMBOL], MARKET),
        ("e", [hole for hole in source.holes if hole[2] == EVERY_SYMBOL], MARKET[:2]),
    ):
        if not mine:
            continue
        rows = ", ".join(
            f"({', '.join(map(quoted, key))}, make_timestamptz({start}), "
            f"{'make_timestamptz(' + str(end) + ')' if end < FOREVER else 'TIMESTAMPTZ ' + quoted('infinity')})"
            for *key, start, end in mine
        )  # fmt: skip
        width = WIDTHS[source.kind] // times.SECOND
        same = " AND ".join(f"b.{column} = {name}.{column}" for column in keys)
        joins += (
            f" ASOF LEFT JOIN (VALUES {rows}) {name}({', '.join(MARKET)}, hole_start, hole_end) "
            f"ON {same} AND b.window_start + INTERVAL {width} SECOND > {name}.hole_start"
        )
        touched += f" OR coalesce({name}.hole_end > b.window_start, false)"
    return f"SELECT b.*, {touched} AS {sql_views.HIDDEN} FROM ({held}) b{joins}"
