"""What SQL over a lake can name: a view a kind, views and macros made of them, and tables of the manifest.

Only text is made here. A kind's view is put over whatever holds its rows: the planner's empty table, or the files that
one query needs (`lake.sql_files`). docs/sql.md says what each name is for.
"""

# ruff: noqa: S608 # every name in these texts is declared in this repository
from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import msgspec
import pyarrow as pa

from lake import tables
from lake.rows import BarHole, CertificateRow, CheckRow, FileRow, SessionRow
from lake.sizes import SIZED, SQL
from market import kinds
from market.kinds import BARS, KINDS
from market.session import Coverage, Gap

MARKET = ("exchange", "market_type", "symbol")
HIDDEN = '"#hidden"'
"""Of a bar over an open gap, in what its view is made of."""
_KEPT = ("window_start", "partial", "gap", "late", "revision")
_MINUTES = "('equity', 'fx', 'index')"


class Rows(msgspec.Struct, frozen=True):
    """A table of the manifest: its rows' struct, and which of its times (us) are there as TIMESTAMPTZ too."""

    held: type[msgspec.Struct]
    times: dict[str, str]


ROWS: dict[str, Rows] = {
    "gaps": Rows(Gap, {"ts_from": "since", "ts_to": "until", "detected_at": "detected"}),
    "coverage": Rows(Coverage, {"ts_from": "since", "ts_to": "until"}),
    "files": Rows(FileRow, {"ts_min": "first_event", "ts_max": "last_event"}),
    "certificates": Rows(CertificateRow, {"issued_at": "issued"}),
    "sessions": Rows(SessionRow, {"opened_at": "opened", "closed_at": "closed"}),
    "checks": Rows(CheckRow, {}),
    "bar_holes": Rows(BarHole, {"ts_from": "since", "ts_to": "until"}),
}
"""Tables of the manifest, in the order in which a mistake lists them."""


class Made(msgspec.Struct, frozen=True):
    """A view or a macro, and the names that it is made of."""

    needs: tuple[str, ...]
    sql: str


def sql_type(held: pa.DataType) -> str:
    """DuckDB's name of a column's type, as it reads it from Parquet."""
    if pa.types.is_list(held):
        price, qty = (sql_type(field.type) for field in held.value_type)
        return f"STRUCT(price {price}, qty {qty})[]"
    if pa.types.is_timestamp(held):
        return "TIMESTAMPTZ"
    names = {pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.bool_(): "BOOLEAN", pa.date32(): "DATE"}
    return names.get(held, "VARCHAR")


@cache
def declared(name: str) -> str:
    """The columns of a kind's files, or of a table of the manifest, as a CREATE TABLE lists them."""
    schema = rows_schema(name) if name in ROWS else tables.schema(name)
    return ", ".join(f'"{field.name}" {sql_type(field.type)}' for field in schema)


@cache
def nothing(name: str) -> str:
    """A SELECT of no row with the columns of a kind's files."""
    nulls = ", ".join(f'NULL::{sql_type(field.type)} AS "{field.name}"' for field in tables.schema(name))
    return f"SELECT {nulls} WHERE false"


def view_of(name: str, source: str) -> str:
    """What the view of a kind shows of the rows of `source` (of bars with the column HIDDEN): see `Lake.read`."""
    if name in BARS:
        values = {column.name for column in kinds.kind(name).columns if column.name not in _KEPT}
        shown = ", ".join(
            f'CASE WHEN NOT {HIDDEN} THEN "{held}" END AS "{held}"' if held.removesuffix("_text") in values
            else f'{HIDDEN} AS "{held}"' if held == "gap" else f'"{held}"'
            for held in tables.schema(name).names
        )  # fmt: skip
        return f"SELECT {shown} FROM ({source})"
    sizes = f", {SQL}" if name in SIZED else ""
    return f"SELECT *{sizes} FROM ({source})"


_FIELD_TYPES: dict[object, pa.DataType] = {
    int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string(),
}  # fmt: skip


@cache
def rows_schema(name: str) -> pa.Schema:
    """Columns of a table of the manifest: the struct's own (mappings and lists as JSON text), then its times."""
    held = ROWS[name]
    fields = [pa.field(field.name, _field_type(field.type)) for field in msgspec.structs.fields(held.held)]
    return pa.schema([*fields, *(pa.field(made, tables.TIME) for made in held.times.values())])


def rows_table(name: str, rows: Iterable[msgspec.Struct]) -> pa.Table:
    """Rows of the manifest as that table."""
    schema, made = rows_schema(name), ROWS[name].times
    held = list(rows)
    columns: dict[str, pa.Array] = {}
    for field in schema:
        if field.name not in made.values():
            values = [_plain(getattr(row, field.name)) for row in held]
            columns[field.name] = pa.array(values, type=field.type)
    for source, shown in made.items():
        columns[shown] = columns[source].cast(tables.TIME)
    return pa.table(columns, schema=schema)


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    return msgspec.json.encode(value).decode()


