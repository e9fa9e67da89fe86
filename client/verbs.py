"""The verbs, as requests and what is made of their answers: both clients share them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, Required, TypeAlias, TypedDict, TypeVar

import msgspec
import pyarrow as pa

from client import asking, wire
from client.asking import Duration, Symbols, Time, get, part, post
from client.wire import Request
from market.session import Gap

T = TypeVar("T")
Fill: TypeAlias = Literal["none", "empty", "previous"]
MinState: TypeAlias = Literal["provisional", "final", "verified"]
At: TypeAlias = Literal["open", "close"]
Source: TypeAlias = Literal["lake", "venue"]
Row: TypeAlias = dict[str, Any]
Found: TypeAlias = tuple[list[T], int]
"""One page, and how many rows there are on all pages."""
_TIMES = ("start", "end", "as_of", "known_by")


class Market(TypedDict, total=False):
    """Which data: as `Lake` takes it. `start` is included, `end` is not."""

    exchange: str | None
    market_type: str | None
    symbol: Symbols
    start: Time | None
    end: Time | None


class Rows(Market, total=False):
    """Which rows, and how: as `Lake.read` takes it."""

    columns: Sequence[str] | None
    fill: Fill
    min_state: MinState
    version: int | None
    as_of: Time | None
    across_listings: bool


class Day(TypedDict, total=False):
    """Whose day."""

    exchange: str | None
    market_type: str | None
    symbol: str | None
    revision: int | None


class Put(TypedDict, total=False):
    """A version of a feature set: as `dl features put` takes it."""

    exchange: Required[str]
    market: Required[str]
    symbol: Required[str]
    feature_set: Required[str]
    version: str
    time: str | None
    known: str | None
    delay: Duration
    computed_on: Sequence[str]
    as_of: Time | None
    lookback: Duration
    missing: Literal["refuse", "null"]
    sort: bool
    note: str


class Asked(msgspec.Struct, Generic[T], frozen=True):
    """A request and what its whole answer means."""

    request: Request
    made: Callable[[bytes], T]


def _plain(question: Mapping[str, Any]) -> dict[str, Any]:
    """Times as microseconds, columns as one text. Raises Malformed."""
    said: dict[str, Any] = {
        name: asking.time_of(name, value) if name in _TIMES else value for name, value in question.items()
    }
    if said.get("columns") is not None:
        said["columns"] = asking.columns_of(said["columns"])
    return said


def rows(path: str, question: Mapping[str, Any], **more: Any) -> Asked[pa.Table]:
    """Rows as the Arrow stream."""
    return Asked(get(path, format="arrow", **_plain(question), **more), asking.table_of)


def read(kind: str, question: Mapping[str, Any]) -> Asked[pa.Table]:
    return rows(f"/read/{part(kind=kind)}", question)


def bars(interval: Duration, offset: Duration, question: Mapping[str, Any]) -> Asked[pa.Table]:
    return rows("/bars", question, interval=interval, window_offset=offset or None)


def join(sets: Symbols, kind: str, question: Mapping[str, Any], **more: Any) -> Asked[pa.Table]:
    return rows("/features/join", question, kind=kind, set=[sets] if isinstance(sets, str) else sets, **more)


def completeness(kind: str, question: Mapping[str, Any]) -> Asked[Row]:
    return ask(f"/completeness/{part(kind=kind)}", **_plain(question))


def sql(query: str) -> Asked[pa.Table]:
    request = post("/sql", {"query": asking.text("query", query)})
    return Asked(msgspec.structs.replace(request, target=f"{request.target}?format=arrow"), asking.table_of)


def book(symbol: str, at: Time, **asked: Any) -> Asked[Row]:
    return ask("/book", symbol=symbol, at=asking.time_of("at", at), **asked)


def day(what: str, kind: str, date: Time, question: Mapping[str, Any]) -> Asked[Row]:
    """A certificate or a lineage of the day that `date` begins."""
    return ask(f"/{what}/{part(kind=kind)}", date=asking.date_of(date), **question)


def page(path: str, name: str, offset: int, question: Mapping[str, Any], **more: Any) -> Asked[Found[Row]]:
    """One page of rows of the manifest."""
    request = get(path, limit=asking.PAGE, offset=offset, **_plain(question), **more)
    return Asked(request, lambda body: asking.page_of(body, name))


def gaps(offset: int, question: Mapping[str, Any], **more: Any) -> Asked[Found[Gap]]:
    request = get("/gaps", limit=asking.PAGE, offset=offset, **_plain(question), **more)

    def made(body: bytes) -> Found[Gap]:
        found, total = asking.page_of(body, "gaps")
        return asking.gaps_of(found), total

    return Asked(request, made)


def listed(name: str, offset: int, question: Mapping[str, Any]) -> Asked[Found[Row]]:
    """One page of datasets, features or jobs."""
    request = get(f"/{name}", limit=asking.SHORT, offset=offset, **question)
    return Asked(request, lambda body: asking.page_of(body, name))


def ask(path: str, **asked: Any) -> Asked[Any]:
    """Anything that is answered in JSON."""
    return Asked(get(path, **asked), asking.json_of)


def tell(path: str, body: object = None) -> Asked[Any]:
    """Something to be done, answered in JSON."""
    return Asked(post(path, body), asking.json_of)


def put(file: str | Path, fields: Mapping[str, Any]) -> Asked[Row]:
    """A version of a feature set; times of `as_of` as microseconds, several kinds as one text."""
    as_of = asking.time_of("as_of", fields.get("as_of"))
    return _send("/features/upload", file, {**fields, "as_of": as_of})


def take_in(file: str | Path, fields: Mapping[str, Any]) -> Asked[Row]:
    """A file of other origin; `columns` maps its columns to fields."""
    columns = fields.get("columns")
    said = ",".join(f"{name}={field}" for name, field in columns.items()) if isinstance(columns, Mapping) else columns
    return _send("/ingest/file", file, {**fields, "columns": said})


def _send(path: str, file: str | Path, fields: Mapping[str, Any]) -> Asked[Row]:
    said = {name: asking.said_of(name, value) for name, value in fields.items() if value is not None}
    texts = {name: ",".join(map(str, one)) if isinstance(one, list) else str(one) for name, one in said.items()}
    return Asked(Request("POST", asking.V1 + path, form=wire.form(file, texts)), asking.json_of)


def delete(path: str, confirm: str | None = None, **query: Any) -> Asked[Row]:
    return Asked(asking.delete(path, confirm=confirm, **query), asking.json_of)
