"""Files of other origin, sent over HTTP: understood here, taken in by the daemon."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, File, Form, UploadFile
from starlette.responses import Response

from api import models
from api.answers import json_answer
from api.errors import wrong
from api.state import Served, State
from api.uploads import kept
from collectors.files.importing import Imported, Request, held, parts_of, rehearse, request_of
from collectors.files.reading import Options
from runtime.workers import InlineExecutor

router = APIRouter(prefix="/ingest", tags=["venues"])
UPLOAD = "/ingest/file"
Word = Annotated[str | None, Form(max_length=60)]


@router.post("/file", response_model=models.Imported, summary="Take in a file")
async def take_in(
    served: State,
    file: Annotated[UploadFile, File(description="CSV, TSV, JSON, JSON Lines or Parquet; also as gz or zip.")],
    exchange: Annotated[str, Form(min_length=1, max_length=40, examples=["kraken"])],
    market: Annotated[str, Form(min_length=1, max_length=20, examples=["spot"])],
    kind: Word = None,
    symbol: Annotated[str | None, Form(max_length=100)] = None,
    dialect: Word = None,
    columns: Annotated[str | None, Form(max_length=2000, description="COL=FIELD, parted by commas.")] = None,
    timezone: Word = None,
    dates: Annotated[Literal["dmy", "mdy"] | None, Form()] = None,
    interval: Word = None,
    label: Annotated[Literal["open", "close"] | None, Form()] = None,
    scale: Annotated[int | None, Form(ge=1, le=10**12)] = None,
    raw_prices: Annotated[bool, Form()] = False,
    delimiter: Annotated[str | None, Form(max_length=4)] = None,
    decimal: Annotated[Literal["point", "comma"] | None, Form()] = None,
    encoding: Word = None,
    member: Annotated[str | None, Form(max_length=400)] = None,
    again: Annotated[bool, Form()] = False,
    dry_run: Annotated[bool, Form(description="Say what would come of it, and write nothing.")] = False,
) -> Response:
    """As `dl import` (docs/import.md): what is not clear is refused with the option that says it.

    A dry run needs no daemon. Rows that break a rule are set aside in quarantine, counted.
    """
    options = Options(
        exchange=exchange.strip().lower(), market_type=market.strip().lower(), kind=kind or None, symbol=symbol or None,
        dialect=dialect or None, columns=_mapping(columns), timezone=timezone or None, dates=dates,
        interval=interval or None, label=label, scale=scale, raw_prices=raw_prices, delimiter=delimiter or None,
        decimal=decimal, encoding=encoding or None, member=member or None,
    )  # fmt: skip
    async with kept(file) as path:
        request: Request = await asyncio.to_thread(lambda: request_of(path, options, again=again))
        if dry_run:
            done: Any = await served.reading.read(lambda: _rehearsed(served, request))
        else:
            done = await served.control.ask("import", msgspec.to_builtins(request))
    result = {name: value for name, value in msgspec.to_builtins(done).items() if name != "path"}
    understood = msgspec.to_builtins(request.reading)
    return json_answer({"dry_run": dry_run, "understood": understood, "result": result})


def _rehearsed(served: Served, request: Request) -> Imported:
    lake = served.lake
    there = held(lake.manifest, request)
    parts = parts_of(lake.root, InlineExecutor(), lake.manifest, request)
    return rehearse(request, served.clock.now(), _silent, there, parts)


def _mapping(columns: str | None) -> dict[str, str]:
    """Raises Refused."""
    found = {}
    for said in (columns or "").split(","):
        column, is_said, field = said.strip().rpartition("=")
        if said.strip() and (not is_said or not field):
            raise wrong(f"columns: {said!r} is not COL=FIELD, for example Last=close,1=time")
        if said.strip():
            found[column] = field
    return found


def _silent(_done: int, _total: int, _what: str) -> None:
    """Nobody watches."""
