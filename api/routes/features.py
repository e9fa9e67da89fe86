"""The feature store: sets in versions that never change, read, downloaded, and changed by the daemon.

The routes are there twice: plain, as another lake has them, and under `/api/v1` with pages.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, File, Form, Path, Query, UploadFile
from starlette.responses import Response

from api import models
from api.answers import json_answer, page
from api.errors import not_found
from api.models import model_of
from api.questions import AsOf, Columns, End, Exchange, Formats, Market, Question, Start, Symbol, lower
from api.routes.reading import FORMS, answer
from api.rows import joined, named, said, time_of
from api.state import Served, State
from api.uploads import kept
from features.requests import Missing
from lake import feature_files
from lake.asking import duration
from lake.errors import WrongQuestion
from lake.feature_reads import At, FeatureSet, Lineage, columns_of
from lake.feature_rows import KNOWN_AT, OWN_TIME, FeatureRow
from market import times

plain = APIRouter(prefix="/features", tags=["by other lakes' names"])
router = APIRouter(prefix="/features", tags=["features"])
UPLOAD = "/features/upload"
MAX_SETS = 50
"""Of one join."""
Id = Annotated[str, Path(max_length=100, description="As the list of versions says it.")]
SetName = Annotated[str | None, Query(max_length=100, description="Only this set.", examples=["momentum"])]
VersionName = Annotated[str | None, Query(max_length=40, description="Only this version, or `latest`.")]
Text = Annotated[str, Form(min_length=1, max_length=100)]


async def _found(
    served: Served, exchange: str | None, symbol: str | None, market: str | None, name: str | None, version: str | None
) -> list[dict[str, Any]]:
    held = await served.reading.ask(
        lambda: served.lake.features.versions(
            exchange=lower(exchange), market_type=lower(market), symbol=symbol, feature_set=name, version=version
        )
    )
    return [entry(row) for row in held]


@plain.get("", response_model=list[models.Feature], summary="Versions of feature sets")
async def listed(
    served: State,
    exchange: Exchange = None,
    symbol: Symbol = None,
    market: Market = None,
    feature_set: SetName = None,
    version: VersionName = None,
) -> Response:
    """Every live version that answers to the filters."""
    return json_answer(await _found(served, exchange, symbol, market, feature_set, version))


@router.get("", response_model=models.Features, summary="Versions of feature sets")
async def pages(
    served: State,
    exchange: Exchange = None,
    symbol: Symbol = None,
    market: Market = None,
    feature_set: SetName = None,
    version: VersionName = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Rows of a page.")] = 100,
    offset: Annotated[int, Query(ge=0, le=2**53, description="Where the page begins.")] = 0,
) -> Response:
    """Every live version that answers to the filters, page by page."""
    return json_answer(
        page(await _found(served, exchange, symbol, market, feature_set, version), limit, offset, "features")
    )


@plain.get("/sets", response_model=models.FeatureSets, summary="Feature sets")
@router.get("/sets", response_model=models.FeatureSets, summary="Feature sets")
async def sets(served: State, exchange: Exchange = None, symbol: Symbol = None, market: Market = None) -> Response:
    """Every set that has a live version, with its versions."""
    held: list[FeatureSet] = await served.reading.ask(
        lambda: served.lake.features.sets(exchange=lower(exchange), market_type=lower(market), symbol=symbol)
    )
    shown = [
        {"name": one.name, "exchange": one.exchange, "symbol": one.symbol, "market": one.market_type,
         "versions": list(one.versions), "latest": one.latest}
        for one in held
    ]  # fmt: skip
    return json_answer({"feature_sets": shown})


@plain.post("/upload", response_model=models.Feature, summary="Put a version in")
@router.post("/upload", response_model=models.Feature, summary="Put a version in")
async def upload(
    served: State,
    file: Annotated[UploadFile, File(description="Parquet, Arrow or CSV, with a column of times.")],
    exchange: Text,
    market: Text,
    symbol: Text,
    feature_set: Text,
    version: Annotated[str, Form(max_length=40, examples=["1.0.0"])] = "1.0.0",
    time: Annotated[str | None, Form(max_length=100, description="The column of a row's own time.")] = None,
    known: Annotated[str | None, Form(max_length=100, description="The column of when a row was known.")] = None,
    computed_on: Annotated[
        str | None, Form(max_length=400, description="Kinds of this lake, parted by commas.")
    ] = None,
    note: Annotated[str, Form(max_length=2000)] = "",
    delay: Annotated[str, Form(max_length=20, description="Each row is known so much after its time: 1m.")] = "0s",
    as_of: Annotated[str | None, Form(max_length=40, description="When that data was read (UTC); now.")] = None,
    lookback: Annotated[
        str, Form(max_length=20, description="How far before its first row the values reach back: 7d.")
    ] = "0s",
    missing: Annotated[
        Missing, Form(description="NaN, infinities and words for nothing in columns of numbers: refused, or no value.")
    ] = "refuse",
    sort: Annotated[bool, Form(description="Put the rows in the order of their time.")] = False,
) -> Response:
    """A version never changes: other values under its number are refused, the same ones change nothing."""
    asked = {
        "exchange": exchange.lower(), "market_type": market.lower(), "symbol": symbol, "feature_set": feature_set,
        "version": version, "time": time, "known": known, "computed_on": list(named(computed_on)), "note": note,
        "delay": duration(said(delay), "delay", "1m"), "as_of": time_of(as_of),
        "lookback": duration(said(lookback), "lookback", "7d"), "missing": missing, "sort": sort,
    }  # fmt: skip
    async with kept(file) as path:
        done = await served.control.ask("features", {"action": "put", "path": str(path), "asked": asked})
    row = msgspec.convert(done["rows"][0], FeatureRow)
    return json_answer({**entry(row), "changed": done["changed"], "hints": done["hints"]})


@router.get("/join", response_model=models.Rows, responses=FORMS, summary="Rows with what was known at each")
async def join(
    served: State,
    question: Question,
    sets: Annotated[
        list[str],
        Query(
            alias="set",
            min_length=1,
            max_length=MAX_SETS,
            examples=[["momentum"]],
            description="NAME, NAME@1.0.0, or of another symbol ETHUSDT:NAME@1.0.0; may be given often.",
        ),
    ],
    kind: Annotated[
        str, Query(max_length=40, description="What is joined onto: bar_1m, bar_5m, trade, …", examples=["bar_5m"])
    ] = "bar_1m",
    at: Annotated[At, Query(description="When a bar asks what is known: at its open, or at its close.")] = "open",
    max_age: Annotated[
        str | None, Query(max_length=20, description="Values of a time further back are null: 1h.", examples=["1h"])
    ] = None,
    form: Formats = "json",
) -> Response:
    """Rows of one `symbol`, and beside each what was known of these sets at its time: nothing of the future.

    Columns become `NAME__column`, with `NAME__ts_event` and `NAME__known_at` of the row they are from. `columns`
    chooses those of the bars.
    """
    asked = msgspec.structs.replace(question, kind=kind)
    age = None if max_age is None else said(max_age)
    return await answer(served, asked, form, how=lambda lake, one: joined(lake, sets, one, at, age))


@router.get("/{feature}/lineage", response_model=model_of(Lineage), summary="What a version was computed on")
async def lineage(served: State, feature: Id) -> Response:
    """The files of the lake that it was computed on, by path and SHA-256, and which of them were revised since."""
    row = await _row(served, feature)
    return json_answer(await served.reading.ask(lambda: served.lake.features.lineage(row)))


@plain.get("/{feature}", response_model=models.Feature, summary="One version")
@router.get("/{feature}", response_model=models.Feature, summary="One version")
async def one(served: State, feature: Id) -> Response:
    """One version by its id, with its columns and what it was computed on."""
    row = await _row(served, feature)
    more = {name: getattr(row, name) for name in ("rows", "columns", "known", "computed_on", "note", "content_digest")}
    return json_answer({**entry(row), **more})


@plain.get("/{feature}/download", response_model=models.Rows, responses=FORMS, summary="The values of a version")
@router.get("/{feature}/download", response_model=models.Rows, responses=FORMS, summary="The values of a version")
async def download(
    served: State,
    feature: Id,
    form: Formats = "parquet",
    start: Start = None,
    end: End = None,
    columns: Columns = None,
    known_by: AsOf = None,
) -> Response:
    """Rows with `ts_event` and `known_at` before the values; `known_by` leaves out what was not known then."""
    row = await _row(served, feature)
    asked = {"start": time_of(start), "end": time_of(end), "known_by": time_of(known_by)}
    chosen = None if columns is None else named(columns)

    def read() -> Any:
        names = [OWN_TIME, KNOWN_AT, *columns_of(row, chosen)]
        schema = feature_files.schema(row.columns).empty_table().select(names).schema
        return schema, served.lake.features.pieces(row, columns=chosen, **asked), {"kind": row.feature_set}

    name = None if form == "json" else f"{row.feature_set}-{row.version}-{row.symbol}"
    return await served.reading.stream(read, form, name)


@plain.delete("/{feature}", response_model=models.Feature, summary="Delete a version")
@router.delete("/{feature}", response_model=models.Feature, summary="Delete a version")
async def delete(served: State, feature: Id) -> Response:
    """The version is gone, its number stays taken. Done by the daemon."""
    return await _changed(served, feature, "delete")


@router.post("/{feature}/rollback", response_model=models.Feature, summary="Let latest mean this version")
async def rollback(served: State, feature: Id) -> Response:
    """From now on `latest` of its set means this version. Done by the daemon."""
    return await _changed(served, feature, "rollback")


async def _changed(served: State, feature: str, action: str) -> Response:
    row = await _row(served, feature)
    asked = {
        "action": action, "feature_set": row.feature_set, "version": row.version, "exchange": row.exchange,
        "market_type": row.market_type, "symbol": row.symbol,
    }  # fmt: skip
    await served.control.ask("features", asked)
    return json_answer(entry(row))


def entry(row: FeatureRow) -> dict[str, Any]:
    """As the models have it."""
    return {
        "id": row.feature_id, "exchange": row.exchange, "symbol": row.symbol, "market": row.market_type,
        "feature_set": row.feature_set, "version": row.version, "path": row.path, "checksum": row.sha256,
        "created_at": times.text(row.created_at),
    }  # fmt: skip


async def _row(served: Served, feature: str) -> FeatureRow:
    """Raises Refused."""
    try:
        return await served.reading.ask(lambda: served.lake.features.by_id(feature))
    except WrongQuestion as error:
        raise not_found(str(error)) from error
