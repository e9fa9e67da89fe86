"""How complete and how sure what is held is: gaps, coverage, certificates, revisions, and where each came from."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from api.answers import json_answer, page
from api.models import model_of, page_of
from api.questions import End, Exchange, GapStates, Kind, Question, Start, Symbol, Symbols, TheMarket, lower
from api.rows import time_of
from api.state import State
from lake.completeness import Completeness
from lake.held_files import Held
from lake.inventory import Covered
from lake.revisions import Lineage, Revision
from lake.rows import CertificateRow
from market.session import Gap

router = APIRouter(tags=["quality"])
MAX_PAGE = 10_000
PathKind = Annotated[str, Path(max_length=40, examples=["trade"])]
Date = Annotated[str, Query(max_length=10, description="The UTC day.", examples=["2026-11-20"])]
Number = Annotated[int | None, Query(ge=0, le=2**31, description="Which revision; the current one if not said.")]
PageLimit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Rows of a page.")]
PageOffset = Annotated[int, Query(ge=0, le=2**53, description="Where the page begins.")]


def _filters(
    market_type: TheMarket,
    exchange: Exchange = None,
    symbol: Symbols = None,
    start: Start = None,
    end: End = None,
) -> dict[str, Any]:
    """Which streams and times are asked about, as `Lake` takes them. Raises Malformed."""
    return {
        "exchange": lower(exchange), "market_type": market_type, "symbol": symbol or None,
        "start": time_of(start), "end": time_of(end),
    }  # fmt: skip


Filters: TypeAlias = Annotated[dict[str, Any], Depends(_filters)]


@router.get("/gaps", response_model=page_of("gaps", Gap), summary="Known holes")
async def gaps(
    served: State,
    filters: Filters,
    kind: Kind = None,
    state: Annotated[GapStates, Query(description="Of this state only.")] = "open",
    limit: PageLimit = 1000,
    offset: PageOffset = 0,
) -> Response:
    """The gap ledger: half-open in venue time and ids, each with cause and proof. Times in microseconds."""
    held = await served.reading.ask(lambda: served.lake.gaps(kind=kind, **filters, state=state))
    return json_answer(page(held, limit, offset, "gaps"))


@router.get("/coverage", response_model=page_of("coverage", Covered), summary="What was collected when")
async def coverage(
    served: State,
    filters: Filters,
    kind: Kind = None,
    limit: PageLimit = 1000,
    offset: PageOffset = 0,
) -> Response:
    """When each stream was collected inside [start, end), what is missing in it, and whether all of it is there."""
    held = await served.reading.ask(lambda: served.lake.coverage(kind=kind, **filters))
    return json_answer(page(held, limit, offset, "coverage"))


@router.get("/versions/{kind}", response_model=page_of("versions", Revision), summary="Revisions of closed days")
async def versions(
    served: State,
    kind: PathKind,
    filters: Filters,
    limit: PageLimit = 1000,
    offset: PageOffset = 0,
) -> Response:
    """Every revision of every closed day in [start, end), the current one of a day last."""
    held = await served.reading.ask(lambda: served.lake.versions(kind, **filters))
    return json_answer(page(held, limit, offset, "versions"))


def _of_a_day(
    market_type: TheMarket,
    date: Date,
    exchange: Exchange = None,
    symbol: Symbol = None,
    revision: Number = None,
) -> dict[str, Any]:
    """Which daily file is asked about, as `Lake` takes it."""
    return {
        "date": date, "exchange": lower(exchange), "market_type": market_type, "symbol": symbol, "revision": revision,
    }  # fmt: skip


OfADay = Annotated[dict[str, Any], Depends(_of_a_day)]


@router.get("/certificates/{kind}", response_model=model_of(CertificateRow), summary="The certificate of a day")
async def certificate(
    served: State,
    kind: PathKind,
    day: OfADay,
) -> Response:
    """Rows, ids, missing, late, latency, hashes of the inputs, content digest; 404 where that day has none."""
    held = await served.reading.ask(lambda: served.lake.certificate(kind, **day))
    return json_answer(held)


@router.get("/lineage/{kind}", response_model=model_of(Lineage), summary="What a day was made from")
async def lineage(
    served: State,
    kind: PathKind,
    day: OfADay,
) -> Response:
    """The files that a daily file was made from, down to the raw segments, with their hashes, and the sessions."""
    held = await served.reading.ask(lambda: served.lake.lineage(kind, **day))
    return json_answer(held)


@router.get("/completeness/{kind}", response_model=model_of(Completeness), summary="How complete a read would be")
async def completeness(served: State, kind: PathKind, question: Question) -> Response:
    """Up to when a read of the same question has everything, and the gaps it meets. Times in microseconds."""
    held = await served.reading.read(
        lambda: served.lake.completeness(
            kind, **question.market(), min_state=question.min_state, version=question.version, as_of=question.as_of,
            across_listings=question.across_listings,
        )
    )  # fmt: skip
    return json_answer(held)


@router.get("/files", response_model=page_of("files", Held), summary="The files that a read opens")
async def files(
    served: State,
    filters: Filters,
    kind: Kind = None,
    limit: PageLimit = 1000,
    offset: PageOffset = 0,
) -> Response:
    """Live files with their SHA-256, the last certificate of each, and what checks found. Times in microseconds."""
    held = await served.reading.ask(lambda: served.lake.files(kind=kind, **filters))
    return json_answer(page(held, limit, offset, "files"))
