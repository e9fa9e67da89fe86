"""Rows: of any kind, bars of any width, and order books at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api import formats, models, rows
from api.answers import json_answer
from api.errors import wrong
from api.formats import Format
from api.questions import Exchange, Formats, MarketType, Question, lower
from api.reading import Rows
from api.rows import Asked, time_of
from api.state import Served, State
from lake.books import OrderBook
from lake.reader import Lake

router = APIRouter(tags=["rows"])
FORMS: dict[int | str, dict[str, Any]] = {
    200: {"content": {formats.MEDIA[form].partition(";")[0]: {} for form in ("jsonl", "csv", "parquet", "arrow")}}
}
"""What an answer may be, beside JSON."""
DEFAULT_ROWS = 1000
"""Of an answer in JSON, where no limit is given."""
MAX_DEPTH = 5000


@router.get("/read/{kind}", response_model=models.Rows, responses=FORMS, summary="Rows of a kind")
async def read(
    served: State,
    kind: Annotated[str, Path(max_length=40, description="trade, quote, bar_1m, bar_15m, …", examples=["trade"])],
    question: Question,
    form: Formats = "json",
) -> Response:
    """Rows of one kind in [start, end), sorted by (exchange, market, symbol, order), closed days and hot parts.

    `kind` is a declared one or a bar of any width that divides a day. All of one answer is from one snapshot.
    """
    return await answer(served, msgspec.structs.replace(question, kind=kind), form)


@router.get("/bars", response_model=models.Rows, responses=FORMS, summary="Bars of any interval")
async def bars(
    served: State,
    question: Question,
    interval: Annotated[
        str, Query(max_length=20, description="Width: 90s, 15m, 4h, 1d, 1w, or microseconds.", examples=["15m"])
    ] = "1m",
    window_offset: Annotated[
        str, Query(max_length=20, description="Windows begin so much later: 8h, -30m, …", examples=["8h"])
    ] = "0s",
    form: Formats = "json",
) -> Response:
    """Bars folded from those of one second or one minute; sums are exact.

    Windows begin at 00:00 UTC, weeks on Mondays, each `window_offset` later.
    """
    wanted = {"kind": "bar_1m", "interval": rows.said(interval), "shift": rows.said(window_offset)}
    return await answer(served, msgspec.structs.replace(question, **wanted), form)


@router.get("/book", response_model=models.model_of(OrderBook), summary="The order book at a time")
async def book(
    served: State,
    symbol: Annotated[str, Query(max_length=100, description="As the venue or ccxt spells it.", examples=["BTCUSDT"])],
    at: Annotated[
        str,
        Query(max_length=40, description="When (UTC): ISO 8601, or microseconds.", examples=["2026-11-20T13:45:00Z"]),
    ],
    exchange: Exchange = None,
    market_type: MarketType = None,
    depth: Annotated[
        int | None, Query(ge=1, le=MAX_DEPTH, description="So many levels a side; all if not said.")
    ] = None,
) -> Response:
    """Rebuilt from the last whole book before `at` and the updates since; 404 where the stored rows do not prove it."""
    time = time_of(at)
    if time is None:
        raise wrong("at is empty: say when, for example at=2026-11-20T13:45:00Z")
    found = await served.reading.read(
        lambda: served.lake.book(symbol, at=time, exchange=lower(exchange), market_type=lower(market_type), depth=depth)
    )
    return json_answer(found)


async def answer(
    served: Served,
    question: Asked,
    form: Format,
    name: str | None = None,
    how: Callable[[Lake, Asked], Rows] = rows.read,
) -> Response:
    """The rows of a question in a format, read as `how` does; a file to save, with all of them, where it has a name or
    is no JSON.

    Raises Refused, what `Lake` raises.
    """
    head: dict[str, Any] = {}
    if form == "json":
        if name is None:
            limit = min(served.config.max_rows, DEFAULT_ROWS if question.limit is None else question.limit)
            question = msgspec.structs.replace(question, limit=limit)
        head = {"kind": question.kind, "interval": question.interval, "limit": question.limit, "offset": question.skip}
    elif name is None:
        what = str(question.interval or question.kind)
        name = "-".join(filter(None, (question.exchange, question.market_type, *question.symbol[:1], what)))

    def ask() -> tuple[Any, Any, dict[str, Any]]:
        schema, tables, told = how(served.lake, question)
        return schema, tables, {**head, **told}

    return await served.reading.stream(ask, form, name)
