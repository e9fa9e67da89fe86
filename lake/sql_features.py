"""Feature sets in SQL: `features.<set>`, the current version of a set, of every symbol that has it.

Only text is made here, and no name of somebody else's goes into it unquoted. A set's columns are those of all its
symbols; columns of a file are taken by their place, whatever they are called.
"""

# ruff: noqa: S608 # names are quoted, types are declared here
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from lake.feature_rows import KNOWN_AT, OWN_TIME, FeatureRow, latest

SCHEMA = "features"
PREFIX = f"{SCHEMA}."
"""Before a set's name, in what is read of it."""
_TYPES = {
    "float": "DOUBLE", "float32": "FLOAT", "int": "BIGINT", "bool": "BOOLEAN", "text": "VARCHAR", "time": "TIMESTAMPTZ",
    "date": "DATE",
}  # fmt: skip
_NUMBERS = frozenset({"float", "float32", "int"})
_OWN = {
    "exchange": "VARCHAR", "market_type": "VARCHAR", "symbol": "VARCHAR", "version": "VARCHAR", OWN_TIME: "TIMESTAMPTZ",
    KNOWN_AT: "TIMESTAMPTZ",
}  # fmt: skip


class Part(msgspec.Struct, frozen=True):
    """The file of one symbol's current version; its path is relative to the lake's root."""

    path: str
    exchange: str
    market_type: str
    symbol: str
    version: str
    columns: tuple[str, ...]
    """Of its values, in their places."""


class Table(msgspec.Struct, frozen=True):
    """A set: `values` are (name in the files, name that is shown, DuckDB's type) of all of its symbols."""

    name: str
    values: tuple[tuple[str, str, str], ...]
    parts: tuple[Part, ...] = ()


Catalog: TypeAlias = tuple[Table, ...]


def current(rows: Iterable[FeatureRow]) -> list[FeatureRow]:
    """Of live versions those that `latest` means."""
    owners: dict[tuple[str, ...], list[FeatureRow]] = {}
    for row in rows:
        owners.setdefault(row.owner, []).append(row)
    return [one for mine in owners.values() if (one := latest(mine)) is not None]


def catalog(rows: Iterable[FeatureRow]) -> Catalog:
    """The sets of current versions, without a file: what a query can name."""
    sets: dict[str, list[FeatureRow]] = {}
    for row in rows:
        sets.setdefault(row.feature_set, []).append(row)
    return tuple(Table(name, _values(mine)) for name, mine in sorted(sets.items()))


def parts(rows: Iterable[FeatureRow]) -> tuple[Part, ...]:
    """The files of a set's rows."""
    return tuple(
        Part(row.path, row.exchange, row.market_type, row.symbol, row.version, tuple(row.columns)) for row in rows
    )


def _values(rows: Sequence[FeatureRow]) -> tuple[tuple[str, str, str], ...]:
    words: dict[str, set[str]] = {}
    for row in rows:
        for name, word in row.columns.items():
            words.setdefault(name, set()).add(word)
    taken = {name.lower() for name in _OWN}
    made = []
    for name, held in words.items():
        shown = name
        while shown.lower() in taken:  # to DuckDB X is x
            shown += "_"
        taken.add(shown.lower())
        one = _TYPES[next(iter(held))] if len(held) == 1 else "DOUBLE" if held <= _NUMBERS else "VARCHAR"
        made.append((name, shown, one))
    return tuple(made)


def base(table: Table) -> str:
    """What a plan calls the rows of a set."""
    return f"{PREFIX}{table.name}"


def declared(table: Table) -> str:
    """The columns of a set, as a CREATE TABLE lists them."""
    own = [f"{named(name)} {kind}" for name, kind in _OWN.items()]
    return ", ".join([*own, *(f"{named(shown)} {kind}" for _, shown, kind in table.values)])


def view(table: Table, source: str) -> str:
    """The statement that makes a set's view of a SELECT."""
    return f"CREATE VIEW {SCHEMA}.{named(table.name)} AS {source}"


def select(table: Table, prefix: str) -> str:
    """The rows of a set's files; `prefix` is what DuckDB is to see before their paths."""
    whole = [_part(table, part, prefix) for part in table.parts]
    return " UNION ALL ".join(whole) or _nothing(table)


def _part(table: Table, part: Part, prefix: str) -> str:
    places = {name: f"v{number}" for number, name in enumerate(part.columns)}
    own = {name: quoted(getattr(part, name)) for name in ("exchange", "market_type", "symbol", "version")}
    shown = [f"{value} AS {named(name)}" for name, value in own.items()]
    shown += [f"own AS {named(OWN_TIME)}", f"known AS {named(KNOWN_AT)}"]
    shown += [f"{places.get(name, 'NULL')}::{kind} AS {named(as_)}" for name, as_, kind in table.values]
    columns = ", ".join(["own", "known", *places.values()])
    source = f"read_parquet([{quoted(prefix + part.path)}], hive_partitioning = false) f({columns})"
    return f"SELECT {', '.join(shown)} FROM {source}"


def _nothing(table: Table) -> str:
    columns = [*_OWN.items(), *((shown, kind) for _, shown, kind in table.values)]
    return f"SELECT {', '.join(f'NULL::{kind} AS {named(name)}' for name, kind in columns)} WHERE false"


def named(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def quoted(text: str) -> str:
    """A text."""
    return "'" + text.replace("'", "''") + "'"
