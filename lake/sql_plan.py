"""Which rows a query can want of each kind: asked of DuckDB's own planner, over empty tables, before a file is opened.

The planner has no files and may open none, so that a query that names one ends here; what it reads besides the lake's
views is listed below, and a plan that does anything but read is refused. What of the conditions reached the scans of a
kind says which of its files can matter: conditions that are not understood limit nothing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeAlias, TypeVar

import duckdb
import msgspec

from lake import sql_features, sql_views
from lake.errors import WrongQuestion
from lake.sql_features import Catalog
from market.kinds import BARS, KINDS

V = TypeVar("V", str, int)
Ranges: TypeAlias = tuple[tuple[V | None, V | None], ...]
"""Values between two edges, both of them included, None being no edge. Without a range there is no value."""
ALL: tuple[tuple[None, None], ...] = ((None, None),)

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
TEXTS = ("exchange", "market_type", "symbol", "kind")
NUMBERS = ("date", "ts_event", "window_start")
"""Of files known: days since 1970, and us."""
MAX_QUERY = 100_000
"""Characters."""
_BASE = "#"
_OPTIMIZERS = frozenset({
    "expression_rewriter", "filter_pullup", "filter_pushdown", "cte_filter_pusher", "in_clause", "deliminator",
    "cte_inlining",
})  # fmt: skip
"""Those that bring conditions to the scans. The others go by statistics, and of an empty table say that it is empty."""
_FUNCTIONS = frozenset({
    "duckdb_columns", "duckdb_functions", "duckdb_tables", "duckdb_types", "duckdb_views", "generate_series",
    "pragma_version", "range", "repeat", "repeat_row", "summary", "unnest",
})  # fmt: skip
"""What a query may read besides the lake: what is told of names, and what is made of nothing."""
_TELLING = frozenset({"current_setting"})
"""What tells of this machine: settings name the lake's folder."""
LISTING = frozenset({"show", "information_schema", "duckdb_tables", "duckdb_views", "duckdb_columns"})
"""Words of a query that asks what there is."""
_READING = frozenset(
    f"LOGICAL_{name}"
    for name in (
        "AGGREGATE_AND_GROUP_BY", "ANY_JOIN", "ASOF_JOIN", "CHUNK_GET", "COMPARISON_JOIN", "CROSS_PRODUCT", "CTE_REF",
        "CUSTOM_SORT", "DELIM_GET", "DELIM_JOIN", "DEPENDENT_JOIN", "DISTINCT", "DUMMY_SCAN", "EMPTY_RESULT", "EXCEPT",
        "EXPRESSION_GET", "FILTER", "GET", "INTERSECT", "JOIN", "LIMIT", "MATERIALIZED_CTE", "ORDER_BY", "PIVOT",
        "POSITIONAL_JOIN", "PROJECTION", "RECURSIVE_CTE", "SAMPLE", "TOP_N", "UNION", "UNNEST", "WINDOW",
    )
)  # fmt: skip


class Scan(msgspec.Struct, frozen=True):
    """One reading of a kind, or of a table of the manifest, and what its rows must be for the query to want them."""

    table: str
    texts: dict[str, Ranges[str]] = {}
    numbers: dict[str, Ranges[int]] = {}

    def times(self, column: str) -> Ranges[int]:
        return self.numbers.get(column, ALL)


