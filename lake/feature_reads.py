"""`Lake.features`: which sets there are, their values, and what of them was known at each bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec
import polars as pl
import pyarrow as pa
from sqlalchemy import Connection, select

from lake import asof, feature_files, feature_table, schema
from lake.answers import names_of
from lake.asking import LAST, Duration, Time, bar_kind, duration, names, span_of, text, time_of
from lake.errors import WrongQuestion
from lake.feature_rows import KNOWN_AT, LATEST, OWN_TIME, FeatureRow, check_name, latest, version_key
from lake.manifest_reads import Reads, chunks
from lake.reading import Wanted, check

if TYPE_CHECKING:
    from lake.reader import Lake

At: TypeAlias = Literal["open", "close"]
_TIMES = ("window_start", "ts_event")
"""The time of a bar, and of any other row."""


class FeatureSet(msgspec.Struct, frozen=True):
    """One set of one symbol: its live versions in their order, and which of them `latest` means."""

    name: str
    exchange: str
    market_type: str
    symbol: str
    versions: tuple[str, ...]
    latest: str


class Lineage(msgspec.Struct, frozen=True):
    """What a version was computed on, held against the lake of now: of `files` (path to SHA-256, as they were) those
    of `revised` are not current any more.
    """

    computed_on: tuple[str, ...]
    as_of: int | None
    files: dict[str, str]
    revised: tuple[str, ...]


class FeatureReads:
    """The feature store of a lake, read. Names match in any case; symbols are the venue's."""

    def __init__(self, lake: Lake) -> None:
        """Use `Lake.features`."""
        self._lake = lake

    @property
    def _root(self) -> Path:
        return self._lake.root

    def versions(
        self,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: str | None = None,
        feature_set: str | None = None,
        version: str | None = None,
        deleted: bool = False,
    ) -> list[FeatureRow]:
        """Versions by set, in the order in which they came; `version` may be `latest`. Without deleted ones."""
        _texts(exchange=exchange, market_type=market_type, symbol=symbol, feature_set=feature_set, version=version)
        wanted = None if version == LATEST else version
        found = feature_table.features(
            self._lake.manifest, exchange=exchange, market_type=market_type, symbol=symbol, feature_set=feature_set,
            version=wanted, state=None if deleted else "live",
        )  # fmt: skip
        if version != LATEST:
            return found
        return [row for rows in _by_owner(found) if (row := latest(rows)) is not None]

    def sets(
        self, *, exchange: str | None = None, market_type: str | None = None, symbol: str | None = None
    ) -> list[FeatureSet]:
        """Every set that has a live version."""
        made = []
        for rows in _by_owner(self.versions(exchange=exchange, market_type=market_type, symbol=symbol)):
            newest = latest(rows)
            assert newest is not None, "they are live"
            versions = sorted((row.version for row in rows), key=version_key)
            made.append(
                FeatureSet(
                    newest.feature_set, newest.exchange, newest.market_type, newest.symbol, tuple(versions),
                    newest.version,
                )
            )  # fmt: skip
        return made

    def by_id(self, feature_id: str) -> FeatureRow:
        """Raises WrongQuestion where no live version has that id."""
        if not isinstance(feature_id, str):
            raise WrongQuestion(f"feature_id={feature_id!r} is no id", "it is a text, as `versions` gives it")
        found = feature_table.features(self._lake.manifest, feature_id=feature_id)
        if not found:
            raise WrongQuestion(f"there is no feature set with the id {feature_id[:40]}", "dl features list names them")
        return found[0]

    def get(
        self,
        feature_set: str,
        version: str = LATEST,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: str | None = None,
    ) -> FeatureRow:
        """One live version. Raises WrongQuestion: none, or several symbols have such a set."""
        return find(self._lake.manifest, feature_set, version, exchange, market_type, symbol)

    def read(
        self,
        feature_set: str | FeatureRow,
        version: str = LATEST,
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        columns: Sequence[str] | None = None,
        known_by: Time | None = None,
    ) -> pa.Table:
        """Rows whose own time is in [start, end), in order, with `ts_event` and `known_at` before the values.

        With `known_by` only those that were known then. Raises WrongQuestion, Malformed (a time), CorruptFile.
        """
        row = self._one(feature_set, version, exchange, market_type, symbol)
        pieces = list(self.pieces(row, start=start, end=end, columns=columns, known_by=known_by))
        names = [OWN_TIME, KNOWN_AT, *columns_of(row, columns)]
        empty = feature_files.schema(row.columns).empty_table().select(names)
        return pa.concat_tables(pieces) if pieces else empty

    def pieces(
        self,
        row: FeatureRow,
        *,
        start: Time | None = None,
        end: Time | None = None,
        columns: Sequence[str] | None = None,
        known_by: Time | None = None,
    ) -> Iterator[pa.Table]:
        """What `read` gives, a piece at a time, for what does not fit in memory. What is wrong is raised at once."""
        names = [OWN_TIME, KNOWN_AT, *columns_of(_given(row), columns)]
        span_of(start, end)
        limits = [("start", OWN_TIME, start, ">="), ("end", OWN_TIME, end, "<"), ("known_by", KNOWN_AT, known_by, "<=")]
        asked = [(name, time_of(at, said), how) for said, name, at, how in limits if at is not None]
        check(self._root, [row])
        held = (_limited(table, asked) for table in feature_files.iterate(self._root / row.path, names))
        return (table for table in held if table.num_rows)

    def path(self, row: FeatureRow) -> Path:
        """The file of a version, its bytes checked: to be copied or sent as it is. Raises CorruptFile."""
        check(self._root, [_given(row)])
        return self._root / row.path

    def lineage(self, row: FeatureRow) -> Lineage:
        """What it was computed on, and which of that was revised since."""
        t = schema.files

        def read(conn: Connection) -> dict[str, str]:
            held: dict[str, str] = {}
            for paths in chunks(_given(row).inputs):
                live = select(t.c.path, t.c.sha256).where(t.c.path.in_(paths), t.c.state == "live")
                held |= {one[0]: one[1] for one in conn.execute(live)}
            return held

        live = self._lake.manifest.run(read)
        revised = tuple(path for path, sha256 in sorted(row.inputs.items()) if live.get(path) != sha256)
        return Lineage(row.computed_on, row.as_of, row.inputs, revised)

    def join(
        self,
        sets: str | Sequence[str],
        kind: str = "bar_1m",
        *,
        exchange: str | None = None,
        market_type: str | None = None,
        symbol: str,
        start: Time | None = None,
        end: Time | None = None,
        columns: Sequence[str] | None = None,
        at: At = "open",
        max_age: Duration | None = None,
        **reading: Any,
    ) -> pa.Table:
        """Rows of `Lake.read(kind, …)` of one symbol, and beside each what was known of these sets then.

        A set is `name`, `name@1.0.0` or, of another symbol of that market, `ETHUSDT:name@1.0.0`; its columns become
        `name__column`, with `name__ts_event` and `name__known_at` of the row they are from. `at` says when a bar asks:
        at its opening, or at its close (then it may also use what became known inside of it). Values of a time more
        than `max_age` (`1h`, us, a timedelta) before are null. `reading` are more options of `Lake.read`.
        Raises WrongQuestion, Malformed (a time), CorruptFile.
        """
        wanted = names("sets", sets)
        if wanted is None:
            raise WrongQuestion("sets=None names no feature set", "say which: momentum, momentum@1.0.0")
        age = None if max_age is None else min(LAST, duration(max_age, "max_age", "1h"))
        if not isinstance(symbol, str):
            raise WrongQuestion(f"symbol={symbol!r} is no name", "a join is of one symbol, and that a text")
        if at not in get_args(At) or (age is not None and age < 0):
            raise WrongQuestion(f"at={at!r}, max_age={max_age} cannot be", "at is open or close, no age is negative")
        rows = self._lake.read(
            kind, exchange=exchange, market_type=market_type, symbol=symbol, start=start, end=end, **reading
        )
        kept = names_of(rows.column_names, columns, kind)
        asked_of = (exchange, market_type, symbol)
        market = _market_of(rows, asked_of if rows.num_rows else self._spelt(*asked_of))
        asking = pl.DataFrame(rows.select([_TIMES[0] if bar_kind(kind) else _TIMES[1]])).select(self._asking(kind, at))
        types: dict[str, pa.DataType] = {}
        for asked in wanted:
            other, _, named = asked.rpartition(":")
            name, _, version = named.partition("@")
            row = find(self._lake.manifest, name, version or LATEST, market[0], market[1], other or market[2])
            prefix = f"{row.symbol}__{row.feature_set}" if other else row.feature_set
            made = {f"{prefix}__{one.name}": one.type for one in feature_files.schema(row.columns)}
            if made.keys() & (types.keys() | rows.column_names):
                raise WrongQuestion(f"{asked} would give a column that is there already", "join one version of a set")
            types |= made
            asking = asof.join(asking, self._needed(row, asking), prefix, age)
        found = asking.select(*types).to_arrow(compat_level=pl.CompatLevel.oldest())
        joined = rows.select(kept)
        for name, to in types.items():
            joined = joined.append_column(pa.field(name, to), found.column(name).cast(to))
        return joined

    def _spelt(self, exchange: str | None, market_type: str | None, symbol: str) -> tuple[str | None, str | None, str]:
        """A symbol as its venue spells it, where one venue has it."""
        known = self._lake.spelt(exchange, market_type, symbol)
        one = known[0] if len(known) == 1 else Wanted(exchange, market_type, symbol)
        return one.exchange, one.market_type, one.symbol or symbol

    def _asking(self, kind: str, at: At) -> pl.Expr:
        """When each row asks."""
        bar = bar_kind(kind)
        if bar is not None:
            return (pl.col(_TIMES[0]) + pl.duration(microseconds=bar.width if at == "close" else 0)).alias(asof.AT)
        if at == "close":
            raise WrongQuestion(f"{kind} has no close", "at='close' is of bars")
        return pl.col(_TIMES[1]).alias(asof.AT)

    def _needed(self, row: FeatureRow, asking: pl.DataFrame) -> pl.DataFrame:
        """The rows of a set that can be told to someone who asks: of those before the first only the newest."""
        empty = pl.DataFrame(feature_files.schema(row.columns).empty_table())
        if not asking.height:
            return empty
        low, high = (asking.select(edge).item() for edge in (pl.col(asof.AT).min(), pl.col(asof.AT).max()))
        held = [empty]
        for table in self.pieces(row, known_by=high):
            piece = pl.DataFrame(table)
            early = pl.col(KNOWN_AT) < low
            held += [piece.filter(early).sort(OWN_TIME, KNOWN_AT).tail(1), piece.filter(~early)]
        return pl.concat(held)

    def _one(
        self, named: str | FeatureRow, version: str, exchange: str | None, market_type: str | None, symbol: str | None
    ) -> FeatureRow:
        if isinstance(named, FeatureRow):
            return named
        return self.get(named, version, exchange=exchange, market_type=market_type, symbol=symbol)