def _field_type(annotation: object) -> pa.DataType:
    for inner in getattr(annotation, "__args__", ()) or (annotation,):
        if inner in _FIELD_TYPES:
            return _FIELD_TYPES[inner]
    return pa.string()


def _levels(name: str) -> Made:
    """A row a level of the lists of a kind, best first; of an update in the venue's order."""
    others = [held for held in tables.schema(name).names if not held.startswith(("bids", "asks"))]
    columns = ", ".join(f'"{held}"' for held in others)
    last = "last_id" if "last_id" in others else "NULL::BIGINT"
    sides = " UNION ALL ".join(
        f"SELECT {columns}, {last} AS last_update_id, '{side}' AS side, place AS level, held.price AS price, "
        f"held.qty AS qty, held.qty AS quantity "
        f"FROM (SELECT *, unnest({lists}) AS held, generate_subscripts({lists}, 1) AS place FROM {name})"
        for side, lists in (("bid", "bids"), ("ask", "asks"))
    )
    return Made((name,), sides)


_NEWEST = (
    "SELECT * FROM kline WHERE interval = '1m' QUALIFY row_number() OVER (PARTITION BY exchange, market_type, symbol, "
    "date, open_time ORDER BY revision DESC, ts_recv DESC NULLS LAST, source) = 1"
)
_PAIRS = (("open", "open"), ("high", "high"), ("low", "low"), ("close", "close"), ("volume", "volume_base"))
_DIFFERENCES = ", ".join(
    f"b.{held} AS our_{name}, k.{held} AS kline_{name}, b.{held} - k.{held} AS {name}_diff" for name, held in _PAIRS
)
_AGREE = " AND ".join(f"b.{held} IS NOT DISTINCT FROM k.{held}" for _, held in _PAIRS)

VIEWS: dict[str, Made] = {
    **{f"{name}_levels": _levels(name) for name in ("book_delta", "book_snapshot", "book_sample")},
    "bars_1s": Made(("bar_1s",), "SELECT * FROM bar_1s"),
    "bars_1m": Made(("bar_1m",), "SELECT * FROM bar_1m"),
    "klines_1m": Made(("kline",), _NEWEST),
    "compare_our_vs_kline_1m": Made(
        ("bar_1m", "klines_1m"),
        f"SELECT k.exchange, k.market_type, k.symbol, k.date, k.open_time AS window_start, {_DIFFERENCES}, "
        "b.trade_count AS our_trades, k.trade_count AS kline_trades, b.gap, b.partial, "
        f"coalesce(b.window_start IS NOT NULL AND {_AGREE}, false) AS same "
        "FROM klines_1m k LEFT JOIN bar_1m b ON b.exchange = k.exchange AND b.market_type = k.market_type "
        "AND b.symbol = k.symbol AND b.date = k.date AND b.window_start = k.open_time",
    ),
    "funding_oi_hourly": Made(
        ("funding_rate", "open_interest"),
        "SELECT exchange, market_type, symbol, date, hour, "
        "arg_max(rate, (ts_event, ts_recv)) FILTER (rate IS NOT NULL) AS funding_rate, "
        "max(ts_event) FILTER (rate IS NOT NULL) AS funding_time, "
        "arg_max(oi, (ts_event, ts_recv)) FILTER (oi IS NOT NULL) AS open_interest, any_value(oi_unit) AS oi_unit, "
        "arg_max(oi_quote, (ts_event, ts_recv)) FILTER (oi_quote IS NOT NULL) AS oi_quote, "
        "max(ts_event) FILTER (oi IS NOT NULL) AS oi_time FROM ("
        "SELECT exchange, market_type, symbol, date, date_trunc('hour', ts_event) AS hour, ts_event, ts_recv, rate, "
        "NULL::DOUBLE AS oi, NULL::DOUBLE AS oi_quote, NULL::VARCHAR AS oi_unit FROM funding_rate UNION ALL "
        "SELECT exchange, market_type, symbol, date, date_trunc('hour', ts_event), ts_event, ts_recv, NULL, oi, "
        "oi_quote, oi_unit FROM open_interest) GROUP BY exchange, market_type, symbol, date, hour",
    ),
    "macro_minute": Made(
        ("klines_1m",),
        "SELECT exchange, market_type, symbol, date, open_time AS ts, open, high, low, close, volume_base AS volume "
        f"FROM klines_1m WHERE market_type IN {_MINUTES}",
    ),
}
"""Views made of kinds."""

_SPAN = (
    "{time} >= coalesce(since::TIMESTAMPTZ, '-infinity'::TIMESTAMPTZ) "
    "AND {time} < coalesce(until::TIMESTAMPTZ, 'infinity'::TIMESTAMPTZ)"
)
_GIVEN = "(venue, ticker, since := NULL, until := NULL)"