class Planner:
    """An empty lake in DuckDB, shared by threads. Nothing in it is ever written."""

    def __init__(self) -> None:
        self._names = sql_views.NAMES
        self._conn = duckdb.connect(":memory:", config=CONFIG | {"threads": 1})
        run = self._conn.execute
        run("SET TimeZone = 'UTC'")
        for name in KINDS:
            hidden = ', false AS "#hidden"' if name in BARS else ""
            run(f'CREATE TABLE "{_BASE}{name}" ({sql_views.declared(name)})')
            source = f'SELECT *{hidden} FROM "{_BASE}{name}"'  # noqa: S608 # declared names
            run(f"CREATE VIEW {name} AS {sql_views.view_of(name, source)}")
        for name in sql_views.ROWS:
            run(f"CREATE TABLE {name} ({sql_views.declared(name)})")
        for name in sql_views.needed((*sql_views.VIEWS, *sql_views.MACROS)):
            for statement in sql_views.create(name):
                run(statement)
        known = [row[0] for row in run("SELECT name FROM duckdb_optimizers()").fetchall()]
        run(f"SET disabled_optimizers = '{','.join(name for name in known if name not in _OPTIMIZERS)}'")
        lock(self._conn)

    def learn(self, features: Catalog) -> Self:
        """From now on queries can name these feature sets. Once: a lake's sets are one planner's."""
        if features:
            self._conn.execute(f"CREATE SCHEMA {sql_features.SCHEMA}")
        for table in features:
            base = sql_features.named(f"{_BASE}{sql_features.base(table)}")
            self._conn.execute(f"CREATE TABLE {base} ({sql_features.declared(table)})")
            self._conn.execute(sql_features.view(table, f"SELECT * FROM {base}"))  # noqa: S608 # a quoted name
        self._names = (*self._names, *map(sql_features.base, features))
        return self

    def scans(self, query: str) -> list[Scan]:
        """What one SELECT reads. Raises WrongQuestion: it is none, is wrong, or would do more than read the lake."""
        check_text(query)
        with self._conn.cursor() as conn:
            try:
                check_one_select(conn, query)
                row = conn.execute("SELECT json_serialize_plan(?, optimize := true)", [query]).fetchone()
            except duckdb.Error as error:
                raise wrong(error, self._names) from error
            assert row is not None
            plan = msgspec.json.decode(row[0])
            if plan["error"]:
                self._explain(conn, query)
                raise WrongQuestion(f"SQL: this query cannot be planned: {plan['error_message']}", "write it otherwise")
        return list(_scans(plan["plans"]))

    def _explain(self, conn: duckdb.DuckDBPyConnection, query: str) -> None:
        """What is wrong with a query, in the words and with the place that a user is used to."""
        try:
            conn.execute(f"EXPLAIN {query}")
        except duckdb.Error as error:
            raise wrong(error, self._names) from error


_planners: dict[Catalog, Planner] = {}
_PLANNERS = 4
"""Lakes, or states of their feature sets, whose planners are kept: making one takes some 10 ms."""
_making = threading.Lock()


def planner(features: Catalog = ()) -> Planner:
    """The one of this process for queries that can name these feature sets."""
    with _making:
        if features not in _planners:
            for old in [key for key in _planners if key][: max(0, len(_planners) - _PLANNERS)]:
                del _planners[old]
            _planners[features] = Planner().learn(features)
        return _planners[features]


def lock(conn: duckdb.DuckDBPyConnection) -> None:
    """From here on: no file but those allowed before, no variable of this program, no setting, nothing on disk."""
    conn.execute("SET temp_directory = ''")
    conn.execute("SET allow_community_extensions = false")
    conn.execute("SET python_scan_all_frames = false")
    conn.execute("SET python_enable_replacements = false")
    conn.execute("SET enable_external_access = false")
    conn.execute("SET lock_configuration = true")


def check_text(query: str) -> None:
    """Raises WrongQuestion for what is no text of a fair length."""
    if len(query) > MAX_QUERY:
        raise WrongQuestion(f"SQL: a query of {len(query):,} characters", f"at most {MAX_QUERY:,} are taken")
    try:
        held = query.encode()
    except UnicodeEncodeError as error:
        raise WrongQuestion("SQL: the query is not Unicode text", "write it in UTF-8") from error
    if b"\0" in held:
        raise WrongQuestion("SQL: the query has a character of code 0", "leave it out")


