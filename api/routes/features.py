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
from api.questions import AsOf, Columns, End, Exchange, Formats, Market, Start, Symbol, lower
from api.routes.reading import FORMS
from api.rows import named, time_of
from api.state import Served, State
from api.uploads import kept
from lake import feature_files
from lake.errors import WrongQuestion
from lake.feature_reads import FeatureSet
from lake.feature_rows import KNOWN_AT, OWN_TIME, FeatureRow
from market import times

plain = APIRouter(prefix="/features", tags=["by other lakes' names"])
router = APIRouter(prefix="/features", tags=["features"])
UPLOAD = "/features/upload"
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
         "versions": list(one.versions)}
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
) -> Response:
    """A version never changes: other values under its number are refused, the same ones change nothing."""
    asked = {
        "exchange": exchange.lower(), "market_type": market.lower(), "symbol": symbol, "feature_set": feature_set,
        "version": version, "time": time, "known": known, "computed_on": list(named(computed_on)), "note": note,
    }  # fmt: skip
    async with kept(file) as path:
        done = await served.control.ask("features", {"action": "put", "path": str(path), "asked": asked})
    row = msgspec.convert(done["rows"][0], FeatureRow)
    return json_answer({**entry(row), "changed": done["changed"], "hints": done["hints"]})


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

    def read() -> Any:
        chosen = list(named(columns)) or list(row.columns)
        unknown = [name for name in chosen if name not in row.columns]
        if unknown:
            raise WrongQuestion(
                f"{row.feature_set} has no column {', '.join(unknown)}", f"it has {', '.join(row.columns)}"
            )
        names = [OWN_TIME, KNOWN_AT, *chosen]
        schema = feature_files.schema(row.columns).empty_table().select(names).schema
        return schema, served.lake.features.pieces(row, columns=chosen, **asked), {"kind": row.feature_set}

    name = None if form == "json" else f"{row.feature_set}-{row.version}-{row.symbol}"
    return await served.reading.stream(read, form, name)


@plain.delete("/{feature}", response_model=models.Feature, summary="Delete a version")
@router.delete("/{feature}", response_model=models.Feature, summary="Delete a version")
async def delete(served: State, feature: Id) -> Response:
    """The version is gone, its number stays taken. Done by the daemon."""
    row = await _row(served, feature)
    asked = {
        "action": "delete", "feature_set": row.feature_set, "version": row.version, "exchange": row.exchange,
        "market_type": row.market_type, "symbol": row.symbol,
    }  # fmt: skip
    await served.control.ask("features", asked)
    return json_answer(entry(row))


@router.post("/{feature}/rollback", response_model=models.Feature, summary="Let latest mean this version")
async def rollback(served: State, feature: Id) -> Response:
    """From now on `latest` of its set means this version. Done by the daemon."""
    row = await _row(served, feature)
    asked = {
        "action": "rollback", "feature_set": row.feature_set, "version": row.version, "exchange": row.exchange,
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