def find(
    source: Reads,
    feature_set: str,
    version: str = LATEST,
    exchange: str | None = None,
    market_type: str | None = None,
    symbol: str | None = None,
) -> FeatureRow:
    """One live version of a set. Raises WrongQuestion, which says what there is instead."""
    _texts(exchange=exchange, market_type=market_type, symbol=symbol)
    name = check_name(feature_set)
    if version != LATEST:
        version_key(version)
    rows = feature_table.features(
        source, exchange=exchange, market_type=market_type, symbol=symbol, feature_set=name, state="live"
    )
    owners = list(dict.fromkeys(row.owner for row in rows))
    of = " ".join(one for one in (exchange, market_type, symbol) if one)
    if not owners:
        raise WrongQuestion(f"there is no feature set {name}{' of ' * bool(of)}{of}", "dl features list names them")
    if len(owners) > 1:
        several = ", ".join(" ".join(one[:3]) for one in owners[:4])
        raise WrongQuestion(f"{name} is a set of {len(owners)} symbols: {several}", "say exchange, market and symbol")
    found = latest(rows) if version == LATEST else next((row for row in rows if row.version == version), None)
    if found is None:
        held = ", ".join(row.version for row in rows)
        raise WrongQuestion(f"{name} of {' '.join(owners[0][:3])} has no version {version}", f"it has {held}")
    return found