def check_one_select(conn: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raises WrongQuestion for what is not exactly one SELECT."""
    statements = conn.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise WrongQuestion("SQL: a query is exactly one SELECT", "leave out everything else")
    if any(name in query.lower() for name in _TELLING):  # names have no other spelling
        row = conn.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
        assert row is not None
        for name in _called(msgspec.json.decode(row[0])):
            if name in _TELLING:
                raise WrongQuestion(f"SQL: {name} is not possible", "a query reads the lake's views and nothing else")


def _called(parsed: Any) -> Iterator[str]:
    """The functions that a parsed query names."""
    if isinstance(parsed, dict):
        name = parsed.get("function_name")
        if isinstance(name, str):
            yield name.lower()
        parsed = list(parsed.values())
    if isinstance(parsed, list):
        for one in parsed:
            yield from _called(one)


def names_features(query: str) -> bool:
    """Whether a query may say something of feature sets: it names their schema, or asks what there is."""
    words = set(re.findall(r"[a-z0-9_]+", query.lower()))
    return sql_features.SCHEMA in words or bool(words & LISTING)


def wrong(error: duckdb.Error, names: Sequence[str] = sql_views.NAMES) -> WrongQuestion:
    """What DuckDB says of a query, and of a name that there is not also those there are."""
    # the place in the line is that of what was asked, not of the EXPLAIN before it
    said = re.sub(r"^(LINE 1: )EXPLAIN (.*\n) {8}", r"\1\2", str(error), flags=re.MULTILINE)
    unknown = isinstance(error, duckdb.CatalogException)
    return WrongQuestion(f"SQL: {said}", f"views: {', '.join(names)}" if unknown else "")


def _scans(plan: Any) -> Iterator[Scan]:
    """Every scan of a plan. Raises WrongQuestion for one that does not only read, or reads something else."""
    if isinstance(plan, list):
        for one in plan:
            yield from _scans(one)
    elif isinstance(plan, dict):
        kind = plan.get("type")
        if isinstance(kind, str) and kind.startswith("LOGICAL_"):
            if kind not in _READING:
                raise WrongQuestion(f"SQL: {kind.removeprefix('LOGICAL_')} is not possible", "a query only reads")
            if kind == "LOGICAL_GET":
                yield from _scan(plan)
        for value in plan.values():
            if isinstance(value, dict | list):
                yield from _scans(value)


def _scan(get: dict[str, Any]) -> Iterator[Scan]:
    name = get["name"]
    if name != "seq_scan":
        if name not in _FUNCTIONS:
            raise WrongQuestion(f"SQL: {name} is not possible", "a query reads the lake's views and nothing else")
        return
    texts: dict[str, Ranges[str]] = {}
    numbers: dict[str, Ranges[int]] = {}
    for entry in get["table_filters"]["filters"]:
        column = get["names"][entry["key"]]
        if column in TEXTS:
            texts[column] = _ranges(entry["value"], _text)
        elif column in NUMBERS:
            numbers[column] = _ranges(entry["value"], _number)
    yield Scan(get["function_data"]["table"].removeprefix(_BASE), texts, numbers)


def _text(constant: dict[str, Any]) -> str | None:
    value = constant["value"]
    return value if isinstance(value, str) and constant["type"]["id"] == "VARCHAR" else None


def _number(constant: dict[str, Any]) -> int | None:
    value = constant["value"]
    known = constant["type"]["id"] in ("DATE", "TIMESTAMP WITH TIME ZONE")
    return value if known and isinstance(value, int) and abs(value) < 2**62 else None


def _ranges(condition: dict[str, Any], read: Callable[[dict[str, Any]], V | None]) -> Ranges[V]:
    """The values for which a condition can hold; all of them where it is not understood."""
    match condition["filter_type"]:
        case "CONSTANT_COMPARISON":
            return _compared(condition["comparison_type"], read(condition["constant"]))
        case "IN_FILTER":
            values = [read(value) for value in condition["values"]]
            return ALL if None in values else tuple((value, value) for value in values)
        case "OPTIONAL_FILTER" if condition.get("child_filter"):
            return _ranges(condition["child_filter"], read)
        case "CONJUNCTION_OR":
            return tuple(one for child in condition["child_filters"] for one in _ranges(child, read))
        case "CONJUNCTION_AND":
            held: Ranges[V] = ALL
            for child in condition["child_filters"]:
                held = both(held, _ranges(child, read))
            return held
    return ALL


def _compared(how: str, value: V | None) -> Ranges[V]:
    if value is None:
        return ALL
    match how.removeprefix("COMPARE_"):
        case "EQUAL":
            return ((value, value),)
        case "GREATERTHAN" | "GREATERTHANOREQUALTO":
            above = value + 1 if isinstance(value, int) and how.endswith("THAN") else value
            return ((above, None),)
        case "LESSTHAN" | "LESSTHANOREQUALTO":
            below = value - 1 if isinstance(value, int) and how.endswith("THAN") else value
            return ((None, below),)
    return ALL


def both(one: Ranges[V], other: Ranges[V]) -> Ranges[V]:
    """What is in both."""
    met = []
    for a_low, a_high in one:
        for b_low, b_high in other:
            low = b_low if a_low is None else a_low if b_low is None else max(a_low, b_low)
            high = b_high if a_high is None else a_high if b_high is None else min(a_high, b_high)
            if low is None or high is None or low <= high:
                met.append((low, high))
    return tuple(met)


def meets(ranges: Ranges[V], low: V, high: V) -> bool:
    """Whether a value between `low` and `high`, both included, is in one of the ranges."""
    return any((a is None or a <= high) and (b is None or low <= b) for a, b in ranges)
