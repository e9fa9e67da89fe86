"""The verbs, as requests and what is made of their answers: both clients share them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypedDict, TypeVar

import msgspec
import pyarrow as pa

from client import asking
from client.asking import Request, Symbols, Time, get, part, post
from market.session import Gap

T = TypeVar("T")
Fill: TypeAlias = Literal["none", "empty", "previous"]
MinState: TypeAlias = Literal["provisional", "final", "verified"]
Row: TypeAlias = dict[str, Any]
Found: TypeAlias = tuple[list[T], int]
"""One page, and how many rows there are on all pages."""
_TIMES = ("start", "end", "as_of")


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


class Asked(msgspec.Struct, Generic[T], frozen=True):
    """A request and what its whole answer means."""

    request: Request
    made: Callable[[bytes], T]


def _plain(question: Mapping[str, Any]) -> dict[str, Any]:
    """Times as microseconds, columns as one text. Raises Malformed."""
    said: dict[str, Any] = {
        name: asking.time_of(value) if name in _TIMES else value for name, value in question.items()
    }
    if said.get("columns") is not None:
        said["columns"] = ",".join(said["columns"])
    return said


def rows(path: str, question: Mapping[str, Any], **more: Any) -> Asked[pa.Table]:
    """Rows as the Arrow stream."""
    return Asked(get(path, format="arrow", **_plain(question), **more), asking.table_of)


def read(kind: str, question: Mapping[str, Any]) -> Asked[pa.Table]:
    return rows(f"/read/{part(kind)}", question)


def bars(interval: str, question: Mapping[str, Any]) -> Asked[pa.Table]:
    return rows("/bars", question, interval=interval)


def sql(query: str) -> Asked[pa.Table]:
    request = post("/sql", {"query": query})
    return Asked(msgspec.structs.replace(request, target=f"{request.target}?format=arrow"), asking.table_of)


def book(symbol: str, at: Time, **asked: Any) -> Asked[Row]:
    return ask("/book", symbol=symbol, at=asking.time_of(at), **asked)


def day(what: str, kind: str, date: Time, question: Mapping[str, Any]) -> Asked[Row]:
    """A certificate or a lineage of the day that `date` begins."""
    return ask(f"/{what}/{part(kind)}", date=asking.date_of(date), **question)


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


def datasets(offset: int, question: Mapping[str, Any]) -> Asked[Found[Row]]:
    request = get("/datasets", limit=asking.DATASETS, offset=offset, **question)
    return Asked(request, lambda body: asking.page_of(body, "datasets"))


def ask(path: str, **asked: Any) -> Asked[Any]:
    """Anything that is answered in JSON."""
    return Asked(get(path, **asked), asking.json_of)


def tell(path: str, body: object = None) -> Asked[Any]:
    """Something to be done, answered in JSON."""
    return Asked(post(path, body), asking.json_of)