def _by_owner(rows: Sequence[FeatureRow]) -> list[list[FeatureRow]]:
    found: dict[tuple[str, ...], list[FeatureRow]] = {}
    for row in rows:
        found.setdefault(row.owner, []).append(row)
    return list(found.values())


def columns_of(row: FeatureRow, columns: Sequence[str] | None) -> list[str]:
    """The values that are asked for, in the order of the question."""
    held = (OWN_TIME, KNOWN_AT, *row.columns)
    asked = names_of(held, columns, f"{row.feature_set} {row.version}")
    return [name for name in asked if name not in held[:2]]


def _given(row: object) -> FeatureRow:
    """Raises WrongQuestion for what is no version."""
    if not isinstance(row, FeatureRow):
        raise WrongQuestion(f"row={row!r} is no version of a feature set", "Lake.features.get gives one")
    return row


def _texts(**names: object) -> None:
    for name, value in names.items():
        text(name, value)


def _limited(table: pa.Table, limits: Sequence[tuple[str, int, str]]) -> pa.Table:
    if not limits:
        return table
    frame = pl.DataFrame(table)
    for name, at, how in limits:
        edge = pl.lit(at).cast(pl.Datetime("us", "UTC"))
        column = pl.col(name)
        frame = frame.filter(column >= edge if how == ">=" else column < edge if how == "<" else column <= edge)
    return (
        frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(table.schema) if frame.height else table.slice(0, 0)
    )


def _market_of(rows: pa.Table, asked: tuple[str | None, str | None, str]) -> tuple[str | None, str | None, str]:
    """The one market and symbol that was read; what was asked for where nothing was. Raises WrongQuestion."""
    names = ("exchange", "market_type", "symbol")
    found = {tuple(one.values()) for one in rows.select(names).group_by(names).aggregate([]).to_pylist()}
    if len(found) > 1:
        several = ", ".join(sorted(" ".join(one) for one in found))
        raise WrongQuestion(f"{asked[2]} is read of several markets: {several}", "say exchange and market_type")
    return next(iter(found), asked)
