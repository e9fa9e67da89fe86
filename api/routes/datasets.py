"""What is held: datasets to look for, look into, and take away."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api import datasets, formats, models, rows
from api.answers import json_answer, page
from api.datasets import Sort
from api.errors import not_found, wrong
from api.questions import End, Exchange, Formats, Kind, Start, Symbol, TheMarket, lower
from api.routes.reading import FORMS, answer
from api.rows import Asked, time_of
from api.state import State
from lake.inventory import Dataset
from market.kinds import BARS

router = APIRouter(tags=["datasets"])
MAX_PAGE = 1000
MAX_PREVIEW = 1000
Id = Annotated[
    str, Path(max_length=400, description="As the list of datasets says it.", examples=["binance:spot:trade:BTCUSDT"])
]


@router.get("/datasets", response_model=models.Datasets, summary="Look for datasets")
async def listed(
    served: State,
    market_type: TheMarket,
    exchange: Exchange = None,
    symbol: Symbol = None,
    data_type: Annotated[str | None, Query(max_length=40, description="The same as `kind`; raw: candles.")] = None,
    kind: Kind = None,
    q: Annotated[
        str | None, Query(max_length=100, description="Words that must all be in it.", examples=["btc spot"])
    ] = None,
    sort: Annotated[Sort, Query(description="By name, or the largest or newest first.")] = "name",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Rows of a page.")] = 20,
    offset: Annotated[int, Query(ge=0, le=2**53, description="Where the page begins.")] = 0,
) -> Response:
    """One row a kind and symbol. Filters match whatever the case; `BTC/USDT` finds `BTCUSDT`."""
    held = await served.reading.ask(
        lambda: datasets.found(
            served.lake,
            exchange=lower(exchange),
            market_type=market_type,
            symbol=symbol,
            kind=datasets.kind_of(kind or data_type),
            words=q,
            sort=sort,
        )
    )
    return json_answer(page([datasets.entry(one) for one in held], limit, offset, "datasets"))


@router.get("/datasets/{dataset:path}/preview", response_model=models.Preview, summary="The first rows of a dataset")
async def preview(
    served: State,
    dataset: Id,
    limit: Annotated[int, Query(ge=1, le=MAX_PREVIEW, description="How many rows.")] = 100,
    offset: Annotated[int, Query(ge=0, le=2**53, description="Leave so many out.")] = 0,
) -> Response:
    """Columns and rows, as a table on a page shows them."""
    held = await served.reading.ask(lambda: datasets.one_of(served.lake, dataset))

    def read() -> dict[str, object]:
        schema, tables, _ = rows.read(served.lake, _asked(held, limit=limit, skip=offset))
        shown = [row for table in tables for row in formats.plain_rows(table)]
        return {"columns": schema.names, "rows": shown, "total_rows": held.rows, "metadata": datasets.entry(held)}

    return json_answer(await served.reading.read(read))


@router.get(
    "/datasets/{dataset:path}/export", response_model=models.Rows, responses=FORMS, summary="A dataset as a file"
)
async def export(served: State, dataset: Id, form: Formats = "csv", start: Start = None, end: End = None) -> Response:
    """All rows of a dataset, streamed as one file: CSV, Parquet, the Arrow stream, JSON lines."""
    held = await served.reading.ask(lambda: datasets.one_of(served.lake, dataset))
    question = _asked(held, start=time_of(start), end=time_of(end))
    return await answer(served, question, form, datasets.id_of(held).replace(":", "-"))


@router.get("/datasets/{dataset:path}", response_model=models.DatasetEntry, summary="One dataset")
async def one(served: State, dataset: Id) -> Response:
    """One dataset by its id."""
    held = await served.reading.ask(lambda: datasets.one_of(served.lake, dataset))
    return json_answer(datasets.entry(held))


@router.get(
    "/export/{exchange}/{symbol:path}", response_model=models.Rows, responses=FORMS, summary="A symbol as a file"
)
async def merged(
    served: State,
    exchange: Annotated[str, Path(max_length=40, examples=["binance"])],
    symbol: Annotated[str, Path(max_length=100, examples=["BTCUSDT"])],
    market_type: TheMarket,
    kind: Kind = None,
    form: Formats = "csv",
    start: Start = None,
    end: End = None,
) -> Response:
    """Everything of one kind that is held of a symbol, merged to one file; bars of one minute if no kind is said."""
    chosen = datasets.kind_of(kind) or BARS[-1]
    held = await served.reading.ask(
        lambda: datasets.found(
            served.lake, exchange=lower(exchange), market_type=market_type, symbol=symbol, kind=chosen
        )
    )
    names = {(found.exchange, found.market_type, found.symbol) for found in held}
    if not names:
        raise not_found(f"there is no {chosen} of {exchange} {symbol}")
    if len(names) > 1:
        several = ", ".join(" ".join(map(str, name)) for name in sorted(names, key=str)[:9])
        one = len({name[:2] for name in names}) == 1
        how = "spell it as its venue does" if one else "say which with market_type"
        raise wrong(f"several are called so: {several}; {how}")
    question = _asked(held[0], start=time_of(start), end=time_of(end))
    return await answer(served, question, form, datasets.id_of(held[0]).replace(":", "-"))


def _asked(
    held: Dataset, start: int | None = None, end: int | None = None, limit: int | None = None, skip: int = 0
) -> Asked:
    """The rows of a dataset, those of all its listings."""
    return Asked(
        kind=held.kind, exchange=held.exchange, market_type=held.market_type,
        symbol=() if held.symbol is None else (held.symbol,), start=start, end=end, across_listings=True,
        limit=limit, skip=skip,
    )  # fmt: skip