def _ranged(source: str, time: str) -> Made:
    where = f"exchange = venue AND symbol = ticker AND {_SPAN.format(time=time)}"
    return Made((source,), f"{_GIVEN} AS TABLE SELECT * FROM {source} WHERE {where}")


_TIES = (
    "SELECT exchange, market_type, symbol, ts_event, bid, bid_qty, ask, ask_qty FROM quote WHERE exchange = venue AND "
    "symbol = ticker AND ts_event >= coalesce(since::TIMESTAMPTZ - INTERVAL 1 HOUR, '-infinity'::TIMESTAMPTZ) AND "
    "ts_event < coalesce(until::TIMESTAMPTZ, 'infinity'::TIMESTAMPTZ) QUALIFY row_number() OVER ("
    "PARTITION BY exchange, market_type, symbol, ts_event "
    "ORDER BY update_id DESC NULLS LAST, session DESC, frame_no DESC, item DESC) = 1"
)


def _sum(name: str) -> str:
    """A sum that does not depend on the order of its rows: of decimals, a float once."""
    text = f"coalesce({name}_text, {name}::VARCHAR)"
    return f"sum(try_cast({text} AS DECIMAL(38, 12)))::VARCHAR::DOUBLE AS {name}"


_HOLE = (
    "EXISTS (SELECT 1 FROM bar_holes h WHERE h.exchange = venue AND h.symbol IN (ticker, '*') "
    "AND h.exchange = f.exchange AND h.market_type = f.market_type AND h.since < f.window_start + width::INTERVAL "
    "AND coalesce(h.until, 'infinity'::TIMESTAMPTZ) > f.window_start)"
)
_SUMS = ("volume_base", "volume_quote", "taker_buy_base", "taker_buy_quote")
_VALUES = ("open", "high", "low", "close", *_SUMS, "trade_count")
_FOLDED = (
    "(width, venue, ticker, since := NULL, until := NULL) AS TABLE SELECT exchange, market_type, symbol, window_start, "
    f"{', '.join(f'CASE WHEN NOT hidden THEN {name} END AS {name}' for name in _VALUES)}, hidden AS gap FROM ("
    f"SELECT f.*, holed OR {_HOLE} AS hidden FROM ("
    "SELECT exchange, market_type, symbol, bucket(width, b.window_start) AS window_start, "
    "arg_min(open, b.window_start) AS open, max(high) AS high, min(low) AS low, "
    f"arg_max(close, b.window_start) AS close, {', '.join(map(_sum, _SUMS))}, "
    "sum(trade_count)::BIGINT AS trade_count, bool_or(gap) AS holed FROM bar_1m b "
    f"WHERE exchange = venue AND symbol = ticker AND {_SPAN.format(time='b.window_start')} "
    "GROUP BY exchange, market_type, symbol, bucket(width, b.window_start)) f)"
)
_PLURAL = {name: f"{name}s" for name in KINDS if name not in BARS}
MACROS: dict[str, Made] = {
    "bucket": Made((), "(width, moment) AS time_bucket(width::INTERVAL, moment, TIMESTAMPTZ '1970-01-01 00:00:00+00')"),
    "us": Made((), "(micros) AS make_timestamptz(micros::BIGINT)"),
    **{made: _ranged(name, "ts_event") for name, made in _PLURAL.items()},
    "bars_1s": _ranged("bar_1s", "window_start"),
    "bars_1m": _ranged("bar_1m", "window_start"),
    "bars": Made(("bar_1m", "bar_holes", "bucket"), _FOLDED),
    "trades_quoted": Made(
        ("trade", "quote"),
        f"{_GIVEN} AS TABLE SELECT t.*, q.ts_event AS quote_time, q.bid, q.bid_qty, q.ask, q.ask_qty "
        f"FROM (SELECT * FROM trade WHERE exchange = venue AND symbol = ticker AND {_SPAN.format(time='ts_event')}) t "
        f"ASOF LEFT JOIN ({_TIES}) q ON q.exchange = t.exchange AND q.market_type = t.market_type "
        "AND q.symbol = t.symbol AND q.ts_event <= t.ts_event",
    ),
}
"""Macros; those with a table are given (exchange, symbol, from, to), the last two at will."""

NAMES = (*KINDS, *VIEWS, *ROWS)
"""Every name that a FROM can hold, apart from macros."""


def needed(names: Iterable[str]) -> list[str]:
    """`names` and all that they are made of, in an order in which they can be created."""
    made: dict[str, None] = {}

    def add(name: str) -> None:
        for held in (VIEWS, MACROS):
            if name in held:
                for one in held[name].needs:
                    add(one)
        made[name] = None

    for name in names:
        add(name)
    return list(made)


def create(name: str, temporary: str = "") -> list[str]:
    """Statements that make the view and the macro of that name, if there are such."""
    made = []
    if name in VIEWS:
        made.append(f"CREATE {temporary} VIEW {name} AS {VIEWS[name].sql}")
    if name in MACROS:
        made.append(f"CREATE {temporary} MACRO {name}{MACROS[name].sql}")
    return made
