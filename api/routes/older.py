"""Routes by the names, and with the answers, that another lake gave them (`/list`, `/read`)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import polars as pl
from fastapi import APIRouter, Query
from starlette.responses import Response

from api import datasets, models, rows
from api.answers import json_answer
from api.errors import wrong
from api.questions import End, Exchange, Market, Start, Symbol, lower
from api.rows import Asked, time_of
from api.state import Served, State
from lake.asking import bar_kind
from market.kinds import BARS

router = APIRouter(tags=["by other lakes' names"])
DataType = Annotated[str | None, Query(max_length=40, description="A kind; raw: candles.", examples=["bar_1m"])]


@router.get("/list", response_model=list[models.ListEntry], summary="All datasets")
async def listed(
    served: State, symbol: Symbol = None, data_type: DataType = None, exchange: Exchange = None, market: Market = None
) -> Response:
    """Every dataset that answers to the filters, whatever the case of their letters."""
    held = await served.reading.ask(
        lambda: datasets.found(
            served.lake,
            exchange=lower(exchange),
            market_type=lower(market),
            symbol=symbol,
            kind=datasets.kind_of(data_type),
        )
    )
    entries = [datasets.entry(one) for one in held]
    shown = [
        {"id": one["id"], "symbol": one["symbol"], "exchange": one["exchange"], "market": one["market"],
         "path": one["file_path"], "type": one["data_type"]}
        for one in entries
    ]  # fmt: skip
    return json_answer(shown)


@router.get("/read", response_model=list[models.Candle], summary="Candles")
async def read(
    served: State,
    exchange: Annotated[str, Query(max_length=40, examples=["binance"])],
    symbol: Annotated[str, Query(max_length=100, examples=["BTCUSDT"])],
    start: Start = None,
    end: End = None,
    data_type: DataType = None,
    market: Market = None,
) -> Response:
    """Candles in ms: our bars (`bar_1m`, `bar_15m`, …; what is meant if nothing is said), or the venue's (`kline`).

    Where several markets have such a symbol and `market` is not said, those of spot are meant. At most
    `serve.max_rows` of them: ask for less than everything. Other kinds are read at `/api/v1/read/{kind}`.
    """
    kind = datasets.kind_of(data_type) or BARS[-1]
    asked = Asked(
        kind=kind, exchange=lower(exchange), market_type=lower(market), symbol=(symbol,), start=time_of(start),
        end=time_of(end), limit=served.config.max_rows,
    )  # fmt: skip
    return json_answer(await served.reading.read(lambda: _candles(served, asked)))


def _market(served: Served, asked: Asked) -> str | None:
    """Whose candles are meant. Raises Refused where several markets have some, and none of them is spot."""
    if asked.market_type is not None:
        return asked.market_type
    held = served.lake.datasets(kind=asked.kind, exchange=asked.exchange, symbol=list(asked.symbol))
    markets = sorted({one.market_type for one in held})
    if len(markets) > 1 and "spot" not in markets:
        raise wrong(f"{len(markets)} markets have such a symbol: {', '.join(markets)}; say which with market")
    return "spot" if len(markets) > 1 else next(iter(markets), None)


def _candles(served: Served, asked: Asked) -> list[dict[str, Any]]:
    """Raises WrongQuestion for a kind that has no candles."""
    time = "window_start" if bar_kind(asked.kind) else "open_time"
    columns = (time, "open", "high", "low", "close", "volume_base")
    whole = msgspec.structs.replace(asked, columns=columns, market_type=_market(served, asked))
    _, tables, _ = rows.read(served.lake, whole)
    found: list[dict[str, Any]] = []
    for table in tables:
        frame = pl.DataFrame(table).rename({time: "ts", "volume_base": "volume"})
        found += frame.with_columns(pl.col("ts").dt.epoch("ms")).to_dicts()
    return found
