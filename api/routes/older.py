"""Routes by the names, and with the answers, that another lake gave them (`/list`, `/read`)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import polars as pl
import pyarrow as pa
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
_TOLD = ("interval", "revision", "ts_recv", "source")
"""What tells the candles of one time apart."""
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
    """Candles in ms: our bars (`bar_1m`, `bar_15m`, …; what is meant if nothing is said), or the venue's of a minute
    (`kline`), each as the venue said it last.

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
    named = [one for one in held if one.symbol is not None]  # files of all symbols may be without this one
    markets = sorted({one.market_type for one in named or held})
    if len(markets) > 1 and "spot" not in markets:
        raise wrong(f"{len(markets)} markets have such a symbol: {', '.join(markets)}; say which with market")
    return "spot" if len(markets) > 1 else next(iter(markets), None)


def _candles(served: Served, asked: Asked) -> list[dict[str, Any]]:
    """Raises WrongQuestion for a kind that has no candles, Refused where there are none of a minute."""
    ours = bar_kind(asked.kind) is not None
    time = "window_start" if ours else "open_time"
    shown = (time, "open", "high", "low", "close", "volume_base")
    whole = msgspec.structs.replace(
        asked, columns=shown if ours else (*shown, *_TOLD), market_type=_market(served, asked),
        limit=asked.limit if ours else None,
    )  # fmt: skip
    schema, tables, _ = rows.read(served.lake, whole)
    frame = pl.DataFrame(pa.Table.from_batches([batch for table in tables for batch in table.to_batches()], schema))
    if not ours:
        frame = _minutes(frame)[: asked.limit]
    frame = frame.select(shown).rename({time: "ts", "volume_base": "volume"})
    return frame.with_columns(pl.col("ts").dt.epoch("ms")).to_dicts()


def _minutes(told: pl.DataFrame) -> pl.DataFrame:
    """Of a venue's candles those of a minute, the newest revision of each. Raises Refused where all are wider."""
    texts = told.with_columns(pl.col("interval", "source").cast(pl.String))
    minutes = texts.filter(pl.col("interval") == "1m")
    if minutes.is_empty() and not told.is_empty():
        widths = ", ".join(sorted(texts["interval"].unique()))
        raise wrong(f"the venue's candles are of {widths} here, none of a minute: /api/v1/read/kline has them")
    newest = minutes.sort("open_time", *_TOLD[1:], descending=[False, True, True, False], nulls_last=True)
    return newest.unique("open_time", keep="first", maintain_order=True)
